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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

use crate::api::{ApiError, Class, Transport, advice};
use crate::config::{Account, TokenMode};
use crate::secret::Secret;
use crate::store::{InstanceId, Lease, Store, StoredCredential, Vault};
use crate::telemetry::metrics::CredentialMetrics;
use crate::wechat::id::AppId;

mod fetch;

/// Longer than two tries of a fetch, each of [`FETCH_DEADLINE`], and the pause between them.
const LEASE: Duration = Duration::from_secs(7);
/// One try of a fetch.
const FETCH_DEADLINE: Duration = Duration::from_secs(3);
/// How long a caller waits for a value: its own fetch, or another holder's lease and one more fetch.
const CALLER_DEADLINE: Duration = Duration::from_secs(15);
/// How often those who wait for another holder look.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A value read from the store this recently is served without a look.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// A value read longer ago is looked up before it is served: another instance may have a newer one.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// The longest time before the end of a life at which the next value is fetched.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);
/// After a refresh that failed while the old value lives, the next try.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);
/// No new fetch this soon after one that succeeded, unless a call was refused.
const FETCH_EVERY: Duration = Duration::from_secs(45);
/// How long a refusal that only an operator can mend is remembered.
const BLOCKED_FOR: Duration = Duration::from_secs(300);
/// The shortest time between two values forced from the platform: it allows one in 30 s, 20 a day.
const FORCE_EVERY: Duration = Duration::from_secs(60);

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

/// What this process knows of one credential.
#[derive(Default)]
struct Slot {
    known: Mutex<Known>,
    /// Held by the caller that reads or fetches for all.
    flight: Arc<tokio::sync::Mutex<()>>,
    /// A background task is at it.
    in_background: AtomicBool,
}

type Flight = tokio::sync::OwnedMutexGuard<()>;

#[derive(Default)]
struct Known {
    held: Option<Held>,
    /// The last fetch that succeeded here.
    fetched_at: Option<Instant>,
    /// The last value forced from the platform here.
    forced_at: Option<Instant>,
    /// The last failure here: those who waited for that fetch share it.
    failed: Option<(Instant, ApiError)>,
    /// A refusal that only an operator can mend, and until when it is not asked again.
    blocked: Option<(Instant, ApiError)>,
}

/// A value as it was last read or fetched.
#[derive(Clone)]
struct Held {
    credential: Credential,
    generation: u64,
    first_seen: Instant,
    read_at: Instant,
    /// When to fetch the next one: ahead of the end, not at the same moment at each instance.
    refresh_at: Instant,
    /// Fetched here and not yet in the store, which was away.
    is_unpublished: bool,
}

/// What makes a stored value not good enough.
#[derive(Clone)]
enum Need {
    /// Any value whose life is not over.
    Good,
    /// A newer one than this generation: its end is near.
    NewerThan(u64),
    /// Another one than this.
    OtherThan {
        value: Secret,
        /// A call of ours was refused with it: it is not served again, whether there is a new one or not.
        is_dead: bool,
    },
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
        let slot = self.slot(kind);
        if let Some(held) = slot.known().held.clone() {
            let now = Instant::now();
            let age = now.duration_since(held.read_at);
            if now < held.credential.expires_at && age < STALE_AFTER {
                if now >= held.refresh_at {
                    self.in_background(kind, Some(held.generation));
                } else if age >= FRESH_FOR {
                    self.in_background(kind, None);
                }
                return Ok(held.credential);
            }
        }
        let flight = match Arc::clone(&slot.flight).try_lock_owned() {
            Ok(flight) => flight,
            // The flight may take its time, for a caller who will not have the stored value.
            Err(_) => match self.stored(kind).await {
                Some(credential) => return Ok(credential),
                None => slot.take_off().await?,
            },
        };
        if let Some(held) = slot.known().held.clone()
            && held.read_at.elapsed() < FRESH_FOR
            && held.credential.expires_in() > Duration::ZERO
        {
            return Ok(held.credential);
        }
        self.fly(flight, kind, Need::Good).await
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

    /// Looks at the store, or fetches the successor of `generation`, while callers are served.
    fn in_background(&self, kind: Kind, generation: Option<u64>) {
        let slot = self.slot(kind);
        if slot.in_background.swap(true, Ordering::AcqRel) {
            return;
        }
        let centre = self.clone();
        self.0.tasks.spawn(async move {
            let slot = centre.slot(kind);
            if let Ok(_flight) = slot.flight.try_lock() {
                let need = generation.map_or(Need::Good, Need::NewerThan);
                if let Err(error) = centre.obtain(kind, &need).await {
                    tracing::debug!(credential = kind.name(), %error, "no newer {} for now", kind.name());
                }
            }
            slot.in_background.store(false, Ordering::Release);
        });
    }
}

impl Slot {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the flight. Whoever waited while another's fetch failed shares that failure, or a
    /// thousand callers would each try in turn.
    async fn take_off(&self) -> Result<Flight, ApiError> {
        let began = Instant::now();
        let flight = Arc::clone(&self.flight).lock_owned().await;
        match &self.known().failed {
            Some((at, error)) if *at > began => Err(error.clone()),
            _ => Ok(flight),
        }
    }

    fn forget(&self, refused: &Secret) {
        let mut known = self.known();
        if known
            .held
            .as_ref()
            .is_some_and(|held| held.credential.value == *refused)
        {
            known.held = None;
        }
    }
}

impl TokenCentre {
    fn slot(&self, kind: Kind) -> &Slot {
        &self.0.slots[kind as usize]
    }

    fn key(&self, kind: Kind) -> String {
        format!("{}/{}", self.0.app_id, kind.name())
    }

    /// The value that is stored, unless it is over, dead, or sealed under a key that is gone.
    fn open(&self, kind: Kind, stored: &StoredCredential) -> Option<Secret> {
        let sealed = stored
            .value
            .as_ref()
            .filter(|_| stored.expires_in > Duration::ZERO)?;
        match self.0.vault.open(kind.name(), sealed) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(
                    credential = kind.name(),
                    "the stored {} can't be read: {error}; fetching anew",
                    kind.name()
                );
                None
            }
        }
    }

    /// Reads the store. The holder of a value that the store does not have yet writes it first.
    async fn read(&self, kind: Kind) -> Result<StoredCredential, ApiError> {
        let unpublished = self
            .slot(kind)
            .known()
            .held
            .clone()
            .filter(|held| held.is_unpublished);
        if let Some(held) = unpublished {
            self.publish(kind, held.generation - 1, &held.credential)
                .await;
        }
        Ok(self.0.store.credential(&self.key(kind)).await?)
    }

    /// What is stored, if it is good. Needs no flight.
    async fn stored(&self, kind: Kind) -> Option<Credential> {
        let stored = self.0.store.credential(&self.key(kind)).await.ok()?;
        self.fitting(kind, &stored, &Need::Good)
    }

    /// Ends the life of a value that the platform refused, here and in the store, unless a newer one is
    /// stored.
    async fn expire(&self, kind: Kind, refused: &Secret) -> Result<(), ApiError> {
        self.slot(kind).forget(refused);
        let stored = self.read(kind).await?;
        let is_stored = self
            .open(kind, &stored)
            .is_some_and(|value| value == *refused);
        if is_stored
            && self
                .0
                .store
                .expire_credential(&self.key(kind), stored.generation)
                .await?
        {
            tracing::info!(
                credential = kind.name(),
                "the platform refused the {}: fetching a new one",
                kind.name()
            );
        }
        Ok(())
    }

    /// Reads, waits for another holder, or fetches, until there is a value that fits. The caller
    /// holds the flight.
    async fn obtain(&self, kind: Kind, need: &Need) -> Result<Credential, ApiError> {
        if let Need::OtherThan {
            value,
            is_dead: true,
        } = need
        {
            self.expire(kind, value).await?;
        }
        let give_up_at = Instant::now() + CALLER_DEADLINE;
        let key = self.key(kind);
        loop {
            let stored = match self.read(kind).await {
                Ok(stored) => stored,
                Err(error) => return self.remembered(kind, need).ok_or(error),
            };
            if let Some(credential) = self.fitting(kind, &stored, need) {
                return Ok(credential);
            }
            if let Some(error) = self.blocked(kind, need) {
                return self.still_good(kind, &stored, need).ok_or(error);
            }
            // The lease is as long as one fetch. The token that a ticket's fetch needs may take another.
            if kind != Kind::AccessToken
                && let Err(error) = self.get_boxed(Kind::AccessToken).await
            {
                return self.still_good(kind, &stored, need).ok_or(error);
            }
            match self
                .0
                .store
                .lease_credential(&key, &self.0.owner, LEASE)
                .await?
            {
                // Whoever held the lease before may have published between our look and our lease.
                Lease::Held(stored) => match self.fitting(kind, &stored, need) {
                    Some(credential) => {
                        self.release(&key).await;
                        return Ok(credential);
                    }
                    None => match self.fetch_and_publish(kind, &stored, need).await {
                        Ok(Some(credential)) => return Ok(credential),
                        // Another has published meanwhile: read it.
                        Ok(None) => {}
                        Err(error) => {
                            self.release(&key).await;
                            return self.still_good(kind, &stored, need).ok_or(error);
                        }
                    },
                },
                Lease::Busy(stored) => {
                    if let Need::NewerThan(_) = *need
                        && let Some(credential) = self.still_good(kind, &stored, need)
                    {
                        return Ok(credential);
                    }
                    let jitter = Duration::from_millis(rand::random_range(0..50));
                    tokio::time::sleep(LOOK_EVERY + jitter).await;
                }
            }
            if Instant::now() >= give_up_at {
                return Err(ApiError::Timeout);
            }
        }
    }

    async fn release(&self, key: &str) {
        if let Err(error) = self.0.store.release_credential(key, &self.0.owner).await {
            tracing::debug!(%error, "the lease is left to run out");
        }
    }

    /// The stored value, remembered, if it is what is needed.
    fn fitting(&self, kind: Kind, stored: &StoredCredential, need: &Need) -> Option<Credential> {
        let value = self.open(kind, stored)?;
        let fits = match need {
            Need::Good => true,
            Need::NewerThan(generation) => {
                stored.generation > *generation || stored.age < FETCH_EVERY
            }
            Need::OtherThan { value: other, .. } => value != *other,
        };
        fits.then(|| self.remember(kind, value, stored.expires_in, stored.generation))
    }

    /// The stored value, near its end or reported as it may be, when there is no better one to be had.
    fn still_good(&self, kind: Kind, stored: &StoredCredential, need: &Need) -> Option<Credential> {
        match need {
            Need::Good | Need::NewerThan(_) => self.fitting(kind, stored, &Need::Good),
            Need::OtherThan { .. } => None,
        }
    }

    /// While the store is away, what this process knows goes on being served.
    fn remembered(&self, kind: Kind, need: &Need) -> Option<Credential> {
        let mut known = self.slot(kind).known();
        let held = known.held.as_mut()?;
        let fits = match need {
            Need::Good | Need::NewerThan(_) => true,
            Need::OtherThan { value, .. } => held.credential.value != *value,
        };
        if !fits || held.credential.expires_in().is_zero() {
            return None;
        }
        // Or every caller would wait for the store in turn.
        held.read_at = Instant::now();
        Some(held.credential.clone())
    }

    fn remember(
        &self,
        kind: Kind,
        value: Secret,
        expires_in: Duration,
        generation: u64,
    ) -> Credential {
        let now = Instant::now();
        let mut known = self.slot(kind).known();
        // The same value keeps its plan, or a look every 2 s would draw the jitter again and again.
        if let Some(held) = known.held.as_mut()
            && held.generation == generation
            && held.credential.value == value
        {
            held.read_at = now;
            return held.credential.clone();
        }
        let ahead = REFRESH_AHEAD
            .min(expires_in / 4)
            .mul_f64(rand::random_range(0.8..1.0));
        let credential = Credential {
            value,
            expires_at: now + expires_in,
        };
        known.held = Some(Held {
            credential: credential.clone(),
            generation,
            first_seen: now,
            read_at: now,
            refresh_at: credential.expires_at - ahead,
            is_unpublished: false,
        });
        credential
    }

    /// The refusal that stands, if only an operator can mend it and it is not time to ask again.
    fn blocked(&self, kind: Kind, need: &Need) -> Option<ApiError> {
        let known = self.slot(kind).known();
        if let Some((until, error)) = &known.blocked
            && Instant::now() < *until
        {
            return Some(error.clone());
        }
        let is_too_soon = known
            .fetched_at
            .is_some_and(|at| at.elapsed() < FETCH_EVERY);
        match need {
            Need::NewerThan(_) if is_too_soon => Some(ApiError::Timeout),
            _ => None,
        }
    }

    /// Fetches under the lease. `None`: another generation was published first.
    async fn fetch_and_publish(
        &self,
        kind: Kind,
        stored: &StoredCredential,
        need: &Need,
    ) -> Result<Option<Credential>, ApiError> {
        let fetched = match self.fetch(kind, need).await {
            Ok(fetched) => fetched,
            Err(error) => {
                self.note_failure(kind, &error);
                return Err(error);
            }
        };
        {
            let mut known = self.slot(kind).known();
            known.fetched_at = Some(Instant::now());
            known.blocked = None;
        }
        self.0.metrics.count_refresh(kind.name(), "ok");
        if !self.publish(kind, stored.generation, &fetched).await {
            return Ok(None);
        }
        tracing::info!(
            credential = kind.name(),
            expires_in_s = fetched.expires_in().as_secs(),
            "fetched a new {}",
            kind.name()
        );
        Ok(Some(fetched))
    }

    /// Writes a fetched value over `generation`. While the store is away the value is kept in memory,
    /// for in classic mode there is no other. Returns whether the value is the one to use.
    async fn publish(&self, kind: Kind, generation: u64, fetched: &Credential) -> bool {
        let sealed = self.0.vault.seal(kind.name(), fetched.value.expose());
        let key = self.key(kind);
        let mut is_published = self
            .0
            .store
            .publish_credential(
                &key,
                &self.0.owner,
                generation,
                &sealed,
                fetched.expires_in(),
            )
            .await;
        if matches!(is_published, Ok(false)) {
            // An earlier try that got no answer may have taken effect: then what is stored is ours.
            is_published = self.0.store.credential(&key).await.map(|stored| {
                self.open(kind, &stored)
                    .is_some_and(|value| value == fetched.value)
            });
        }
        let is_ours = match &is_published {
            Ok(is_ours) => *is_ours,
            Err(error) => {
                tracing::warn!(credential = kind.name(), %error, "the new {} is kept in memory until the store is back", kind.name());
                true
            }
        };
        if is_ours {
            self.remember(
                kind,
                fetched.value.clone(),
                fetched.expires_in(),
                generation + 1,
            );
        }
        if let Some(held) = self.slot(kind).known().held.as_mut() {
            held.is_unpublished = is_published.is_err() && is_ours;
        }
        is_ours
    }

    fn note_failure(&self, kind: Kind, error: &ApiError) {
        self.0.metrics.count_refresh(kind.name(), "failed");
        let blocked_for = match (error.class(), error.errcode()) {
            (Class::Operator | Class::Quota, _) => Some(BLOCKED_FOR),
            // On the token's own call it means a wrong secret, and a second try would fail alike.
            (_, Some(40001)) if kind == Kind::AccessToken => Some(BLOCKED_FOR),
            // Too many calls in this minute.
            (_, Some(45011)) => Some(Duration::from_secs(60)),
            _ => None,
        };
        let now = Instant::now();
        {
            let mut known = self.slot(kind).known();
            if let Some(blocked_for) = blocked_for {
                known.blocked = Some((now + blocked_for, error.clone()));
            }
            if let Some(held) = known.held.as_mut() {
                held.refresh_at = now + REFRESH_AGAIN.mul_f64(rand::random_range(0.5..1.5));
            }
        }
        let cure = error
            .errcode()
            .and_then(advice)
            .unwrap_or("the old one stays in service while it lives");
        tracing::error!(
            credential = kind.name(),
            errcode = error.errcode(),
            %error,
            "no new {}: {cure}",
            kind.name()
        );
    }
}
