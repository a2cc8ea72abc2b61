//! Windows for customer-service messages, and what is forgotten with a user.

use super::*;

on_every_store! {
    each_gesture_opens_its_window
    a_window_counts_what_is_sent_in_it_and_begins_anew
    a_forgotten_user_leaves_no_session_window_or_answer
}

fn gesture(n: u8, opens: Option<Trigger>) -> Delivery {
    Delivery {
        opens,
        ..message(n)
    }
}

async fn each_gesture_opens_its_window(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&other));
    assert_eq!(alice.windows().await, []);
    alice.deliver_for(&gesture(0, None), LONG).await;
    assert_eq!(alice.windows().await, []);
    let mut opened = Vec::new();
    for (n, trigger) in (1..).zip(Trigger::ALL) {
        // Whoever holds the conversation.
        let holder = if n % 2 == 0 { &alice } else { &another };
        holder.deliver_for(&gesture(n, Some(trigger)), LONG).await;
        opened.push(trigger.name());
        opened.sort_unstable();
        let windows = another.windows().await;
        let found: Vec<_> = windows.iter().map(|w| w.trigger.name()).collect();
        assert_eq!(found, opened);
        for window in windows {
            assert_close(window.age, Duration::ZERO);
            assert_eq!(window.sent, 0);
        }
    }
    assert_eq!(Holder::of("oBob", &store).windows().await, []);
}

async fn a_window_counts_what_is_sent_in_it_and_begins_anew(place: Place) {
    let [store, other] = place.open_twice().await;
    let alice = Holder::new(&store);
    let count = async |store: &Arc<dyn Store>, trigger| {
        store.count_sent(&alice.of, trigger).await.unwrap();
    };
    let sent = async || -> Vec<_> {
        let windows = alice.windows().await;
        windows.iter().map(|w| (w.trigger, w.sent)).collect()
    };
    // There is none yet.
    count(&store, Trigger::Message).await;
    assert_eq!(sent().await, []);
    alice
        .deliver_for(&gesture(1, Some(Trigger::Click)), LONG)
        .await;
    alice.deliver(2).await;
    count(&store, Trigger::Message).await;
    count(&other, Trigger::Message).await;
    count(&other, Trigger::Click).await;
    count(&other, Trigger::Follow).await;
    assert_eq!(
        sent().await,
        [(Trigger::Click, 1), (Trigger::Message, 2)],
        "what was never opened counts nothing"
    );

    tokio::time::sleep(SHORT).await;
    // The same gesture delivered again is no new one.
    alice.deliver(2).await;
    let [click, written] = alice.windows().await[..] else {
        panic!("there are two");
    };
    assert_eq!((click.sent, written.sent), (1, 2));
    assert!(written.age >= NEARLY_SHORT, "{written:?}");
    let began = Instant::now();
    alice.deliver(3).await;
    let [click, written] = alice.windows().await[..] else {
        panic!("there are two");
    };
    assert_eq!((click.sent, written.sent), (1, 0));
    assert!(click.age >= NEARLY_SHORT, "{click:?}");
    // Whole milliseconds may be one more on either side.
    let most = began.elapsed() + Duration::from_millis(2);
    assert!(written.age <= most, "{written:?}, at most {most:?}");
}

async fn a_forgotten_user_leaves_no_session_window_or_answer(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, bob) = (Holder::of("oAlice", &store), Holder::of("oBob", &store));
    for who in [&alice, &bob] {
        let rich = Handled {
            session: SessionChange::Set(b"session".to_vec(), LONG),
            ..handled_keeping(1, &["a", "b"])
        };
        who.handle(&rich).await;
        who.begin_sending(LONG).await.unwrap();
    }
    // He is being handled while he is forgotten.
    let before = hold(alice.deliver_for(&farewell(2), LONG).await);
    assert_eq!(before.session, Some(b"session".to_vec()));
    other.forget_user(&alice.of).await.unwrap();
    assert_eq!(alice.windows().await, []);
    let not_given = Handled {
        given: false,
        ..handled_keeping(2, &["more"])
    };
    assert_eq!(alice.finish(&not_given).await, Finished::Written(vec![]));
    // That he has left is not forgotten, nor that it was handled.
    assert!(!alice.keep_answer(2).await);
    assert_eq!(alice.deliver(1).await, Delivered::Done(reply(1)));
    assert_eq!(alice.windows().await, []);
    let found = alice.found_by(3).await;
    assert_eq!((found.session, found.kept), (None, vec![]));

    assert_eq!(bob.windows().await.len(), 1);
    let found = bob.found_by(3).await;
    assert_eq!(found.session, Some(b"session".to_vec()));
    assert_eq!(replies(&found.kept), ["b"]);
    // Nobody is forgotten as well.
    let nobody = open_id("oNobody");
    other.forget_user(&nobody).await.unwrap();
}
