//! The keys by which other programs use the management routes: what is known of each, never itself.

use std::time::Duration;

use async_trait::async_trait;

use super::{Digest, StoreError};
use crate::keys::{KeyName, Scope};

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// What people call it.
    pub name: KeyName,
    /// The routes that it opens. Scopes of a newer version are left out.
    pub scopes: Vec<Scope>,
    /// Since it was added.
    pub age: Duration,
    /// What is left of its life, zero once over; `None` where it has no end.
    pub expires_in: Option<Duration>,
    /// Since it was last used, as far as was noted; `None` where it never was.
    pub idle: Option<Duration>,
}

/// Named keys. Names are unique, also that of a key whose life is over.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Adds a key under the digest of its text; without a `lifetime` it lives until it is removed.
    /// Returns whether it was added: under a name that is taken it is not.
    async fn add_key(
        &self,
        name: &KeyName,
        digest: &Digest,
        scopes: &[Scope],
        lifetime: Option<Duration>,
    ) -> Result<bool, StoreError>;

    /// The key of this digest, unless it was removed or its life is over.
    async fn key(&self, digest: &Digest) -> Result<Option<StoredKey>, StoreError>;

    /// All keys by name, those too whose life is over.
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// Notes that the key is used now. Does nothing where it was removed.
    async fn touch_key(&self, digest: &Digest, name: &KeyName) -> Result<(), StoreError>;

    /// Removes a key. Returns whether it was there. Its name is free then.
    async fn remove_key(&self, name: &KeyName) -> Result<bool, StoreError>;
}
