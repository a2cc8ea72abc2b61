//! The threads that own the connections. Callers hand jobs over a bounded queue and await the answer.
//!
//! One thread writes. It takes whatever waits in its queue into one transaction, each job in a
//! savepoint, so that a busy store pays for one commit per group and a job that fails harms no other.
//! Nobody is answered before the commit. Two threads read, each statement by itself, or one where there is
//! one core.
//!
//! Before its jobs a transaction writes what the [`Journal`] has in memory, as far as it is time, or the
//! jobs concern it.
//!
//! A connection that saw its file fail (full or torn disk, lost rights) is closed and opened anew for
//! the next job, so the store works again by itself when the fault is mended.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::conversations::journal::{self, Begun, GATHER_FOR, Journal};
use super::error::{spoils_connection, store_error};
use super::{file, schema, unix_millis};
use crate::store::StoreError;

/// Jobs that may wait in one queue. More than a store does in [`OPERATION_DEADLINE`] is not worth
/// queueing for on a slow disk, and far more than one group.
///
/// [`OPERATION_DEADLINE`]: crate::store::OPERATION_DEADLINE
const QUEUE: usize = 4096;

/// Jobs in one transaction. Keeps the lock short for other processes.
const GROUP: usize = 256;

/// Threads that read. More than there are cores would only be other caches, each with less of the file.
const MOST_READERS: usize = 2;

/// Of the journal's rows a transaction of a busy store writes at least so many bytes, for some 20,000
/// messages a second.
const BUSY_BYTES: usize = 16 << 10;

/// In a busy store so much of them is checkpointed at once, in a third of a millisecond. By SQLite's own
/// measure of 1,000 pages it would be four, several times a second, and on a machine with one core the
/// messages under way would wait for it. Rows of the journal are written once, so it costs no more, but for
/// an fsync or two.
const CHECKPOINT_BYTES: usize = 192 << 10;
/// Where that takes longer, the disk is slow to sync, and it is left to SQLite for a while.
const CHECKPOINT_WITHIN: Duration = Duration::from_millis(20);
const CHECKPOINT_REST: Duration = Duration::from_secs(60);

/// How long a statement waits for another process's lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// What a write must outlive once its caller has the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Survives {
    /// A killed process (`synchronous=NORMAL`: no fsync at commit). For the message ledger: when the
    /// power fails, its retries are over before the machine is back.
    Crash,
    /// A power failure too (`synchronous=FULL`: one fsync for each group).
    PowerLoss,
}

/// The queues to the threads. Dropping it lets them finish what waits, then end.
pub(super) struct Worker {
    writes: SyncSender<Message>,
    /// Several threads take from it.
    reads: crossbeam_channel::Sender<Message>,
    /// What is sent behind the last order to stop would stay in the queue.
    is_stopping: AtomicBool,
    /// The writer first.
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Worker {
    /// Opens the file, brings it to the newest schema and starts the threads. Blocks.
    pub(super) fn start(path: &Path, limits: journal::Limits) -> Result<Started, StoreError> {
        file::prepare(path)?;
        let mut writer = open(path, Role::Writer, schema::check)?;
        schema::migrate(&mut writer)?;
        let journal = Arc::new(Journal::new(path, limits));
        let (writes, jobs) = sync_channel(QUEUE);
        let mut slot = Slot::new(path, Role::Writer, writer);
        slot.rise(&journal);
        let mut threads = vec![spawn("store-writer", {
            let journal = Arc::clone(&journal);
            move || write_until_stopped(&mut slot, &jobs, &journal)
        })?];
        let (reads, jobs) = crossbeam_channel::bounded(QUEUE);
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..cores.min(MOST_READERS) {
            let mut slot = Slot::new(
                path,
                Role::Reader,
                open(path, Role::Reader, schema::verify)?,
            );
            let jobs = jobs.clone();
            threads.push(spawn("store-reader", move || {
                read_until_stopped(&mut slot, &jobs);
            })?);
        }
        let worker = Self {
            writes,
            reads,
            is_stopping: AtomicBool::new(false),
            threads: Mutex::new(threads),
        };
        Ok((worker, journal))
    }

    /// Queues a write and waits for its commit. `work` gets the store's time in milliseconds.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        survives: Survives,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        submit(|job| self.writes.try_send(job), survives, None, work).await
    }

    /// Queues a write that concerns the conversation of this [`person`](journal::person).
    pub(super) async fn converse<T: Send + 'static>(
        &self,
        survives: Survives,
        person: u64,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        submit(
            |job| self.writes.try_send(job),
            survives,
            Some(person),
            work,
        )
        .await
    }

    /// Has the journal's entries written soon.
    pub(super) fn wake(&self) {
        // A queue that is full wakes it too.
        let _ = self.writes.try_send(Message::Wake);
    }

    /// Queues a read. It sees every write that was answered before.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        submit(|job| self.try_read(job), Survives::Crash, None, work).await
    }

    fn try_read(&self, job: Message) -> Result<(), TrySendError<Message>> {
        use crossbeam_channel::TrySendError as Refused;
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(TrySendError::Disconnected(job));
        }
        self.reads.try_send(job).map_err(|refused| match refused {
            Refused::Full(job) => TrySendError::Full(job),
            Refused::Disconnected(job) => TrySendError::Disconnected(job),
        })
    }

    /// Lets the threads finish what is queued, then joins them: the files are closed. Blocks.
    pub(super) fn stop(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_stopping.store(true, Ordering::Relaxed);
        // Readers first: the last connection to close is the writer's, which tidies up the WAL.
        for _ in 1..threads.len() {
            let _ = self.reads.send(Message::Stop);
        }
        while threads.len() > 1 {
            threads.pop().map(thread::JoinHandle::join);
        }
        let _ = self.writes.send(Message::Stop);
        threads.pop().map(thread::JoinHandle::join);
    }
}

/// The threads, and the journal that is written by them.
pub(super) type Started = (Worker, Arc<Journal>);

enum Message {
    Run(Box<dyn Job>),
    Wake,
    Stop,
}

/// A queued piece of work, whatever it returns.
trait Job: Send {
    fn survives(&self) -> Survives;
    /// Whose conversation it concerns.
    fn person(&self) -> Option<u64>;
    /// Does the work and keeps its result. The error, if any, decides about the transaction.
    fn run(&mut self, db: &Connection, now: i64) -> Result<(), rusqlite::Error>;
    /// Answers the caller: with what `run` kept, or with `failure` where the group failed.
    fn answer(self: Box<Self>, failure: Option<&StoreError>);
}

struct Task<F, T> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
    survives: Survives,
    person: Option<u64>,
}

impl<F, T> Job for Task<F, T>
where
    F: FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn survives(&self) -> Survives {
        self.survives
    }

    fn person(&self) -> Option<u64> {
        self.person
    }

    fn run(&mut self, db: &Connection, now: i64) -> Result<(), rusqlite::Error> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        match work(db, now) {
            Ok(value) => {
                self.result = Some(Ok(value));
                Ok(())
            }
            Err(error) => {
                self.result = Some(Err(store_error(&error)));
                Err(error)
            }
        }
    }

    fn answer(self: Box<Self>, failure: Option<&StoreError>) {
        let answer = match (self.result, failure) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failure)) => Err(failure.clone()),
            (Some(result), None) => result,
            (None, None) => Err(closed()),
        };
        // A caller that stopped waiting is no fault.
        let _ = self.caller.send(answer);
    }
}

async fn submit<T: Send + 'static>(
    try_send: impl FnOnce(Message) -> Result<(), TrySendError<Message>>,
    survives: Survives,
    person: Option<u64>,
    work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let (caller, answer) = oneshot::channel();
    let job = Message::Run(Box::new(Task {
        work: Some(work),
        result: None,
        caller,
        survives,
        person,
    }));
    match try_send(job) {
        Ok(()) => answer.await.unwrap_or_else(|_| Err(closed())),
        Err(TrySendError::Full(_)) => Err(StoreError::Unavailable(
            "too many operations are waiting".into(),
        )),
        Err(TrySendError::Disconnected(_)) => Err(closed()),
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, StoreError> {
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| {
            StoreError::Unavailable(format!("no thread can be started: {}", error.kind()))
        })
}

fn write_until_stopped(slot: &mut Slot, jobs: &Receiver<Message>, journal: &Journal) {
    let mut stopping = false;
    // When the entries that have begun to gather are written.
    let mut write_at: Option<Instant> = None;
    while !stopping {
        let patience = match write_at {
            Some(at) => Some(at.saturating_duration_since(Instant::now())),
            None => journal.patience(),
        };
        let next = match patience {
            Some(patience) => jobs.recv_timeout(patience),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut group = Vec::new();
        match next {
            Ok(Message::Run(job)) => group.push(job),
            Ok(Message::Wake) => {
                write_at.get_or_insert_with(|| Instant::now() + GATHER_FOR);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                journal.close();
                stopping = true;
            }
        }
        while !group.is_empty() && group.len() < GROUP {
            match jobs.try_recv() {
                Ok(Message::Run(job)) => group.push(job),
                Ok(Message::Wake) => {}
                Ok(Message::Stop) => {
                    journal.close();
                    stopping = true;
                    break;
                }
                Err(_) => break,
            }
        }
        write_at = None;
        let failure = slot.commit(&mut group, journal).err();
        if stopping && failure.is_some() && journal.unwritten() > 0 {
            tracing::error!(
                messages = journal.unwritten(),
                "the file can't be written to, and does not know these messages: those without an \
                 answer are lost unless WeChat delivers them again, which may have the others handled again"
            );
        }
        for job in group {
            job.answer(failure.as_ref());
        }
        slot.checkpoint();
        slot.rise(journal);
        slot.learn(journal);
    }
}

fn read_until_stopped(slot: &mut Slot, jobs: &crossbeam_channel::Receiver<Message>) {
    while let Ok(Message::Run(mut job)) = jobs.recv() {
        let failure = slot.read(job.as_mut()).err();
        job.answer(failure.as_ref());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
}

/// One thread's connection, and how to get another when it is spoilt.
struct Slot {
    path: PathBuf,
    role: Role,
    db: Option<Connection>,
    survives: Survives,
    /// Bytes of the journal that were written since the last checkpoint of a busy store.
    unchecked: usize,
    /// The last transaction was a busy store's.
    is_busy: bool,
    checkpoints_rest_until: Option<Instant>,
}

impl Slot {
    fn new(path: &Path, role: Role, db: Connection) -> Self {
        Self {
            path: path.to_owned(),
            role,
            db: Some(db),
            survives: Survives::PowerLoss,
            unchecked: 0,
            is_busy: false,
            checkpoints_rest_until: None,
        }
    }

    /// Runs `use_it` on the connection, opened anew where the last one was spoilt.
    fn with<T>(
        &mut self,
        use_it: impl FnOnce(&Connection, &mut Survives) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => {
                self.survives = Survives::PowerLoss;
                open(&self.path, self.role, schema::verify)?
            }
        };
        let outcome = use_it(&db, &mut self.survives);
        if !outcome.as_ref().is_err_and(spoils_connection) {
            self.db = Some(db);
        }
        outcome.map_err(|error| store_error(&error))
    }

    fn read(&mut self, job: &mut dyn Job) -> Result<(), StoreError> {
        self.with(|db, _| job.run(db, unix_millis()))
    }

    /// Runs the jobs in one transaction, as durable as the most careful of them asks. Without jobs there is
    /// none unless the journal asks for it.
    fn commit(&mut self, group: &mut [Box<dyn Job>], journal: &Journal) -> Result<(), StoreError> {
        let survives = group
            .iter()
            .map(|job| job.survives())
            .max()
            .unwrap_or(Survives::Crash);
        let written = self.with(|db, set| {
            if group.is_empty() && !journal.is_due(db)? {
                return Ok(0);
            }
            if *set != survives {
                db.execute_batch(match survives {
                    Survives::Crash => "PRAGMA synchronous = NORMAL",
                    Survives::PowerLoss => "PRAGMA synchronous = FULL",
                })?;
                *set = survives;
            }
            let outcome = run_group(db, group, journal);
            if outcome.is_err() && !db.is_autocommit() {
                let _ = db.execute_batch("ROLLBACK");
            }
            outcome
        })?;
        self.unchecked += written;
        self.is_busy = written >= BUSY_BYTES;
        Ok(())
    }

    /// In a busy store, moves pages from the WAL into the file. Where that fails, or a reader is in the way,
    /// SQLite's own checkpoint does it later.
    fn checkpoint(&mut self) {
        let began = Instant::now();
        let rests = self
            .checkpoints_rest_until
            .is_some_and(|until| began < until);
        if !self.is_busy || self.unchecked < CHECKPOINT_BYTES || rests {
            return;
        }
        self.unchecked = 0;
        let checkpoint = |db: &Connection| {
            let mut checkpoint = db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
            checkpoint.query_row([], |_| Ok(()))
        };
        if let Err(error) = self.with(|db, _| checkpoint(db)) {
            tracing::debug!(%error, "no checkpoint was made");
        }
        let is_slow = began.elapsed() > CHECKPOINT_WITHIN;
        self.checkpoints_rest_until = is_slow.then(|| began + CHECKPOINT_REST);
    }

    /// Lets the journal go the fast way, if it is time for it.
    fn rise(&mut self, journal: &Journal) {
        if let Err(error) = self.with(|db, _| journal.rise(db)) {
            tracing::debug!(%error, "messages go the slow way");
        }
    }

    /// Lets the journal learn what was there before it went the fast way.
    fn learn(&mut self, journal: &Journal) {
        if let Err(error) = self.with(|db, _| journal.learn(db)) {
            tracing::debug!(%error, "messages are searched for in more places than need be");
        }
    }
}

/// Returns how many bytes of the journal were written.
fn run_group(
    db: &Connection,
    group: &mut [Box<dyn Job>],
    journal: &Journal,
) -> rusqlite::Result<usize> {
    let execute = |sql| db.prepare_cached(sql)?.execute([]).map(drop);
    let step = loop {
        execute("BEGIN IMMEDIATE")?;
        let people = group.iter().filter_map(|job| job.person()).collect();
        match journal.begin(db, people)? {
            Begun::Step(step) => break step,
            Begun::Elsewhere => {
                execute("ROLLBACK")?;
                journal.wait(db)?;
            }
        }
    };
    let bytes = step.bytes();
    let outcome = run_jobs(db, group).and_then(|()| execute("COMMIT"));
    journal.end(step, outcome.is_ok());
    outcome.map(|()| bytes)
}

fn run_jobs(db: &Connection, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let execute = |sql| db.prepare_cached(sql)?.execute([]).map(drop);
    // Read when the lock is held: waiting for it may have taken a second.
    let now = unix_millis();
    for job in group {
        execute("SAVEPOINT job")?;
        if let Err(error) = job.run(db, now) {
            // A full or failing disk ends the whole transaction by itself.
            if db.is_autocommit() || spoils_connection(&error) {
                return Err(error);
            }
            execute("ROLLBACK TO job")?;
        }
        execute("RELEASE job")?;
    }
    Ok(())
}

/// Opens a file that is there: it is neither created (its mode would be the umask's) nor is its name
/// read as a URI. `look` comes before anything is written.
fn open(
    path: &Path,
    role: Role,
    look: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = |error| store_error(&error);
    let db = Connection::open_with_flags(path, flags).map_err(sql)?;
    db.busy_timeout(LOCK_WAIT).map_err(sql)?;
    db.set_prepared_statement_cache_capacity(64);
    // Else some statements are compiled anew for each value that is bound to them.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(sql)?;
    look(&db)?;
    match role {
        Role::Writer => {
            switch_to_wal(&db)?;
            // `journal_size_limit`: a WAL that a burst made long shrinks again.
            db.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216")
        }
        // `cache_size`, in KiB: with SQLite's 2 MB, a look at one of a million users reads most of the upper
        // pages of the trees anew.
        Role::Reader => db.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8000"),
    }
    .map_err(sql)?;
    Ok(db)
}

/// WAL is kept in the file. Two processes that open a new one together can't wait for each other by the
/// busy handler at this step (SQLite answers busy at once), so it is tried for [`LOCK_WAIT`] here.
fn switch_to_wal(db: &Connection) -> Result<(), StoreError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        let mode = db.query_row("PRAGMA journal_mode = WAL", [], |row| {
            row.get::<_, String>(0)
        });
        match mode.map_err(|error| store_error(&error)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(StoreError::Unavailable(_)) | Ok(_) if waited < LOCK_WAIT => {}
            Err(error) => return Err(error),
            Ok(mode) => {
                return Err(StoreError::Unusable(format!(
                    "the file can't be kept in WAL mode (it is in `{mode}`): its file system lacks \
                     shared memory"
                )));
            }
        }
        thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

#[cfg(test)]
mod tests;
