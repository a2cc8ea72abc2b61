//! UploadStore.

#[allow(unused_imports)]
use std::time::Duration;

use async_trait::async_trait;

use super::Mongo;
use crate::store::{Digest, StoreError, UploadStore};
#[allow(unused_imports)]
use crate::wechat::id::OpenId;

#[async_trait]
impl UploadStore for Mongo {
    async fn upload(&self, _file: &Digest) -> Result<Option<(String, Duration)>, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn save_upload(
        &self,
        _file: &Digest,
        _media_id: &str,
        _lifetime: Duration,
    ) -> Result<(), StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
}
