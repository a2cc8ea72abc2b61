//! Conversations: who holds one, what it hands over, what it keeps.

use offiaccount::store::{
    Answered, Conversation, Delivered, Delivery, Finished, Handled, KeptAnswer, Overdue,
    SessionChange, Trigger, Turn, Waiting, Window,
};

use super::*;

mod answers;
mod finishing;
mod holding;
mod kept;
mod shared;
mod windows;

/// One instance that has to do with one user, under one turn.
struct Holder {
    store: Arc<dyn Store>,
    of: OpenId,
    turn: Turn,
}

impl Holder {
    /// Of Alice.
    fn new(store: &Arc<dyn Store>) -> Self {
        Self::of("oAlice", store)
    }

    fn of(open_id: &str, store: &Arc<dyn Store>) -> Self {
        Self {
            store: store.clone(),
            of: super::open_id(open_id),
            turn: Turn::new(),
        }
    }

    async fn deliver(&self, n: u8) -> Delivered {
        self.deliver_for(&message(n), LONG).await
    }

    async fn deliver_for(&self, delivery: &Delivery, lease: Duration) -> Delivered {
        let delivered = self.store.deliver(&self.of, delivery, self.turn, lease);
        delivered.await.unwrap()
    }

    async fn look(&self, n: u8) -> Delivered {
        let key = digest(n);
        let look = self.store.look(&self.of, &key, self.turn, LONG);
        look.await.unwrap()
    }

    async fn renew(&self, lease: Duration) -> bool {
        self.store.renew(&self.of, self.turn, lease).await.unwrap()
    }

    async fn release(&self) {
        self.store.release(&self.of, self.turn).await.unwrap();
    }

    async fn finish(&self, handled: &Handled) -> Finished {
        self.finish_for(handled, LONG).await
    }

    async fn finish_for(&self, handled: &Handled, lease: Duration) -> Finished {
        let finish = self.store.finish(&self.of, handled, self.turn, lease);
        finish.await.unwrap()
    }

    /// Takes message `n` and sees it to its end, nothing else waiting.
    async fn handle(&self, handled: &Handled) {
        let key = handled.key;
        hold(self.deliver(key.0[0]).await);
        assert_eq!(self.finish(handled).await, Finished::Written(vec![]));
    }

    async fn mark_given(&self, n: u8, given: bool) {
        let key = digest(n);
        let mark = self.store.mark_given(&self.of, &key, given);
        mark.await.unwrap();
    }

    async fn answer(&self, n: u8, reply: &[u8]) -> Answered {
        let key = digest(n);
        let answer = self.store.answer(&self.of, &key, reply);
        answer.await.unwrap()
    }

    async fn keep_answer(&self, n: u8) -> bool {
        let key = digest(n);
        let keep = self.store.keep_answer(&self.of, &key);
        keep.await.unwrap()
    }

    async fn begin_sending(&self, lease: Duration) -> Option<KeptAnswer> {
        self.store.begin_sending(&self.of, lease).await.unwrap()
    }

    async fn end_sending(&self, answer: &KeptAnswer, sent: bool) {
        let end = self.store.end_sending(&self.of, answer.id, sent);
        end.await.unwrap();
    }

    async fn windows(&self) -> Vec<Window> {
        let mut windows = self.store.windows(&self.of).await.unwrap();
        windows.sort_by_key(|window| window.trigger.name());
        windows
    }

    async fn take_overdue(&self) -> Overdue {
        let take = self.store.take_overdue(&self.of, self.turn, LONG);
        take.await.unwrap()
    }

    /// What a next message of the user finds. It is handled in silence.
    async fn found_by(&self, n: u8) -> Conversation {
        let next = Self {
            store: self.store.clone(),
            of: self.of.clone(),
            turn: Turn::new(),
        };
        let found = hold(next.deliver(n).await);
        let silent = Handled {
            reply: Some(Vec::new()),
            ..handled(n)
        };
        let finished = next.finish(&silent).await;
        assert!(matches!(finished, Finished::Written(_)), "{finished:?}");
        found
    }

    /// The replies that are to be given with message `n`.
    async fn kept_for(&self, n: u8) -> Vec<String> {
        replies(&self.found_by(n).await.kept)
    }
}

/// Alice writes message `n`, and it is answered.
pub(super) async fn answered(store: &Arc<dyn Store>, n: u8) {
    Holder::new(store).handle(&handled(n)).await;
}

/// A delivery of Alice's message `n` to an instance that has nothing else of hers.
pub(super) async fn delivered(store: &Arc<dyn Store>, n: u8) -> Delivered {
    Holder::new(store).deliver(n).await
}

/// A text that the user writes.
fn message(n: u8) -> Delivery {
    Delivery {
        key: digest(n),
        message: xml(n).into(),
        is_farewell: false,
        may_be_old: false,
        is_handled: false,
        opens: Some(Trigger::Message),
    }
}

/// He leaves.
fn farewell(n: u8) -> Delivery {
    Delivery {
        is_farewell: true,
        opens: None,
        ..message(n)
    }
}

fn xml(n: u8) -> String {
    format!("<xml><Content><![CDATA[第 {n} 条 $$NOW]]></Content></xml>")
}

fn reply(n: u8) -> Vec<u8> {
    format!("reply {n}").into_bytes()
}

/// Message `n` with its reply, which a delivery carries.
fn handled(n: u8) -> Handled {
    Handled {
        key: digest(n),
        reply: Some(reply(n)),
        given: true,
        taken: Vec::new(),
        kept: Vec::new(),
        session: SessionChange::Unchanged,
    }
}

/// Message `n`, answered, with more answers that no delivery carries.
fn handled_keeping(n: u8, kept: &[&str]) -> Handled {
    Handled {
        kept: kept.iter().map(|text| text.as_bytes().to_vec()).collect(),
        ..handled(n)
    }
}

/// Message `n`, whose reply comes from outside.
fn left_open(n: u8) -> Handled {
    Handled {
        reply: None,
        given: false,
        ..handled(n)
    }
}

#[track_caller]
fn hold(delivered: Delivered) -> Conversation {
    match delivered {
        Delivered::Held(conversation) => conversation,
        other => panic!("not held: {other:?}"),
    }
}

/// The deliveries that were counted.
#[track_caller]
fn elsewhere(delivered: Delivered) -> u32 {
    match delivered {
        Delivered::Elsewhere { deliveries, .. } => deliveries,
        other => panic!("not elsewhere: {other:?}"),
    }
}

#[track_caller]
fn written(finished: Finished) -> Vec<Waiting> {
    match finished {
        Finished::Written(waiting) => waiting,
        other => panic!("not written: {other:?}"),
    }
}

/// The numbers of messages.
fn numbers(waiting: &[Waiting]) -> Vec<u8> {
    waiting.iter().map(|waiting| waiting.key.0[0]).collect()
}

fn replies(kept: &[KeptAnswer]) -> Vec<String> {
    let text = |kept: &KeptAnswer| String::from_utf8(kept.reply.clone()).unwrap();
    kept.iter().map(text).collect()
}
