//! Collection `audit`: `{_id: batch, at, entries: [{key, action, status, errcode, request, times, at}],
//! expires_at}`. What an instance writes at once is one document.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{
    ago, alive, binary, elapsed, from_now, is_null, literal, merge, millis, when,
};
use super::schema::AUDIT;
use super::{Change, Mongo};
use crate::store::{AuditBatch, AuditEntry, AuditQuery, AuditStore, StoreError};

#[derive(Deserialize)]
struct Found {
    key: String,
    action: String,
    status: Option<i64>,
    errcode: Option<i64>,
    request: Option<String>,
    times: i64,
    age: i64,
}

impl From<Found> for AuditEntry {
    fn from(found: Found) -> Self {
        Self {
            key: found.key,
            action: found.action.into(),
            status: found.status.and_then(|status| u16::try_from(status).ok()),
            errcode: found.errcode,
            request: found.request,
            times: u32::try_from(found.times).unwrap_or(u32::MAX),
            age: millis(found.age),
        }
    }
}

fn document(entry: &AuditEntry) -> Document {
    doc! {
        "key": literal(entry.key.as_str()),
        "action": literal(&*entry.action),
        "status": entry.status.map_or(Bson::Null, |status| i64::from(status).into()),
        "errcode": entry.errcode.map_or(Bson::Null, Bson::from),
        "request": entry.request.as_deref().map_or(Bson::Null, literal),
        "times": i64::from(entry.times),
        "at": ago(entry.age),
    }
}

#[async_trait]
impl AuditStore for Mongo {
    async fn add_audit(
        &self,
        batch: AuditBatch,
        entries: &[AuditEntry],
        keep: Duration,
    ) -> Result<(), StoreError> {
        let entries: Vec<_> = entries.iter().map(document).collect();
        let added = doc! { "at": "$$NOW", "entries": entries, "expires_at": from_now(keep) };
        let add = Change::upsert(binary(batch), merge([when(is_null("$entries"), added)]));
        self.change::<IgnoredAny>("add_audit", AUDIT, add)
            .await
            .map(drop)
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        // To the server 0 is no limit.
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let mut fits = doc! { "$expr": { "$gte": ["$entries.at", ago(query.since)] } };
        if let Some(key) = &query.key {
            fits.insert("entries.key", doc! { "$eq": key });
        }
        // By the index, newest first, and no further than the limit. An entry is never newer than the
        // document that it is in.
        let pipeline = vec![
            doc! { "$match": { "$expr": { "$and": [
                alive(), { "$gte": ["$at", ago(query.since)] },
            ] } } },
            doc! { "$sort": { "at": -1 } },
            doc! { "$set": { "entries": { "$reverseArray": "$entries" } } },
            doc! { "$unwind": "$entries" },
            doc! { "$match": fits },
            doc! { "$limit": i64::try_from(query.limit).unwrap_or(i64::MAX) },
            doc! { "$replaceWith": { "$mergeObjects": [
                "$entries", { "age": elapsed("$entries.at") },
            ] } },
        ];
        let mut found: Vec<AuditEntry> = self
            .run("audit", move |database| {
                let pipeline = pipeline.clone();
                async move {
                    let found = database
                        .collection::<Document>(AUDIT)
                        .aggregate(pipeline)
                        .with_type::<Found>()
                        .await?;
                    found.map_ok(AuditEntry::from).try_collect().await
                }
            })
            .await?;
        // Instances write at their own pace.
        found.sort_by_key(|entry| entry.age);
        Ok(found)
    }
}
