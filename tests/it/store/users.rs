//! Grants and profiles.

use super::*;

on_every_store! {
    a_user_is_found_by_his_openid_with_his_last_grant
    a_grant_that_is_over_stays_readable
    a_profile_is_kept_for_known_users_only
    a_refreshed_grant_does_not_bring_a_forgotten_user_back
    a_forgotten_user_leaves_no_grant_profile_or_session
    what_looks_like_a_query_is_data
}

async fn a_user_is_found_by_his_openid_with_his_last_grant(place: Place) {
    let store = place.open().await;
    let (alice, bob) = (open_id("oAlice"), open_id("oBob"));
    assert_eq!(store.user(&alice).await, Ok(None));

    let union_id = UnionId::parse("uAlice").unwrap();
    let first = grant("snsapi_base", "first");
    store
        .save_grant(&alice, Some(&union_id), &first)
        .await
        .unwrap();
    let last = grant("snsapi_userinfo", "last");
    store.save_grant(&alice, None, &last).await.unwrap();

    let found = store.user(&alice).await.unwrap().unwrap();
    let found_grant = found.grant.clone().unwrap();
    assert_close(found_grant.access_expires_in, last.access_expires_in);
    assert_close(found_grant.refresh_expires_in, last.refresh_expires_in);
    let expected = StoredUser {
        open_id: alice,
        union_id: Some(union_id),
        grant: Some(OAuthGrant {
            access_expires_in: found_grant.access_expires_in,
            refresh_expires_in: found_grant.refresh_expires_in,
            ..last
        }),
        profile: None,
    };
    assert_eq!(found, expected);
    assert_eq!(store.user(&bob).await, Ok(None));
}

async fn a_grant_that_is_over_stays_readable(place: Place) {
    let store = place.open().await;
    let alice = open_id("oAlice");
    let over = OAuthGrant {
        access_expires_in: Duration::ZERO,
        refresh_expires_in: Duration::ZERO,
        ..grant("snsapi_base", "over")
    };
    store.save_grant(&alice, None, &over).await.unwrap();
    let found = store.user(&alice).await.unwrap().unwrap();
    assert_eq!((found.union_id, found.grant), (None, Some(over)));
}

async fn a_refreshed_grant_does_not_bring_a_forgotten_user_back(place: Place) {
    let store = place.open().await;
    let alice = open_id("oAlice");
    let (first, renewed) = (
        grant("snsapi_userinfo", "first"),
        grant("snsapi_userinfo", "renewed"),
    );
    assert_eq!(store.renew_grant(&alice, &first).await, Ok(false));
    assert_eq!(store.user(&alice).await, Ok(None));

    store.save_grant(&alice, None, &first).await.unwrap();
    assert_eq!(store.renew_grant(&alice, &renewed).await, Ok(true));
    let found = store.user(&alice).await.unwrap().unwrap().grant.unwrap();
    assert_eq!(found.access_token, renewed.access_token);

    store.forget_user(&alice).await.unwrap();
    assert_eq!(store.renew_grant(&alice, &renewed).await, Ok(false));
    assert_eq!(store.user(&alice).await, Ok(None));
}

async fn a_profile_is_kept_for_known_users_only(place: Place) {
    let store = place.open().await;
    let (alice, bob) = (open_id("oAlice"), open_id("oBob"));
    let base = grant("snsapi_base", "a");
    store.save_grant(&alice, None, &base).await.unwrap();
    let profile = json!({
        "nickname": "张三 🌲 \"q\" \u{1}", "privilege": ["a"], "$set": {"a.b": null},
        "big": u64::MAX, "sex": 1, "ratio": 0.5,
    });
    for who in [&alice, &bob] {
        store
            .save_profile(who, &json!({"old": true}))
            .await
            .unwrap();
        store.save_profile(who, &profile).await.unwrap();
    }
    assert_eq!(store.user(&bob).await, Ok(None));
    let found = store.user(&alice).await.unwrap().unwrap();
    assert_eq!(found.profile, Some(profile.clone()));

    store.save_grant(&alice, None, &base).await.unwrap();
    let found = store.user(&alice).await.unwrap().unwrap();
    assert_eq!(found.profile, Some(profile), "a new grant leaves it");
}

async fn a_forgotten_user_leaves_no_grant_profile_or_session(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, bob) = (open_id("oAlice"), open_id("oBob"));
    for (who, sessions) in [(&alice, 1..4), (&bob, 4..5)] {
        store
            .save_grant(who, None, &grant("snsapi_base", "a"))
            .await
            .unwrap();
        store.save_profile(who, &json!({})).await.unwrap();
        for id in sessions {
            let session = session_of(who);
            store
                .create_session(&digest(id), &session, LONG)
                .await
                .unwrap();
        }
    }
    other.forget_user(&alice).await.unwrap();
    assert_eq!(store.user(&alice).await, Ok(None));
    for id in 1..4 {
        assert_eq!(store.session(&digest(id)).await, Ok(None));
    }
    assert!(store.user(&bob).await.unwrap().is_some());
    assert_eq!(store.session(&digest(4)).await, Ok(Some(session_of(&bob))));
    // What is not there is forgotten as well.
    other.forget_user(&alice).await.unwrap();
}

async fn what_looks_like_a_query_is_data(place: Place) {
    let store = place.open().await;
    let alice = open_id("oAlice");
    for text in [
        "$$NOW",
        "$scope",
        "$$REMOVE",
        "'; DROP TABLE users; --",
        "%",
        "中",
    ] {
        let odd = grant(text, text);
        store.save_grant(&alice, None, &odd).await.unwrap();
        let found = store.user(&alice).await.unwrap().unwrap().grant.unwrap();
        assert_eq!(
            (found.scope, found.access_token),
            (odd.scope, odd.access_token)
        );

        let (state, sign_in) = (digest_of(text), sign_in(text));
        store.create_sign_in(&state, &sign_in, LONG).await.unwrap();
        let begun = store
            .begin_exchange(&state, &BROWSER, &digest(1), LONG)
            .await;
        assert_eq!(begun, Ok(Exchange::Begun(sign_in)));

        let owner = InstanceId(text.into());
        held(store.lease_credential(text, &owner, LONG).await);
        let published = store
            .publish_credential(text, &owner, 0, &sealed(text), LONG)
            .await;
        assert_eq!(published, Ok(true));
    }
}
