//! Who used the management routes, what for, and how that ended.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// The entries that are kept at most, where the store counts them. What is older goes first.
pub const MOST_AUDIT_ENTRIES: u32 = 1_000_000;

/// One thing that somebody did. It holds no secret and nothing of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// The name of the key, or `ADMIN_TOKEN`.
    pub key: String,
    /// `GET /getTokens`, …, or a command.
    pub action: Cow<'static, str>,
    /// What it was answered; `None` where the caller did not wait, or nothing was asked by HTTP.
    pub status: Option<u16>,
    /// WeChat's return code, where it refused.
    pub errcode: Option<i64>,
    /// The answer's `X-Request-Id`.
    pub request: Option<String>,
    /// How many uses it stands for: over one where many like uses came at once.
    pub times: u32,
    /// Since it was done.
    pub age: Duration,
}

/// Names one write of entries, so that it takes effect once however often it is tried.
pub type AuditBatch = [u8; 16];

/// Which entries to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Those of this key alone.
    pub key: Option<String>,
    /// None older than this.
    pub since: Duration,
    /// So many of the newest.
    pub limit: usize,
}

/// The list of what was done.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Adds entries, each at its own age, once under this name. They are kept for `keep`.
    async fn add_audit(
        &self,
        batch: AuditBatch,
        entries: &[AuditEntry],
        keep: Duration,
    ) -> Result<(), StoreError>;

    /// The newest that fit, newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError>;
}
