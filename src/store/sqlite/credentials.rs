//! Table `credentials`: the value, its generation and the lease on fetching the next.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _};

use super::{Sqlite, Survives, between, millis};
use crate::store::{
    CredentialKey, CredentialStore, InstanceId, Lease, Sealed, StoreError, StoredCredential,
};

#[async_trait]
impl CredentialStore for Sqlite {
    async fn credential(&self, key: &CredentialKey) -> Result<StoredCredential, StoreError> {
        let key = key.to_owned();
        self.read("credential", move |db, now| find(db, &key, now))
            .await
    }

    async fn lease_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
        lease: Duration,
    ) -> Result<Lease, StoreError> {
        let (key, owner) = (key.to_owned(), owner.clone());
        self.write("lease_credential", Survives::PowerLoss, move |db, now| {
            let taken = db
                .prepare_cached(
                    "INSERT INTO credentials
                         (key, generation, published_at, expires_at, lease_owner, lease_until)
                     VALUES (?1, 0, 0, 0, ?2, ?3)
                     ON CONFLICT (key) DO UPDATE
                     SET lease_owner = excluded.lease_owner, lease_until = excluded.lease_until
                     WHERE lease_owner IS NULL OR lease_owner = ?2 OR lease_until <= ?4",
                )?
                .execute((&key, &owner.0, now + millis(lease), now))?;
            let found = find(db, &key, now)?;
            Ok(match taken {
                0 => Lease::Busy(found),
                _ => Lease::Held(found),
            })
        })
        .await
    }

    async fn publish_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
        generation: u64,
        value: &Sealed,
        lifetime: Duration,
    ) -> Result<bool, StoreError> {
        let (key, owner, value) = (key.to_owned(), owner.clone(), value.clone());
        self.write("publish_credential", Survives::PowerLoss, move |db, now| {
            if generation == 0 {
                // Nothing was ever leased under this key: there is no row to compare with yet.
                db.prepare_cached(
                    "INSERT INTO credentials (key, generation, published_at, expires_at, lease_until)
                     VALUES (?1, 0, 0, 0, 0) ON CONFLICT (key) DO NOTHING",
                )?
                .execute([&key])?;
            }
            let published = db
                .prepare_cached(
                    "UPDATE credentials SET generation = generation + 1, value = ?3,
                         published_at = ?4, expires_at = ?5
                     WHERE key = ?1 AND generation = ?2",
                )?
                .execute((&key, generation, &value.0, now, now + millis(lifetime)))?;
            end_lease(db, &key, &owner)?;
            Ok(published == 1)
        })
        .await
    }

    async fn release_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
    ) -> Result<(), StoreError> {
        let (key, owner) = (key.to_owned(), owner.clone());
        self.write("release_credential", Survives::PowerLoss, move |db, _| {
            end_lease(db, &key, &owner)
        })
        .await
    }

    async fn expire_credential(
        &self,
        key: &CredentialKey,
        generation: u64,
    ) -> Result<bool, StoreError> {
        let key = key.to_owned();
        self.write("expire_credential", Survives::PowerLoss, move |db, _| {
            let expired = db
                .prepare_cached(
                    "UPDATE credentials SET value = NULL
                     WHERE key = ?1 AND generation = ?2 AND value IS NOT NULL",
                )?
                .execute((&key, generation))?;
            Ok(expired == 1)
        })
        .await
    }
}

fn find(db: &Connection, key: &str, now: i64) -> rusqlite::Result<StoredCredential> {
    let found = db
        .prepare_cached(
            "SELECT generation, value, published_at, expires_at FROM credentials WHERE key = ?1",
        )?
        .query_row([key], |row| {
            let generation = row.get(0)?;
            Ok(StoredCredential {
                generation,
                value: row.get::<_, Option<Vec<u8>>>(1)?.map(Sealed),
                age: match generation {
                    0 => Duration::ZERO,
                    _ => between(row.get(2)?, now),
                },
                expires_in: between(now, row.get(3)?),
            })
        })
        .optional()?;
    Ok(found.unwrap_or(StoredCredential {
        generation: 0,
        value: None,
        expires_in: Duration::ZERO,
        age: Duration::ZERO,
    }))
}

fn end_lease(db: &Connection, key: &str, owner: &InstanceId) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE credentials SET lease_owner = NULL, lease_until = 0
         WHERE key = ?1 AND lease_owner = ?2",
    )?
    .execute((key, &owner.0))
    .map(drop)
}
