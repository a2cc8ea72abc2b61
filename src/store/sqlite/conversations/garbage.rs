//! What has expired of conversations.

use std::time::Duration;

use rusqlite::Connection;

use super::super::{GARBAGE_STEP, Sqlite, Survives, millis};
use super::journal;
use crate::store::{REMEMBER_MESSAGES, StoreError};

/// The longest window for customer-service messages (WeChat: 客服消息).
const LONGEST_WINDOW: Duration = Duration::from_secs(48 * 3600);

/// Rows of the journal that one step deletes: each may hold a thousand entries.
const JOURNAL_STEP: usize = 32;

/// Nothing of it lives. `?1` is the time, `?2` that of the oldest windows that do.
const IS_DEAD: &str = "lease_until <= ?1 AND session_until <= ?1
     AND max(message_at, click_at, follow_at, scan_at) <= ?2
     AND NOT EXISTS (SELECT 1 FROM ledger WHERE conversation = conversations.id)
     AND NOT EXISTS (SELECT 1 FROM kept_answers WHERE conversation = conversations.id)";

impl Sqlite {
    /// Deletes entries of the ledger, sessions, and then the conversations of which nothing is left.
    pub(in super::super) async fn collect_conversations(&self) -> Result<(), StoreError> {
        // In the order in which they were added, which is that in which they expire: no index is needed.
        // What waits stays until it is handled.
        self.delete_expired(|db, now| {
            db.prepare_cached(
                "DELETE FROM ledger WHERE id IN
                     (SELECT id FROM (SELECT id, first_seen FROM ledger
                                      WHERE message IS NULL ORDER BY id LIMIT ?2)
                      WHERE first_seen <= ?1)",
            )?
            .execute((now - millis(REMEMBER_MESSAGES), GARBAGE_STEP as i64))
        })
        .await?;
        self.delete_expired(|db, now| {
            db.prepare_cached(
                "UPDATE conversations SET session = NULL WHERE id IN
                     (SELECT id FROM conversations
                      WHERE session IS NOT NULL AND session_until <= ?1 LIMIT ?2)",
            )?
            .execute((now, GARBAGE_STEP as i64))
        })
        .await?;
        let mut behind = 0;
        loop {
            // Looked for where no writer waits.
            let (dead, last) = self
                .read("collect_garbage", move |db, now| find_dead(db, behind, now))
                .await?;
            if !dead.is_empty() {
                let deleted = self
                    .write("collect_garbage", Survives::Crash, move |db, now| {
                        delete_dead(db, &dead, now)
                    })
                    .await?;
                self.journal.note_freed(deleted);
            }
            match last {
                Some(last) => behind = last,
                None => break,
            }
        }
        self.collect_journal().await
    }

    /// Deletes rows of the journal, and segments that tell of no window any more.
    async fn collect_journal(&self) -> Result<(), StoreError> {
        let mut goes_on = true;
        while goes_on {
            let step = self.write("collect_garbage", Survives::Crash, |db, now| {
                journal::collect(db, now, JOURNAL_STEP)
            });
            goes_on = step.await?;
        }
        Ok(())
    }
}

/// The conversations among the next ones that seem dead, and the last that was looked at.
fn find_dead(db: &Connection, behind: i64, now: i64) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
    let last = db
        .prepare_cached(
            "SELECT max(id) FROM (SELECT id FROM conversations WHERE id > ?1 ORDER BY id LIMIT ?2)",
        )?
        .query_row((behind, GARBAGE_STEP as i64), |row| {
            row.get::<_, Option<i64>>(0)
        })?;
    let Some(last_id) = last else {
        return Ok((Vec::new(), None));
    };
    let dead = db
        .prepare_cached(&format!(
            "SELECT id FROM conversations WHERE id > ?3 AND id <= ?4 AND {IS_DEAD}"
        ))?
        .query_map(
            (now, now - millis(LONGEST_WINDOW), behind, last_id),
            |row| row.get(0),
        )?
        .collect::<Result<_, _>>()?;
    Ok((dead, last))
}

/// Deletes those that are dead indeed.
fn delete_dead(db: &Connection, dead: &[i64], now: i64) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    let mut delete = db.prepare_cached(&format!(
        "DELETE FROM conversations WHERE id = ?3 AND {IS_DEAD}"
    ))?;
    for id in dead {
        deleted += delete.execute((now, now - millis(LONGEST_WINDOW), id))?;
    }
    Ok(deleted)
}
