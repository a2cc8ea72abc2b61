//! Tables `conversations`, `ledger` and `kept_answers`: what concerns one user's conversation. Each
//! operation is one transaction.
//!
//! A message is appended to `ledger` and handled in place, so its row number is its place in the order.
//! While it waits it holds its XML. Afterwards it holds its reply, or neither while that is awaited from
//! outside.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;

use super::{Sqlite, Survives, between, millis};
use crate::store::{
    AnswerId, Answered, Conversation, ConversationStore, Delivered, Delivery, Digest, Finished,
    Handled, KeptAnswer, MOST_WAITING, Overdue, SessionChange, StoreError, Trigger, Turn, Waiting,
    Window,
};
use crate::wechat::id::OpenId;

mod garbage;
mod head;
mod kept;
mod ledger;

use head::Head;
pub(super) use head::forget;
use ledger::State;

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

/// One operation of somebody who holds a conversation, or would.
struct Claim<'a> {
    db: &'a Connection,
    turn: Turn,
    lease: Duration,
    now: i64,
}

impl Claim<'_> {
    fn deliver(&self, of: &OpenId, delivery: &Delivery) -> rusqlite::Result<Delivered> {
        let (db, now) = (self.db, self.now);
        let head = match Head::find(db, of, now)? {
            Some(head) => head,
            None => Head::create(db, of)?,
        };
        let Some(entry) = ledger::append(db, head.id, delivery, now)? else {
            return self.again(&head, &delivery.key, Some(&delivery.key));
        };
        // One of them is being handled, and `MOST_WAITING` wait behind it.
        if head.waiting > MOST_WAITING
            && ledger::count_waiting(db, head.id, now)? > MOST_WAITING + 1
        {
            ledger::remove(db, entry)?;
            return Ok(Delivered::Full);
        }
        let is_mine = head.is_free_for(self.turn, now);
        let lease_until = now + millis(self.lease);
        let held = is_mine.then_some((self.turn, lease_until));
        head.hear(db, delivery, held, now)?;
        if !is_mine {
            return Ok(Delivered::Elsewhere {
                deliveries: 1,
                first_seen: Duration::ZERO,
            });
        }
        let waiting = if head.waiting == 0 {
            vec![Waiting {
                key: delivery.key,
                message: None,
                deliveries: 1,
                first_seen: Duration::ZERO,
            }]
        } else {
            ledger::waiting(db, head.id, Some(&delivery.key), now)?
        };
        self.conversation(&head, waiting).map(Delivered::Held)
    }

    fn look(&self, of: &OpenId, key: &Digest) -> rusqlite::Result<Delivered> {
        match Head::find(self.db, of, self.now)? {
            Some(head) => self.again(&head, key, None),
            None => Ok(UNKNOWN),
        }
    }

    /// A delivery, if it is `handed_in`, or a look at a message that is there already.
    fn again(
        &self,
        head: &Head,
        key: &Digest,
        handed_in: Option<&Digest>,
    ) -> rusqlite::Result<Delivered> {
        let Some(mut entry) = ledger::find(self.db, head.id, key, self.now)? else {
            return Ok(UNKNOWN);
        };
        if let State::Done(reply) = entry.state {
            ledger::give(self.db, entry.id)?;
            return Ok(Delivered::Done(reply));
        }
        if handed_in.is_some() {
            entry.deliveries = entry.deliveries.saturating_add(1);
            ledger::count(self.db, entry.id, entry.deliveries)?;
        }
        if matches!(entry.state, State::Waiting) && head.is_free_for(self.turn, self.now) {
            return self.hold(head, handed_in).map(Delivered::Held);
        }
        Ok(Delivered::Elsewhere {
            deliveries: entry.deliveries,
            first_seen: between(entry.first_seen, self.now),
        })
    }

    /// Takes the conversation, which is free.
    fn hold(&self, head: &Head, handed_in: Option<&Digest>) -> rusqlite::Result<Conversation> {
        let lease_until = self.now + millis(self.lease);
        head.lease(self.db, Some((self.turn, lease_until)))?;
        let waiting = ledger::waiting(self.db, head.id, handed_in, self.now)?;
        self.conversation(head, waiting)
    }

    fn conversation(&self, head: &Head, waiting: Vec<Waiting>) -> rusqlite::Result<Conversation> {
        Ok(Conversation {
            waiting,
            session: head.session(self.db)?,
            kept: if head.has_kept {
                kept::available(self.db, head.id, self.now)?
            } else {
                Vec::new()
            },
        })
    }

    fn finish(&self, of: &OpenId, handled: &Handled) -> rusqlite::Result<Finished> {
        let (db, now) = (self.db, self.now);
        let Some(head) = Head::find(db, of, now)? else {
            return Ok(Finished::Lost);
        };
        if head.turn != Some(self.turn) {
            // Nothing waits for a holder whose lease has ended.
            return Ok(
                if ledger::was_handled_under(db, head.id, handled, self.turn)? {
                    Finished::Written(Vec::new())
                } else {
                    Finished::Lost
                },
            );
        }
        if !handled.taken.is_empty()
            && !kept::are_available(db, head.id, &handled.taken, now)?
            && ledger::is_waiting(db, head.id, &handled.key, now)?
        {
            return Ok(Finished::KeptChanged(kept::available(db, head.id, now)?));
        }
        let mut waiting = head.waiting;
        if ledger::finish(db, head.id, handled, self.turn, now)? {
            self.change_state(&head, handled)?;
            waiting -= 1;
        } else if !ledger::was_handled_under(db, head.id, handled, self.turn)? {
            return Ok(Finished::Lost);
        }
        let waiting = if waiting == 0 {
            Vec::new()
        } else {
            ledger::waiting(db, head.id, None, now)?
        };
        let goes_on = !waiting.is_empty();
        head.lease(db, goes_on.then_some((self.turn, now + millis(self.lease))))?;
        Ok(Finished::Written(waiting))
    }

    /// What a handled message does to the rest of the conversation.
    fn change_state(&self, head: &Head, handled: &Handled) -> rusqlite::Result<()> {
        let (db, now) = (self.db, self.now);
        kept::remove(db, head.id, &handled.taken)?;
        if !head.has_left && !handled.kept.is_empty() {
            kept::push(db, head.id, &handled.kept, now)?;
        }
        match &handled.session {
            SessionChange::Unchanged => Ok(()),
            SessionChange::Set(session, lifetime) => {
                head.set_session(db, Some((session, now + millis(*lifetime))))
            }
            SessionChange::Cleared => head.set_session(db, None),
        }
    }

    fn take_overdue(&self, of: &OpenId) -> rusqlite::Result<Overdue> {
        let (db, now) = (self.db, self.now);
        let Some(head) = Head::find(db, of, now)? else {
            return Ok(Overdue::default());
        };
        let is_mine =
            head.is_free_for(self.turn, now) && ledger::count_waiting(db, head.id, now)? > 0;
        Ok(Overdue {
            held: is_mine.then(|| self.hold(&head, None)).transpose()?,
            not_given: ledger::not_given(db, head.id, now)?,
        })
    }
}

/// A message that nobody delivered.
const UNKNOWN: Delivered = Delivered::Elsewhere {
    deliveries: 0,
    first_seen: Duration::ZERO,
};

#[cfg(test)]
mod tests;
