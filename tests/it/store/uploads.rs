//! Files that were uploaded to the platform.

use super::*;

on_every_store! {
    an_upload_is_found_by_its_digest_while_it_lives
    a_later_upload_goes_over_an_earlier_one
}

async fn an_upload_is_found_by_its_digest_while_it_lives(place: Place) {
    let [store, other] = place.open_twice().await;
    assert_eq!(store.upload(&digest(1)).await, Ok(None));
    store
        .save_upload(&digest(1), "$media-1", LONG)
        .await
        .unwrap();
    let began = Instant::now();
    store.save_upload(&digest(2), "m2", SHORT).await.unwrap();
    let (media_id, left) = other.upload(&digest(1)).await.unwrap().unwrap();
    assert_eq!(media_id, "$media-1");
    assert_close(left, LONG);
    assert!(left <= LONG, "{left:?}");
    eventually(|| async {
        match other.upload(&digest(2)).await.unwrap() {
            None => Some(()),
            Some((media_id, left)) => {
                assert_eq!(media_id, "m2");
                assert!(left <= SHORT && !left.is_zero(), "{left:?}");
                None
            }
        }
    })
    .await;
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
    assert_eq!(other.upload(&digest(3)).await, Ok(None));
}

async fn a_later_upload_goes_over_an_earlier_one(place: Place) {
    let [store, other] = place.open_twice().await;
    for (media_id, lifetime) in [("first", SHORT), ("second", LONG)] {
        store
            .save_upload(&digest(1), media_id, lifetime)
            .await
            .unwrap();
    }
    tokio::time::sleep(SHORT).await;
    let (media_id, left) = other.upload(&digest(1)).await.unwrap().unwrap();
    assert_eq!(media_id, "second");
    assert_close(left, LONG);
    // Shorter as well: what was said last holds.
    store.save_upload(&digest(1), "third", SHORT).await.unwrap();
    eventually(|| async {
        other
            .upload(&digest(1))
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}
