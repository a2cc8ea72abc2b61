//! Looks keys up for the routes, and remembers what it found for a few seconds.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{KeyName, Scope, digest, is_key};
use crate::store::{Digest, KeyStore, StoreError, StoredKey};

/// How long an answer of the store counts: a key that was removed opens nothing after this.
const REMEMBER_FOR: Duration = Duration::from_secs(10);
/// When the next caller has it looked up again, while he is served.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a caller waits for the store.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How often a key's use is noted in the store.
const TOUCH_EVERY: Duration = Duration::from_secs(60);
/// Answers that are remembered, real keys aside: a flood of invented ones costs no more memory.
const MOST_REMEMBERED: usize = 1024;

/// Whose a key is, and what it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: KeyName,
    pub(crate) scopes: Vec<Scope>,
}

/// A key that is stored, as it was last read.
#[derive(Clone)]
struct Known {
    holder: Holder,
    expires_at: Option<Instant>,
}

/// What the store said of a digest, and when.
struct Seen {
    /// `None`: there is no such key.
    known: Option<Known>,
    /// From before the store was asked.
    read_at: Instant,
}

type Look = Shared<BoxFuture<'static, Result<Option<Known>, StoreError>>>;

/// The keys as one instance knows them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    store: Arc<dyn KeyStore>,
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: HashMap<Digest, Seen>,
    /// Reads under way: however many callers come with a key, one asks the store.
    looking: HashMap<Digest, Look>,
    /// When the use of a key was last noted.
    touched: HashMap<Digest, Instant>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    pub(crate) fn new(store: Arc<dyn KeyStore>, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            store,
            tasks,
            state: Mutex::default(),
        }))
    }

    /// Whether this text has the form of a key.
    pub(crate) fn is_key(text: &str) -> bool {
        is_key(text)
    }

    /// Whose key this is. `None`: nobody's, or it was removed or is over. While the store is away, keys
    /// that were seen lately are still known.
    pub(crate) async fn holder(&self, key: &str) -> Result<Option<Holder>, StoreError> {
        if !is_key(key) {
            return Ok(None);
        }
        let digest = digest(key);
        let known = match self.remembered(&digest) {
            Some(known) => known,
            None => tokio::time::timeout(LOOK_WITHIN, self.look(digest))
                .await
                .unwrap_or(Err(StoreError::Timeout))?,
        };
        let now = Instant::now();
        let known = known.filter(|known| known.expires_at.is_none_or(|at| now < at));
        Ok(known.map(|known| {
            self.touch(digest, &known.holder.name);
            known.holder
        }))
    }

    /// What was read lately. Near its end it is read again in the background.
    fn remembered(&self, digest: &Digest) -> Option<Option<Known>> {
        let (known, age) = {
            let state = self.state();
            let seen = state.seen.get(digest)?;
            (seen.known.clone(), seen.read_at.elapsed())
        };
        if age >= REMEMBER_FOR {
            return None;
        }
        if age >= LOOK_AGAIN_AFTER && known.is_some() {
            drop(self.look(*digest));
        }
        Some(known)
    }

    /// Reads the store in a task of its own, or joins the one that does.
    fn look(&self, digest: Digest) -> Look {
        let mut state = self.state();
        if let Some(look) = state.looking.get(&digest) {
            return look.clone();
        }
        let gate = self.clone();
        let read_at = Instant::now();
        let task = self.0.tasks.spawn(async move {
            let found = gate.0.store.key(&digest).await;
            let found = found.map(|stored| stored.map(|stored| known(stored, read_at)));
            let mut state = gate.state();
            state.looking.remove(&digest);
            if let Ok(known) = &found {
                state.remember(digest, known.clone(), read_at);
            }
            found
        });
        let look = async move {
            task.await
                .unwrap_or_else(|_| Err(StoreError::Unusable("a look-up panicked".into())))
        };
        let look = look.boxed().shared();
        // The task waits for the lock before it takes itself off.
        state.looking.insert(digest, look.clone());
        look
    }

    /// Notes the use, no more than once a minute.
    fn touch(&self, digest: Digest, name: &KeyName) {
        {
            let mut state = self.state();
            let touched = state.touched.get(&digest);
            if touched.is_some_and(|at| at.elapsed() < TOUCH_EVERY) {
                return;
            }
            state.touched.insert(digest, Instant::now());
        }
        let (gate, name) = (self.clone(), name.clone());
        self.0.tasks.spawn(async move {
            if let Err(error) = gate.0.store.touch_key(&digest, &name).await {
                tracing::debug!(key = %name, %error, "the key's use was not noted");
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, digest: Digest, known: Option<Known>, read_at: Instant) {
        if self.seen.len() >= MOST_REMEMBERED {
            self.seen
                .retain(|_, seen| seen.read_at.elapsed() < REMEMBER_FOR);
            self.touched.retain(|_, at| at.elapsed() < TOUCH_EVERY);
        }
        if known.is_some() || self.seen.len() < MOST_REMEMBERED {
            self.seen.insert(digest, Seen { known, read_at });
        } else {
            // What was known of it before is over.
            self.seen.remove(&digest);
        }
    }
}

fn known(stored: StoredKey, read_at: Instant) -> Known {
    Known {
        holder: Holder {
            name: stored.name,
            scopes: stored.scopes,
        },
        expires_at: stored.expires_in.map(|left| read_at + left),
    }
}

#[cfg(test)]
mod tests;
