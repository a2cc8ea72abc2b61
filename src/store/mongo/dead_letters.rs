//! DeadLetterStore.

#[allow(unused_imports)]
use std::time::Duration;

use async_trait::async_trait;

use super::Mongo;
use crate::store::{DeadLetter, DeadLetterStore, StoreError};
#[allow(unused_imports)]
use crate::wechat::id::OpenId;

#[async_trait]
impl DeadLetterStore for Mongo {
    async fn add_dead_letter(
        &self,
        _letter: &DeadLetter,
        _keep: Duration,
    ) -> Result<(), StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn dead_letters(
        &self,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn remove_dead_letter(&self, _id: &str) -> Result<bool, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
}
