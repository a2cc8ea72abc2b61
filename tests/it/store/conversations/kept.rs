//! Answers that are kept for the next message, or sent.

use offiaccount::store::AnswerId;

use super::*;

on_every_store! {
    kept_answers_are_there_in_their_order_until_they_are_taken
    a_reply_that_took_what_is_gone_is_not_written
    a_reply_that_took_what_is_being_sent_is_not_written
    the_oldest_answer_goes_when_there_are_too_many
    an_answer_that_is_being_sent_is_never_the_one_to_go
    one_sender_at_a_time_has_an_answer
    a_dead_senders_answer_is_to_be_had_again
    a_name_is_never_given_to_another_answer
}

async fn kept_answers_are_there_in_their_order_until_they_are_taken(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&other));
    alice.handle(&handled_keeping(1, &["a", "b"])).await;
    alice.handle(&handled_keeping(2, &["c"])).await;
    let found = hold(another.deliver(3).await).kept;
    assert_eq!(replies(&found), ["a", "b", "c"]);
    let take = Handled {
        taken: vec![found[0].id, found[2].id],
        ..handled_keeping(3, &["d"])
    };
    assert_eq!(another.finish(&take).await, Finished::Written(vec![]));
    assert_eq!(alice.kept_for(4).await, ["b", "d"]);
}

async fn a_reply_that_took_what_is_gone_is_not_written(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    alice.handle(&handled_keeping(1, &["a", "b"])).await;
    let found = hold(alice.deliver(2).await).kept;
    let sent = alice.begin_sending(LONG).await.unwrap();
    assert_eq!(sent, found[0]);
    alice.end_sending(&sent, true).await;

    let take = Handled {
        taken: vec![found[0].id, found[1].id],
        session: SessionChange::Set(b"session".to_vec(), LONG),
        ..handled_keeping(2, &["c"])
    };
    let left = vec![found[1].clone()];
    assert_eq!(
        alice.finish(&take).await,
        Finished::KeptChanged(left.clone())
    );
    let still = hold(alice.look(2).await);
    assert_eq!(numbers(&still.waiting), [2]);
    assert_eq!((still.session, still.kept), (None, left));
    let take = Handled {
        taken: vec![found[1].id],
        ..take
    };
    assert_eq!(alice.finish(&take).await, Finished::Written(vec![]));
    assert_eq!(alice.deliver(2).await, Delivered::Done(reply(2)));
    assert_eq!(alice.kept_for(3).await, ["c"]);
}

async fn a_reply_that_took_what_is_being_sent_is_not_written(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    alice.handle(&handled_keeping(1, &["a", "b"])).await;
    let found = hold(alice.deliver(2).await).kept;
    let sending = alice.begin_sending(LONG).await.unwrap();
    let take = Handled {
        taken: vec![found[0].id, found[1].id],
        ..handled(2)
    };
    let left = vec![found[1].clone()];
    assert_eq!(alice.finish(&take).await, Finished::KeptChanged(left));
    alice.end_sending(&sending, false).await;
    assert_eq!(alice.finish(&take).await, Finished::Written(vec![]));
    assert_eq!(alice.found_by(3).await.kept, []);
}

async fn the_oldest_answer_goes_when_there_are_too_many(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    for n in 1..=MOST_KEPT as u8 + 2 {
        alice.handle(&handled_keeping(n, &[&n.to_string()])).await;
    }
    let numbers = |range: std::ops::RangeInclusive<usize>| -> Vec<String> {
        range.map(|n| n.to_string()).collect()
    };
    assert_eq!(alice.kept_for(100).await, numbers(3..=MOST_KEPT + 2));
    // By the other way too.
    let not_given = Handled {
        given: false,
        reply: Some(b"23".to_vec()),
        ..handled(101)
    };
    alice.handle(&not_given).await;
    assert!(alice.keep_answer(101).await);
    assert_eq!(alice.kept_for(102).await, numbers(4..=MOST_KEPT + 3));
}

async fn an_answer_that_is_being_sent_is_never_the_one_to_go(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    let all: Vec<String> = (1..=MOST_KEPT).map(|n| n.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    alice.handle(&handled_keeping(1, &all)).await;
    let sending = alice.begin_sending(LONG).await.unwrap();
    assert_eq!(replies(std::slice::from_ref(&sending)), ["1"]);
    alice.handle(&handled_keeping(2, &["more"])).await;
    alice.end_sending(&sending, false).await;
    let mut expected = vec!["1"];
    expected.extend(&all[2..]);
    expected.push("more");
    assert_eq!(alice.kept_for(3).await, expected);
}

async fn one_sender_at_a_time_has_an_answer(place: Place) {
    let stores = place.open_twice().await;
    let alice = Holder::new(&stores[0]);
    assert_eq!(alice.begin_sending(LONG).await, None);
    alice.handle(&handled_keeping(1, &["a", "b", "c"])).await;
    let sending = all_at_once(8, |n| {
        let another = Holder::new(&stores[n % 2]);
        async move { another.begin_sending(LONG).await }
    })
    .await;
    let sending: Vec<_> = sending.into_iter().flatten().collect();
    assert_eq!(replies(&sending), ["a"], "the others would overtake it");
    assert_eq!(alice.kept_for(2).await, ["b", "c"]);

    alice.end_sending(&sending[0], false).await;
    let again = alice.begin_sending(LONG).await.unwrap();
    assert_eq!(again, sending[0]);
    alice.end_sending(&again, true).await;
    // Said again, as after an answer that was lost.
    alice.end_sending(&again, true).await;
    let next = alice.begin_sending(LONG).await.unwrap();
    assert_eq!(replies(std::slice::from_ref(&next)), ["b"]);
    assert_eq!(alice.begin_sending(LONG).await, None);
    alice.end_sending(&next, true).await;
    assert_eq!(alice.kept_for(3).await, ["c"]);
}

async fn a_dead_senders_answer_is_to_be_had_again(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    alice.handle(&handled_keeping(1, &["a"])).await;
    let began = Instant::now();
    let first = alice.begin_sending(SHORT).await;
    let again = eventually(|| alice.begin_sending(SHORT)).await;
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
    assert_eq!(first, Some(again));
    // For a reply as well.
    hold(alice.deliver(2).await);
    let kept = eventually(|| async {
        let kept = hold(alice.look(2).await).kept;
        (!kept.is_empty()).then_some(kept)
    })
    .await;
    let take = Handled {
        taken: vec![kept[0].id],
        ..handled(2)
    };
    assert_eq!(alice.finish(&take).await, Finished::Written(vec![]));
    assert_eq!(alice.begin_sending(LONG).await, None);
}

async fn a_name_is_never_given_to_another_answer(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    let mut names: Vec<AnswerId> = Vec::new();
    for n in 1..=4 {
        alice.handle(&handled_keeping(n, &["kept"])).await;
        let sending = alice.begin_sending(LONG).await.unwrap();
        alice.end_sending(&sending, true).await;
        assert!(!names.contains(&sending.id), "{names:?}");
        names.push(sending.id);
        // A user who is forgotten begins no new count.
        store.forget_user(&alice.of).await.unwrap();
    }
}
