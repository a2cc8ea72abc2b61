//! Messages that were forwarded in vain, for an operator to look at and to send again.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::wechat::id::OpenId;

/// A message that was forwarded in vain.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The `webhook-id` under which it was sent.
    pub id: String,
    /// Whose message.
    pub open_id: OpenId,
    /// The message as XML.
    pub message: String,
    /// What went wrong, without secrets.
    pub reason: String,
    /// Since it was put here; ignored when it is.
    pub age: Duration,
}

/// The list of messages that were forwarded in vain.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Adds one, over the last with its id. It is kept for `keep`, as long as it is among the `most` newest.
    /// Returns how many went for it.
    async fn add_dead_letter(
        &self,
        letter: &DeadLetter,
        keep: Duration,
        most: usize,
    ) -> Result<usize, StoreError>;

    /// Up to `limit`, oldest first, from the one behind `after` on.
    async fn dead_letters(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// Takes one off the list. Returns whether it was there.
    async fn remove_dead_letter(&self, id: &str) -> Result<bool, StoreError>;

    /// Takes all of a user's off the list, but the one with this id.
    async fn forget_dead_letters(&self, of: &OpenId, but: &str) -> Result<(), StoreError>;
}
