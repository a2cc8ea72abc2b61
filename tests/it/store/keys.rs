//! Named keys.

use offiaccount::keys::{KeyName, Scope};
use offiaccount::store::StoredKey;

use super::*;

on_every_store! {
    a_key_is_found_by_its_digest_alone
    a_name_is_given_once_until_it_is_removed
    adding_a_key_again_changes_nothing
    of_many_who_take_a_name_one_gets_it
    a_removed_key_is_gone_at_every_instance
    a_key_whose_life_is_over_is_listed_and_not_found
    a_use_is_noted_where_the_key_still_is
}

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

async fn add(store: &Arc<dyn Store>, text: &str, n: u8) -> bool {
    add_with(store, text, n, &[Scope::Tokens], None).await
}

async fn add_with(
    store: &Arc<dyn Store>,
    text: &str,
    n: u8,
    scopes: &[Scope],
    lifetime: Option<Duration>,
) -> bool {
    let (name, digest) = (name(text), digest(n));
    let added = store.add_key(&name, &digest, scopes, lifetime).await;
    added.unwrap()
}

async fn found(store: &Arc<dyn Store>, n: u8) -> Option<String> {
    let found = store.key(&digest(n)).await.unwrap();
    found.map(|key| key.name.as_str().to_owned())
}

async fn names(store: &Arc<dyn Store>) -> Vec<String> {
    let keys = store.keys().await.unwrap();
    keys.iter().map(|key| key.name.to_string()).collect()
}

async fn a_key_is_found_by_its_digest_alone(place: Place) {
    let [store, other] = place.open_twice().await;
    assert_eq!(store.keys().await, Ok(vec![]));
    let scopes = [Scope::Followers, Scope::Tokens];
    assert!(add_with(&store, "billing", 1, &scopes, Some(LONG)).await);
    assert!(add(&store, "Crm.2", 2).await);
    let key = other.key(&digest(1)).await.unwrap().unwrap();
    let expected = StoredKey {
        name: name("billing"),
        scopes: vec![Scope::Tokens, Scope::Followers],
        age: key.age,
        expires_in: key.expires_in,
        idle: None,
    };
    assert_eq!(key, expected);
    assert_close(key.age, Duration::ZERO);
    assert_close(key.expires_in.unwrap(), LONG);
    let endless = other.key(&digest(2)).await.unwrap().unwrap();
    assert_eq!(endless.expires_in, None);
    assert_eq!(found(&other, 3).await, None);
    assert_eq!(names(&other).await, ["Crm.2", "billing"]);
}

async fn a_name_is_given_once_until_it_is_removed(place: Place) {
    let [store, other] = place.open_twice().await;
    assert!(add(&store, "billing", 1).await);
    assert!(!add(&other, "billing", 2).await);
    assert_eq!(found(&store, 1).await.as_deref(), Some("billing"));
    assert_eq!(found(&store, 2).await, None);
    assert_eq!(store.remove_key(&name("billing")).await, Ok(true));
    assert!(add(&other, "billing", 2).await);
    assert_eq!(found(&store, 1).await, None);
    assert_eq!(found(&store, 2).await.as_deref(), Some("billing"));
}

async fn adding_a_key_again_changes_nothing(place: Place) {
    let store = place.open().await;
    assert!(add(&store, "billing", 1).await);
    // As after an error that hid the first one's effect.
    let wider = [Scope::Tokens, Scope::Tickets];
    assert!(add_with(&store, "billing", 1, &wider, Some(LONG)).await);
    let key = store.key(&digest(1)).await.unwrap().unwrap();
    assert_eq!((key.scopes, key.expires_in), (vec![Scope::Tokens], None));
    assert_eq!(names(&store).await, ["billing"]);
}

async fn of_many_who_take_a_name_one_gets_it(place: Place) {
    let store = place.open().await;
    let added = all_at_once(8, |n| {
        let store = store.clone();
        async move { add(&store, "billing", n as u8).await }
    });
    let added = added.await;
    assert_eq!(added.iter().filter(|added| **added).count(), 1);
    let winner = added.iter().position(|added| *added).unwrap() as u8;
    for n in 0..8 {
        assert_eq!(found(&store, n).await.is_some(), n == winner);
    }
}

async fn a_removed_key_is_gone_at_every_instance(place: Place) {
    let [store, other] = place.open_twice().await;
    add(&store, "billing", 1).await;
    add(&store, "crm", 2).await;
    assert_eq!(store.remove_key(&name("billing")).await, Ok(true));
    assert_eq!(found(&other, 1).await, None);
    assert_eq!(names(&other).await, ["crm"]);
    assert_eq!(other.remove_key(&name("billing")).await, Ok(false));
    assert_eq!(other.remove_key(&name("nobody")).await, Ok(false));
}

async fn a_key_whose_life_is_over_is_listed_and_not_found(place: Place) {
    let store = place.open().await;
    let began = Instant::now();
    assert!(add_with(&store, "brief", 1, &[Scope::Tokens], Some(SHORT)).await);
    eventually(|| async { found(&store, 1).await.is_none().then_some(()) }).await;
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
    let listed = store.keys().await.unwrap();
    assert_eq!(listed[0].expires_in, Some(Duration::ZERO));
    // Its name is taken until an operator has seen it.
    assert!(!add(&store, "brief", 2).await);
    store.collect_garbage().await.unwrap();
    assert_eq!(names(&store).await, ["brief"]);
}

async fn a_use_is_noted_where_the_key_still_is(place: Place) {
    let store = place.open().await;
    add(&store, "billing", 1).await;
    store.touch_key(&digest(1), &name("billing")).await.unwrap();
    let idle = store.key(&digest(1)).await.unwrap().unwrap().idle;
    assert_close(idle.unwrap(), Duration::ZERO);

    store.remove_key(&name("billing")).await.unwrap();
    store.touch_key(&digest(1), &name("billing")).await.unwrap();
    assert_eq!(names(&store).await, Vec::<String>::new());
    // A late note does not count for the next one of that name.
    add(&store, "billing", 2).await;
    store.touch_key(&digest(1), &name("billing")).await.unwrap();
    let next = store.key(&digest(2)).await.unwrap().unwrap();
    assert_eq!(next.idle, None);
}
