//! How a value is obtained: read, waited for, or fetched under the lease and published.

use std::time::{Duration, Instant};

use super::{Credential, Kind, TokenCentre};
use crate::api::{ApiError, Class, advice};
use crate::secret::Secret;
use crate::store::{Lease, StoredCredential};

/// Longer than two tries of a fetch, each of [`FETCH_DEADLINE`], and the pause between them.
pub(super) const LEASE: Duration = Duration::from_secs(7);
/// How long a caller waits for a value: its own fetch, or another holder's lease and one more fetch.
const CALLER_DEADLINE: Duration = Duration::from_secs(15);
/// How often those who wait for another holder look.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a look at the store may keep a caller who could be served.
const LOOK_WITHIN: Duration = Duration::from_millis(300);
/// No new fetch this soon after one that succeeded, unless a call was refused.
const FETCH_EVERY: Duration = Duration::from_secs(45);
/// How long a refusal that only an operator can mend is remembered.
const BLOCKED_FOR: Duration = Duration::from_secs(300);

/// What a look at the store tells.
pub(super) enum Look {
    Good(Credential),
    /// There is no value that is good.
    Gone,
    /// The store did not answer.
    Unknown,
}

/// What makes a stored value not good enough.
#[derive(Clone)]
pub(super) enum Need {
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

    /// Reads the store. The holder of a value that the store does not have yet writes it first; while
    /// that fails, what is stored is older than what is known here.
    async fn read(&self, kind: Kind) -> Result<StoredCredential, ApiError> {
        let unpublished = || {
            let held = self.slot(kind).known().held.clone();
            held.filter(|held| held.is_unpublished)
        };
        if let Some(held) = unpublished() {
            self.publish(kind, held.generation - 1, &held.credential)
                .await;
            if unpublished().is_some() {
                return Err(ApiError::Store("it does not take the newest value".into()));
            }
        }
        Ok(self.0.store.credential(&self.key(kind)).await?)
    }

    /// Looks whether the value that is known here is still the stored one. The caller holds the flight.
    pub(super) async fn look(&self, kind: Kind) -> Look {
        let looking = tokio::time::timeout(LOOK_WITHIN, self.read(kind)).await;
        match looking {
            Ok(Ok(stored)) => match self.fitting(kind, &stored, &Need::Good) {
                Some(credential) => Look::Good(credential),
                // Expired by another instance, whose call was refused with it.
                None => {
                    self.slot(kind).known().held = None;
                    Look::Gone
                }
            },
            Ok(Err(_)) | Err(_) => {
                self.slot(kind).postpone_look();
                Look::Unknown
            }
        }
    }

    /// What is stored, if it is good. Needs no flight, and one look serves all who came before its end:
    /// thousands of cold callers must not ask the store one by one.
    pub(super) async fn stored_for_all(&self, kind: Kind) -> Option<Credential> {
        let came_at = Instant::now();
        let slot = self.slot(kind);
        let mut looked_at = slot.looked_at.lock().await;
        if looked_at.is_some_and(|at| at >= came_at) {
            let held = slot.good().filter(|held| held.read_at >= came_at);
            return held.map(|held| held.credential);
        }
        let stored = self.0.store.credential(&self.key(kind)).await;
        let found = stored
            .ok()
            .and_then(|it| self.fitting(kind, &it, &Need::Good));
        *looked_at = Some(Instant::now());
        found
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
    pub(super) async fn obtain(&self, kind: Kind, need: &Need) -> Result<Credential, ApiError> {
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
                Err(error) => return self.known_here(kind, need).ok_or(error),
            };
            if let Some(credential) = self.fitting(kind, &stored, need) {
                return Ok(credential);
            }
            if self.is_too_soon(kind, need)
                && let Some(credential) = self.still_good(kind, &stored, need)
            {
                return Ok(credential);
            }
            if let Some(error) = self.blocked(kind) {
                return self.still_good(kind, &stored, need).ok_or(error);
            }
            // The lease is as long as one fetch. The token that a ticket's fetch needs may take another.
            if kind != Kind::AccessToken
                && let Err(error) = self.get_boxed(Kind::AccessToken).await
            {
                return self.still_good(kind, &stored, need).ok_or(error);
            }
            let leased_at = Instant::now();
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
                            // Where this process stood still, another has taken over meanwhile.
                            let stored = if leased_at.elapsed() < LEASE {
                                stored
                            } else {
                                self.read(kind).await.unwrap_or(stored)
                            };
                            return self
                                .fitting(kind, &stored, need)
                                .or_else(|| self.still_good(kind, &stored, need))
                                .ok_or(error);
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
        if self.slot(kind).is_dead(&value, stored.generation) {
            return None;
        }
        let fits = match need {
            Need::Good => true,
            Need::NewerThan(generation) => {
                stored.generation > *generation || stored.age < FETCH_EVERY
            }
            Need::OtherThan { value: other, .. } => value != *other,
        };
        fits.then(|| {
            self.slot(kind)
                .remember(value, stored.expires_in, stored.generation)
        })
    }

    /// The stored value, near its end or reported as it may be, when there is no better one to be had.
    fn still_good(&self, kind: Kind, stored: &StoredCredential, need: &Need) -> Option<Credential> {
        match need {
            Need::Good | Need::NewerThan(_) => self.fitting(kind, stored, &Need::Good),
            Need::OtherThan { .. } => None,
        }
    }

    /// While the store is away, what this process knows goes on being served.
    fn known_here(&self, kind: Kind, need: &Need) -> Option<Credential> {
        let slot = self.slot(kind);
        let credential = slot.good()?.credential;
        let fits = match need {
            Need::Good | Need::NewerThan(_) => true,
            Need::OtherThan { value, .. } => credential.value != *value,
        };
        slot.postpone_look();
        fits.then_some(credential)
    }

    /// The refusal that stands, if only an operator can mend it and it is not time to ask again.
    fn blocked(&self, kind: Kind) -> Option<ApiError> {
        match &self.slot(kind).known().blocked {
            Some((until, error)) if Instant::now() < *until => Some(error.clone()),
            _ => None,
        }
    }

    /// Whether a successor would be fetched too soon after the last fetch.
    fn is_too_soon(&self, kind: Kind, need: &Need) -> bool {
        let fetched_at = self.slot(kind).known().fetched_at;
        matches!(need, Need::NewerThan(_))
            && fetched_at.is_some_and(|at| at.elapsed() < FETCH_EVERY)
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
        let is_known = self
            .open(kind, stored)
            .is_some_and(|value| value == fetched.value);
        if !self.publish(kind, stored.generation, &fetched).await {
            return Ok(None);
        }
        let newness = if is_known { "the same" } else { "a new" };
        tracing::info!(
            credential = kind.name(),
            expires_in_s = fetched.expires_in().as_secs(),
            "the platform gave {newness} {}",
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
            self.slot(kind)
                .remember(fetched.value.clone(), fetched.expires_in(), generation + 1);
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
        let slot = self.slot(kind);
        if let Some(blocked_for) = blocked_for {
            slot.known().blocked = Some((Instant::now() + blocked_for, error.clone()));
        }
        slot.postpone_refresh();
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
