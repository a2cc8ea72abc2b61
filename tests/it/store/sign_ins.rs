//! Sign-ins under way, and sessions.

use super::*;

on_every_store! {
    a_sign_in_is_found_by_its_browser_alone
    a_code_is_exchanged_by_one_of_many_callbacks
    an_exchange_whose_holder_died_is_taken_over
    the_first_outcome_of_an_exchange_stays
    what_expired_is_not_found
    a_session_lasts_until_it_is_deleted
    a_session_is_found_with_its_user
}

async fn a_sign_in_is_found_by_its_browser_alone(place: Place) {
    let [store, other] = place.open_twice().await;
    let bare = SignIn {
        next: None,
        id: None,
        ..sign_in("a")
    };
    store
        .create_sign_in(&digest(1), &sign_in("a"), LONG)
        .await
        .unwrap();
    store.create_sign_in(&digest(2), &bare, LONG).await.unwrap();
    store
        .create_sign_in(&digest(2), &sign_in("b"), LONG)
        .await
        .unwrap();

    let found = other.sign_in(&digest(1), &BROWSER).await;
    assert_eq!(found, Ok(Some(sign_in("a"))));
    let found = other.sign_in(&digest(2), &BROWSER).await;
    assert_eq!(found, Ok(Some(bare)), "the one that was there first");
    assert_eq!(other.sign_in(&digest(1), &digest(9)).await, Ok(None));
    assert_eq!(other.sign_in(&digest(3), &BROWSER).await, Ok(None));
}

async fn a_code_is_exchanged_by_one_of_many_callbacks(place: Place) {
    let stores = place.open_twice().await;
    let (state, code) = (digest(1), digest(100));
    stores[0]
        .create_sign_in(&state, &sign_in("a"), LONG)
        .await
        .unwrap();
    let refusals = [
        (digest(2), BROWSER, code, "another state"),
        (state, digest(3), code, "another browser"),
    ];
    for (state, browser, code, what) in refusals {
        let begun = stores[0]
            .begin_exchange(&state, &browser, &code, LONG)
            .await;
        assert_eq!(begun, Ok(Exchange::Refused), "{what}");
    }

    let racing = all_at_once(32, |n| {
        let store = stores[n % 2].clone();
        async move {
            store
                .begin_exchange(&state, &BROWSER, &code, LONG)
                .await
                .unwrap()
        }
    })
    .await;
    let begun = Exchange::Begun(sign_in("a"));
    let running = Exchange::Running(sign_in("a"));
    assert_eq!(racing.iter().filter(|&e| *e == begun).count(), 1);
    assert_eq!(racing.iter().filter(|&e| *e == running).count(), 31);

    let another_code = stores[1]
        .begin_exchange(&state, &BROWSER, &digest(101), LONG)
        .await;
    assert_eq!(another_code, Ok(Exchange::Refused));
    let found = stores[1].sign_in(&state, &BROWSER).await;
    assert_eq!(found, Ok(Some(sign_in("a"))), "used, and still readable");
}

async fn an_exchange_whose_holder_died_is_taken_over(place: Place) {
    let stores = place.open_twice().await;
    let (state, code) = (digest(1), digest(100));
    stores[0]
        .create_sign_in(&state, &sign_in("a"), LONG)
        .await
        .unwrap();
    let began = Instant::now();
    let begun = stores[0]
        .begin_exchange(&state, &BROWSER, &code, SHORT)
        .await;
    assert_eq!(begun, Ok(Exchange::Begun(sign_in("a"))));
    let mut taken = 0;
    while taken == 0 {
        let racing = all_at_once(4, |n| {
            let store = stores[n % 2].clone();
            async move {
                store
                    .begin_exchange(&state, &BROWSER, &code, LONG)
                    .await
                    .unwrap()
            }
        })
        .await;
        let begun = Exchange::Begun(sign_in("a"));
        taken = racing.iter().filter(|&e| *e == begun).count();
        assert!(began.elapsed() < PATIENCE, "nobody takes over");
    }
    assert_eq!(taken, 1);
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
    let another_code = stores[0]
        .begin_exchange(&state, &BROWSER, &digest(101), LONG)
        .await;
    assert_eq!(another_code, Ok(Exchange::Refused));
}

async fn the_first_outcome_of_an_exchange_stays(place: Place) {
    let [store, other] = place.open_twice().await;
    let (state, code) = (digest(1), digest(100));
    store
        .create_sign_in(&state, &sign_in("a"), LONG)
        .await
        .unwrap();
    store
        .begin_exchange(&state, &BROWSER, &code, LONG)
        .await
        .unwrap();
    store
        .finish_exchange(&state, &sealed("first"))
        .await
        .unwrap();
    other
        .finish_exchange(&state, &sealed("second"))
        .await
        .unwrap();
    for _ in 0..2 {
        let again = other.begin_exchange(&state, &BROWSER, &code, LONG).await;
        assert_eq!(again, Ok(Exchange::Finished(sign_in("a"), sealed("first"))));
    }
    for (browser, code) in [(BROWSER, digest(101)), (digest(9), code)] {
        let begun = other.begin_exchange(&state, &browser, &code, LONG).await;
        assert_eq!(begun, Ok(Exchange::Refused));
    }
    // Nothing to finish: nothing is stored.
    store
        .finish_exchange(&digest(2), &sealed("none"))
        .await
        .unwrap();
    let begun = store
        .begin_exchange(&digest(2), &BROWSER, &code, LONG)
        .await;
    assert_eq!(begun, Ok(Exchange::Refused));
}

async fn what_expired_is_not_found(place: Place) {
    let store = place.open().await;
    let session = session_of(&open_id("oAlice"));
    let lives = |n| (digest(n), if n == 1 { SHORT } else { LONG });
    for (id, life) in [lives(1), lives(2)] {
        store.create_session(&id, &session, life).await.unwrap();
        store
            .create_sign_in(&id, &sign_in("a"), life)
            .await
            .unwrap();
    }
    tokio::time::sleep(SHORT * 2).await;
    for collected in [false, true] {
        if collected {
            store.collect_garbage().await.unwrap();
        }
        assert_eq!(store.session(&digest(1)).await, Ok(None));
        assert_eq!(store.sign_in(&digest(1), &BROWSER).await, Ok(None));
        let begun = store
            .begin_exchange(&digest(1), &BROWSER, &digest(100), LONG)
            .await;
        assert_eq!(begun, Ok(Exchange::Refused));
        assert_eq!(store.session(&digest(2)).await, Ok(Some(session.clone())));
        let found = store.sign_in(&digest(2), &BROWSER).await;
        assert_eq!(found, Ok(Some(sign_in("a"))));
    }
}

async fn a_session_is_found_with_its_user(place: Place) {
    let [store, other] = place.open_twice().await;
    let alice = open_id("oAlice");
    let (session, profile) = (session_of(&alice), json!({"nickname": "爱丽丝"}));
    assert_eq!(store.signed_in(&digest(1)).await, Ok(None));
    for (id, life) in [(digest(1), LONG), (digest(2), SHORT)] {
        store.create_session(&id, &session, life).await.unwrap();
    }
    let without = SignedIn {
        session: session.clone(),
        user: None,
    };
    assert_eq!(store.signed_in(&digest(1)).await, Ok(Some(without)));

    let union_id = UnionId::parse("uAlice").unwrap();
    let of_bob = grant("snsapi_base", "bob");
    store
        .save_grant(&open_id("oBob"), None, &of_bob)
        .await
        .unwrap();
    store
        .save_grant(&alice, Some(&union_id), &grant("snsapi_userinfo", "alice"))
        .await
        .unwrap();
    store.save_profile(&alice, &profile).await.unwrap();
    let found = other.signed_in(&digest(1)).await.unwrap().unwrap();
    assert_eq!(found.session, session);
    let user = found.user.unwrap();
    assert_eq!((&user.open_id, user.union_id), (&alice, Some(union_id)));
    assert_eq!(user.profile, Some(profile));
    let found = user.grant.unwrap();
    assert_eq!(found.scope, "snsapi_userinfo");
    assert_eq!(found.access_token, sealed("alice"));
    assert!(!found.access_expires_in.is_zero() && !found.refresh_expires_in.is_zero());

    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(store.signed_in(&digest(2)).await, Ok(None), "it expired");
    other.delete_session(&digest(1)).await.unwrap();
    assert_eq!(store.signed_in(&digest(1)).await, Ok(None));
    store
        .create_session(&digest(3), &session, LONG)
        .await
        .unwrap();
    other.forget_user(&alice).await.unwrap();
    assert_eq!(store.signed_in(&digest(3)).await, Ok(None));
}

async fn a_session_lasts_until_it_is_deleted(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, bob) = (session_of(&open_id("oAlice")), session_of(&open_id("oBob")));
    assert_eq!(store.session(&digest(1)).await, Ok(None));
    store.delete_session(&digest(1)).await.unwrap();
    store
        .create_session(&digest(1), &alice, LONG)
        .await
        .unwrap();
    store.create_session(&digest(1), &bob, LONG).await.unwrap();
    store.create_session(&digest(2), &bob, LONG).await.unwrap();
    assert_eq!(other.session(&digest(1)).await, Ok(Some(alice)));
    other.delete_session(&digest(1)).await.unwrap();
    assert_eq!(store.session(&digest(1)).await, Ok(None));
    assert_eq!(store.session(&digest(2)).await, Ok(Some(bob)));
}
