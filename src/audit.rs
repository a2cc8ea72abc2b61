//! The list of who used the management routes: noted at once, written off the answer's way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::{AuditBatch, AuditEntry, AuditStore, StoreError};
use crate::telemetry::metrics::AuditMetrics;

/// How long an entry is kept.
pub const KEEP: Duration = Duration::from_secs(90 * 86_400);

/// What comes within this is written together.
const GATHER_FOR: Duration = Duration::from_millis(500);
/// While the store is away, the next try.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long a try may take when the process ends.
const LAST_TRY: Duration = Duration::from_secs(1);
/// Entries of one write.
const BATCH: usize = 500;
/// Entries that wait while the store is away. What comes then is lost, which is counted and logged.
const MOST_WAITING: usize = 10_000;
/// Like uses of one batch that are an entry each: the last one counts the others too.
const LIKE_USES: usize = 16;

/// The writer of the list. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit(Arc<Inner>);

struct Inner {
    store: Arc<dyn AuditStore>,
    metrics: AuditMetrics,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<Noted>,
    /// Uses that found no room since their number was last logged.
    lost: u64,
    /// A task is at it.
    is_written: bool,
}

struct Noted {
    entry: AuditEntry,
    at: Instant,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit")
    }
}

impl Audit {
    /// `tasks` are waited for at the end; from `shutdown` on nothing is gathered.
    pub(crate) fn new(
        store: Arc<dyn AuditStore>,
        metrics: AuditMetrics,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            metrics,
            tasks,
            shutdown,
            waiting: Mutex::default(),
        }))
    }

    /// Notes what was done just now. Never waits.
    pub(crate) fn note(&self, entry: AuditEntry) {
        let mut waiting = self.waiting();
        if waiting.entries.len() >= MOST_WAITING {
            waiting.entries = fold(std::mem::take(&mut waiting.entries));
        }
        if waiting.entries.len() >= MOST_WAITING {
            if waiting.lost == 0 {
                tracing::error!("audit entries are lost: too many wait for the store");
            }
            waiting.lost += 1;
            self.0.metrics.count("lost", 1);
        } else {
            let at = Instant::now();
            waiting.entries.push(Noted { entry, at });
        }
        if !std::mem::replace(&mut waiting.is_written, true) {
            drop(waiting);
            let audit = self.clone();
            self.0.tasks.spawn(async move { audit.write_all().await });
        }
    }

    /// Writes until nothing waits.
    async fn write_all(&self) {
        self.pause(GATHER_FOR).await;
        while let Some(batch) = self.take() {
            let uses = uses(&batch);
            match self.write(batch).await {
                Ok(()) => self.0.metrics.count("written", uses),
                Err(error) => {
                    let uses = uses + self.give_up();
                    self.0.metrics.count("lost", uses);
                    tracing::error!(uses, %error, "audit entries are lost: the process ends while the store is away");
                }
            }
        }
    }

    /// The next entries, like uses folded. `None` ends the task.
    fn take(&self) -> Option<Vec<Noted>> {
        let mut waiting = self.waiting();
        if waiting.lost > 0 {
            tracing::error!(uses = waiting.lost, "audit entries were lost");
            waiting.lost = 0;
        }
        if waiting.entries.is_empty() {
            waiting.is_written = false;
            return None;
        }
        // All that waits is folded: a flood is one write.
        let mut folded = fold(std::mem::take(&mut waiting.entries));
        if folded.len() > BATCH {
            waiting.entries = folded.split_off(BATCH);
        }
        Some(folded)
    }

    /// Lets go of all that waits. Returns how many uses that were.
    fn give_up(&self) -> u64 {
        uses(&std::mem::take(&mut self.waiting().entries))
    }

    /// Tries until it is written, or the process ends.
    async fn write(&self, batch: Vec<Noted>) -> Result<(), StoreError> {
        let name: AuditBatch = rand::random();
        let mut is_told = false;
        loop {
            // Before the try: one that begins after the signal is the last.
            let is_last = self.0.shutdown.is_cancelled();
            let entries: Vec<_> = batch.iter().map(Noted::aged).collect();
            let written = tokio::select! {
                written = self.0.store.add_audit(name, &entries, KEEP) => written,
                () = self.no_more_time() => return Err(StoreError::Timeout),
            };
            match written {
                Err(error) if !is_last => {
                    self.0.metrics.count_failure();
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "audit entries wait for the store");
                    }
                }
                outcome => return outcome,
            }
            self.pause(AGAIN_AFTER).await;
        }
    }

    /// The signal, and then what a try may take.
    async fn no_more_time(&self) {
        self.0.shutdown.cancelled().await;
        tokio::time::sleep(LAST_TRY).await;
    }

    async fn pause(&self, time: Duration) {
        // Either way there is something to do.
        let _ = tokio::time::timeout(time, self.0.shutdown.cancelled()).await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn uses(entries: &[Noted]) -> u64 {
    entries
        .iter()
        .map(|noted| u64::from(noted.entry.times))
        .sum()
}

impl Noted {
    fn aged(&self) -> AuditEntry {
        AuditEntry {
            age: self.entry.age + self.at.elapsed(),
            ..self.entry.clone()
        }
    }
}

/// What like uses have in common.
#[derive(PartialEq, Eq, Hash)]
struct Like {
    key: String,
    action: Cow<'static, str>,
    status: Option<u16>,
    errcode: Option<i64>,
}

/// Counts like uses beyond the first few in one entry, so that a program that asks all the time fills
/// neither the list nor the store.
fn fold(entries: Vec<Noted>) -> Vec<Noted> {
    let mut kept: Vec<Noted> = Vec::with_capacity(entries.len().min(BATCH));
    // How many there are of a kind, and where the last one is.
    let mut kinds: HashMap<Like, (usize, usize)> = HashMap::new();
    for noted in entries {
        let entry = &noted.entry;
        let kind = Like {
            key: entry.key.clone(),
            action: entry.action.clone(),
            status: entry.status,
            errcode: entry.errcode,
        };
        let (count, last) = kinds.entry(kind).or_default();
        match kept.get_mut(*last) {
            Some(last) if *count >= LIKE_USES => {
                last.entry.times = last.entry.times.saturating_add(entry.times);
            }
            _ => {
                (*count, *last) = (*count + 1, kept.len());
                kept.push(noted);
            }
        }
    }
    kept
}

/// Writes one entry now, for a command.
///
/// # Errors
///
/// When the store does not take it.
pub async fn write(store: &dyn AuditStore, key: &str, action: &str) -> Result<(), StoreError> {
    let entry = AuditEntry {
        key: key.to_owned(),
        action: action.to_owned().into(),
        status: None,
        errcode: None,
        request: None,
        times: 1,
        age: Duration::ZERO,
    };
    store.add_audit(rand::random(), &[entry], KEEP).await
}

#[cfg(test)]
mod tests;
