//! ConversationStore.

#[allow(unused_imports)]
use std::time::Duration;

use async_trait::async_trait;

use super::Mongo;
use crate::store::{
    AnswerId, Answered, ConversationStore, Delivered, Delivery, Digest, Finished, Handled,
    KeptAnswer, Overdue, StoreError, Trigger, Turn, Window,
};
#[allow(unused_imports)]
use crate::wechat::id::OpenId;

#[async_trait]
impl ConversationStore for Mongo {
    async fn deliver(
        &self,
        _of: &OpenId,
        _delivery: &Delivery,
        _turn: Turn,
        _lease: Duration,
    ) -> Result<Delivered, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn look(
        &self,
        _of: &OpenId,
        _key: &Digest,
        _turn: Turn,
        _lease: Duration,
    ) -> Result<Delivered, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn renew(&self, _of: &OpenId, _turn: Turn, _lease: Duration) -> Result<bool, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn finish(
        &self,
        _of: &OpenId,
        _handled: &Handled,
        _turn: Turn,
        _lease: Duration,
    ) -> Result<Finished, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn release(&self, _of: &OpenId, _turn: Turn) -> Result<(), StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn mark_given(
        &self,
        _of: &OpenId,
        _key: &Digest,
        _given: bool,
    ) -> Result<(), StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn answer(
        &self,
        _of: &OpenId,
        _key: &Digest,
        _reply: &[u8],
    ) -> Result<Answered, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn keep_answer(&self, _of: &OpenId, _key: &Digest) -> Result<bool, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn begin_sending(
        &self,
        _of: &OpenId,
        _lease: Duration,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn end_sending(
        &self,
        _of: &OpenId,
        _answer: AnswerId,
        _sent: bool,
    ) -> Result<(), StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn windows(&self, _of: &OpenId) -> Result<Vec<Window>, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn count_sent(&self, _of: &OpenId, _trigger: Trigger) -> Result<(), StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn overdue(&self, _limit: usize) -> Result<Vec<OpenId>, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
    async fn take_overdue(
        &self,
        _of: &OpenId,
        _turn: Turn,
        _lease: Duration,
    ) -> Result<Overdue, StoreError> {
        Err(StoreError::Unusable("not yet".into()))
    }
}
