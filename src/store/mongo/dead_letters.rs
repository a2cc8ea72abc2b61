//! Collection `dead_letters`: `{_id: id, position, openid, message, reason, at, expires_at, removed_by}`.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{alive, elapsed, from_now, literal, merge, millis};
use super::schema::{DEAD_LETTERS, META};
use super::{Change, Mongo};
use crate::store::{DeadLetter, DeadLetterStore, StoreError};
use crate::wechat::id::OpenId;

#[derive(Deserialize)]
struct Found {
    _id: String,
    openid: OpenId,
    message: String,
    reason: String,
    age: i64,
}

/// A place in the list.
#[derive(Deserialize)]
struct Position {
    position: i64,
}

impl From<Found> for DeadLetter {
    fn from(found: Found) -> Self {
        Self {
            id: found._id,
            open_id: found.openid,
            message: found.message,
            reason: found.reason,
            age: millis(found.age),
        }
    }
}

impl Mongo {
    /// Deletes the letters behind the `most` newest. Returns how many there were.
    async fn drop_old(&self, most: usize) -> Result<usize, StoreError> {
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        self.run("drop_dead_letters", move |database| async move {
            // By the index alone.
            let oldest = database
                .collection::<Position>(DEAD_LETTERS)
                .find_one(doc! { "position": { "$gt": 0 } })
                .sort(doc! { "position": -1 })
                .skip(most)
                .projection(doc! { "_id": 0, "position": 1 })
                .await?;
            let Some(Position { position }) = oldest else {
                return Ok(0);
            };
            let old = doc! { "position": { "$gt": 0, "$lte": position } };
            let letters = database.collection::<IgnoredAny>(DEAD_LETTERS);
            let deleted = letters.delete_many(old).await?.deleted_count;
            Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
        })
        .await
    }
}

#[async_trait]
impl DeadLetterStore for Mongo {
    async fn add_dead_letter(
        &self,
        letter: &DeadLetter,
        keep: Duration,
        most: usize,
    ) -> Result<usize, StoreError> {
        // Several come within a millisecond: their time does not order them.
        let next = doc! { "$set": { "position": {
            "$add": [{ "$ifNull": ["$position", 0_i64] }, 1],
        } } };
        let next = Change::upsert(DEAD_LETTERS, vec![next]).returning(doc! { "position": 1 });
        let next: Option<Position> = self.change("add_dead_letter", META, next).await?;
        let position = next.map_or(0, |next| next.position);
        let added = doc! {
            "position": position,
            "openid": literal(letter.open_id.as_str()),
            "message": literal(letter.message.as_str()),
            "reason": literal(letter.reason.as_str()),
            "at": "$$NOW",
            "expires_at": from_now(keep),
            "removed_by": Bson::Null,
        };
        let add = Change::upsert(letter.id.as_str(), merge([added.into()]));
        self.change::<IgnoredAny>("add_dead_letter", DEAD_LETTERS, add)
            .await?;
        self.drop_old(most).await
    }

    async fn dead_letters(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        // To the server 0 is no limit.
        if limit == 0 {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let behind = match after {
            Some(id) => {
                let filter = doc! { "_id": id, "$expr": alive() };
                let fields = doc! { "_id": 0, "position": 1 };
                let found = self.find("dead_letters", DEAD_LETTERS, filter, fields);
                // From the beginning where it is gone.
                found.await?.map_or(0, |found: Position| found.position)
            }
            None => 0,
        };
        self.run("dead_letters", move |database| async move {
            let found = database
                .collection::<Found>(DEAD_LETTERS)
                .find(doc! { "position": { "$gt": behind }, "$expr": alive() })
                .sort(doc! { "position": 1 })
                .limit(limit)
                .projection(doc! {
                    "openid": 1, "message": 1, "reason": 1, "age": elapsed("$at"),
                })
                .await?;
            found.map_ok(DeadLetter::from).try_collect().await
        })
        .await
    }

    async fn remove_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        // Over as of now, under a number that tells this removal from another's when it is sent twice. It no
        // longer has a place among the newest.
        let mark: i64 = rand::random();
        let filter = doc! {
            "_id": id,
            "$or": [{ "removed_by": mark }, { "$expr": alive() }],
        };
        let removed = doc! { "removed_by": mark, "expires_at": "$$NOW", "position": Bson::Null };
        let remove = Change::update(filter, merge([removed.into()]));
        self.change::<IgnoredAny>("remove_dead_letter", DEAD_LETTERS, remove)
            .await
            .map(|found| found.is_some())
    }

    async fn forget_dead_letters(&self, of: &OpenId, but: &str) -> Result<(), StoreError> {
        let filter = doc! { "openid": of.as_str(), "_id": { "$ne": but } };
        self.run("forget_dead_letters", move |database| {
            let filter = filter.clone();
            async move {
                let letters = database.collection::<IgnoredAny>(DEAD_LETTERS);
                letters.delete_many(filter).await.map(drop)
            }
        })
        .await
    }
}
