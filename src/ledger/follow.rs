//! Messages that another instance handles, or whose reply comes from outside. While a delivery of one waits
//! here, its reply is looked out for.
//!
//! One question to the store covers all of them, and only those of which there is news are looked at.
//! Measured with 500 messages that waited at once on a replica set on one machine: a look at each, every
//! 0.1 to 0.5 s, cost its servers 37 % of a core, a change stream for each instance 2 %, and one question
//! for all every 0.1 s 1 %.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::desk::{Charge, Seat};
use super::handle::Begun;
use super::{Inner, LEASE, STORE_WITHIN, within};
use crate::store::{Delivered, Digest};
use crate::wechat::id::OpenId;

/// How often the store is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Messages in one question.
const MOST_ASKED: usize = 1_000;
/// A message is looked at this often whatever was answered.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(2);
/// After a look that found nothing, as one does whose reply comes from outside.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What this instance follows.
#[derive(Default)]
pub(super) struct Followed(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    messages: HashMap<u64, Entry>,
    next: u64,
    /// A task asks for them.
    is_asked_for: bool,
}

#[derive(Clone)]
struct Entry {
    message: (OpenId, Digest),
    news: Arc<Notify>,
}

/// A message is followed until this is dropped.
struct Following {
    followed: Arc<Followed>,
    id: u64,
    news: Arc<Notify>,
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a message. Returns whether the caller is to have a task ask for it.
    fn enter(self: &Arc<Self>, of: &OpenId, key: &Digest) -> (Following, bool) {
        let mut entries = self.lock();
        let id = entries.next;
        entries.next += 1;
        let news = Arc::new(Notify::new());
        let entry = Entry {
            message: (of.clone(), *key),
            news: Arc::clone(&news),
        };
        entries.messages.insert(id, entry);
        let begin = !std::mem::replace(&mut entries.is_asked_for, true);
        let followed = Arc::clone(self);
        (Following { followed, id, news }, begin)
    }

    /// What is to be asked for. With nothing, asking has ended.
    fn all(&self) -> Vec<Entry> {
        let mut entries = self.lock();
        entries.is_asked_for = !entries.messages.is_empty();
        entries.messages.values().cloned().collect()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followed.lock().messages.remove(&self.id);
    }
}

impl Inner {
    /// Waits in a task of its own for the reply that another instance makes, or that comes from outside,
    /// while a delivery waits for it here.
    pub(super) fn follow(self: &Arc<Self>, seat: &Seat, charge: Charge) {
        seat.forget(&charge.key);
        self.look_out(seat, charge);
    }

    /// The same for a message that is not to be handled here again.
    pub(super) fn look_out(self: &Arc<Self>, seat: &Seat, charge: Charge) {
        let (inner, seat) = (Arc::clone(self), seat.beside());
        let key = charge.key;
        self.spawn(&key, async move {
            let following = inner.look_until_done(&seat, charge);
            let closing = inner.closing.clone();
            if let Some(Some(begun)) = closing.run_until_cancelled(following).await {
                inner.run(seat, begun).await;
            }
        });
    }

    async fn look_until_done(self: &Arc<Self>, seat: &Seat, charge: Charge) -> Option<Begun> {
        let (following, begin) = self.followed.enter(seat.of(), &charge.key);
        if begin {
            self.tasks.spawn(Arc::clone(self).ask_for_followed());
        }
        let store = &self.services.store;
        let mut pause = FIRST_PAUSE;
        while charge.is_waited_for() {
            let news = following.news.notified();
            // With or without.
            let _ = tokio::time::timeout(LOOK_AT_LEAST_EVERY, news).await;
            let look = store.look(seat.of(), &charge.key, seat.turn, LEASE);
            match within(STORE_WITHIN, look).await {
                Ok(Delivered::Held(held)) => {
                    tracing::info!("taking over a conversation whose holder is gone");
                    let first = seat.note(held.waiting, Some(charge))?;
                    let standing = Some((held.session, held.kept));
                    return Some(Begun { first, standing });
                }
                Ok(Delivered::Done(said)) => {
                    self.metrics.count_repeat("kept");
                    self.publish_found(seat.of(), &charge, &said).await;
                    return None;
                }
                Ok(Delivered::Elsewhere {
                    deliveries,
                    first_seen,
                }) => charge.count_elsewhere(deliveries, first_seen),
                Ok(Delivered::Full) | Err(_) => {}
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
            pause = LONGEST_PAUSE.min(pause + pause / 4);
        }
        None
    }

    /// Asks for all that is followed, until nothing is.
    async fn ask_for_followed(self: Arc<Self>) {
        let asking = async {
            loop {
                tokio::time::sleep(ASK_EVERY).await;
                let all = self.followed.all();
                if all.is_empty() {
                    return;
                }
                for some in all.chunks(MOST_ASKED) {
                    self.ask_for(some).await;
                }
            }
        };
        self.closing.run_until_cancelled(asking).await;
    }

    async fn ask_for(&self, entries: &[Entry]) {
        let messages: Vec<_> = entries.iter().map(|entry| entry.message.clone()).collect();
        let asked = self.services.store.still_waiting(&messages);
        match within(STORE_WITHIN, asked).await {
            Ok(still_waiting) => {
                for (entry, waits) in entries.iter().zip(still_waiting) {
                    if !waits {
                        entry.news.notify_one();
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "no news of what other instances handle"),
        }
    }
}
