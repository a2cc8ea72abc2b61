//! Table `messages`: the ledger.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;

use super::{Sqlite, Survives, between, millis};
use crate::store::{Claim, Digest, InstanceId, MessageStore, StoreError};

#[async_trait]
impl MessageStore for Sqlite {
    async fn claim_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        lease: Duration,
        keep: Duration,
    ) -> Result<Claim, StoreError> {
        self.claim("claim_message", (key, owner), lease, keep, 1)
            .await
    }

    async fn reclaim_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        lease: Duration,
        keep: Duration,
    ) -> Result<Claim, StoreError> {
        self.claim("reclaim_message", (key, owner), lease, keep, 0)
            .await
    }

    async fn renew_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let (key, owner) = (*key, owner.clone());
        self.write("renew_message", Survives::Crash, move |db, now| {
            let renewed = db
                .prepare_cached(
                    "UPDATE messages SET lease_until = ?3
                     WHERE key = ?1 AND owner = ?2 AND reply IS NULL AND expires_at > ?4",
                )?
                .execute((key.0, &owner.0, now + millis(lease), now))?;
            Ok(renewed == 1)
        })
        .await
    }

    async fn finish_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        reply: &[u8],
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let (key, owner, reply) = (*key, owner.clone(), reply.to_owned());
        self.write("finish_message", Survives::Crash, move |db, now| {
            let live = db
                .prepare_cached(
                    "UPDATE messages SET reply = ?3
                     WHERE key = ?1 AND expires_at > ?4
                       AND owner = ?2 AND (reply IS NULL OR reply = ?3)",
                )?
                .execute((key.0, &owner.0, &reply, now))?;
            if live == 1 {
                return Ok(true);
            }
            let gone = db
                .prepare_cached(
                    "INSERT INTO messages
                         (key, owner, lease_until, deliveries, first_seen, reply, expires_at)
                     VALUES (?1, ?2, 0, 1, ?4, ?3, ?5)
                     ON CONFLICT (key) DO UPDATE SET
                         owner = excluded.owner, lease_until = 0, deliveries = 1,
                         first_seen = excluded.first_seen, reply = excluded.reply,
                         expires_at = excluded.expires_at
                     WHERE expires_at <= ?4",
                )?
                .execute((key.0, &owner.0, &reply, now, now + millis(keep)))?;
            Ok(gone == 1)
        })
        .await
    }

    async fn release_message(&self, key: &Digest, owner: &InstanceId) -> Result<(), StoreError> {
        let (key, owner) = (*key, owner.clone());
        self.write("release_message", Survives::Crash, move |db, _| {
            db.prepare_cached(
                "UPDATE messages SET owner = NULL, lease_until = 0
                 WHERE key = ?1 AND owner = ?2 AND reply IS NULL",
            )?
            .execute((key.0, &owner.0))
            .map(drop)
        })
        .await
    }
}

impl Sqlite {
    /// Claims a message, counting `delivered` deliveries if its entry lives.
    async fn claim(
        &self,
        operation: &'static str,
        (key, owner): (&Digest, &InstanceId),
        lease: Duration,
        keep: Duration,
        delivered: u32,
    ) -> Result<Claim, StoreError> {
        let (key, owner) = (*key, owner.clone());
        self.write(operation, Survives::Crash, move |db, now| {
            let fresh = db
                .prepare_cached(
                    "INSERT INTO messages
                         (key, owner, lease_until, deliveries, first_seen, expires_at)
                     VALUES (?1, ?2, ?3, 1, ?4, ?5)
                     ON CONFLICT (key) DO UPDATE SET
                         owner = excluded.owner, lease_until = excluded.lease_until,
                         deliveries = 1, first_seen = excluded.first_seen, reply = NULL,
                         expires_at = excluded.expires_at
                     WHERE expires_at <= ?4",
                )?
                .execute((
                    key.0,
                    &owner.0,
                    now + millis(lease),
                    now,
                    now + millis(keep),
                ))?;
            if fresh == 1 {
                return Ok(Claim::New);
            }
            claim_again(db, (&key, &owner), lease, now, delivered)
        })
        .await
    }
}

/// A delivery of a message whose entry lives.
fn claim_again(
    db: &Connection,
    (key, owner): (&Digest, &InstanceId),
    lease: Duration,
    now: i64,
    delivered: u32,
) -> rusqlite::Result<Claim> {
    let (reply, lease_until, deliveries, first_seen) = db
        .prepare_cached(
            "SELECT reply, lease_until, deliveries, first_seen FROM messages WHERE key = ?1",
        )?
        .query_row([key.0], |row| {
            let reply: Option<Vec<u8>> = row.get(0)?;
            let lease_until: i64 = row.get(1)?;
            let deliveries: u32 = row.get(2)?;
            Ok((reply, lease_until, deliveries, between(row.get(3)?, now)))
        })?;
    if let Some(reply) = reply {
        return Ok(Claim::Done(reply));
    }
    let deliveries = deliveries.saturating_add(delivered);
    if lease_until > now {
        db.prepare_cached("UPDATE messages SET deliveries = ?2 WHERE key = ?1")?
            .execute((key.0, deliveries))?;
        return Ok(Claim::Running {
            deliveries,
            first_seen,
        });
    }
    db.prepare_cached(
        "UPDATE messages SET deliveries = ?2, owner = ?3, lease_until = ?4 WHERE key = ?1",
    )?
    .execute((key.0, deliveries, &owner.0, now + millis(lease)))?;
    Ok(Claim::TakenOver {
        deliveries,
        first_seen,
    })
}
