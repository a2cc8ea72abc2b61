//! Messages that were forwarded in vain.

use offiaccount::store::DeadLetter;

use super::*;

on_every_store! {
    dead_letters_are_listed_oldest_first_and_by_pages
    a_letter_goes_over_the_last_with_its_id
    a_letter_that_was_taken_off_is_gone
    a_list_goes_on_from_the_beginning_behind_a_letter_that_is_gone
    a_letter_is_kept_for_its_time
    a_letter_is_kept_while_it_is_among_the_newest
    of_a_user_who_is_forgotten_one_letter_stays_at_most
}

fn letter(id: &str, reason: &str) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        open_id: open_id("oAlice"),
        message: format!("<xml>{id} $$NOW 中</xml>"),
        reason: reason.into(),
        age: LONG,
    }
}

fn ids(letters: &[DeadLetter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.id.as_str()).collect()
}

async fn add(store: &Arc<dyn Store>, id: &str) {
    let letter = letter(id, "refused");
    store.add_dead_letter(&letter, LONG, 100).await.unwrap();
}

async fn dead_letters_are_listed_oldest_first_and_by_pages(place: Place) {
    let [store, other] = place.open_twice().await;
    assert_eq!(store.dead_letters(None, 10).await, Ok(vec![]));
    for id in ["m3", "m1", "m2", "m0"] {
        add(&store, id).await;
    }
    let all = other.dead_letters(None, 10).await.unwrap();
    assert_eq!(ids(&all), ["m3", "m1", "m2", "m0"]);
    assert_close(all[0].age, Duration::ZERO);
    let expected = DeadLetter {
        age: all[0].age,
        ..letter("m3", "refused")
    };
    assert_eq!(all[0], expected);

    for (after, limit, expected) in [
        (None, 2, &["m3", "m1"][..]),
        (Some("m1"), 2, &["m2", "m0"]),
        (Some("m3"), 1, &["m1"]),
        (Some("m0"), 2, &[]),
    ] {
        let page = other.dead_letters(after, limit).await.unwrap();
        assert_eq!(ids(&page), expected, "{after:?}");
    }
}

async fn a_letter_goes_over_the_last_with_its_id(place: Place) {
    let store = place.open().await;
    add(&store, "m1").await;
    add(&store, "m2").await;
    tokio::time::sleep(SHORT).await;
    let again = letter("m1", "refused again");
    store.add_dead_letter(&again, LONG, 100).await.unwrap();
    let found = store.dead_letters(None, 10).await.unwrap();
    // It was put here just now.
    assert_eq!(ids(&found), ["m2", "m1"]);
    assert_eq!(found[1].reason, "refused again");
    assert!(found[1].age < found[0].age, "{found:?}");
}

async fn a_letter_that_was_taken_off_is_gone(place: Place) {
    let [store, other] = place.open_twice().await;
    add(&store, "m1").await;
    add(&store, "m2").await;
    assert_eq!(store.remove_dead_letter("m1").await, Ok(true));
    assert_eq!(other.remove_dead_letter("m1").await, Ok(false));
    assert_eq!(store.remove_dead_letter("$m").await, Ok(false));
    let found = other.dead_letters(None, 10).await.unwrap();
    assert_eq!(ids(&found), ["m2"]);
    add(&store, "m1").await;
    assert_eq!(store.remove_dead_letter("m1").await, Ok(true));
}

/// A loop that sends a page and takes off what went well never skips one.
async fn a_list_goes_on_from_the_beginning_behind_a_letter_that_is_gone(place: Place) {
    let store = place.open().await;
    for id in ["m1", "m2", "m3"] {
        add(&store, id).await;
    }
    store.remove_dead_letter("m2").await.unwrap();
    let page = store.dead_letters(Some("m2"), 10).await.unwrap();
    assert_eq!(ids(&page), ["m1", "m3"]);
}

async fn a_letter_is_kept_for_its_time(place: Place) {
    let store = place.open().await;
    let began = Instant::now();
    let short = letter("m1", "refused");
    store.add_dead_letter(&short, SHORT, 100).await.unwrap();
    add(&store, "m2").await;
    eventually(|| async {
        let found = store.dead_letters(None, 10).await.unwrap();
        (ids(&found) == ["m2"]).then_some(())
    })
    .await;
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
    assert_eq!(store.remove_dead_letter("m1").await, Ok(false));
}

async fn a_letter_is_kept_while_it_is_among_the_newest(place: Place) {
    let store = place.open().await;
    let add = async |id: &str, most| {
        let letter = letter(id, "refused");
        store.add_dead_letter(&letter, LONG, most).await.unwrap()
    };
    for id in ["m1", "m2", "m3"] {
        assert_eq!(add(id, 3).await, 0);
    }
    // It goes over the last with its id, and takes no more room.
    assert_eq!(add("m1", 3).await, 0);
    store.remove_dead_letter("m2").await.unwrap();
    assert_eq!(add("m4", 3).await, 0, "one was taken off");
    assert_eq!(add("m5", 3).await, 1);
    let found = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(ids(&found), ["m1", "m4", "m5"]);
    assert_eq!(add("m6", 2).await, 2);
    let found = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(ids(&found), ["m5", "m6"]);
}

async fn of_a_user_who_is_forgotten_one_letter_stays_at_most(place: Place) {
    let [store, other] = place.open_twice().await;
    for id in ["m1", "m2", "m3"] {
        add(&store, id).await;
    }
    let bobs = DeadLetter {
        open_id: open_id("oBob"),
        ..letter("m4", "refused")
    };
    store.add_dead_letter(&bobs, LONG, 100).await.unwrap();
    let alice = open_id("oAlice");
    other.forget_dead_letters(&alice, "m2").await.unwrap();
    let found = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(ids(&found), ["m2", "m4"]);
    other.forget_dead_letters(&alice, "m4").await.unwrap();
    let found = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(ids(&found), ["m4"]);
}
