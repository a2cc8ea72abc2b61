//! The token centre: the account's `access_token`, `jsapi_ticket` and `wx_card` ticket, fetched once
//! for all who need them.
//!
//! The store holds the truth, so that any number of instances share one token. Whoever finds none that
//! is good takes a lease, looks again, fetches, and publishes by compare-and-set on the generation. In
//! one process a flight lock lets one caller do so while the others wait. Before a life ends a new
//! value is fetched in the background: nobody waits while the old one is good.
//!
//! Life is counted on monotonic clocks, from before the request was sent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

use crate::api::{ApiError, Transport};
use crate::config::{Account, TokenMode};
use crate::secret::Secret;
use crate::store::{InstanceId, Store, Vault};
use crate::telemetry::metrics::CredentialMetrics;
use crate::wechat::id::AppId;

mod fetch;
mod obtain;
mod slot;

use obtain::{Look, Need};
use slot::{Flight, Held, Slot};

/// A value read from the store this recently is served without a look.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// A value read longer ago is not served while another caller looks.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// What the centre keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The account's `access_token`.
    AccessToken,
    /// The ticket that signs JS-SDK configs.
    JsapiTicket,
    /// The ticket that signs cards.
    WxCardTicket,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AccessToken, Self::JsapiTicket, Self::WxCardTicket];

    /// The name in the store, in metrics and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::JsapiTicket => "jsapi_ticket",
            Self::WxCardTicket => "wx_card_ticket",
        }
    }
}

/// A credential that is good now.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The token or ticket.
    pub value: Secret,
    /// When its life is over, on this machine's monotonic clock.
    pub expires_at: Instant,
}

impl Credential {
    /// What is left of its life.
    pub fn expires_in(&self) -> Duration {
        self.expires_at.saturating_duration_since(Instant::now())
    }
}

/// The account's token centre. Cheap to clone.
#[derive(Clone)]
pub struct TokenCentre(Arc<Centre>);

impl fmt::Debug for TokenCentre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenCentre")
    }
}

struct Centre {
    transport: Transport,
    store: Arc<dyn Store>,
    vault: Vault,
    owner: InstanceId,
    app_id: AppId,
    app_secret: Secret,
    mode: TokenMode,
    slots: [Slot; 3],
    tasks: TaskTracker,
    metrics: CredentialMetrics,
}

impl TokenCentre {
    /// A centre over `store`. It fetches nothing before it is asked.
    pub fn new(
        account: &Account,
        transport: Transport,
        store: Arc<dyn Store>,
        vault: Vault,
        owner: InstanceId,
        metrics: CredentialMetrics,
    ) -> Self {
        Self(Arc::new(Centre {
            transport,
            store,
            vault,
            owner,
            app_id: account.app_id.clone(),
            app_secret: account.app_secret.clone(),
            mode: account.token_mode,
            slots: Default::default(),
            tasks: TaskTracker::new(),
            metrics,
        }))
    }

    /// A value that is good. Fetches only if none is stored.
    ///
    /// # Errors
    ///
    /// The platform's refusal, or that it or the store did not answer.
    pub async fn get(&self, kind: Kind) -> Result<Credential, ApiError> {
        let held = self.slot(kind).good();
        if let Some(held) = &held {
            let now = Instant::now();
            if now >= held.refresh_at {
                self.renew_in_background(kind, held.generation);
            }
            if now.duration_since(held.read_at) < FRESH_FOR {
                return Ok(held.credential.clone());
            }
        }
        // In a box of its own: for nearly all callers no room has to be made.
        Box::pin(self.get_anew(kind, held)).await
    }

    /// What the store has now, or the platform.
    async fn get_anew(&self, kind: Kind, held: Option<Held>) -> Result<Credential, ApiError> {
        let slot = self.slot(kind);
        // Another instance may have a newer one: one caller looks, the others are served meanwhile.
        let flight = match (slot.try_take_off(), held) {
            (Some(flight), Some(held)) => match self.look(kind).await {
                Look::Good(credential) => return Ok(credential),
                Look::Unknown => return Ok(held.credential),
                Look::Gone => flight,
            },
            (None, Some(held)) if held.read_at.elapsed() < STALE_AFTER => {
                return Ok(held.credential);
            }
            (Some(flight), None) => flight,
            // The flight may take its time, for a caller who will not have the stored value.
            (None, _) => match self.stored_for_all(kind).await {
                Some(credential) => return Ok(credential),
                None => slot.take_off().await?,
            },
        };
        match slot.good() {
            Some(held) if held.read_at.elapsed() < FRESH_FOR => Ok(held.credential),
            _ => self.fly(flight, kind, Need::Good).await,
        }
    }

    /// Whether the platform takes the account's AppID and AppSecret now, whatever is stored. In classic
    /// mode nobody asks: that would end the token that is in use.
    ///
    /// # Errors
    ///
    /// The platform's refusal, or that it did not answer.
    pub async fn try_secret(&self) -> Result<(), ApiError> {
        match self.0.mode {
            TokenMode::Stable => self.fetch(Kind::AccessToken, &Need::Good).await.map(drop),
            TokenMode::Classic => Ok(()),
        }
    }

    /// A value other than `refused`, which a call of ours was refused with. The stored one is expired
    /// if it is still that one; however many callers come, there is one fetch.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn renew_refused(
        &self,
        kind: Kind,
        refused: &Secret,
    ) -> Result<Credential, ApiError> {
        let flight = self.slot(kind).take_off().await?;
        self.fly(
            flight,
            kind,
            Need::OtherThan {
                value: refused.clone(),
                is_dead: true,
            },
        )
        .await
    }

    /// As [`renew_refused`](Self::renew_refused), on another program's word: the stored value stays in
    /// service until there is a new one.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn renew_reported(
        &self,
        kind: Kind,
        reported: &Secret,
    ) -> Result<Credential, ApiError> {
        let flight = self.slot(kind).take_off().await?;
        self.fly(
            flight,
            kind,
            Need::OtherThan {
                value: reported.clone(),
                is_dead: false,
            },
        )
        .await
    }

    /// Sets the gauges of the values known here.
    pub fn report(&self, metrics: &CredentialMetrics) {
        for kind in Kind::ALL {
            if let Some(held) = &self.slot(kind).known().held {
                metrics.set_life(
                    kind.name(),
                    held.credential.expires_in(),
                    held.first_seen.elapsed(),
                );
            }
        }
    }

    /// Waits for fetches in the background.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// [`get`](Self::get) for the fetch of a ticket, which is itself part of a `get`.
    fn get_boxed(&self, kind: Kind) -> BoxFuture<'_, Result<Credential, ApiError>> {
        Box::pin(self.get(kind))
    }

    fn renew_boxed<'a>(
        &'a self,
        kind: Kind,
        refused: &'a Secret,
    ) -> BoxFuture<'a, Result<Credential, ApiError>> {
        Box::pin(self.renew_refused(kind, refused))
    }

    /// Does the work of a flight in a task of its own. A caller that goes away must not cut a fetch
    /// short: in classic mode the platform has then ended the old token, and nobody has the new one.
    async fn fly(&self, flight: Flight, kind: Kind, need: Need) -> Result<Credential, ApiError> {
        let centre = self.clone();
        let landing = self.0.tasks.spawn(async move {
            let landed = centre.obtain(kind, &need).await;
            if let Err(error) = &landed {
                centre.slot(kind).known().failed = Some((Instant::now(), error.clone()));
            }
            drop(flight);
            landed
        });
        landing
            .await
            .unwrap_or_else(|error| Err(ApiError::Nonsense(error.to_string())))
    }

    /// Fetches the successor of `generation`, while callers are served.
    fn renew_in_background(&self, kind: Kind, generation: u64) {
        let slot = self.slot(kind);
        if slot.in_background.swap(true, Ordering::AcqRel) {
            return;
        }
        let centre = self.clone();
        self.0.tasks.spawn(async move {
            let slot = centre.slot(kind);
            if let Some(_flight) = slot.try_take_off()
                && let Err(error) = centre.obtain(kind, &Need::NewerThan(generation)).await
            {
                tracing::debug!(credential = kind.name(), %error, "no newer {} for now", kind.name());
            }
            slot.in_background.store(false, Ordering::Release);
        });
    }

    fn slot(&self, kind: Kind) -> &Slot {
        &self.0.slots[kind as usize]
    }
}
