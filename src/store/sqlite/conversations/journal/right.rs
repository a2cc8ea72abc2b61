//! Who may go the fast way: one process, told by the table `journal_writer` of one row, and alive as long
//! as it holds the lock on a file beside the database.
//!
//! Every process that changes conversations writes its name into that row, in the transaction in which it
//! does. So a process whose name still stands there knows that its memory is in step with the tables. One
//! that finds the row marked *fast* by another may change nothing yet. It asks that one to stop, and waits
//! until the mark is gone. Whoever dies loses the lock: then the mark may be taken away. Who does not
//! answer for a second stands still, and does not believe in his right any longer when he goes on.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use super::super::super::file;

/// How long another process is waited for: far longer than it believes in its right.
const WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);
/// How long nobody goes the fast way after somebody asked not to.
const CALM: Duration = Duration::from_secs(10);
const MOST_CALM: Duration = Duration::from_secs(600);

pub(super) struct Right {
    /// This process's name, new at each start.
    name: [u8; 16],
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Option<File>,
    is_locked: bool,
    rise_at: Instant,
    risen_at: Instant,
    calm: Duration,
}

/// The row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    name: [u8; 16],
    pub(super) is_mine: bool,
    pub(super) is_fast: bool,
    pub(super) is_asked: bool,
}

impl Right {
    pub(super) fn new(path: &Path) -> Self {
        // One file has one lock, by whatever name it is opened.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let now = Instant::now();
        Self {
            name: rand::random(),
            path: file::beside(&path, "-lock"),
            inner: Mutex::new(Inner {
                file: None,
                is_locked: false,
                rise_at: now,
                risen_at: now,
                calm: CALM,
            }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_lock(&self) -> bool {
        let mut inner = self.lock();
        if inner.is_locked {
            return true;
        }
        if inner.file.is_none() {
            inner.file = open(&self.path)
                .inspect_err(|error| {
                    let kind = error.kind();
                    tracing::warn!(%kind, "the store's lock file can't be made: messages go the slow way");
                })
                .ok();
        }
        inner.is_locked = inner
            .file
            .as_ref()
            .is_some_and(|file| file.try_lock().is_ok());
        inner.is_locked
    }

    pub(super) fn is_locked(&self) -> bool {
        self.lock().is_locked
    }

    pub(super) fn unlock(&self) {
        let mut inner = self.lock();
        inner.is_locked = false;
        // Closing the file lets go of its lock.
        inner.file = None;
    }

    /// Whether it is time to go the fast way (again).
    pub(super) fn may_rise(&self) -> bool {
        Instant::now() >= self.lock().rise_at
    }

    pub(super) fn note_risen(&self) {
        self.lock().risen_at = Instant::now();
    }

    /// Tries again soon: another process is there, which may be about to end.
    pub(super) fn try_later(&self) {
        self.lock().rise_at = Instant::now() + WAIT;
    }

    /// Stays calm after somebody asked, longer each time he has to ask again soon.
    pub(super) fn calm_down(&self) {
        let mut inner = self.lock();
        let now = Instant::now();
        if now - inner.risen_at > inner.calm {
            inner.calm = CALM;
        }
        inner.rise_at = now + inner.calm;
        inner.calm = MOST_CALM.min(inner.calm * 2);
    }

    #[cfg(test)]
    pub(super) fn calm_down_for_no_time(&self) {
        self.lock().rise_at = Instant::now();
    }

    /// Never goes the fast way again.
    pub(super) fn give_up(&self) {
        let mut inner = self.lock();
        inner.rise_at = Instant::now() + Duration::from_secs(24 * 3600);
    }

    pub(super) fn standing(&self, db: &Connection) -> rusqlite::Result<Standing> {
        let row = db
            .prepare_cached("SELECT name, is_fast, is_asked FROM journal_writer")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let (name, is_fast, is_asked) = row.unwrap_or_default();
        Ok(Standing {
            name,
            is_mine: name == self.name,
            is_fast,
            is_asked,
        })
    }

    /// Writes this process's name into the row.
    pub(super) fn sign(&self, db: &Connection, is_fast: bool) -> rusqlite::Result<()> {
        db.prepare_cached(
            "INSERT INTO journal_writer (only, name, is_fast, is_asked) VALUES (1, ?1, ?2, 0)
             ON CONFLICT (only) DO UPDATE
                 SET name = excluded.name, is_fast = excluded.is_fast, is_asked = 0",
        )?
        .execute((self.name, is_fast))
        .map(drop)
    }

    /// Waits until no other process goes the fast way. In no transaction.
    pub(super) fn wait(&self, db: &Connection) -> rusqlite::Result<()> {
        let asked_at = Instant::now();
        let mut is_asked = false;
        loop {
            let found = self.standing(db)?;
            if found.is_mine || !found.is_fast {
                return Ok(());
            }
            let is_dead = self.try_lock();
            if is_dead || asked_at.elapsed() >= WAIT {
                if !is_dead {
                    tracing::warn!("another process on the store's file does not answer");
                }
                db.prepare_cached("UPDATE journal_writer SET is_fast = 0 WHERE name = ?1")?
                    .execute([found.name])?;
                if is_dead {
                    self.unlock();
                }
                return Ok(());
            }
            if !is_asked {
                db.prepare_cached("UPDATE journal_writer SET is_asked = 1 WHERE is_fast")?
                    .execute([])?;
                is_asked = true;
            }
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(unix)]
fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}
