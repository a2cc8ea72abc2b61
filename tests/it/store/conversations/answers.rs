//! Replies that come from outside, and whether a delivery has carried one.

use super::*;

on_every_store! {
    a_message_left_open_is_answered_from_outside
    a_message_left_open_does_not_hold_up_the_next
    an_answer_may_come_before_its_handler_has_ended
    a_handlers_own_reply_wins
    of_many_answers_the_first_stays
    an_answer_to_nothing_is_told
    a_reply_that_no_delivery_carried_becomes_a_kept_answer
    a_reply_that_was_given_is_not_kept
    a_reply_given_at_another_instance_is_not_kept
    that_a_delivery_has_carried_a_reply_is_not_taken_back
    nothing_is_kept_for_a_user_who_has_left
    only_what_he_does_himself_brings_a_user_back
}

async fn a_message_left_open_is_answered_from_outside(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&other));
    alice.handle(&left_open(1)).await;
    // Its deliveries wait for the reply, and take nothing.
    assert_eq!(elsewhere(another.deliver(1).await), 2);
    assert_eq!(elsewhere(another.look(1).await), 2);
    assert!(!another.renew(LONG).await);

    tokio::time::sleep(SHORT).await;
    match another.answer(1, b"from outside").await {
        Answered::Taken { first_seen } => {
            assert!(first_seen >= NEARLY_SHORT, "{first_seen:?}");
            assert_close(first_seen, SHORT);
        }
        other => panic!("{other:?}"),
    }
    let done = Delivered::Done(b"from outside".to_vec());
    assert_eq!(alice.look(1).await, done);
    assert_eq!(alice.deliver(1).await, done);
    alice.mark_given(1, true).await;
    assert!(!alice.keep_answer(1).await, "that delivery carried it");
}

async fn a_message_left_open_does_not_hold_up_the_next(place: Place) {
    let store = place.open().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&store));
    hold(alice.deliver(1).await);
    hold(alice.deliver(2).await);
    let left = written(alice.finish(&left_open(1)).await);
    assert_eq!(numbers(&left), [2]);
    assert_eq!(alice.finish(&handled(2)).await, Finished::Written(vec![]));
    let found = hold(another.deliver(3).await);
    assert_eq!(numbers(&found.waiting), [3]);
}

async fn an_answer_may_come_before_its_handler_has_ended(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    hold(alice.deliver(1).await);
    let answered = alice.answer(1, b"early").await;
    assert!(matches!(answered, Answered::Taken { .. }), "{answered:?}");
    // It is not handled yet.
    assert_eq!(numbers(&hold(alice.look(1).await).waiting), [1]);
    assert_eq!(alice.answer(1, b"second").await, Answered::Already);
    // The handler can't have said that a delivery carries what it does not know.
    let finish = Handled {
        given: true,
        ..left_open(1)
    };
    assert_eq!(alice.finish(&finish).await, Finished::Written(vec![]));
    assert!(alice.keep_answer(1).await);
    assert_eq!(alice.kept_for(2).await, ["early"]);
}

async fn a_handlers_own_reply_wins(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    hold(alice.deliver(1).await);
    let answered = alice.answer(1, b"early").await;
    assert!(matches!(answered, Answered::Taken { .. }), "{answered:?}");
    assert_eq!(alice.finish(&handled(1)).await, Finished::Written(vec![]));
    assert_eq!(alice.deliver(1).await, Delivered::Done(reply(1)));
    assert_eq!(alice.answer(1, b"late").await, Answered::Already);
    assert_eq!(alice.deliver(1).await, Delivered::Done(reply(1)));
}

async fn of_many_answers_the_first_stays(place: Place) {
    let stores = place.open_twice().await;
    let alice = Holder::new(&stores[0]);
    alice.handle(&left_open(1)).await;
    let answers = all_at_once(8, |n| {
        let another = Holder::new(&stores[n % 2]);
        async move { (n as u8, another.answer(1, &reply(n as u8)).await) }
    })
    .await;
    let mut taken = Vec::new();
    for (n, answered) in answers {
        match answered {
            Answered::Taken { .. } => taken.push(n),
            Answered::Already => {}
            Answered::Unknown => panic!("unknown"),
        }
    }
    let [n] = taken[..] else {
        panic!("taken: {taken:?}");
    };
    assert_eq!(alice.deliver(1).await, Delivered::Done(reply(n)));
}

async fn an_answer_to_nothing_is_told(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    assert_eq!(alice.answer(1, b"x").await, Answered::Unknown);
    alice.handle(&left_open(1)).await;
    assert_eq!(alice.answer(2, b"x").await, Answered::Unknown);
    let bob = Holder::of("oBob", &store);
    assert_eq!(bob.answer(1, b"x").await, Answered::Unknown);
}

async fn a_reply_that_no_delivery_carried_becomes_a_kept_answer(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    let not_given = |n| Handled {
        given: false,
        ..handled_keeping(n, &["more"])
    };
    assert!(!alice.keep_answer(1).await, "there is no such message");
    hold(alice.deliver(1).await);
    assert!(!alice.keep_answer(1).await, "it has no reply yet");
    assert_eq!(alice.finish(&not_given(1)).await, Finished::Written(vec![]));
    assert!(alice.keep_answer(1).await);
    assert!(!alice.keep_answer(1).await, "it is kept");
    // From now on it is the kept answer that says it.
    alice.mark_given(1, true).await;
    alice.mark_given(1, false).await;
    alice.deliver(1).await;
    assert!(!alice.keep_answer(1).await);
    assert_eq!(alice.kept_for(2).await, ["more", "reply 1"]);

    alice.handle(&left_open(3)).await;
    assert!(!alice.keep_answer(3).await, "it has no reply yet");
    alice.answer(3, b"from outside").await;
    assert!(alice.keep_answer(3).await);
    assert_eq!(alice.kept_for(4).await, ["more", "reply 1", "from outside"]);
}

async fn a_reply_that_was_given_is_not_kept(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    alice.handle(&handled(1)).await;
    assert!(!alice.keep_answer(1).await);
    // The delivery failed after all; the next did not.
    alice.mark_given(1, false).await;
    alice.mark_given(1, true).await;
    assert!(!alice.keep_answer(1).await);
    alice.handle(&handled(5)).await;
    alice.mark_given(5, false).await;
    assert!(alice.keep_answer(5).await);
    assert_eq!(alice.kept_for(2).await, ["reply 5"]);

    // What has no reply can't be given.
    alice.mark_given(9, true).await;
    alice.handle(&left_open(3)).await;
    alice.mark_given(3, true).await;
    alice.answer(3, b"from outside").await;
    assert!(alice.keep_answer(3).await);
}

async fn a_reply_given_at_another_instance_is_not_kept(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&other));
    let not_given = |n| Handled {
        given: false,
        ..handled(n)
    };
    alice.handle(&not_given(1)).await;
    assert_eq!(another.deliver(1).await, Delivered::Done(reply(1)));
    another.mark_given(1, true).await;
    assert!(!alice.keep_answer(1).await);
    // That it was found says nothing of whether it was given.
    alice.handle(&not_given(2)).await;
    assert_eq!(another.deliver(2).await, Delivered::Done(reply(2)));
    assert_eq!(another.look(2).await, Delivered::Done(reply(2)));
    assert!(alice.keep_answer(2).await);
}

async fn that_a_delivery_has_carried_a_reply_is_not_taken_back(place: Place) {
    let [store, other] = place.open_twice().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&other));
    for given in [true, false] {
        let n = u8::from(given);
        alice
            .handle(&Handled {
                given,
                ..handled(n)
            })
            .await;
        assert_eq!(another.deliver(n).await, Delivered::Done(reply(n)));
        another.mark_given(n, true).await;
        // Its own delivery was over before it knew that the reply is written.
        alice.mark_given(n, false).await;
        assert!(!alice.keep_answer(n).await, "{given}");
        assert_eq!(alice.take_overdue().await, Overdue::default());
    }
    alice.handle(&handled(2)).await;
    alice.mark_given(2, false).await;
    assert!(alice.keep_answer(2).await, "nobody has carried it");
}

async fn nothing_is_kept_for_a_user_who_has_left(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    let not_given = |n| Handled {
        given: false,
        ..handled_keeping(n, &["more"])
    };
    hold(alice.deliver(1).await);
    hold(alice.deliver_for(&farewell(2), LONG).await);
    written(alice.finish(&not_given(1)).await);
    assert!(!alice.keep_answer(1).await);
    written(alice.finish(&not_given(2)).await);
    assert!(!alice.keep_answer(2).await);
    assert_eq!(alice.begin_sending(LONG).await, None);
    // The farewell comes again: it has been heard.
    alice.deliver_for(&farewell(2), LONG).await;

    // He comes back, and what was not said to him then is not said now.
    let found = hold(alice.deliver(3).await);
    assert_eq!(found.kept, []);
    assert!(!alice.keep_answer(1).await);
    alice.deliver_for(&farewell(2), LONG).await;
    written(alice.finish(&not_given(3)).await);
    assert!(alice.keep_answer(3).await);
    assert_eq!(alice.kept_for(4).await, ["more", "reply 3"]);

    // What was kept before he left is not sent after it.
    hold(alice.deliver_for(&farewell(5), LONG).await);
    assert_eq!(alice.begin_sending(LONG).await, None);
}

/// Events come in his name as well, such as the outcome of a template message.
async fn only_what_he_does_himself_brings_a_user_back(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    let not_given = |n| Handled {
        given: false,
        ..handled_keeping(n, &["more"])
    };
    hold(alice.deliver_for(&farewell(1), LONG).await);
    written(alice.finish(&handled(1)).await);
    let outcome = Delivery {
        opens: None,
        ..message(2)
    };
    hold(alice.deliver_for(&outcome, LONG).await);
    written(alice.finish(&not_given(2)).await);
    assert!(!alice.keep_answer(2).await);
    let back = Delivery {
        opens: Some(Trigger::Follow),
        ..message(3)
    };
    hold(alice.deliver_for(&back, LONG).await);
    written(alice.finish(&not_given(3)).await);
    assert!(alice.keep_answer(3).await);
    assert_eq!(alice.kept_for(4).await, ["more", "reply 3"]);
}
