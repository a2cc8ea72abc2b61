//! What this process knows of one credential, and the lock that lets one caller work for all.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Credential;
use crate::api::ApiError;
use crate::secret::Secret;

/// The longest time before the end of a life at which the next value is fetched.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);
/// After a refresh that failed while the old value lives, the next try.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);

/// What this process knows of one credential.
#[derive(Default)]
pub(super) struct Slot {
    known: Mutex<Known>,
    /// Held by the caller that reads or fetches for all.
    flight: Arc<tokio::sync::Mutex<()>>,
    /// When the last look at the store without the flight ended. Held by the caller that looks for all.
    pub(super) looked_at: tokio::sync::Mutex<Option<Instant>>,
    /// A background task is at it.
    pub(super) in_background: AtomicBool,
}

pub(super) type Flight = tokio::sync::OwnedMutexGuard<()>;

#[derive(Default)]
pub(super) struct Known {
    pub(super) held: Option<Held>,
    /// The last value that a call of ours was refused with, and its generation. The store may not know
    /// yet.
    pub(super) dead: Option<(Secret, u64)>,
    /// The last fetch that succeeded here.
    pub(super) fetched_at: Option<Instant>,
    /// The last value forced from the platform here.
    pub(super) forced_at: Option<Instant>,
    /// The last failure here: those who waited for that fetch share it.
    pub(super) failed: Option<(Instant, ApiError)>,
    /// A refusal that only an operator can mend, and until when it is not asked again.
    pub(super) blocked: Option<(Instant, ApiError)>,
}

/// A value as it was last read or fetched.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) credential: Credential,
    pub(super) generation: u64,
    pub(super) first_seen: Instant,
    pub(super) read_at: Instant,
    /// When to fetch the next one: ahead of the end, not at the same moment at each instance.
    pub(super) refresh_at: Instant,
    /// Fetched here and not yet in the store, which was away.
    pub(super) is_unpublished: bool,
}

impl Slot {
    /// Not to be held over an await.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the flight. Whoever waited while another's fetch failed shares that failure, or a
    /// thousand callers would each try in turn.
    pub(super) async fn take_off(&self) -> Result<Flight, ApiError> {
        let began = Instant::now();
        let flight = Arc::clone(&self.flight).lock_owned().await;
        match &self.known().failed {
            Some((at, error)) if *at > began => Err(error.clone()),
            _ => Ok(flight),
        }
    }

    /// Forgets this value for good, unless a newer one is known.
    pub(super) fn forget(&self, refused: &Secret) {
        let mut known = self.known();
        let is_held = |held: &mut Held| held.credential.value == *refused;
        if let Some(held) = known.held.take_if(is_held) {
            known.dead = Some((refused.clone(), held.generation));
        }
    }

    /// Whether a call of ours was refused with this value. Published once more it counts as a new one: the
    /// platform has given it out again.
    pub(super) fn is_dead(&self, value: &Secret, generation: u64) -> bool {
        let known = self.known();
        let dead = known.dead.as_ref();
        dead.is_some_and(|(dead, of)| dead == value && *of == generation)
    }

    /// The value known here, if its life is not over.
    pub(super) fn good(&self) -> Option<Held> {
        let held = self.known().held.clone()?;
        (!held.credential.expires_in().is_zero()).then_some(held)
    }

    /// The flight, if nobody has it.
    pub(super) fn try_take_off(&self) -> Option<Flight> {
        Arc::clone(&self.flight).try_lock_owned().ok()
    }

    /// The store did not answer: what is known is served on, or every caller would wait for it in turn.
    pub(super) fn postpone_look(&self) {
        if let Some(held) = self.known().held.as_mut() {
            held.read_at = Instant::now();
        }
    }

    /// A refresh failed: the next try is not at once.
    pub(super) fn postpone_refresh(&self) {
        if let Some(held) = self.known().held.as_mut() {
            held.refresh_at = Instant::now() + REFRESH_AGAIN.mul_f64(rand::random_range(0.5..1.5));
        }
    }

    /// Notes a value that was read or fetched.
    pub(super) fn remember(
        &self,
        value: Secret,
        expires_in: Duration,
        generation: u64,
    ) -> Credential {
        let now = Instant::now();
        let mut known = self.known();
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
}
