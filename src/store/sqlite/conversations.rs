//! Tables `conversations`, `ledger` and `kept_answers`: what concerns one user's conversation. Each
//! operation is one transaction.
//!
//! A message is appended to `ledger` and handled in place, so its row number is its place in the order.
//! While it waits it holds its XML. Afterwards it holds its reply, or neither while that is awaited from
//! outside.
//!
//! The common message has no rows in them: the [`journal`] has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Sqlite, Survives, Tables, between, millis};
use crate::store::{
    AnswerId, Answered, ConversationStore, Delivered, Delivery, Digest, Finished, Handled,
    KeptAnswer, Overdue, SessionChange, StoreError, Trigger, Turn, Window,
};
use crate::wechat::id::OpenId;

mod claim;
mod garbage;
mod head;
pub(super) mod journal;
mod kept;
mod ledger;

use claim::{Claim, UNKNOWN};
use head::Head;
use journal::Fast;

#[async_trait]
impl ConversationStore for Sqlite {
    async fn deliver(
        &self,
        of: &OpenId,
        delivery: &Delivery,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError> {
        let began = Instant::now();
        let fast = self.journal.deliver(of, delivery, turn, lease, began, 0);
        if let Fast::Held(conversation) = fast {
            self.note_held();
            return Ok(Delivered::Held(conversation));
        }
        // In a box of its own: for the common message no room has to be made.
        Box::pin(self.deliver_slowly(of, delivery, turn, lease, fast)).await
    }

    async fn look(
        &self,
        of: &OpenId,
        key: &Digest,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError> {
        let key = *key;
        self.converse("look", Survives::Crash, of, move |tables, of| {
            let found = tables.claim(turn, lease).look(of, &key)?;
            if found == UNKNOWN
                && let Some(reply) = tables.find_done(of, &key, true)?
            {
                return Ok(Delivered::Done(reply));
            }
            Ok(found)
        })
        .await
    }

    async fn still_waiting(&self, messages: &[(OpenId, Digest)]) -> Result<Vec<bool>, StoreError> {
        let messages = messages.to_owned();
        let journal = Arc::clone(&self.journal);
        self.read("still_waiting", move |db, now| {
            messages
                .iter()
                .map(|(of, key)| {
                    Ok(journal.is_claimed(of, key)
                        || ledger::is_waiting_and_held(db, of, key, now)?)
                })
                .collect()
        })
        .await
    }

    async fn renew(&self, of: &OpenId, turn: Turn, lease: Duration) -> Result<bool, StoreError> {
        self.converse("renew", Survives::Crash, of, move |tables, of| {
            head::renew(tables.db, of, turn, tables.now + millis(lease))
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
        let began = Instant::now();
        if let Some(wakes) = self.journal.finish(of, handled, turn, began) {
            if wakes {
                self.worker.wake();
            }
            self.finish_seconds.observe(0.0);
            return Ok(Finished::Written(Vec::new()));
        }
        Box::pin(self.finish_slowly(of, handled, turn, lease)).await
    }

    async fn release(&self, of: &OpenId, turn: Turn) -> Result<(), StoreError> {
        self.converse("release", Survives::Crash, of, move |tables, of| {
            head::release(tables.db, of, turn)
        })
        .await
    }

    async fn mark_given(&self, of: &OpenId, key: &Digest, given: bool) -> Result<(), StoreError> {
        let key = *key;
        self.converse("mark_given", Survives::Crash, of, move |tables, of| {
            tables.import(of, &key)?;
            match Head::find(tables.db, of, tables.now)? {
                Some(head) => ledger::mark_given(tables.db, head.id, &key, given),
                None => Ok(()),
            }
        })
        .await
    }

    async fn answer(
        &self,
        of: &OpenId,
        key: &Digest,
        reply: &[u8],
    ) -> Result<Answered, StoreError> {
        let (key, reply) = (*key, reply.to_owned());
        self.converse("answer", Survives::Crash, of, move |tables, of| {
            let (db, now) = (tables.db, tables.now);
            let entry = match Head::find(db, of, now)? {
                Some(head) => ledger::find(db, head.id, &key, now)?,
                None => None,
            };
            let Some(entry) = entry else {
                return Ok(match tables.find_done(of, &key, true)? {
                    Some(_) => Answered::Already,
                    None => Answered::Unknown,
                });
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
        let key = *key;
        self.converse("keep_answer", Survives::Crash, of, move |tables, of| {
            // What is in the journal was given.
            let (db, now) = (tables.db, tables.now);
            let Some(head) = Head::find(db, of, now)? else {
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
        self.converse("begin_sending", Survives::Crash, of, move |tables, of| {
            let (db, now) = (tables.db, tables.now);
            match Head::find(db, of, now)? {
                Some(head) if !head.has_left => {
                    kept::begin_sending(db, head.id, now, now + millis(lease))
                }
                _ => Ok(None),
            }
        })
        .await
    }

    async fn end_sending(
        &self,
        of: &OpenId,
        answer: AnswerId,
        sent: bool,
    ) -> Result<(), StoreError> {
        self.converse(
            "end_sending",
            Survives::Crash,
            of,
            move |tables, of| match Head::find(tables.db, of, tables.now)? {
                Some(head) => kept::end_sending(tables.db, head.id, answer, sent),
                None => Ok(()),
            },
        )
        .await
    }

    async fn windows(&self, of: &OpenId) -> Result<Vec<Window>, StoreError> {
        self.converse("windows", Survives::Crash, of, |tables, of| {
            tables.windows(of)
        })
        .await
    }

    async fn count_sent(&self, of: &OpenId, trigger: Trigger) -> Result<(), StoreError> {
        self.converse("count_sent", Survives::Crash, of, move |tables, of| {
            tables.journal.import_windows(tables.db, of, tables.now)?;
            head::count_sent(tables.db, of, trigger)
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
        self.converse("take_overdue", Survives::Crash, of, move |tables, of| {
            tables.claim(turn, lease).take_overdue(of)
        })
        .await
    }
}

impl Tables<'_> {
    fn claim(&self, turn: Turn, lease: Duration) -> Claim<'_> {
        Claim {
            db: self.db,
            turn,
            lease,
            now: self.now,
        }
    }

    /// The reply of a message that went the fast way, unless the tables know it.
    fn find_done(
        &self,
        of: &OpenId,
        key: &Digest,
        may_be_old: bool,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        let found = self.journal.find(self.db, of, key, may_be_old, self.now)?;
        let Some(found) = found else {
            return Ok(None);
        };
        let is_known = match Head::find(self.db, of, self.now)? {
            Some(head) => ledger::find(self.db, head.id, key, self.now)?.is_some(),
            None => false,
        };
        Ok((!is_known).then_some(found.reply))
    }

    fn import(&self, of: &OpenId, key: &Digest) -> rusqlite::Result<bool> {
        self.journal.import(self.db, of, key, self.now)
    }

    fn windows(&self, of: &OpenId) -> rusqlite::Result<Vec<Window>> {
        let mut windows = head::windows(self.db, of, self.now)?;
        for (trigger, at) in self.journal.windows(self.db, of, self.now)? {
            let opened = Window {
                trigger,
                age: between(at, self.now),
                sent: 0,
            };
            match windows.iter_mut().find(|known| known.trigger == trigger) {
                Some(known) if known.age > opened.age => *known = opened,
                Some(_) => {}
                None => windows.push(opened),
            }
        }
        Ok(windows)
    }
}

impl Sqlite {
    /// What memory decides takes a microsecond; to look at the clock for it would double that.
    fn note_held(&self) {
        self.deliver_seconds.observe(0.0);
    }

    /// Goes on with a delivery which memory alone did not decide.
    async fn deliver_slowly(
        &self,
        of: &OpenId,
        delivery: &Delivery,
        turn: Turn,
        lease: Duration,
        mut fast: Fast,
    ) -> Result<Delivered, StoreError> {
        while let Fast::Unsure(search) = fast {
            let searched = search.newest();
            let find = self.read("search", move |db, now| search.run(db, now));
            if find.await != Ok(false) {
                break;
            }
            let began = Instant::now();
            fast = self
                .journal
                .deliver(of, delivery, turn, lease, began, searched);
            if let Fast::Held(conversation) = fast {
                self.note_held();
                return Ok(Delivered::Held(conversation));
            }
        }
        let delivery = delivery.clone();
        self.converse("deliver", Survives::Crash, of, move |tables, of| {
            if let Some(reply) = tables.find_done(of, &delivery.key, delivery.may_be_old)? {
                return Ok(Delivered::Done(reply));
            }
            tables.journal.note_person(journal::person(of));
            tables.claim(turn, lease).deliver(of, &delivery)
        })
        .await
    }

    /// Takes the end of a message that the tables know.
    async fn finish_slowly(
        &self,
        of: &OpenId,
        handled: &Handled,
        turn: Turn,
        lease: Duration,
    ) -> Result<Finished, StoreError> {
        let survives = survives(handled);
        let handled = handled.clone();
        self.converse("finish", survives, of, move |tables, of| {
            let claim = tables.claim(turn, lease);
            let finished = claim.finish(of, &handled)?;
            // The same may have been said before.
            if finished == Finished::Lost && tables.import(of, &handled.key)? {
                return claim.finish(of, &handled);
            }
            Ok(finished)
        })
        .await
    }
}

/// Removes the session, the windows, the kept answers, and what the journal tells. The ledger stays, and that
/// he has left.
pub(super) fn forget(tables: &Tables<'_>, of: &OpenId) -> rusqlite::Result<()> {
    tables.journal.forget(tables.db, of, tables.now)?;
    head::forget(tables.db, of)
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
