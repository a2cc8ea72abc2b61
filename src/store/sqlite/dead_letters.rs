//! Table `dead_letters`: what was forwarded in vain, in the order in which it came.

use std::time::Duration;

use async_trait::async_trait;

use super::{Sqlite, Survives, between, damaged, millis};
use crate::store::{DeadLetter, DeadLetterStore, StoreError};
use crate::wechat::id::OpenId;

#[async_trait]
impl DeadLetterStore for Sqlite {
    async fn add_dead_letter(
        &self,
        letter: &DeadLetter,
        keep: Duration,
        most: usize,
    ) -> Result<usize, StoreError> {
        let letter = letter.clone();
        self.write("add_dead_letter", Survives::PowerLoss, move |db, now| {
            // Replaced as a row, so that it goes to the end.
            db.prepare_cached(
                "REPLACE INTO dead_letters (id, openid, message, reason, added_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                &letter.id,
                letter.open_id.as_str(),
                &letter.message,
                &letter.reason,
                now,
                now + millis(keep),
            ))?;
            let count: usize = db
                .prepare_cached("SELECT count(*) FROM dead_letters")?
                .query_row([], |row| row.get(0))?;
            if count <= most {
                return Ok(0);
            }
            db.prepare_cached(
                "DELETE FROM dead_letters WHERE position IN
                     (SELECT position FROM dead_letters ORDER BY position LIMIT ?1)",
            )?
            .execute([(count - most) as i64])
        })
        .await
    }

    async fn dead_letters(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let after = after.map(str::to_owned);
        self.read("dead_letters", move |db, now| {
            db.prepare_cached(
                "SELECT id, openid, message, reason, added_at FROM dead_letters
                 WHERE position > ifnull(
                         (SELECT position FROM dead_letters WHERE id = ?1 AND expires_at > ?2), 0)
                     AND expires_at > ?2
                 ORDER BY position LIMIT ?3",
            )?
            .query_map((&after, now, limit as i64), |row| {
                let open_id: String = row.get(1)?;
                Ok(DeadLetter {
                    id: row.get(0)?,
                    open_id: OpenId::parse(&open_id).map_err(|error| damaged(1, error))?,
                    message: row.get(2)?,
                    reason: row.get(3)?,
                    age: between(row.get(4)?, now),
                })
            })?
            .collect()
        })
        .await
    }

    async fn remove_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write("remove_dead_letter", Survives::PowerLoss, move |db, now| {
            let removed = db
                .prepare_cached("DELETE FROM dead_letters WHERE id = ?1 AND expires_at > ?2")?
                .execute((&id, now))?;
            Ok(removed == 1)
        })
        .await
    }

    async fn forget_dead_letters(&self, of: &OpenId, but: &str) -> Result<(), StoreError> {
        let (of, but) = (of.clone(), but.to_owned());
        self.write("forget_dead_letters", Survives::PowerLoss, move |db, _| {
            db.prepare_cached("DELETE FROM dead_letters WHERE openid = ?1 AND id <> ?2")?
                .execute((of.as_str(), but))
                .map(drop)
        })
        .await
    }
}
