//! Who holds a conversation, and which messages it hands over.

use super::*;

on_every_store! {
    a_new_message_is_held_by_who_delivers_it
    every_delivery_of_a_message_is_counted_and_one_holds_it
    of_many_instances_one_holds_and_finds_all_in_one_order
    messages_wait_in_the_order_of_their_delivery_to_any_instance
    what_a_dead_holder_leaves_is_taken_over_with_its_messages
    a_paused_holder_can_not_write_over_its_successor
    a_paused_holder_without_a_successor_goes_on
    a_renewed_lease_is_not_taken_over
    a_released_conversation_is_held_elsewhere_at_once
    a_look_takes_over_and_counts_no_delivery
    there_is_news_of_what_was_handled_or_has_no_holder_any_more
    more_than_may_wait_are_refused
    a_handled_message_is_not_left_to_another_holder
    one_user_does_not_wait_for_another
    what_waits_without_a_holder_is_overdue_and_taken_by_one
    what_lies_in_a_conversation_is_there_after_reopening
}

async fn a_new_message_is_held_by_who_delivers_it(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    let found = hold(alice.deliver(1).await);
    let [waiting] = &found.waiting[..] else {
        panic!("{found:?}");
    };
    assert_close(waiting.first_seen, Duration::ZERO);
    let expected = Conversation {
        waiting: vec![Waiting {
            key: digest(1),
            message: None,
            deliveries: 1,
            first_seen: waiting.first_seen,
        }],
        session: None,
        kept: vec![],
    };
    assert_eq!(found, expected);
}

async fn every_delivery_of_a_message_is_counted_and_one_holds_it(place: Place) {
    let stores = place.open_twice().await;
    let delivered = all_at_once(24, |n| {
        let another = Holder::new(&stores[n % 2]);
        async move { another.deliver(1).await }
    })
    .await;
    let (mut counts, mut held) = (Vec::new(), 0);
    for delivered in delivered {
        match delivered {
            Delivered::Held(found) => {
                assert_eq!(numbers(&found.waiting), [1]);
                counts.push(found.waiting[0].deliveries);
                held += 1;
            }
            Delivered::Elsewhere { deliveries, .. } => counts.push(deliveries),
            other => panic!("{other:?}"),
        }
    }
    counts.sort_unstable();
    assert_eq!((counts, held), ((1..=24).collect(), 1));

    let began = Instant::now();
    tokio::time::sleep(SHORT).await;
    match Holder::new(&stores[0]).look(1).await {
        Delivered::Elsewhere {
            deliveries,
            first_seen,
        } => {
            assert_eq!(deliveries, 24);
            assert!(first_seen >= NEARLY_SHORT, "{first_seen:?}");
            assert_close(first_seen, began.elapsed());
        }
        other => panic!("{other:?}"),
    }
}

async fn of_many_instances_one_holds_and_finds_all_in_one_order(place: Place) {
    let stores = place.open_twice().await;
    let delivered = all_at_once(16, |n| {
        let another = Holder::new(&stores[n % 2]);
        async move {
            let delivered = another.deliver(n as u8).await;
            matches!(delivered, Delivered::Held(_)).then_some(another)
        }
    })
    .await;
    let holders: Vec<_> = delivered.into_iter().flatten().collect();
    let [holder] = &holders[..] else {
        panic!("{} hold it", holders.len());
    };
    let mut order = numbers(&hold(holder.look(0).await).waiting);
    let mut all = order.clone();
    all.sort_unstable();
    assert_eq!(all, (0..16).collect::<Vec<u8>>());
    // It stays the same, whatever is finished first.
    while let Some(last) = order.pop() {
        let left = written(holder.finish(&handled(last)).await);
        assert_eq!(numbers(&left), order);
    }
}

async fn messages_wait_in_the_order_of_their_delivery_to_any_instance(place: Place) {
    let [store, other] = place.open_twice().await;
    let (holder, another) = (Holder::new(&store), Holder::new(&other));
    // Not by name, nor by who delivers.
    hold(holder.deliver(5).await);
    assert_eq!(elsewhere(another.deliver(9).await), 1);
    assert_eq!(elsewhere(another.deliver(1).await), 1);
    let found = hold(holder.deliver(7).await);
    assert_eq!(numbers(&found.waiting), [5, 9, 1, 7]);
    let messages: Vec<_> = found.waiting.into_iter().map(|w| w.message).collect();
    assert_eq!(messages, [Some(xml(5)), Some(xml(9)), Some(xml(1)), None]);
    // A repeated delivery keeps its place.
    assert_eq!(elsewhere(another.deliver(9).await), 2);
    let found = hold(holder.deliver(5).await);
    assert_eq!(numbers(&found.waiting), [5, 9, 1, 7]);
    let counts: Vec<_> = found.waiting.iter().map(|w| w.deliveries).collect();
    assert_eq!(counts, [2, 2, 1, 1]);
    assert_eq!(found.waiting[0].message, None, "it was handed in");

    for (n, left) in [(5, &[9, 1, 7][..]), (9, &[1, 7]), (1, &[7]), (7, &[])] {
        let waiting = written(holder.finish(&handled(n)).await);
        assert_eq!(numbers(&waiting), left);
        for waiting in waiting {
            assert_eq!(waiting.message, Some(xml(waiting.key.0[0])));
        }
        // While something waits it is held on.
        if !left.is_empty() {
            assert_eq!(elsewhere(another.look(7).await), 1);
        }
    }
    // Then it is free.
    hold(another.deliver(2).await);
}

async fn what_a_dead_holder_leaves_is_taken_over_with_its_messages(place: Place) {
    let stores = place.open_twice().await;
    let dead = Holder::new(&stores[0]);
    let began = Instant::now();
    hold(dead.deliver_for(&message(1), SHORT).await);
    hold(dead.deliver_for(&message(2), SHORT).await);
    let mut taken = Vec::new();
    while taken.is_empty() {
        let deliveries = all_at_once(8, |n| {
            let another = Holder::new(&stores[n % 2]);
            async move {
                match another.deliver(2).await {
                    Delivered::Held(found) => Some(found),
                    Delivered::Elsewhere { .. } => None,
                    other => panic!("{other:?}"),
                }
            }
        });
        taken = deliveries.await.into_iter().flatten().collect();
        assert!(began.elapsed() < PATIENCE, "nobody takes over");
    }
    assert!(began.elapsed() >= NEARLY_SHORT, "{:?}", began.elapsed());
    let [found] = &taken[..] else {
        panic!("{} hold it", taken.len());
    };
    assert_eq!(numbers(&found.waiting), [1, 2]);
    assert_eq!(found.waiting[0].message, Some(xml(1)));
    assert!(
        found.waiting[0].first_seen >= NEARLY_SHORT,
        "{:?}",
        found.waiting
    );
    assert_eq!(found.waiting[0].deliveries, 1);
    assert!(found.waiting[1].deliveries > 1);
}

async fn a_paused_holder_can_not_write_over_its_successor(place: Place) {
    let [store, other] = place.open_twice().await;
    let (paused, successor) = (Holder::new(&store), Holder::new(&other));
    hold(paused.deliver_for(&message(1), SHORT).await);
    assert!(
        paused.renew(SHORT).await,
        "it was not over when it was taken"
    );
    let found = eventually(|| async {
        match successor.look(1).await {
            Delivered::Held(found) => Some(found),
            Delivered::Elsewhere { .. } => None,
            other => panic!("{other:?}"),
        }
    })
    .await;
    assert_eq!(found.waiting[0].message, Some(xml(1)));

    let late = Handled {
        reply: Some(b"late".to_vec()),
        session: SessionChange::Set(b"late".to_vec(), LONG),
        ..handled_keeping(1, &["late"])
    };
    assert_eq!(paused.finish(&late).await, Finished::Lost);
    assert!(!paused.renew(LONG).await);
    paused.release().await;
    assert_eq!(elsewhere(paused.look(1).await), 1);
    assert!(successor.renew(LONG).await);

    let finished = successor.finish(&handled(1)).await;
    assert_eq!(finished, Finished::Written(vec![]));
    assert_eq!(
        paused.finish(&late).await,
        Finished::Lost,
        "handled by another"
    );
    assert_eq!(paused.deliver(1).await, Delivered::Done(reply(1)));
    let found = successor.found_by(2).await;
    assert_eq!(found.session, None);
    assert_eq!(found.kept, []);
}

async fn a_paused_holder_without_a_successor_goes_on(place: Place) {
    let store = place.open().await;
    let paused = Holder::new(&store);
    hold(paused.deliver_for(&message(1), SHORT).await);
    tokio::time::sleep(SHORT * 2).await;
    let finished = paused.finish(&handled(1)).await;
    assert_eq!(finished, Finished::Written(vec![]));
    let another = Holder::new(&store);
    assert_eq!(another.deliver(1).await, Delivered::Done(reply(1)));
}

async fn a_renewed_lease_is_not_taken_over(place: Place) {
    let store = place.open().await;
    let (holder, another) = (Holder::new(&store), Holder::new(&store));
    assert!(!holder.renew(LONG).await, "there is no conversation");
    let began = Instant::now();
    hold(holder.deliver_for(&message(1), SHORT).await);
    assert!(!another.renew(LONG).await);
    assert!(holder.renew(LONG).await);
    tokio::time::sleep((SHORT * 2).saturating_sub(began.elapsed())).await;
    assert_eq!(elsewhere(another.deliver(1).await), 2);

    // So is one that a delivery, or the end of another message, made longer.
    let began = Instant::now();
    hold(holder.deliver_for(&message(2), SHORT).await);
    hold(holder.deliver_for(&message(3), LONG).await);
    tokio::time::sleep((SHORT * 2).saturating_sub(began.elapsed())).await;
    assert_eq!(elsewhere(another.look(1).await), 2);
    let began = Instant::now();
    hold(holder.deliver_for(&message(3), SHORT).await);
    written(holder.finish_for(&handled(1), LONG).await);
    tokio::time::sleep((SHORT * 2).saturating_sub(began.elapsed())).await;
    assert_eq!(elsewhere(another.look(2).await), 1);

    written(holder.finish(&handled(2)).await);
    written(holder.finish(&handled(3)).await);
    assert!(!holder.renew(LONG).await, "nothing waits, nobody holds it");
}

async fn a_released_conversation_is_held_elsewhere_at_once(place: Place) {
    let [store, other] = place.open_twice().await;
    let (holder, another) = (Holder::new(&store), Holder::new(&other));
    holder.release().await;
    hold(holder.deliver(1).await);
    another.release().await;
    assert_eq!(elsewhere(another.deliver(2).await), 1);

    holder.release().await;
    assert!(!holder.renew(LONG).await);
    assert_eq!(holder.finish(&handled(1)).await, Finished::Lost);
    let found = hold(another.look(2).await);
    assert_eq!(numbers(&found.waiting), [1, 2]);
    let messages: Vec<_> = found.waiting.into_iter().map(|w| w.message).collect();
    assert_eq!(messages, [Some(xml(1)), Some(xml(2))]);
}

async fn a_look_takes_over_and_counts_no_delivery(place: Place) {
    let store = place.open().await;
    let (holder, another) = (Holder::new(&store), Holder::new(&store));
    let nothing = Delivered::Elsewhere {
        deliveries: 0,
        first_seen: Duration::ZERO,
    };
    assert_eq!(another.look(1).await, nothing, "no conversation");
    hold(holder.deliver(1).await);
    assert_eq!(another.look(2).await, nothing, "no message");
    for _ in 0..3 {
        assert_eq!(elsewhere(another.look(1).await), 1);
        assert_eq!(hold(holder.look(1).await).waiting[0].deliveries, 1);
    }
    holder.release().await;
    let found = hold(another.look(1).await);
    assert_eq!(found.waiting[0].deliveries, 1);
    assert_eq!(elsewhere(holder.look(1).await), 1, "it is held again");
    written(another.finish(&handled(1)).await);
    assert_eq!(holder.look(1).await, Delivered::Done(reply(1)));
}

async fn there_is_news_of_what_was_handled_or_has_no_holder_any_more(place: Place) {
    let store = place.open().await;
    let (alice, bob) = (Holder::new(&store), Holder::of("oBob", &store));
    let (alices, bobs) = ((alice.of.clone(), digest(1)), (bob.of.clone(), digest(1)));
    let behind = (alice.of.clone(), digest(2));
    let unknown = (open_id("oCarol"), digest(1));
    let asked = [alices, unknown, behind, bobs];
    let waiting = || async { store.still_waiting(&asked).await.unwrap() };
    assert_eq!(waiting().await, [false; 4]);

    hold(alice.deliver(1).await);
    hold(alice.deliver(2).await);
    hold(bob.deliver(1).await);
    assert_eq!(waiting().await, [true, false, true, true]);
    written(alice.finish(&handled(1)).await);
    assert_eq!(waiting().await, [false, false, true, true], "it is handled");
    bob.release().await;
    assert_eq!(waiting().await, [false, false, true, false], "it is free");
    let nothing: &[(OpenId, Digest)] = &[];
    assert_eq!(store.still_waiting(nothing).await, Ok(vec![]));
}

async fn more_than_may_wait_are_refused(place: Place) {
    let store = place.open().await;
    let (holder, another) = (Holder::new(&store), Holder::new(&store));
    // One is being handled, and behind it as many wait as may.
    let all: Vec<u8> = (0..=MOST_WAITING as u8).collect();
    hold(holder.deliver(0).await);
    for &n in &all[1..] {
        assert_eq!(elsewhere(another.deliver(n).await), 1);
    }
    let one_more = Delivery {
        opens: Some(Trigger::Scan),
        ..message(200)
    };
    assert_eq!(another.deliver_for(&one_more, LONG).await, Delivered::Full);
    assert_eq!(holder.deliver_for(&one_more, LONG).await, Delivered::Full);
    // One that is known is never refused.
    assert_eq!(elsewhere(another.deliver(20).await), 2);
    let found = hold(holder.deliver(0).await);
    assert_eq!(numbers(&found.waiting), all, "nothing was stored");
    assert_eq!(holder.windows().await.len(), 1, "and no window opened");

    written(holder.finish(&handled(0)).await);
    assert_eq!(another.deliver(0).await, Delivered::Done(reply(0)));
    assert_eq!(elsewhere(another.deliver_for(&one_more, LONG).await), 1);
    assert_eq!(another.deliver(201).await, Delivered::Full);
}

async fn a_handled_message_is_not_left_to_another_holder(place: Place) {
    let [store, other] = place.open_twice().await;
    let (holder, another) = (Holder::new(&store), Holder::new(&other));
    hold(holder.deliver(1).await);
    let mine = Delivery {
        is_handled: true,
        opens: Some(Trigger::Scan),
        ..message(2)
    };
    for _ in 0..2 {
        assert_eq!(another.deliver_for(&mine, LONG).await, Delivered::Full);
    }
    assert_eq!(holder.windows().await.len(), 1, "nothing was stored");
    let waiting = written(holder.finish(&handled(1)).await);
    assert_eq!(waiting, [], "the holder is not told");

    let found = hold(another.deliver_for(&mine, LONG).await);
    assert_eq!(numbers(&found.waiting), [2]);
    written(another.finish(&handled(2)).await);
    assert_eq!(holder.deliver(2).await, Delivered::Done(reply(2)));
    // Nobody has to hold it for one that is known.
    hold(holder.deliver(3).await);
    assert_eq!(
        another.deliver_for(&mine, LONG).await,
        Delivered::Done(reply(2))
    );
}

async fn one_user_does_not_wait_for_another(place: Place) {
    let store = place.open().await;
    let (alice, bob) = (Holder::of("oAlice", &store), Holder::of("oBob", &store));
    hold(alice.deliver(1).await);
    // The same key is another message, and another user's turn is no right here.
    assert_eq!(elsewhere(bob.look(1).await), 0);
    assert_eq!(numbers(&hold(bob.deliver(1).await).waiting), [1]);
    hold(bob.deliver(2).await);
    assert_eq!(
        written(alice.finish(&handled_keeping(1, &["for Alice"])).await),
        []
    );
    assert_eq!(numbers(&hold(bob.look(1).await).waiting), [1, 2]);
    let taken = alice.found_by(3).await.kept;
    let stolen = Handled {
        taken: vec![taken[0].id],
        ..handled(1)
    };
    assert_eq!(bob.finish(&stolen).await, Finished::KeptChanged(vec![]));
    bob.end_sending(&taken[0], true).await;
    assert_eq!(alice.kept_for(4).await, ["for Alice"]);
}

async fn what_waits_without_a_holder_is_overdue_and_taken_by_one(place: Place) {
    let stores = place.open_twice().await;
    let store = &stores[0];
    let (alice, bob) = (Holder::of("oAlice", store), Holder::of("oBob", store));
    let overdue = async |limit| {
        let mut found = store.overdue(limit).await.unwrap();
        found.sort();
        found
    };
    let nobody = Holder::of("oNobody", store);
    assert_eq!(nobody.take_overdue().await, Overdue::default());

    for who in [&alice, &bob] {
        hold(who.deliver(1).await);
        hold(who.deliver(2).await);
    }
    // A third one's wait for nobody: one is done, one is answered from outside.
    let carol = Holder::of("oCarol", store);
    carol.handle(&handled(1)).await;
    carol.handle(&left_open(2)).await;
    assert_eq!(overdue(10).await, []);
    let another = Holder::new(&stores[1]);
    assert_eq!(another.take_overdue().await, Overdue::default());

    // One is released, one runs out.
    alice.release().await;
    assert_eq!(overdue(10).await, std::slice::from_ref(&alice.of));
    hold(bob.deliver_for(&message(2), SHORT).await);
    eventually(|| async { (overdue(10).await.len() == 2).then_some(()) }).await;
    assert_eq!(overdue(10).await, [alice.of.clone(), bob.of.clone()]);
    assert_eq!(overdue(1).await.len(), 1);

    let taken = all_at_once(8, |n| {
        let another = Holder::new(&stores[n % 2]);
        async move {
            let taken = another.take_overdue().await;
            assert_eq!(taken.not_given, []);
            taken.held.map(|found| (another, found))
        }
    })
    .await;
    let taken: Vec<_> = taken.into_iter().flatten().collect();
    let [(holder, found)] = &taken[..] else {
        panic!("{} hold it", taken.len());
    };
    assert_eq!(numbers(&found.waiting), [1, 2]);
    let messages: Vec<_> = found.waiting.iter().map(|w| w.message.clone()).collect();
    assert_eq!(messages, [Some(xml(1)), Some(xml(2))]);
    assert_eq!(overdue(10).await, std::slice::from_ref(&bob.of));
    // Asked again, as after an answer that was lost.
    assert_eq!(
        holder
            .take_overdue()
            .await
            .held
            .map(|found| numbers(&found.waiting)),
        Some(vec![1, 2])
    );
    assert_eq!(alice.finish(&handled(1)).await, Finished::Lost);
    written(holder.finish(&handled(1)).await);
    written(holder.finish(&handled(2)).await);
    assert_eq!(holder.take_overdue().await, Overdue::default());
    assert_eq!(alice.deliver(2).await, Delivered::Done(reply(2)));
}

async fn what_lies_in_a_conversation_is_there_after_reopening(place: Place) {
    let store = place.open().await;
    let alice = Holder::new(&store);
    alice
        .handle(&Handled {
            session: SessionChange::Set(b"session".to_vec(), LONG),
            ..handled_keeping(1, &["kept"])
        })
        .await;
    hold(alice.deliver(2).await);
    alice.release().await;
    store.close().await;
    drop(store);

    let store = place.open().await;
    let alice = Holder::new(&store);
    assert_eq!(alice.deliver(1).await, Delivered::Done(reply(1)));
    let found = hold(alice.look(2).await);
    assert_eq!(found.waiting[0].message, Some(xml(2)));
    assert_eq!(found.session, Some(b"session".to_vec()));
    assert_eq!(replies(&found.kept), ["kept"]);
    assert_eq!(alice.windows().await.len(), 1);
}
