//! What is written down of a handled message.

use super::*;

on_every_store! {
    every_later_delivery_gets_the_same_reply
    an_old_message_is_known_below_many_newer_ones
    what_is_finished_twice_has_one_effect
    a_repeated_finish_takes_nothing_from_a_successor
    a_message_nobody_delivered_can_not_be_finished
    a_session_is_there_until_its_time_is_over
    a_session_is_changed_by_who_says_so
}

async fn every_later_delivery_gets_the_same_reply(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&other));
    let every_byte: Vec<u8> = (0..=255).collect();
    let replies = [every_byte, Vec::new(), vec![b'x'; 60_000]];
    for (n, reply) in (1..).zip(&replies) {
        let answered = Handled {
            reply: Some(reply.clone()),
            ..handled(n)
        };
        alice.handle(&answered).await;
        for holder in [&another, &alice, &another] {
            assert_eq!(holder.deliver(n).await, Delivered::Done(reply.clone()));
            assert_eq!(holder.look(n).await, Delivered::Done(reply.clone()));
        }
    }
    // A known one is known while others wait and are held, and takes nothing.
    hold(alice.deliver(9).await);
    assert_eq!(another.deliver(2).await, Delivered::Done(Vec::new()));
    alice.release().await;
    assert_eq!(another.deliver(2).await, Delivered::Done(Vec::new()));
    assert!(!another.renew(LONG).await);
}

async fn an_old_message_is_known_below_many_newer_ones(place: Place) {
    let [store, other] = place.open_twice().await;
    let alice = Holder::new(&store);
    for n in 0..80 {
        alice.handle(&handled(n)).await;
    }
    for n in [0, 1, 40, 79] {
        let again = Delivery {
            may_be_old: true,
            ..message(n)
        };
        let delivered = Holder::new(&other).deliver_for(&again, LONG).await;
        assert_eq!(delivered, Delivered::Done(reply(n)));
    }
    let really_new = Delivery {
        may_be_old: true,
        ..message(200)
    };
    let found = hold(alice.deliver_for(&really_new, LONG).await);
    assert_eq!(numbers(&found.waiting), [200]);
}

async fn what_is_finished_twice_has_one_effect(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    alice.handle(&handled_keeping(1, &["old"])).await;
    let found = hold(alice.deliver(2).await);
    hold(alice.deliver(3).await);
    let finish = Handled {
        taken: vec![found.kept[0].id],
        session: SessionChange::Set(b"session".to_vec(), LONG),
        ..handled_keeping(2, &["new"])
    };
    let first = written(alice.finish(&finish).await);
    assert_eq!(numbers(&first), [3]);
    // What waits is told again, and held on.
    let second = written(alice.finish(&finish).await);
    assert_eq!(numbers(&second), [3]);
    assert_eq!(second[0].message, Some(xml(3)));
    assert!(alice.renew(LONG).await);
    // Another reply comes too late.
    let other_reply = Handled {
        reply: Some(b"other".to_vec()),
        ..finish.clone()
    };
    assert_eq!(numbers(&written(alice.finish(&other_reply).await)), [3]);
    assert_eq!(alice.deliver(2).await, Delivered::Done(reply(2)));

    for _ in 0..3 {
        assert_eq!(alice.finish(&handled(3)).await, Finished::Written(vec![]));
    }
    assert!(!alice.renew(LONG).await);
    let found = alice.found_by(4).await;
    assert_eq!(replies(&found.kept), ["new"]);
    assert_eq!(found.session, Some(b"session".to_vec()));

    // One that was left open too.
    hold(alice.deliver(5).await);
    for _ in 0..2 {
        let finished = alice.finish(&left_open(5)).await;
        assert_eq!(finished, Finished::Written(vec![]));
    }
}

async fn a_repeated_finish_takes_nothing_from_a_successor(place: Place) {
    let [store, other] = place.open_twice().await;
    let (first, next) = (Holder::new(&store), Holder::new(&other));
    let finish = handled_keeping(1, &["kept"]);
    first.handle(&finish).await;
    hold(next.deliver(2).await);
    // It was all written the first time; what waits now is the other's.
    assert_eq!(first.finish(&finish).await, Finished::Written(vec![]));
    assert!(next.renew(LONG).await);
    let finished = next.finish(&handled(2)).await;
    assert_eq!(finished, Finished::Written(vec![]));
    assert_eq!(next.kept_for(3).await, ["kept"]);
    assert_eq!(next.finish(&finish).await, Finished::Lost);
}

async fn a_message_nobody_delivered_can_not_be_finished(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    assert_eq!(alice.finish(&handled(1)).await, Finished::Lost);
    hold(alice.deliver(1).await);
    let unknown = handled_keeping(2, &["never"]);
    assert_eq!(alice.finish(&unknown).await, Finished::Lost);
    let finished = alice.finish(&handled(1)).await;
    assert_eq!(finished, Finished::Written(vec![]));
    assert_eq!(alice.found_by(2).await.kept, []);
}

async fn a_session_is_there_until_its_time_is_over(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    let began = Instant::now();
    let set = Handled {
        session: SessionChange::Set(b"short".to_vec(), SHORT),
        ..handled(1)
    };
    alice.handle(&set).await;
    hold(alice.deliver(2).await);
    eventually(|| async {
        match hold(alice.look(2).await).session {
            None => Some(()),
            Some(session) => {
                assert_eq!(session, b"short");
                None
            }
        }
    })
    .await;
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
}

async fn a_session_is_changed_by_who_says_so(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&other));
    let changes = [
        (SessionChange::Unchanged, None),
        (SessionChange::Set(b"a".to_vec(), LONG), Some("a")),
        (SessionChange::Unchanged, Some("a")),
        (SessionChange::Set(b"$b".to_vec(), LONG), Some("$b")),
        (SessionChange::Cleared, None),
        (SessionChange::Cleared, None),
        (SessionChange::Set(Vec::new(), LONG), Some("")),
    ];
    for (n, (session, expected)) in (1..).zip(changes) {
        alice
            .handle(&Handled {
                session,
                ..handled(n)
            })
            .await;
        let found = another.found_by(100 + n).await.session;
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "step {n}");
    }
}
