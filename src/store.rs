//! What the backend keeps, as traits over two back ends: SQLite (embedded) and MongoDB.
//!
//! Rules that both keep:
//!
//! - Time is the store's own clock. Callers hand in and get back durations, so instances whose clocks
//!   differ agree on what has expired.
//! - An expired record is not found, whether its garbage was collected or not.
//! - Tokens arrive [`Sealed`]: no back end ever sees one in clear.
//! - An operation runs in a task (or thread) of its own. Dropping the future that waits for it never
//!   cuts it short, so a caller may wait with any deadline.
//! - Every operation may be repeated after an error. A claim or an exchange that took effect unseen
//!   looks like another's then, until its lease ends.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::telemetry::metrics::StoreMetrics;
use crate::wechat::id::{OpenId, UnionId};

mod audit;
mod conversations;
mod dead_letters;
mod keys;
mod mongo;
mod seal;
mod sqlite;
mod uploads;
mod watch;

pub use audit::{AuditBatch, AuditEntry, AuditQuery, AuditStore, MOST_AUDIT_ENTRIES};
pub use conversations::{
    AnswerId, Answered, Conversation, ConversationStore, DELIVERIES_END, Delivered, Delivery,
    Finished, Handled, KEEP_ANSWERS, KeptAnswer, MOST_KEPT, MOST_WAITING, Overdue,
    REMEMBER_MESSAGES, SessionChange, Trigger, Turn, Waiting, Window,
};
pub use dead_letters::{DeadLetter, DeadLetterStore};
pub use keys::{KeyStore, StoredKey};
pub use seal::{Sealed, StoreKey, UnsealError, Vault};
pub use uploads::UploadStore;
pub(crate) use watch::within;

/// What [`check_url`] expects.
const URL_FORMS: &str = "expected `sqlite://PATH`, `mongodb://HOST[:PORT][,HOST…]/DATABASE` \
                         or `mongodb+srv://HOST/DATABASE`";

/// Opens the store that `url` names:
///
/// - `sqlite://PATH`: the file `PATH`, taken as it is written, relative to the working directory
///   unless it begins with `/`. Made if it is missing; its folder must be there.
/// - `mongodb://…`, `mongodb+srv://…`: MongoDB 4.4 or newer, a single server, a replica set or a
///   sharded cluster. Without a database in the URL it is `offiaccount`. Reads from the primary,
///   majority writes and retried writes are set here whatever the URL says.
///
/// # Errors
///
/// [`StoreError::Unusable`] where an operator must act, [`StoreError::Unavailable`] where trying
/// again later may help; that is known within 3 s when nothing answers. No text holds a credential.
pub async fn open(url: &str, metrics: StoreMetrics) -> Result<Arc<dyn Store>, StoreError> {
    check_url(url).map_err(StoreError::Unusable)?;
    match url.strip_prefix("sqlite://") {
        Some(path) => Ok(Arc::new(sqlite::Sqlite::open(path.into(), metrics).await?)),
        None => Ok(Arc::new(mongo::Mongo::open(url, metrics).await?)),
    }
}

/// Whether [`open`] understands `url`. Reaches for nothing.
///
/// # Errors
///
/// What is expected instead, for the person who wrote the setting. Never a part of the URL.
pub fn check_url(url: &str) -> Result<(), String> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        return match path {
            "" => Err("expected the path of a file after `sqlite://`".into()),
            ":memory:" => {
                Err("expected the path of a file: a store in memory would be lost".into())
            }
            _ if path.contains(['?', '#', '\0']) => {
                Err("expected a plain path after `sqlite://`, without parameters".into())
            }
            _ if path.ends_with('/') => {
                Err("expected the path of a file after `sqlite://`, not of a folder".into())
            }
            _ => Ok(()),
        };
    }
    if url.starts_with("mongodb://") || url.starts_with("mongodb+srv://") {
        return mongo::check_url(url);
    }
    Err(URL_FORMS.into())
}

/// How long any operation may take before its caller is told [`StoreError::Timeout`].
pub const OPERATION_DEADLINE: Duration = Duration::from_secs(5);

/// Why a store operation failed. The text names no value and no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store can't be reached, or has no primary, or its disk is full. Later it may work again.
    /// What was sent may have taken effect, where the connection broke before the answer.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// No answer within the deadline. What was sent may still take effect.
    #[error("the store did not answer in time")]
    Timeout,
    /// What is stored can't be used: made by a newer version, or damaged. An operator must act.
    #[error("the store can't be used: {0}")]
    Unusable(String),
}

/// The name under which one running process takes leases. New at every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceId(pub String);

/// The SHA-256 of something secret or long that is only ever looked up: a session id, an OAuth
/// `state`, a ledger key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(pub [u8; 32]);

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Eight bytes of a digest tell two of them apart as well as all do.
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Everything the backend keeps.
#[async_trait]
pub trait Store:
    CredentialStore
    + UserStore
    + SignInStore
    + ConversationStore
    + DeadLetterStore
    + UploadStore
    + KeyStore
    + AuditStore
{
    /// `sqlite` or `mongodb`, for logs and `check`.
    fn name(&self) -> &'static str;

    /// Proves that the store can be written to by now.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Deletes what has expired. For space only: nothing relies on it.
    async fn collect_garbage(&self) -> Result<(), StoreError>;

    /// Finishes what is under way and lets go of files and connections.
    async fn close(&self);
}

/// One of the account's credentials: `<appid>/access_token`, `<appid>/jsapi_ticket`, …
pub type CredentialKey = str;

/// A credential as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCredential {
    /// Counts the values published under this key. 0: none yet.
    pub generation: u64,
    /// The value, unless there is none or it was found dead.
    pub value: Option<Sealed>,
    /// What is left of its life; zero once over.
    pub expires_in: Duration,
    /// Since it was published; zero where none was.
    pub age: Duration,
}

/// The answer to [`CredentialStore::lease_credential`].
#[derive(Clone, Debug, PartialEq)]
pub enum Lease {
    /// The caller may fetch. The record is as it was when the lease began, so that the caller sees
    /// whether another has published since it last looked.
    Held(StoredCredential),
    /// Another owner is fetching.
    Busy(StoredCredential),
}

/// The account's credentials, shared by all instances. One lease holder at a time fetches, and
/// publishing is a compare-and-set on the generation.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// What is stored, generation 0 if nothing is.
    async fn credential(&self, key: &CredentialKey) -> Result<StoredCredential, StoreError>;

    /// Takes the right to fetch, in one atomic step: free, expired or one's own leases are taken. A
    /// lease of one's own that still runs begins anew.
    async fn lease_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
        lease: Duration,
    ) -> Result<Lease, StoreError>;

    /// Stores a new value if `generation` is still the stored one, and ends one's own lease in any
    /// case. Returns whether the value was stored. Another owner's lease is left alone: he is fetching,
    /// and his own publishing will fail.
    async fn publish_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
        generation: u64,
        value: &Sealed,
        lifetime: Duration,
    ) -> Result<bool, StoreError>;

    /// Ends one's own lease without a new value.
    async fn release_credential(
        &self,
        key: &CredentialKey,
        owner: &InstanceId,
    ) -> Result<(), StoreError>;

    /// Removes the value of this generation, because the platform refused it. Returns whether it was
    /// still stored; a newer value is left alone.
    async fn expire_credential(
        &self,
        key: &CredentialKey,
        generation: u64,
    ) -> Result<bool, StoreError>;
}

/// What OAuth gave for one user.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuthGrant {
    /// `snsapi_base` or `snsapi_userinfo`, as granted.
    pub scope: String,
    /// The user's web access_token.
    pub access_token: Sealed,
    /// What is left of its life; zero once over.
    pub access_expires_in: Duration,
    /// The user's refresh_token.
    pub refresh_token: Sealed,
    /// What is left of its life; zero once over. The grant stays readable then.
    pub refresh_expires_in: Duration,
}

/// A user who has signed in.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredUser {
    /// Who.
    pub open_id: OpenId,
    /// The same person in the owner's other accounts, where known.
    pub union_id: Option<UnionId>,
    /// The last grant.
    pub grant: Option<OAuthGrant>,
    /// The answer of `sns/userinfo` when it was last asked, as it came.
    pub profile: Option<serde_json::Value>,
}

/// Per-openid tokens and profiles.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// The user, if he has ever signed in and was not forgotten.
    async fn user(&self, open_id: &OpenId) -> Result<Option<StoredUser>, StoreError>;

    /// Stores a grant over the last one. A `union_id` of `None` leaves the stored one.
    async fn save_grant(
        &self,
        open_id: &OpenId,
        union_id: Option<&UnionId>,
        grant: &OAuthGrant,
    ) -> Result<(), StoreError>;

    /// Stores a refreshed grant over the last one, if the user is still stored: one who was forgotten
    /// while the platform was asked stays so. Returns whether he was.
    async fn renew_grant(&self, open_id: &OpenId, grant: &OAuthGrant) -> Result<bool, StoreError>;

    /// Keeps a copy of the profile. Does nothing if the user is not stored.
    async fn save_profile(
        &self,
        open_id: &OpenId,
        profile: &serde_json::Value,
    ) -> Result<(), StoreError>;

    /// Removes all that is stored about the user, his sessions too.
    async fn forget_user(&self, open_id: &OpenId) -> Result<(), StoreError>;
}

/// A browser that is signed in.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Who.
    pub open_id: OpenId,
    /// The scope he signed in with.
    pub scope: String,
}

/// A session, with what is stored about its user.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedIn {
    /// The session.
    pub session: Session,
    /// Its user, unless he was forgotten.
    pub user: Option<StoredUser>,
}

/// A sign-in under way: what the OAuth `state` stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct SignIn {
    /// The browser that began it.
    pub browser: Digest,
    /// `snsapi_base` or `snsapi_userinfo`, as asked.
    pub scope: String,
    /// Where the browser goes afterwards: a path of this site.
    pub next: Option<String>,
    /// The caller's own value, given back on the page's URL as `state`.
    pub id: Option<String>,
}

/// The answer to [`SignInStore::begin_exchange`].
#[derive(Clone, Debug, PartialEq)]
pub enum Exchange {
    /// The caller exchanges the code, now and alone, and must call
    /// [`finish_exchange`](SignInStore::finish_exchange).
    Begun(SignIn),
    /// Another callback with this state and code is exchanging.
    Running(SignIn),
    /// It was exchanged; the outcome as it was stored.
    Finished(SignIn, Sealed),
    /// No such state, or expired, or another browser's, or used with another code.
    Refused,
}

/// Sign-ins under way, and sessions.
#[async_trait]
pub trait SignInStore: UserStore {
    /// Stores a new sign-in under the digest of its `state`. One that is there already stays.
    async fn create_sign_in(
        &self,
        state: &Digest,
        sign_in: &SignIn,
        ttl: Duration,
    ) -> Result<(), StoreError>;

    /// Binds the state to this code and takes the right to exchange it, in one atomic step. A lease
    /// that ran out (its holder died) is taken over.
    async fn begin_exchange(
        &self,
        state: &Digest,
        browser: &Digest,
        code: &Digest,
        lease: Duration,
    ) -> Result<Exchange, StoreError>;

    /// Stores the outcome. It stays readable until the sign-in expires. The first one stored stays,
    /// should a lease have run out under its holder; nothing is stored where the sign-in is gone.
    async fn finish_exchange(&self, state: &Digest, outcome: &Sealed) -> Result<(), StoreError>;

    /// The sign-in of this browser under `state`, whether used or not.
    async fn sign_in(&self, state: &Digest, browser: &Digest)
    -> Result<Option<SignIn>, StoreError>;

    /// Stores a new session under the digest of its id. One that is there already stays.
    async fn create_session(
        &self,
        id: &Digest,
        session: &Session,
        ttl: Duration,
    ) -> Result<(), StoreError>;

    /// The session, unless expired.
    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError>;

    /// The session, unless expired, and its user: what every request of a signed-in user asks for.
    async fn signed_in(&self, id: &Digest) -> Result<Option<SignedIn>, StoreError> {
        let Some(session) = self.session(id).await? else {
            return Ok(None);
        };
        let user = self.user(&session.open_id).await?;
        Ok(Some(SignedIn { session, user }))
    }

    /// Ends a session.
    async fn delete_session(&self, id: &Digest) -> Result<(), StoreError>;
}
