//! Collection `keys`: `{_id: name, digest, scopes, at, until, used_at, removed_by, expires_at}`.
//!
//! A key that was removed stays for a minute without its digest: `expires_at` is when it may be collected.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{digest as bytes, elapsed, from_now, is_null, literal, merge, millis};
use super::expression::{remaining, when};
use super::schema::KEYS;
use super::{Change, Mongo};
use crate::keys::{KeyName, Scope, parse_scopes, scopes_text};
use crate::store::{Digest, KeyStore, StoreError, StoredKey};

#[derive(Deserialize)]
struct Found {
    _id: String,
    scopes: String,
    age: i64,
    left: Option<i64>,
    idle: Option<i64>,
}

fn fields() -> Document {
    let unless_null =
        |field: &str, value: Bson| doc! { "$cond": [is_null(field), Bson::Null, value] };
    doc! {
        "scopes": 1,
        "age": elapsed("$at"),
        "left": unless_null("$until", remaining("$until")),
        "idle": unless_null("$used_at", elapsed("$used_at")),
    }
}

impl Found {
    /// `None` where another program wrote the name.
    fn stored(self) -> Option<StoredKey> {
        Some(StoredKey {
            name: self._id.parse().ok()?,
            scopes: parse_scopes(&self.scopes),
            age: millis(self.age),
            expires_in: self.left.map(millis),
            idle: self.idle.map(millis),
        })
    }
}

#[async_trait]
impl KeyStore for Mongo {
    async fn add_key(
        &self,
        name: &KeyName,
        digest: &Digest,
        scopes: &[Scope],
        lifetime: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let added = doc! {
            "digest": bytes(digest),
            "scopes": literal(scopes_text(scopes)),
            "at": "$$NOW",
            "until": lifetime.map_or(Bson::Null, from_now),
            "used_at": Bson::Null,
            "removed_by": Bson::Null,
            "expires_at": Bson::Null,
        };
        let add = Change::upsert(name.as_str(), merge([when(is_null("$digest"), added)]))
            .returning(doc! { "_id": 0, "mine": { "$eq": ["$digest", bytes(digest)] } });
        #[derive(Deserialize)]
        struct Added {
            mine: bool,
        }
        let found: Option<Added> = self.change("add_key", KEYS, add).await?;
        Ok(found.is_some_and(|found| found.mine))
    }

    async fn key(&self, digest: &Digest) -> Result<Option<StoredKey>, StoreError> {
        let lives = doc! { "$or": [is_null("$until"), { "$gt": ["$until", "$$NOW"] }] };
        let filter = doc! { "digest": bytes(digest), "$expr": lives };
        let found: Option<Found> = self.find("key", KEYS, filter, fields()).await?;
        Ok(found.and_then(Found::stored))
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let found: Vec<Found> = self
            .run("keys", |database| async move {
                let found = database
                    .collection::<Found>(KEYS)
                    .find(doc! { "digest": { "$ne": Bson::Null } })
                    .sort(doc! { "_id": 1 })
                    .projection(fields())
                    .await?;
                found.try_collect().await
            })
            .await?;
        Ok(found.into_iter().filter_map(Found::stored).collect())
    }

    async fn touch_key(&self, digest: &Digest, name: &KeyName) -> Result<(), StoreError> {
        let touch = Change::update(
            doc! { "_id": name.as_str(), "digest": bytes(digest) },
            merge([doc! { "used_at": "$$NOW" }.into()]),
        );
        self.change::<IgnoredAny>("touch_key", KEYS, touch)
            .await
            .map(drop)
    }

    async fn remove_key(&self, name: &KeyName) -> Result<bool, StoreError> {
        // Under a number that tells this removal from another's when it is sent twice.
        let mark: i64 = rand::random();
        let filter = doc! {
            "_id": name.as_str(),
            "$or": [{ "removed_by": mark }, { "digest": { "$ne": Bson::Null } }],
        };
        let removed = doc! {
            "removed_by": mark,
            "digest": Bson::Null,
            "expires_at": "$$NOW",
        };
        let remove = Change::update(filter, merge([removed.into()]));
        self.change::<IgnoredAny>("remove_key", KEYS, remove)
            .await
            .map(|found| found.is_some())
    }
}
