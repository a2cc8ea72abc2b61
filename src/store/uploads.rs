//! What was uploaded to the platform, so that no instance uploads it again while it lives there.

use std::time::Duration;

use async_trait::async_trait;

use super::{Digest, StoreError};

/// Files that were uploaded to the platform and live there for three days.
#[async_trait]
pub trait UploadStore: Send + Sync {
    /// The `media_id` under which the file of this digest was uploaded, and what is left of its life.
    async fn upload(&self, file: &Digest) -> Result<Option<(String, Duration)>, StoreError>;

    /// Remembers an upload, over an earlier one, for `lifetime`.
    async fn save_upload(
        &self,
        file: &Digest,
        media_id: &str,
        lifetime: Duration,
    ) -> Result<(), StoreError>;
}
