//! Tables `conversations`, `ledger` and `kept_answers`: what concerns one user's conversation. Each
//! operation is one transaction.
//!
//! A message is appended to `ledger` and handled in place, so its row number is its place in the order.
//! While it waits it holds its XML. Afterwards it holds its reply, or neither while that is awaited from
//! outside.

use std::time::Duration;

use async_trait::async_trait;

use super::{Sqlite, Survives, between, millis};
use crate::store::{
    AnswerId, Answered, ConversationStore, Delivered, Delivery, Digest, Finished, Handled,
    KeptAnswer, Overdue, SessionChange, StoreError, Trigger, Turn, Window,
};
use crate::wechat::id::OpenId;

mod claim;
mod garbage;
mod head;
mod kept;
mod ledger;

use claim::Claim;
use head::Head;
pub(super) use head::forget;

#[async_trait]
impl ConversationStore for Sqlite {
    async fn deliver(
        &self,
        of: &OpenId,
        delivery: &Delivery,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError> {
        let (of, delivery) = (of.clone(), delivery.clone());
        self.write("deliver", Survives::Crash, move |db, now| {
            let claim = Claim {
                db,
                turn,
                lease,
                now,
            };
            claim.deliver(&of, &delivery)
        })
        .await
    }

    async fn look(
        &self,
        of: &OpenId,
        key: &Digest,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError> {
        let (of, key) = (of.clone(), *key);
        self.write("look", Survives::Crash, move |db, now| {
            let claim = Claim {
                db,
                turn,
                lease,
                now,
            };
            claim.look(&of, &key)
        })
        .await
    }

    async fn still_waiting(&self, messages: &[(OpenId, Digest)]) -> Result<Vec<bool>, StoreError> {
        let messages = messages.to_owned();
        self.read("still_waiting", move |db, now| {
            messages
                .iter()
                .map(|(of, key)| ledger::is_waiting_and_held(db, of, key, now))
                .collect()
        })
        .await
    }

    async fn renew(&self, of: &OpenId, turn: Turn, lease: Duration) -> Result<bool, StoreError> {
        let of = of.clone();
        self.write("renew", Survives::Crash, move |db, now| {
            head::renew(db, &of, turn, now + millis(lease))
        })
        .await
    }

    async fn finish(
        &self,
        of: &OpenId,
        handled: &Handled,
        turn: Turn,
        lease: Duration,
    ) -> Result<Finished, StoreError> {
        let (of, handled) = (of.clone(), handled.clone());
        self.write("finish", survives(&handled), move |db, now| {
            let claim = Claim {
                db,
                turn,
                lease,
                now,
            };
            claim.finish(&of, &handled)
        })
        .await
    }

    async fn release(&self, of: &OpenId, turn: Turn) -> Result<(), StoreError> {
        let of = of.clone();
        self.write("release", Survives::Crash, move |db, _| {
            head::release(db, &of, turn)
        })
        .await
    }

    async fn mark_given(&self, of: &OpenId, key: &Digest, given: bool) -> Result<(), StoreError> {
        let (of, key) = (of.clone(), *key);
        self.write(
            "mark_given",
            Survives::Crash,
            move |db, now| match Head::find(db, &of, now)? {
                Some(head) => ledger::mark_given(db, head.id, &key, given),
                None => Ok(()),
            },
        )
        .await
    }

    async fn answer(
        &self,
        of: &OpenId,
        key: &Digest,
        reply: &[u8],
    ) -> Result<Answered, StoreError> {
        let (of, key, reply) = (of.clone(), *key, reply.to_owned());
        self.write("answer", Survives::Crash, move |db, now| {
            let Some(head) = Head::find(db, &of, now)? else {
                return Ok(Answered::Unknown);
            };
            let Some(entry) = ledger::find(db, head.id, &key, now)? else {
                return Ok(Answered::Unknown);
            };
            if !ledger::answer(db, entry.id, &reply)? {
                return Ok(Answered::Already);
            }
            Ok(Answered::Taken {
                first_seen: between(entry.first_seen, now),
            })
        })
        .await
    }

    async fn keep_answer(&self, of: &OpenId, key: &Digest) -> Result<bool, StoreError> {
        let (of, key) = (of.clone(), *key);
        self.write("keep_answer", Survives::Crash, move |db, now| {
            let Some(head) = Head::find(db, &of, now)? else {
                return Ok(false);
            };
            let Some(reply) = ledger::take_out(db, head.id, &key, now)? else {
                return Ok(false);
            };
            if head.has_left {
                return Ok(false);
            }
            kept::push(db, head.id, &[reply], now)?;
            Ok(true)
        })
        .await
    }

    async fn begin_sending(
        &self,
        of: &OpenId,
        lease: Duration,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        let of = of.clone();
        self.write(
            "begin_sending",
            Survives::Crash,
            move |db, now| match Head::find(db, &of, now)? {
                Some(head) if !head.has_left => {
                    kept::begin_sending(db, head.id, now, now + millis(lease))
                }
                _ => Ok(None),
            },
        )
        .await
    }

    async fn end_sending(
        &self,
        of: &OpenId,
        answer: AnswerId,
        sent: bool,
    ) -> Result<(), StoreError> {
        let of = of.clone();
        self.write(
            "end_sending",
            Survives::Crash,
            move |db, now| match Head::find(db, &of, now)? {
                Some(head) => kept::end_sending(db, head.id, answer, sent),
                None => Ok(()),
            },
        )
        .await
    }

    async fn windows(&self, of: &OpenId) -> Result<Vec<Window>, StoreError> {
        let of = of.clone();
        self.read("windows", move |db, now| head::windows(db, &of, now))
            .await
    }

    async fn count_sent(&self, of: &OpenId, trigger: Trigger) -> Result<(), StoreError> {
        let of = of.clone();
        self.write("count_sent", Survives::Crash, move |db, _| {
            head::count_sent(db, &of, trigger)
        })
        .await
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<OpenId>, StoreError> {
        self.read("overdue", move |db, now| ledger::overdue(db, limit, now))
            .await
    }

    async fn take_overdue(
        &self,
        of: &OpenId,
        turn: Turn,
        lease: Duration,
    ) -> Result<Overdue, StoreError> {
        let of = of.clone();
        self.write("take_overdue", Survives::Crash, move |db, now| {
            let claim = Claim {
                db,
                turn,
                lease,
                now,
            };
            claim.take_overdue(&of)
        })
        .await
    }
}

/// What writing down a handled message must outlive: conversation state and kept answers count as
/// written from then on. A reply alone need not: when the power fails, its retries are over before the
/// machine is back.
fn survives(handled: &Handled) -> Survives {
    let is_state_as_before = handled.session == SessionChange::Unchanged
        && handled.taken.is_empty()
        && handled.kept.is_empty();
    if is_state_as_before {
        Survives::Crash
    } else {
        Survives::PowerLoss
    }
}

#[cfg(test)]
mod tests;
