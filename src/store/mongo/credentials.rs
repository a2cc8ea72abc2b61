//! Collection `credentials`:
//! `{_id: key, generation, value, published_at, expires_at, lease: {owner, until}}`.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Binary, Bson, Document, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{
    binary, elapsed, from_now, is_over, literal, merge, millis, remaining, when,
};
use super::schema::CREDENTIALS;
use super::{Change, Mongo};
use crate::store::{
    CredentialKey, CredentialStore, InstanceId, Lease, Sealed, StoreError, StoredCredential,
};

/// What [`fields`] shows of a document.
#[derive(Deserialize)]
struct Found {
    generation: Option<i64>,
    value: Option<Binary>,
    expires_in: i64,
    age: i64,
    lease: Option<FoundLease>,
}

#[derive(Deserialize)]
struct FoundLease {
    owner: String,
}

fn fields() -> Document {
    doc! {
        "_id": 0,
        "generation": 1,
        "value": 1,
        "expires_in": remaining("$expires_at"),
        "age": elapsed("$published_at"),
        "lease.owner": 1,
    }
}

impl From<Found> for StoredCredential {
    fn from(found: Found) -> Self {
        Self {
            generation: generation(&found),
            value: found.value.map(|value| Sealed(value.bytes)),
            expires_in: millis(found.expires_in),
            age: millis(found.age),
        }
    }
}

fn generation(found: &Found) -> u64 {
    u64::try_from(found.generation.unwrap_or(0)).unwrap_or(0)
}

fn number(generation: u64) -> i64 {
    i64::try_from(generation).unwrap_or(i64::MAX)
}

#[async_trait]
impl CredentialStore for Mongo {
    async fn credential(&self, key: &CredentialKey) -> Result<StoredCredential, StoreError> {
        let found: Option<Found> = self
            .find("credential", CREDENTIALS, doc! { "_id": key }, fields())
            .await?;
        Ok(found.map_or_else(nothing, StoredCredential::from))
    }

    async fn lease_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
        lease: Duration,
    ) -> Result<Lease, StoreError> {
        let mine = literal(owner.0.as_str());
        let may_take = doc! {
            "$or": [is_over("$lease.until"), { "$eq": ["$lease.owner", mine.clone()] }],
        };
        let taken = doc! { "lease": { "owner": mine, "until": from_now(lease) } };
        let take = Change::upsert(key, merge([when(may_take, taken)])).returning(fields());
        let found: Option<Found> = self.change("lease_credential", CREDENTIALS, take).await?;
        Ok(match found {
            Some(found) if found.lease.as_ref().is_some_and(|l| l.owner == owner.0) => {
                Lease::Held(found.into())
            }
            found => Lease::Busy(found.map_or_else(nothing, StoredCredential::from)),
        })
    }

    async fn publish_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
        generation: u64,
        value: &Sealed,
        lifetime: Duration,
    ) -> Result<bool, StoreError> {
        let stored = doc! { "$ifNull": ["$generation", 0_i64] };
        let fits = doc! { "$eq": [stored, number(generation)] };
        let published = doc! {
            "generation": number(generation).saturating_add(1),
            "value": literal(binary(value.0.as_slice())),
            "published_at": "$$NOW",
            "expires_at": from_now(lifetime),
        };
        let mine = doc! { "$eq": ["$lease.owner", literal(owner.0.as_str())] };
        let publish = Change::upsert(
            key,
            merge([
                when(fits, published),
                when(mine, doc! { "lease": Bson::Null }),
            ]),
        )
        .returning(fields());
        let found: Option<Found> = self
            .change("publish_credential", CREDENTIALS, publish)
            .await?;
        // Sealing is random, so the value tells this publishing from another's of the same number.
        Ok(found.is_some_and(|found| {
            self::generation(&found) == generation.saturating_add(1)
                && found.value.is_some_and(|stored| stored.bytes == value.0)
        }))
    }

    async fn release_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
    ) -> Result<(), StoreError> {
        let release = Change::update(
            doc! { "_id": key, "lease.owner": owner.0.as_str() },
            doc! { "$set": { "lease": Bson::Null } },
        );
        self.change::<IgnoredAny>("release_credential", CREDENTIALS, release)
            .await
            .map(drop)
    }

    async fn expire_credential(
        &self,
        key: &CredentialKey,
        generation: u64,
    ) -> Result<bool, StoreError> {
        let expire = Change::update(
            doc! { "_id": key, "generation": number(generation), "value": { "$ne": Bson::Null } },
            doc! { "$set": { "value": Bson::Null } },
        );
        self.change::<IgnoredAny>("expire_credential", CREDENTIALS, expire)
            .await
            .map(|found| found.is_some())
    }
}

fn nothing() -> StoredCredential {
    StoredCredential {
        generation: 0,
        value: None,
        expires_in: Duration::ZERO,
        age: Duration::ZERO,
    }
}
