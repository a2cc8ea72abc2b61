//! The account's credentials: the lease on fetching, and publishing as a compare-and-set.

use super::*;

on_every_store! {
    a_credential_that_was_never_stored_has_generation_zero
    a_published_credential_is_read_back_with_what_is_left_of_its_life
    a_credential_whose_life_is_over_has_none_left
    of_many_contenders_one_gets_the_lease
    a_lease_is_free_once_it_ran_out_or_was_given_back
    a_lease_of_ones_own_begins_anew
    publishing_over_another_generation_loses
    of_many_publishers_of_one_generation_one_wins
    publishing_leaves_anothers_lease_alone
    a_refused_value_is_removed_once_and_a_newer_one_left_alone
}

async fn a_credential_that_was_never_stored_has_generation_zero(place: Place) {
    let store = place.open().await;
    let nothing = StoredCredential {
        generation: 0,
        value: None,
        expires_in: Duration::ZERO,
        age: Duration::ZERO,
    };
    assert_eq!(store.credential(KEY).await, Ok(nothing.clone()));
    assert_eq!(store.expire_credential(KEY, 0).await, Ok(false));
    store.release_credential(KEY, &owner(1)).await.unwrap();
    let leased = store.lease_credential(KEY, &owner(1), LONG).await;
    assert_eq!(leased, Ok(Lease::Held(nothing.clone())));
    assert_eq!(store.credential(KEY).await, Ok(nothing));
}

async fn a_published_credential_is_read_back_with_what_is_left_of_its_life(place: Place) {
    let [store, other] = place.open_twice().await;
    // Without a lease too, and under a key of its own.
    for generation in 0..2 {
        let value = sealed(&format!("value {generation}"));
        let published = store
            .publish_credential(KEY, &owner(1), generation, &value, LONG)
            .await;
        assert_eq!(published, Ok(true));
        let found = other.credential(KEY).await.unwrap();
        assert_eq!(found.generation, generation + 1);
        assert_eq!(found.value, Some(value));
        assert_close(found.expires_in, LONG);
        assert_close(found.age, Duration::ZERO);
    }
    assert_eq!(store.credential("wx/other").await.unwrap().generation, 0);
}

async fn a_credential_whose_life_is_over_has_none_left(place: Place) {
    let store = place.open().await;
    let value = sealed("value");
    store
        .publish_credential(KEY, &owner(1), 0, &value, SHORT)
        .await
        .unwrap();
    let found = eventually(|| async {
        let found = store.credential(KEY).await.unwrap();
        found.expires_in.is_zero().then_some(found)
    })
    .await;
    assert_eq!((found.generation, found.value), (1, Some(value)));
    assert!(found.age >= NEARLY_SHORT, "{:?}", found.age);
}

async fn of_many_contenders_one_gets_the_lease(place: Place) {
    let stores = place.open_twice().await;
    let leases = all_at_once(64, |n| {
        let store = stores[n % 2].clone();
        async move { store.lease_credential(KEY, &owner(n), LONG).await.unwrap() }
    })
    .await;
    let held = leases.iter().filter(|l| matches!(l, Lease::Held(_)));
    assert_eq!(held.count(), 1);
}

async fn a_lease_is_free_once_it_ran_out_or_was_given_back(place: Place) {
    let store = place.open().await;
    let began = Instant::now();
    held(store.lease_credential(KEY, &owner(1), SHORT).await);
    eventually(|| async {
        let lease = store.lease_credential(KEY, &owner(2), LONG).await.unwrap();
        matches!(lease, Lease::Held(_)).then_some(())
    })
    .await;
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());

    busy(store.lease_credential(KEY, &owner(1), LONG).await);
    store.release_credential(KEY, &owner(1)).await.unwrap();
    busy(store.lease_credential(KEY, &owner(1), LONG).await);
    store.release_credential(KEY, &owner(2)).await.unwrap();
    held(store.lease_credential(KEY, &owner(1), LONG).await);
}

async fn a_lease_of_ones_own_begins_anew(place: Place) {
    let store = place.open().await;
    let began = Instant::now();
    held(store.lease_credential(KEY, &owner(1), SHORT).await);
    held(store.lease_credential(KEY, &owner(1), LONG).await);
    tokio::time::sleep((SHORT * 2).saturating_sub(began.elapsed())).await;
    busy(store.lease_credential(KEY, &owner(2), LONG).await);
}

async fn publishing_over_another_generation_loses(place: Place) {
    let [paused, other] = place.open_twice().await;
    let before = held(paused.lease_credential(KEY, &owner(1), SHORT).await);
    let taken = eventually(|| async {
        match other.lease_credential(KEY, &owner(2), LONG).await.unwrap() {
            Lease::Held(found) => Some(found),
            Lease::Busy(_) => None,
        }
    })
    .await;
    let newer = sealed("newer");
    let published = other
        .publish_credential(KEY, &owner(2), taken.generation, &newer, LONG)
        .await;
    assert_eq!(published, Ok(true));

    let late = paused
        .publish_credential(KEY, &owner(1), before.generation, &sealed("late"), LONG)
        .await;
    assert_eq!(late, Ok(false));
    let ahead = paused
        .publish_credential(KEY, &owner(1), 7, &sealed("ahead"), LONG)
        .await;
    assert_eq!(ahead, Ok(false));
    let found = held(paused.lease_credential(KEY, &owner(3), LONG).await);
    assert_eq!((found.generation, found.value), (1, Some(newer)));
}

async fn of_many_publishers_of_one_generation_one_wins(place: Place) {
    let stores = place.open_twice().await;
    let published = all_at_once(32, |n| {
        let store = stores[n % 2].clone();
        async move {
            let value = sealed(&n.to_string());
            store
                .publish_credential(KEY, &owner(n), 0, &value, LONG)
                .await
                .unwrap()
        }
    })
    .await;
    assert_eq!(published.iter().filter(|&&won| won).count(), 1);
    let winner = published.iter().position(|&won| won).unwrap();
    let found = stores[0].credential(KEY).await.unwrap();
    assert_eq!(found.generation, 1);
    assert_eq!(found.value, Some(sealed(&winner.to_string())));
}

async fn publishing_leaves_anothers_lease_alone(place: Place) {
    let store = place.open().await;
    held(store.lease_credential(KEY, &owner(1), LONG).await);
    let published = store
        .publish_credential(KEY, &owner(2), 0, &sealed("a"), LONG)
        .await;
    assert_eq!(published, Ok(true));
    busy(store.lease_credential(KEY, &owner(2), LONG).await);
    // The holder's own ends it, though his value comes too late.
    let late = store
        .publish_credential(KEY, &owner(1), 0, &sealed("b"), LONG)
        .await;
    assert_eq!(late, Ok(false));
    let found = held(store.lease_credential(KEY, &owner(2), LONG).await);
    assert_eq!(found.value, Some(sealed("a")));
}

async fn a_refused_value_is_removed_once_and_a_newer_one_left_alone(place: Place) {
    let stores = place.open_twice().await;
    for generation in 0..2 {
        stores[0]
            .publish_credential(KEY, &owner(1), generation, &sealed("value"), LONG)
            .await
            .unwrap();
    }
    assert_eq!(stores[0].expire_credential(KEY, 1).await, Ok(false));
    assert!(stores[0].credential(KEY).await.unwrap().value.is_some());

    let removed = all_at_once(8, |n| {
        let store = stores[n % 2].clone();
        async move { store.expire_credential(KEY, 2).await.unwrap() }
    })
    .await;
    assert_eq!(removed.iter().filter(|&&was_stored| was_stored).count(), 1);
    let found = stores[1].credential(KEY).await.unwrap();
    assert_eq!((found.generation, found.value), (2, None));
    let next = stores[1]
        .publish_credential(KEY, &owner(1), 2, &sealed("next"), LONG)
        .await;
    assert_eq!(next, Ok(true));
}
