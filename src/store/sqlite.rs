//! The embedded store: one SQLite file, no set-up. Several processes of one machine may share it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use prometheus::Histogram;
use rusqlite::{Connection, types::Type};

use super::watch::watch;
use super::{MOST_AUDIT_ENTRIES, Store, StoreError};
use crate::telemetry::metrics::StoreMetrics;
use crate::wechat::id::OpenId;

mod audit;
mod conversations;
mod credentials;
mod dead_letters;
mod error;
mod file;
mod keys;
mod schema;
mod sign_ins;
mod uploads;
mod users;
mod worker;

use conversations::journal::{Journal, Limits, person};
use worker::{Survives, Worker};

/// Rows that one step of collecting garbage deletes: what waits for an answer comes in between.
const GARBAGE_STEP: usize = 500;

/// A SQLite file that is open.
pub(super) struct Sqlite {
    worker: Arc<Worker>,
    journal: Arc<Journal>,
    metrics: StoreMetrics,
    /// Of the fast way.
    deliver_seconds: Histogram,
    finish_seconds: Histogram,
}

impl Sqlite {
    /// Opens the file, made if it is missing, and brings it to the newest schema.
    pub(super) async fn open(path: PathBuf, metrics: StoreMetrics) -> Result<Self, StoreError> {
        Self::open_within(path, metrics, Limits::default()).await
    }

    async fn open_within(
        path: PathBuf,
        metrics: StoreMetrics,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let starting = tokio::task::spawn_blocking(move || Worker::start(&path, limits));
        let (worker, journal) = starting
            .await
            .map_err(|_| StoreError::Unusable("opening the file panicked".into()))??;
        Ok(Self {
            worker: worker.into(),
            journal,
            deliver_seconds: metrics.good_ends("deliver"),
            finish_seconds: metrics.good_ends("finish"),
            metrics,
        })
    }

    /// One write, counted under `operation`. `work` gets the store's time.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        survives: Survives,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        watch(&self.metrics, operation, self.worker.write(survives, work)).await
    }

    /// One write to the conversation of one user, after all that the journal has in memory of it.
    async fn converse<T: Send + 'static>(
        &self,
        operation: &'static str,
        survives: Survives,
        of: &OpenId,
        work: impl FnOnce(&Tables<'_>, &OpenId) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (journal, of) = (Arc::clone(&self.journal), of.clone());
        let working = self.worker.converse(survives, person(&of), move |db, now| {
            let tables = Tables {
                db,
                journal: &journal,
                now,
            };
            work(&tables, &of)
        });
        watch(&self.metrics, operation, working).await
    }

    /// Runs `delete` until it finds less than [`GARBAGE_STEP`] rows.
    async fn delete_expired(
        &self,
        delete: impl Fn(&Connection, i64) -> rusqlite::Result<usize> + Copy + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut deleted = GARBAGE_STEP;
        while deleted == GARBAGE_STEP {
            deleted = self
                .write("collect_garbage", Survives::Crash, delete)
                .await?;
        }
        Ok(())
    }

    /// One read, counted under `operation`. `work` gets the store's time.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        watch(&self.metrics, operation, self.worker.read(work)).await
    }
}

#[async_trait]
impl Store for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.write("ping", Survives::PowerLoss, |db, now| {
            db.prepare_cached(
                "INSERT INTO meta (name, value) VALUES ('pinged_at', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )?
            .execute([now])
            .map(drop)
        })
        .await
    }

    async fn collect_garbage(&self) -> Result<(), StoreError> {
        for delete in [
            "DELETE FROM sign_ins WHERE state IN
                 (SELECT state FROM sign_ins WHERE expires_at <= ?1 LIMIT ?2)",
            "DELETE FROM sessions WHERE id IN
                 (SELECT id FROM sessions WHERE expires_at <= ?1 LIMIT ?2)",
            "DELETE FROM kept_answers WHERE id IN
                 (SELECT id FROM kept_answers WHERE expires_at <= ?1 LIMIT ?2)",
            "DELETE FROM dead_letters WHERE position IN
                 (SELECT position FROM dead_letters WHERE expires_at <= ?1 LIMIT ?2)",
            "DELETE FROM uploads WHERE file IN
                 (SELECT file FROM uploads WHERE expires_at <= ?1 LIMIT ?2)",
            "DELETE FROM audit WHERE id IN
                 (SELECT id FROM audit WHERE expires_at <= ?1 LIMIT ?2)",
        ] {
            self.delete_expired(move |db, now| {
                db.prepare_cached(delete)?
                    .execute((now, GARBAGE_STEP as i64))
            })
            .await?;
        }
        self.collect_audit(MOST_AUDIT_ENTRIES).await?;
        self.collect_conversations().await
    }

    async fn close(&self) {
        let worker = self.worker.clone();
        // It fails only where a thread panicked, and then there is nothing left to close.
        let _ = tokio::task::spawn_blocking(move || worker.stop()).await;
    }
}

/// What an operation on a conversation works with, within a transaction.
struct Tables<'a> {
    db: &'a Connection,
    journal: &'a Journal,
    now: i64,
}

/// The store's clock: milliseconds since 1970, as the machine says that all processes on the file share.
fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, millis)
}

/// A duration as the tables hold it: milliseconds, and never so many that adding the time overflows.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).map_or(i64::MAX / 2, |millis| millis.min(i64::MAX / 2))
}

/// The time from `earlier` to `later`, zero where the clock went back.
fn between(earlier: i64, later: i64) -> Duration {
    Duration::from_millis(u64::try_from(later.saturating_sub(earlier)).unwrap_or(0))
}

/// A record that another program, or a fault, wrote.
fn damaged(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
