//! Table `keys`: named keys by the digest of their text.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row};

use super::{Sqlite, Survives, between, damaged, millis};
use crate::keys::{KeyName, Scope, parse_scopes, scopes_text};
use crate::store::{Digest, KeyStore, StoreError, StoredKey};

#[async_trait]
impl KeyStore for Sqlite {
    async fn add_key(
        &self,
        name: &KeyName,
        digest: &Digest,
        scopes: &[Scope],
        lifetime: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let (name, digest, scopes) = (name.clone(), *digest, scopes_text(scopes));
        self.write("add_key", Survives::PowerLoss, move |db, now| {
            db.prepare_cached(
                "INSERT INTO keys (name, digest, scopes, added_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute((
                name.as_str(),
                digest.0,
                &scopes,
                now,
                lifetime.map(|lifetime| now + millis(lifetime)),
            ))?;
            // Its own, also where it was added by a try before.
            db.prepare_cached("SELECT 1 FROM keys WHERE name = ?1 AND digest = ?2")?
                .exists((name.as_str(), digest.0))
        })
        .await
    }

    async fn key(&self, digest: &Digest) -> Result<Option<StoredKey>, StoreError> {
        let digest = *digest;
        self.read("key", move |db, now| {
            db.prepare_cached(
                "SELECT name, scopes, added_at, expires_at, used_at FROM keys
                 WHERE digest = ?1 AND ifnull(expires_at > ?2, 1)",
            )?
            .query_row((digest.0, now), |row| stored(row, now))
            .optional()
        })
        .await
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.read("keys", |db, now| {
            db.prepare_cached(
                "SELECT name, scopes, added_at, expires_at, used_at FROM keys ORDER BY name",
            )?
            .query_map([], |row| stored(row, now))?
            .collect()
        })
        .await
    }

    async fn touch_key(&self, digest: &Digest, name: &KeyName) -> Result<(), StoreError> {
        let (digest, name) = (*digest, name.clone());
        self.write("touch_key", Survives::Crash, move |db, now| {
            db.prepare_cached("UPDATE keys SET used_at = ?3 WHERE name = ?1 AND digest = ?2")?
                .execute((name.as_str(), digest.0, now))
                .map(drop)
        })
        .await
    }

    async fn remove_key(&self, name: &KeyName) -> Result<bool, StoreError> {
        let name = name.clone();
        self.write("remove_key", Survives::PowerLoss, move |db, _| {
            let removed = db
                .prepare_cached("DELETE FROM keys WHERE name = ?1")?
                .execute([name.as_str()])?;
            Ok(removed == 1)
        })
        .await
    }
}

fn stored(row: &Row<'_>, now: i64) -> rusqlite::Result<StoredKey> {
    let name: String = row.get(0)?;
    let scopes: String = row.get(1)?;
    let expires_at: Option<i64> = row.get(3)?;
    let used_at: Option<i64> = row.get(4)?;
    Ok(StoredKey {
        name: name.parse().map_err(|error| damaged(0, error))?,
        scopes: parse_scopes(&scopes),
        age: between(row.get(2)?, now),
        expires_in: expires_at.map(|at| between(now, at)),
        idle: used_at.map(|at| between(at, now)),
    })
}
