//! The ledger of messages.

use super::*;

on_every_store! {
    of_many_deliveries_one_is_new_and_the_others_are_counted
    a_dead_handlers_message_is_taken_over_by_one
    a_look_takes_over_and_counts_no_delivery
    a_renewed_claim_is_not_taken_over
    a_finished_message_gives_every_delivery_the_same_reply
    a_released_claim_is_handled_at_once
    a_reply_is_stored_where_the_entry_is_gone
    an_expired_entry_is_new_again
}

async fn of_many_deliveries_one_is_new_and_the_others_are_counted(place: Place) {
    let stores = place.open_twice().await;
    let claims = all_at_once(64, |n| {
        let store = stores[n % 2].clone();
        // Of one instance and of several: whose claim runs makes no difference.
        let owner = owner(n % 4);
        async move {
            store
                .claim_message(&digest(1), &owner, LONG, LONG)
                .await
                .unwrap()
        }
    })
    .await;
    let mut counts: Vec<u32> = claims
        .iter()
        .map(|claim| match claim {
            Claim::New => 1,
            Claim::Running { deliveries, .. } => *deliveries,
            other => panic!("{other:?}"),
        })
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=64).collect::<Vec<_>>());

    let began = Instant::now();
    tokio::time::sleep(SHORT).await;
    match stores[0]
        .claim_message(&digest(1), &owner(1), LONG, LONG)
        .await
    {
        Ok(Claim::Running { first_seen, .. }) => {
            assert!(first_seen >= NEARLY_SHORT, "{first_seen:?}");
            assert_close(first_seen, began.elapsed());
        }
        other => panic!("{other:?}"),
    }
    let another = stores[0]
        .claim_message(&digest(2), &owner(1), LONG, LONG)
        .await;
    assert_eq!(another, Ok(Claim::New));
}

async fn a_dead_handlers_message_is_taken_over_by_one(place: Place) {
    let stores = place.open_twice().await;
    let (key, dead) = (digest(1), owner(99));
    let began = Instant::now();
    let claimed = stores[0].claim_message(&key, &dead, SHORT, LONG).await;
    assert_eq!(claimed, Ok(Claim::New));
    let (mut taken, mut deliveries_before) = (Vec::new(), 1);
    while taken.is_empty() {
        let claims = all_at_once(8, |n| {
            let store = stores[n % 2].clone();
            async move {
                let claim = store.claim_message(&key, &owner(n), LONG, LONG).await;
                (n, claim.unwrap())
            }
        })
        .await;
        for (n, claim) in claims {
            match claim {
                Claim::TakenOver {
                    deliveries,
                    first_seen,
                } => {
                    assert!(first_seen >= NEARLY_SHORT, "{first_seen:?}");
                    assert!(deliveries > deliveries_before, "{deliveries}");
                    taken.push(n);
                }
                Claim::Running { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        deliveries_before += if taken.is_empty() { 8 } else { 0 };
        assert!(began.elapsed() < PATIENCE, "nobody takes over");
    }
    assert_eq!(taken.len(), 1);
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());

    // The dead one was only slow: it has lost its claim, and can't harm the new one.
    let store = &stores[0];
    assert_eq!(store.renew_message(&key, &dead, LONG).await, Ok(false));
    assert_eq!(
        store.finish_message(&key, &dead, b"late", LONG).await,
        Ok(false)
    );
    store.release_message(&key, &dead).await.unwrap();
    let new_owner = owner(taken[0]);
    let finished = store
        .finish_message(&key, &new_owner, b"in time", LONG)
        .await;
    assert_eq!(finished, Ok(true));
    let claimed = store.claim_message(&key, &dead, LONG, LONG).await;
    assert_eq!(claimed, Ok(Claim::Done(b"in time".to_vec())));
}

async fn a_look_takes_over_and_counts_no_delivery(place: Place) {
    let store = place.open().await;
    let key = digest(1);
    store
        .claim_message(&key, &owner(1), LONG, LONG)
        .await
        .unwrap();
    for _ in 0..3 {
        let looked = store.reclaim_message(&key, &owner(2), LONG, LONG).await;
        assert!(
            matches!(looked, Ok(Claim::Running { deliveries: 1, .. })),
            "{looked:?}"
        );
    }
    store.release_message(&key, &owner(1)).await.unwrap();
    let looked = store.reclaim_message(&key, &owner(2), LONG, LONG).await;
    assert!(
        matches!(looked, Ok(Claim::TakenOver { deliveries: 1, .. })),
        "{looked:?}"
    );
    store
        .finish_message(&key, &owner(2), b"done", LONG)
        .await
        .unwrap();
    let looked = store.reclaim_message(&key, &owner(1), LONG, LONG).await;
    assert_eq!(looked, Ok(Claim::Done(b"done".to_vec())));
}

async fn a_renewed_claim_is_not_taken_over(place: Place) {
    let store = place.open().await;
    let key = digest(1);
    let began = Instant::now();
    store
        .claim_message(&key, &owner(1), SHORT, LONG)
        .await
        .unwrap();
    assert_eq!(store.renew_message(&key, &owner(1), LONG).await, Ok(true));
    assert_eq!(store.renew_message(&key, &owner(2), LONG).await, Ok(false));
    assert_eq!(
        store.renew_message(&digest(2), &owner(1), LONG).await,
        Ok(false)
    );
    tokio::time::sleep((SHORT * 2).saturating_sub(began.elapsed())).await;
    let claimed = store.claim_message(&key, &owner(2), LONG, LONG).await;
    assert!(
        matches!(claimed, Ok(Claim::Running { deliveries: 2, .. })),
        "{claimed:?}"
    );
    store
        .finish_message(&key, &owner(1), b"x", LONG)
        .await
        .unwrap();
    assert_eq!(store.renew_message(&key, &owner(1), LONG).await, Ok(false));
}

async fn a_finished_message_gives_every_delivery_the_same_reply(place: Place) {
    let [store, other] = place.open_twice().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let replies = [every_byte, Vec::new(), vec![b'x'; 60_000]];
    for (n, reply) in (1..).zip(&replies) {
        let key = digest(n);
        store
            .claim_message(&key, &owner(1), LONG, LONG)
            .await
            .unwrap();
        let stranger = other.finish_message(&key, &owner(2), b"no", LONG).await;
        assert_eq!(stranger, Ok(false));
        // Said twice, as after an answer that was lost; then another reply, which comes too late.
        for (said, is_stored) in [(&reply[..], true), (reply, true), (b"other", false)] {
            let finished = store.finish_message(&key, &owner(1), said, LONG).await;
            assert_eq!(finished, Ok(is_stored));
        }
        for n in 1..4 {
            let claimed = other.claim_message(&key, &owner(n), LONG, LONG).await;
            assert_eq!(claimed, Ok(Claim::Done(reply.clone())));
        }
    }
}

async fn a_released_claim_is_handled_at_once(place: Place) {
    let [store, other] = place.open_twice().await;
    let key = digest(1);
    store.release_message(&key, &owner(1)).await.unwrap();
    store
        .claim_message(&key, &owner(1), LONG, LONG)
        .await
        .unwrap();
    other.release_message(&key, &owner(2)).await.unwrap();
    let claimed = other.claim_message(&key, &owner(2), LONG, LONG).await;
    assert!(
        matches!(claimed, Ok(Claim::Running { deliveries: 2, .. })),
        "{claimed:?}"
    );

    store.release_message(&key, &owner(1)).await.unwrap();
    assert_eq!(store.renew_message(&key, &owner(1), LONG).await, Ok(false));
    assert_eq!(
        store.finish_message(&key, &owner(1), b"x", LONG).await,
        Ok(false)
    );
    let claimed = other.claim_message(&key, &owner(2), LONG, LONG).await;
    assert!(
        matches!(claimed, Ok(Claim::TakenOver { deliveries: 3, .. })),
        "{claimed:?}"
    );

    other
        .finish_message(&key, &owner(2), b"done", LONG)
        .await
        .unwrap();
    other.release_message(&key, &owner(2)).await.unwrap();
    let claimed = store.claim_message(&key, &owner(1), LONG, LONG).await;
    assert_eq!(claimed, Ok(Claim::Done(b"done".to_vec())), "done is done");
}

async fn a_reply_is_stored_where_the_entry_is_gone(place: Place) {
    let store = place.open().await;
    // Never there; and there, but over.
    store
        .claim_message(&digest(2), &owner(2), LONG, SHORT)
        .await
        .unwrap();
    tokio::time::sleep(SHORT * 2).await;
    for key in [digest(1), digest(2)] {
        let finished = store.finish_message(&key, &owner(1), b"late", LONG).await;
        assert_eq!(finished, Ok(true));
        let claimed = store.claim_message(&key, &owner(2), LONG, LONG).await;
        assert_eq!(claimed, Ok(Claim::Done(b"late".to_vec())));
    }
}

async fn an_expired_entry_is_new_again(place: Place) {
    let store = place.open().await;
    // One whose handler runs, and one that is done: their time counts from the first delivery.
    for (key, is_done) in [(digest(1), false), (digest(2), true)] {
        let began = Instant::now();
        store
            .claim_message(&key, &owner(1), LONG, SHORT)
            .await
            .unwrap();
        if is_done {
            // Kept as shortly: on a slow machine the entry may be over by now, and is made anew.
            store
                .finish_message(&key, &owner(1), b"old", SHORT)
                .await
                .unwrap();
        }
        eventually(|| async {
            match store
                .claim_message(&key, &owner(2), LONG, LONG)
                .await
                .unwrap()
            {
                Claim::New => Some(()),
                Claim::Running { .. } | Claim::Done(_) => None,
                other => panic!("{other:?}"),
            }
        })
        .await;
        assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
        let next = store.claim_message(&key, &owner(1), LONG, LONG).await;
        assert!(
            matches!(next, Ok(Claim::Running { deliveries: 2, .. })),
            "{next:?}"
        );
    }
}
