//! The list of what was done.

use offiaccount::store::{AuditEntry, AuditQuery};

use super::*;

on_every_store! {
    entries_are_read_newest_first
    a_batch_that_is_written_again_is_there_once
    an_entry_keeps_the_time_at_which_it_was_done
    one_keys_entries_are_read_alone
    entries_are_kept_for_their_time
}

fn entry(key: &str, age_s: u64) -> AuditEntry {
    AuditEntry {
        key: key.into(),
        action: "GET /getTokens".into(),
        status: Some(502),
        errcode: Some(40013),
        request: Some("00000001".into()),
        times: 3,
        age: Duration::from_secs(age_s),
    }
}

fn query(limit: usize) -> AuditQuery {
    AuditQuery {
        key: None,
        since: LONG,
        limit,
    }
}

async fn keys(store: &Arc<dyn Store>, query: &AuditQuery) -> Vec<String> {
    let entries = store.audit(query).await.unwrap();
    entries.into_iter().map(|entry| entry.key).collect()
}

async fn entries_are_read_newest_first(place: Place) {
    let [store, other] = place.open_twice().await;
    assert_eq!(other.audit(&query(10)).await, Ok(vec![]));
    let first = [entry("a", 50), entry("b", 40)];
    store.add_audit([1; 16], &first, LONG).await.unwrap();
    let second = [entry("c", 30), entry("d", 20)];
    other.add_audit([2; 16], &second, LONG).await.unwrap();
    assert_eq!(keys(&store, &query(10)).await, ["d", "c", "b", "a"]);
    assert_eq!(keys(&store, &query(3)).await, ["d", "c", "b"]);
    assert_eq!(keys(&store, &query(0)).await, Vec::<String>::new());
}

async fn a_batch_that_is_written_again_is_there_once(place: Place) {
    let store = place.open().await;
    for _ in 0..2 {
        let batch = [entry("a", 2), entry("b", 1)];
        store.add_audit([1; 16], &batch, LONG).await.unwrap();
    }
    assert_eq!(keys(&store, &query(10)).await, ["b", "a"]);
}

async fn an_entry_keeps_the_time_at_which_it_was_done(place: Place) {
    let store = place.open().await;
    let command = AuditEntry {
        key: "$key".into(),
        action: "keys add".into(),
        status: None,
        errcode: None,
        request: None,
        times: 1,
        age: Duration::from_secs(30),
    };
    let entries = [entry("a", 1800), command];
    store.add_audit([1; 16], &entries, LONG).await.unwrap();
    let found = store.audit(&query(10)).await.unwrap();
    for (found, expected) in found.iter().zip(entries.iter().rev()) {
        assert_close(found.age, expected.age);
        let aged = AuditEntry {
            age: found.age,
            ..expected.clone()
        };
        assert_eq!(*found, aged);
    }
    assert_eq!(found.len(), 2);
    let lately = AuditQuery {
        since: Duration::from_secs(600),
        ..query(10)
    };
    assert_eq!(keys(&store, &lately).await, ["$key"]);
}

async fn one_keys_entries_are_read_alone(place: Place) {
    let store = place.open().await;
    let batch = [
        entry("a", 4),
        entry("$key", 3),
        entry("a", 2),
        entry("b", 1),
    ];
    store.add_audit([1; 16], &batch, LONG).await.unwrap();
    let of = |key: &str, limit| AuditQuery {
        key: Some(key.into()),
        ..query(limit)
    };
    assert_eq!(keys(&store, &of("a", 10)).await, ["a", "a"]);
    assert_eq!(keys(&store, &of("a", 1)).await, ["a"]);
    assert_eq!(keys(&store, &of("$key", 10)).await, ["$key"]);
    assert_eq!(keys(&store, &of("c", 10)).await, Vec::<String>::new());
}

async fn entries_are_kept_for_their_time(place: Place) {
    let store = place.open().await;
    let began = Instant::now();
    store
        .add_audit([1; 16], &[entry("a", 9)], SHORT)
        .await
        .unwrap();
    store
        .add_audit([2; 16], &[entry("b", 9)], LONG)
        .await
        .unwrap();
    eventually(|| async { (keys(&store, &query(10)).await == ["b"]).then_some(()) }).await;
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
    store.collect_garbage().await.unwrap();
    assert_eq!(keys(&store, &query(10)).await, ["b"]);
}
