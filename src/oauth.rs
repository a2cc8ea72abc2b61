//! Web OAuth (网页授权): from the authorize link to a session, and from a session to a profile.
//!
//! WeChat has no PKCE, so the `state` carries the whole defence: 128 random bits, good once, for ten
//! minutes, for the browser that began. A code is exchanged once; WeChat's clients call the callback
//! twice, so the second call gets the first one's result.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use crate::api::{ApiError, SnsGrant, Transport, advice};
use crate::config::Account;
use crate::secret::Secret;
use crate::store::{
    Digest, Exchange, OAuthGrant, Session, SignIn, SignedIn, Store, StoreError, Vault,
};
use crate::wechat::id::{AppId, OpenId};

mod browser;
mod next;

pub use browser::{BrowserId, BrowserKey};
pub use next::{InvalidNext, NextPath};

/// A sign-in begun is to be finished within this.
const SIGN_IN_TTL: Duration = Duration::from_secs(600);
/// The session cookie's life.
pub(crate) const SESSION_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// WeChat's refresh_token lives 30 days and is not prolonged by use.
const REFRESH_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longer than the exchange's own deadline of 5 s.
const EXCHANGE_LEASE: Duration = Duration::from_secs(8);
/// A callback that finds another at work waits this long for its result.
const EXCHANGE_WAIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the user is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// `snsapi_base`: the openid, silently.
    SnsapiBase,
    /// `snsapi_userinfo`: the profile, with consent.
    SnsapiUserinfo,
}

impl Scope {
    /// Reads WeChat's word for it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "snsapi_base" => Some(Self::SnsapiBase),
            "snsapi_userinfo" => Some(Self::SnsapiUserinfo),
            _ => None,
        }
    }

    /// WeChat's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SnsapiBase => "snsapi_base",
            Self::SnsapiUserinfo => "snsapi_userinfo",
        }
    }
}

/// Where to send the browser, and how to come back to the same place on a second try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// What the user is asked for.
    pub scope: Scope,
    /// Where the browser goes afterwards.
    pub next: Option<NextPath>,
    /// The caller's own value, given back on the page's URL as `state`.
    pub id: Option<String>,
}

impl Intent {
    /// The path that begins this sign-in: `/wxAuthorize?…`.
    pub fn authorize_path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("scope", self.scope.as_str());
        if let Some(next) = &self.next {
            query.append_pair("next", next.as_str());
        }
        if let Some(id) = &self.id {
            query.append_pair("id", id);
        }
        format!("/wxAuthorize?{}", query.finish())
    }

    fn from_sign_in(sign_in: &SignIn) -> Self {
        Self {
            scope: Scope::parse(&sign_in.scope).unwrap_or(Scope::SnsapiUserinfo),
            next: sign_in
                .next
                .as_deref()
                .and_then(|next| NextPath::parse(next).ok()),
            id: sign_in.id.clone(),
        }
    }

    /// Where the browser goes once signed in.
    fn destination(&self, open_id: &OpenId) -> String {
        let state = self.id.as_ref().map(|id| ("state", id.as_str()));
        match &self.next {
            Some(next) => next.with_query(state),
            None => {
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.append_pair("openid", open_id.as_str());
                query.extend_pairs(state);
                format!("/?{}", query.finish())
            }
        }
    }
}

/// How a callback ends. Stored, so that the same callback ends alike when it comes again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum SignInEnd {
    /// Signed in.
    SignedIn {
        /// The new session, for the cookie alone.
        session: String,
        /// A path of this site.
        redirect: String,
    },
    /// A snapshot (快照页): no session, nothing stored.
    Snapshot,
    /// The exchange failed; the code is spent.
    Failed {
        /// What WeChat answered, if it did.
        errcode: Option<i64>,
        /// Whether it was too slow.
        timed_out: bool,
    },
}

impl fmt::Debug for SignInEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SignedIn { .. } => "SignedIn",
            Self::Snapshot => "Snapshot",
            Self::Failed { .. } => "Failed",
        })
    }
}

/// What a callback comes to.
#[derive(Debug)]
pub enum Callback {
    /// It was this browser's sign-in, and ended so.
    Ended(Intent, SignInEnd),
    /// The user refused: WeChat came back without a code.
    Declined(Intent),
    /// The state is missing, foreign, over, or used with another code.
    BadState,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The refresh token is dead: the user must sign in again.
    #[error("the user's authorization is over")]
    AuthorizationExpired(Intent),
    /// WeChat refused or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Our store did not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Web OAuth of one account.
pub struct OAuth {
    app_id: AppId,
    app_secret: Secret,
    open_url: String,
    callback_url: String,
    transport: Transport,
    store: Arc<dyn Store>,
    vault: Vault,
    /// One refresh at a time for each user.
    refreshing: Mutex<HashMap<OpenId, Weak<tokio::sync::Mutex<()>>>>,
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("callback_url", &self.callback_url)
            .finish_non_exhaustive()
    }
}

impl OAuth {
    /// OAuth that comes back to `callback_url`, an absolute URL.
    pub fn new(
        account: &Account,
        open_url: String,
        callback_url: String,
        transport: Transport,
        store: Arc<dyn Store>,
        vault: Vault,
    ) -> Self {
        Self {
            app_id: account.app_id.clone(),
            app_secret: account.app_secret.clone(),
            open_url,
            callback_url,
            transport,
            store,
            vault,
            refreshing: Mutex::default(),
        }
    }

    /// Begins a sign-in for a browser. Returns WeChat's authorize URL.
    ///
    /// # Errors
    ///
    /// When the store did not take the state.
    pub async fn begin(&self, browser: &BrowserId, intent: &Intent) -> Result<String, StoreError> {
        let state = hex::encode(rand::random::<[u8; 16]>());
        let sign_in = SignIn {
            browser: browser.digest(),
            scope: intent.scope.as_str().into(),
            next: intent.next.as_ref().map(|next| next.as_str().into()),
            id: intent.id.clone(),
        };
        self.store
            .create_sign_in(&digest(&state), &sign_in, SIGN_IN_TTL)
            .await?;
        // WeChat matches the parameters in this order; `connect_redirect=1` keeps its clients from
        // calling back twice.
        let redirect_uri: String =
            form_urlencoded::byte_serialize(self.callback_url.as_bytes()).collect();
        Ok(format!(
            "{}/connect/oauth2/authorize?appid={}&redirect_uri={redirect_uri}&response_type=code&scope={}&state={state}&connect_redirect=1#wechat_redirect",
            self.open_url,
            self.app_id,
            intent.scope.as_str(),
        ))
    }

    /// Takes WeChat's callback.
    ///
    /// # Errors
    ///
    /// When the store did not answer. The callback may come again.
    pub async fn callback(
        &self,
        browser: &BrowserId,
        state: &str,
        code: Option<&str>,
    ) -> Result<Callback, StoreError> {
        let state = digest(state);
        let Some(code) = code else {
            let sign_in = self.store.sign_in(&state, &browser.digest()).await?;
            return Ok(sign_in.map_or(Callback::BadState, |s| {
                Callback::Declined(Intent::from_sign_in(&s))
            }));
        };
        let give_up_at = tokio::time::Instant::now() + EXCHANGE_WAIT;
        loop {
            let exchange = self
                .store
                .begin_exchange(&state, &browser.digest(), &digest(code), EXCHANGE_LEASE)
                .await?;
            match exchange {
                Exchange::Refused => return Ok(Callback::BadState),
                Exchange::Begun(sign_in) => {
                    let intent = Intent::from_sign_in(&sign_in);
                    let end = self.exchange(&intent, code).await?;
                    self.store
                        .finish_exchange(&state, &self.seal_end(&end))
                        .await?;
                    return Ok(Callback::Ended(intent, end));
                }
                Exchange::Finished(sign_in, end) => {
                    let end = self.open_end(&end)?;
                    return Ok(Callback::Ended(Intent::from_sign_in(&sign_in), end));
                }
                Exchange::Running(sign_in) if tokio::time::Instant::now() >= give_up_at => {
                    let end = SignInEnd::Failed {
                        errcode: None,
                        timed_out: true,
                    };
                    return Ok(Callback::Ended(Intent::from_sign_in(&sign_in), end));
                }
                Exchange::Running(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn exchange(&self, intent: &Intent, code: &str) -> Result<SignInEnd, StoreError> {
        let granted = self
            .transport
            .sns_access_token(self.app_id.as_str(), &self.app_secret, code)
            .await;
        let grant = match granted {
            Ok(grant) => grant,
            Err(error) => {
                let cure = error.errcode().and_then(advice).unwrap_or("it may pass");
                tracing::warn!(errcode = error.errcode(), %error, "a sign-in's code was not exchanged: {cure}");
                let timed_out = matches!(error, ApiError::Timeout);
                return Ok(SignInEnd::Failed {
                    errcode: error.errcode(),
                    timed_out,
                });
            }
        };
        if grant.is_snapshot_user {
            return Ok(SignInEnd::Snapshot);
        }
        if !self.is_lesser(&grant).await? {
            let sealed = self.seal_grant(&grant, REFRESH_TOKEN_TTL);
            self.store
                .save_grant(&grant.open_id, grant.union_id.as_ref(), &sealed)
                .await?;
        }
        let session = hex::encode(rand::random::<[u8; 32]>());
        let record = Session {
            open_id: grant.open_id.clone(),
            scope: granted_scope(&grant.scope).as_str().into(),
        };
        self.store
            .create_session(&digest(&session), &record, SESSION_TTL)
            .await?;
        Ok(SignInEnd::SignedIn {
            session,
            redirect: intent.destination(&grant.open_id),
        })
    }

    /// Whether the grant is silent while one with the profile is stored and alive: a page that signs in
    /// silently must not take the profile from one that asked for it.
    async fn is_lesser(&self, grant: &SnsGrant) -> Result<bool, StoreError> {
        if granted_scope(&grant.scope) == Scope::SnsapiUserinfo {
            return Ok(false);
        }
        let stored = self
            .store
            .user(&grant.open_id)
            .await?
            .and_then(|user| user.grant);
        Ok(stored.is_some_and(|stored| {
            stored.scope == Scope::SnsapiUserinfo.as_str() && !stored.refresh_expires_in.is_zero()
        }))
    }

    /// The session of a cookie, if it is alive, and its user.
    ///
    /// # Errors
    ///
    /// When the store did not answer.
    pub async fn signed_in(&self, cookie: &str) -> Result<Option<SignedIn>, StoreError> {
        self.store.signed_in(&digest(cookie)).await
    }

    /// The signed-in user: WeChat's answer to `sns/userinfo`, or what the store knows after
    /// `snsapi_base`.
    ///
    /// # Errors
    ///
    /// [`UserError`].
    pub async fn user(&self, signed_in: SignedIn) -> Result<Value, UserError> {
        let session = &signed_in.session;
        let Some(user) = signed_in.user else {
            return Err(UserError::AuthorizationExpired(restart(session)));
        };
        if session.scope == Scope::SnsapiBase.as_str() {
            let mut answer = json!({"openid": user.open_id, "scope": session.scope});
            if let Some(union_id) = user.union_id {
                answer["unionid"] = json!(union_id);
            }
            return Ok(answer);
        }
        let grant = user
            .grant
            .ok_or_else(|| UserError::AuthorizationExpired(restart(session)))?;
        let mut token = if grant.access_expires_in.is_zero() {
            self.refresh(session, None).await?
        } else {
            self.open(ACCESS_TOKEN, &grant.access_token, session)?
        };
        let mut asked = self.transport.sns_userinfo(&token, &session.open_id).await;
        if let Err(ApiError::Refused {
            errcode: 40001 | 40014 | 42001,
            ..
        }) = asked
        {
            token = self.refresh(session, Some(&token)).await?;
            asked = self.transport.sns_userinfo(&token, &session.open_id).await;
        }
        let profile = asked.map_err(|error| restart_if_over(error, session))?;
        if profile.open_id != session.open_id {
            return Err(ApiError::Nonsense("the profile of another openid".into()).into());
        }
        if let Err(error) = self
            .store
            .save_profile(&session.open_id, &profile.fields)
            .await
        {
            tracing::warn!(%error, "the copy of a profile was not stored");
        }
        Ok(profile.fields)
    }

    /// A new access token by the refresh token, unless another caller has got one other than `refused`
    /// meanwhile.
    async fn refresh(
        &self,
        session: &Session,
        refused: Option<&Secret>,
    ) -> Result<Secret, UserError> {
        let flight = self.flight(&session.open_id);
        let _flight = flight.lock().await;
        let user = self.store.user(&session.open_id).await?;
        let grant = user.and_then(|user| user.grant);
        let grant = grant.ok_or_else(|| UserError::AuthorizationExpired(restart(session)))?;
        if !grant.access_expires_in.is_zero() {
            let stored = self.open(ACCESS_TOKEN, &grant.access_token, session)?;
            if refused != Some(&stored) {
                return Ok(stored);
            }
        }
        let refresh_token = self.open(REFRESH_TOKEN, &grant.refresh_token, session)?;
        let refreshed = self
            .transport
            .sns_refresh_token(self.app_id.as_str(), &refresh_token)
            .await;
        let refreshed = refreshed.map_err(|error| restart_if_over(error, session))?;
        if refreshed.open_id != session.open_id {
            return Err(ApiError::Nonsense("a token of another openid".into()).into());
        }
        let sealed = self.seal_grant(&refreshed, grant.refresh_expires_in);
        if !self.store.renew_grant(&session.open_id, &sealed).await? {
            // He was forgotten while WeChat was asked.
            return Err(UserError::AuthorizationExpired(restart(session)));
        }
        Ok(refreshed.access_token)
    }

    fn seal_grant(&self, grant: &SnsGrant, refresh_expires_in: Duration) -> OAuthGrant {
        OAuthGrant {
            scope: granted_scope(&grant.scope).as_str().into(),
            access_token: self.vault.seal(ACCESS_TOKEN, grant.access_token.expose()),
            access_expires_in: grant.expires_in,
            refresh_token: self.vault.seal(REFRESH_TOKEN, grant.refresh_token.expose()),
            refresh_expires_in,
        }
    }

    /// A token sealed under a key that is gone is as good as none.
    fn open(
        &self,
        purpose: &str,
        sealed: &crate::store::Sealed,
        session: &Session,
    ) -> Result<Secret, UserError> {
        self.vault.open(purpose, sealed).map_err(|error| {
            tracing::warn!("a stored {purpose} can't be read: {error}");
            UserError::AuthorizationExpired(restart(session))
        })
    }

    fn seal_end(&self, end: &SignInEnd) -> crate::store::Sealed {
        self.vault.seal(SIGN_IN_END, &json!(end).to_string())
    }

    fn open_end(&self, sealed: &crate::store::Sealed) -> Result<SignInEnd, StoreError> {
        let clear = self
            .vault
            .open(SIGN_IN_END, sealed)
            .map_err(|error| StoreError::Unusable(error.to_string()))?;
        serde_json::from_str(clear.expose())
            .map_err(|_| StoreError::Unusable("a sign-in's end can't be read".into()))
    }

    fn flight(&self, open_id: &OpenId) -> Arc<tokio::sync::Mutex<()>> {
        let mut refreshing = self
            .refreshing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = refreshing.get(open_id).and_then(Weak::upgrade) {
            return flight;
        }
        refreshing.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        refreshing.insert(open_id.clone(), Arc::downgrade(&flight));
        flight
    }
}

const ACCESS_TOKEN: &str = "oauth access_token";
const REFRESH_TOKEN: &str = "oauth refresh_token";
const SIGN_IN_END: &str = "sign-in end";

/// SHA-256: the store never holds a state, a code or a session that could be used.
fn digest(secret: &str) -> Digest {
    Digest(Sha256::digest(secret).into())
}

/// The scope that was granted, of a list by commas.
fn granted_scope(scopes: &str) -> Scope {
    if scopes
        .split(',')
        .any(|scope| scope.trim() == Scope::SnsapiUserinfo.as_str())
    {
        Scope::SnsapiUserinfo
    } else {
        Scope::SnsapiBase
    }
}

fn restart(session: &Session) -> Intent {
    Intent {
        scope: Scope::parse(&session.scope).unwrap_or(Scope::SnsapiUserinfo),
        next: None,
        id: None,
    }
}

/// Refresh token expired, invalid, or ended by a new password: only the user can go on.
fn restart_if_over(error: ApiError, session: &Session) -> UserError {
    match error.errcode() {
        Some(42002 | 40030 | 42007) => UserError::AuthorizationExpired(restart(session)),
        _ => UserError::Api(error),
    }
}
