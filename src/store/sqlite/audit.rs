//! Table `audit`: what was done by whom.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Row;

use super::{GARBAGE_STEP, Sqlite, Survives, between, millis};
use crate::store::{AuditBatch, AuditEntry, AuditQuery, AuditStore, StoreError};

#[async_trait]
impl AuditStore for Sqlite {
    async fn add_audit(
        &self,
        batch: AuditBatch,
        entries: &[AuditEntry],
        keep: Duration,
    ) -> Result<(), StoreError> {
        let entries = entries.to_vec();
        self.write("add_audit", Survives::Crash, move |db, now| {
            let mut insert = db.prepare_cached(
                "INSERT INTO audit
                     (batch, number, at, key, action, status, errcode, request, times, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
            )?;
            for (number, entry) in entries.iter().enumerate() {
                insert.execute((
                    batch,
                    number,
                    now.saturating_sub(millis(entry.age)),
                    &entry.key,
                    &*entry.action,
                    entry.status,
                    entry.errcode,
                    &entry.request,
                    entry.times,
                    now + millis(keep),
                ))?;
            }
            Ok(())
        })
        .await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        let query = query.clone();
        self.read("audit", move |db, now| {
            db.prepare_cached(
                "SELECT at, key, action, status, errcode, request, times FROM audit
                 WHERE at >= ?1 AND (?2 IS NULL OR key = ?2) AND expires_at > ?3
                 ORDER BY at DESC, id DESC LIMIT ?4",
            )?
            .query_map(
                (
                    now.saturating_sub(millis(query.since)),
                    &query.key,
                    now,
                    query.limit as i64,
                ),
                |row| entry(row, now),
            )?
            .collect()
        })
        .await
    }
}

impl Sqlite {
    /// Deletes all but the `most` newest entries.
    pub(super) async fn collect_audit(&self, most: u32) -> Result<(), StoreError> {
        self.delete_expired(move |db, _| {
            db.prepare_cached(
                "DELETE FROM audit WHERE id IN
                     (SELECT id FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1 LIMIT ?2)",
            )?
            .execute((most, GARBAGE_STEP as i64))
        })
        .await
    }
}

fn entry(row: &Row<'_>, now: i64) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        key: row.get(1)?,
        action: row.get::<_, String>(2)?.into(),
        status: row.get(3)?,
        errcode: row.get(4)?,
        request: row.get(5)?,
        times: row.get(6)?,
        age: between(row.get(0)?, now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store as _;
    use crate::telemetry::metrics::StoreMetrics;

    #[tokio::test]
    async fn the_oldest_entries_go_where_there_are_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = StoreMetrics::register(&prometheus::Registry::new()).unwrap();
        let store = Sqlite::open(folder.path().join("audit.db"), metrics)
            .await
            .unwrap();
        let entries: Vec<_> = (0..7)
            .map(|n| AuditEntry {
                key: format!("key-{n}"),
                action: "GET /getTokens".into(),
                status: Some(200),
                errcode: None,
                request: None,
                times: 1,
                age: Duration::ZERO,
            })
            .collect();
        let keep = Duration::from_secs(3600);
        store.add_audit([1; 16], &entries, keep).await.unwrap();
        store.collect_audit(3).await.unwrap();
        store.collect_garbage().await.unwrap();
        let query = AuditQuery {
            key: None,
            since: keep,
            limit: 10,
        };
        let left = store.audit(&query).await.unwrap();
        let names: Vec<_> = left.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(names, ["key-6", "key-5", "key-4"]);
    }
}
