//! What somebody does who holds a conversation, or would.

use std::time::Duration;

use rusqlite::Connection;

use super::super::{between, millis};
use super::head::Head;
use super::ledger::State;
use super::{kept, ledger};
use crate::store::{
    Conversation, Delivered, Delivery, Digest, Finished, Handled, MOST_WAITING, Overdue,
    SessionChange, Turn, Waiting,
};
use crate::wechat::id::OpenId;

/// One operation under `turn`, within a transaction.
pub(super) struct Claim<'a> {
    pub(super) db: &'a Connection,
    pub(super) turn: Turn,
    pub(super) lease: Duration,
    pub(super) now: i64,
}

impl Claim<'_> {
    pub(super) fn deliver(&self, of: &OpenId, delivery: &Delivery) -> rusqlite::Result<Delivered> {
        let (db, now) = (self.db, self.now);
        let head = match Head::find(db, of, now)? {
            Some(head) => head,
            None => Head::create(db, of)?,
        };
        let Some(entry) = ledger::append(db, head.id, delivery, now)? else {
            return self.again(&head, &delivery.key, Some(&delivery.key));
        };
        // One of them is being handled, and `MOST_WAITING` wait behind it.
        if head.waiting > MOST_WAITING {
            ledger::remove(db, entry)?;
            return Ok(Delivered::Full);
        }
        let is_mine = head.is_free_for(self.turn, now);
        if delivery.is_handled && !is_mine {
            ledger::remove(db, entry)?;
            return Ok(Delivered::Full);
        }
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

    pub(super) fn look(&self, of: &OpenId, key: &Digest) -> rusqlite::Result<Delivered> {
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

    pub(super) fn finish(&self, of: &OpenId, handled: &Handled) -> rusqlite::Result<Finished> {
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
        if ledger::finish(db, head.id, handled, self.turn)? {
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

    pub(super) fn take_overdue(&self, of: &OpenId) -> rusqlite::Result<Overdue> {
        let (db, now) = (self.db, self.now);
        let Some(head) = Head::find(db, of, now)? else {
            return Ok(Overdue::default());
        };
        let is_mine = head.is_free_for(self.turn, now) && head.waiting > 0;
        Ok(Overdue {
            held: is_mine.then(|| self.hold(&head, None)).transpose()?,
            not_given: ledger::not_given(db, head.id, now)?,
        })
    }
}

/// A message that nobody delivered.
pub(super) const UNKNOWN: Delivered = Delivered::Elsewhere {
    deliveries: 0,
    first_seen: Duration::ZERO,
};
