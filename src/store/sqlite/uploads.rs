//! Table `uploads`: files that live at the platform.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::OptionalExtension as _;

use super::{Sqlite, Survives, between, millis};
use crate::store::{Digest, StoreError, UploadStore};

#[async_trait]
impl UploadStore for Sqlite {
    async fn upload(&self, file: &Digest) -> Result<Option<(String, Duration)>, StoreError> {
        let file = *file;
        self.read("upload", move |db, now| {
            db.prepare_cached(
                "SELECT media_id, expires_at FROM uploads WHERE file = ?1 AND expires_at > ?2",
            )?
            .query_row((file.0, now), |row| {
                Ok((row.get(0)?, between(now, row.get(1)?)))
            })
            .optional()
        })
        .await
    }

    async fn save_upload(
        &self,
        file: &Digest,
        media_id: &str,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let (file, media_id) = (*file, media_id.to_owned());
        // What is lost is uploaded again.
        self.write("save_upload", Survives::Crash, move |db, now| {
            db.prepare_cached(
                "REPLACE INTO uploads (file, media_id, expires_at) VALUES (?1, ?2, ?3)",
            )?
            .execute((file.0, &media_id, now + millis(lifetime)))
            .map(drop)
        })
        .await
    }
}
