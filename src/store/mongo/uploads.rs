//! Collection `uploads`: `{_id: digest, media_id, expires_at}`.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::doc;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{alive, digest, from_now, literal, merge, millis, remaining};
use super::schema::UPLOADS;
use super::{Change, Mongo};
use crate::store::{Digest, StoreError, UploadStore};

#[derive(Deserialize)]
struct Found {
    media_id: String,
    left: i64,
}

#[async_trait]
impl UploadStore for Mongo {
    async fn upload(&self, file: &Digest) -> Result<Option<(String, Duration)>, StoreError> {
        let filter = doc! { "_id": digest(file), "$expr": alive() };
        let fields = doc! { "_id": 0, "media_id": 1, "left": remaining("$expires_at") };
        let found: Option<Found> = self.find("upload", UPLOADS, filter, fields).await?;
        Ok(found.map(|found| (found.media_id, millis(found.left))))
    }

    async fn save_upload(
        &self,
        file: &Digest,
        media_id: &str,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let saved = doc! { "media_id": literal(media_id), "expires_at": from_now(lifetime) };
        let save = Change::upsert(digest(file), merge([saved.into()]));
        self.change::<IgnoredAny>("save_upload", UPLOADS, save)
            .await
            .map(drop)
    }
}
