//! One message at this instance: how far it has come, and the deliveries that wait for its reply.
//!
//! These are the first steps of the ladder for slow answers. A delivery whose reply is ready in time
//! carries it. The first and the second are else left without an answer, so that the platform delivers
//! again; the third is always answered in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Said;
use crate::store::{DELIVERIES_END, Digest};
use crate::wechat::Message;

/// Every answer is sent this soon after its delivery: the platform hangs up at 5 s.
const ANSWER_WITHIN: Duration = Duration::from_millis(4_400);
/// After this long the platform may have hung up, which a process that stood still does not know yet.
const LISTENS_FOR: Duration = Duration::from_millis(4_900);
/// A delivery that is to get no answer is held this long: past the platform's own deadline.
const HOLD_FOR: Duration = Duration::from_millis(5_600);
/// The platform's deadline, and so the time between two deliveries.
const DELIVERY_EVERY: Duration = Duration::from_secs(5);
/// The number of deliveries.
const LAST_DELIVERY: u32 = 3;

/// A message that was delivered here, until its reply is written down and given.
pub(super) struct Ticket {
    pub(super) key: Digest,
    pub(super) message: Arc<Message>,
    progress: Mutex<Progress>,
    /// Told of a reply, of a delivery that carries it, and of the end.
    changed: Notify,
    is_stored: AtomicBool,
}

struct Progress {
    /// Deliveries counted, here and elsewhere.
    deliveries: u32,
    first_seen: Instant,
    /// When the last delivery arrived here.
    arrived: Instant,
    /// Deliveries that wait here.
    waiting: u32,
    /// Those of them that could carry the reply if it were ready now.
    carriers: u32,
    /// One has carried it.
    is_carried: bool,
    /// A delivery was answered without the reply: the platform delivers no more.
    is_over: bool,
    state: State,
}

enum State {
    Open,
    Said(Arc<Said>),
    Busy,
    Abandoned,
}

/// Where a reply that is ready goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// A delivery carries it.
    Carried,
    /// The next delivery will, if it comes here.
    Open,
    /// No delivery comes any more.
    Over,
    /// There was a reply already, from another instance: that one counts.
    Already,
}

/// How the wait of a delivery ended.
pub(super) enum Waited {
    /// With the reply.
    Said(Arc<Said>),
    /// Without, and it must be answered now.
    Last,
    /// Without, and it gets no answer: [`Carrier::hold`] it until the platform has hung up.
    Held,
    /// Without: no reply will come from here.
    Abandoned,
    /// Too many messages wait.
    Busy,
}

impl Ticket {
    /// A message that was first seen `now`.
    pub(super) fn new(message: Arc<Message>, now: Instant) -> Self {
        Self {
            key: Digest(message.ledger_key()),
            message,
            progress: Mutex::new(Progress {
                deliveries: 0,
                first_seen: now,
                arrived: now,
                waiting: 0,
                carriers: 0,
                is_carried: false,
                is_over: false,
                state: State::Open,
            }),
            changed: Notify::new(),
            is_stored: AtomicBool::new(false),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, is_so: impl Fn(&Progress) -> bool) {
        loop {
            // Before the look: it is told of all that happens from here on.
            let changed = self.changed.notified();
            if is_so(&self.progress()) {
                return;
            }
            changed.await;
        }
    }

    /// The store knows the message: it is not lost with this process.
    pub(super) fn note_stored(&self) {
        self.is_stored.store(true, Ordering::Relaxed);
    }

    /// Whether the store knows it.
    pub(super) fn is_stored(&self) -> bool {
        self.is_stored.load(Ordering::Relaxed)
    }

    /// Counts a delivery that `arrived` here. It is the `nth` at least, whoever had those before.
    pub(super) fn deliver(self: &Arc<Self>, nth: u32, arrived: Instant) -> Carrier {
        let mut progress = self.progress();
        progress.deliveries = nth.max(progress.deliveries + 1);
        progress.waiting += 1;
        progress.carriers += 1;
        progress.arrived = arrived;
        Carrier {
            ticket: Arc::clone(self),
            arrived,
            is_carrier: true,
        }
    }

    /// Adds what the store knows of deliveries elsewhere.
    pub(super) fn count_elsewhere(&self, deliveries: u32, since_first: Duration) {
        let mut progress = self.progress();
        progress.deliveries = progress.deliveries.max(deliveries);
        if since_first.is_zero() {
            return;
        }
        if let Some(first_seen) = Instant::now().checked_sub(since_first) {
            progress.first_seen = progress.first_seen.min(first_seen);
        }
    }

    /// Whether a delivery waits here that can carry a reply, and the next one, which may come to another
    /// instance, is still so far from `now`.
    pub(super) fn has_carrier_for(&self, duration: Duration, now: Instant) -> bool {
        let progress = self.progress();
        progress.carriers > 0 && now.duration_since(progress.arrived) + duration <= DELIVERY_EVERY
    }

    /// Whether any delivery waits here.
    pub(super) fn is_waited_for(&self) -> bool {
        self.progress().waiting > 0
    }

    /// Whether a delivery here has carried the reply.
    pub(super) fn is_carried(&self) -> bool {
        self.progress().is_carried
    }

    /// Whether no delivery will carry the reply, if it is ready `now`.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.progress().is_over(now)
    }

    /// Hands the reply to every delivery that waits `now`, and to those that come yet.
    pub(super) fn publish(&self, said: Said, now: Instant) -> Published {
        let mut progress = self.progress();
        if matches!(progress.state, State::Said(_)) {
            return Published::Already;
        }
        let published = if progress.has_listener(now) {
            progress.is_carried = true;
            Published::Carried
        } else if progress.is_over(now) {
            if !said.reply.is_silent() {
                return Published::Over;
            }
            Published::Over
        } else {
            Published::Open
        };
        progress.state = State::Said(Arc::new(said));
        drop(progress);
        self.changed.notify_waiters();
        published
    }

    /// Turns every delivery away: too much waits.
    pub(super) fn refuse(&self) {
        self.end(State::Busy);
    }

    /// Lets every delivery go that still waits: its reply will not come from here.
    pub(super) fn abandon(&self) {
        self.end(State::Abandoned);
    }

    fn end(&self, state: State) {
        let mut progress = self.progress();
        if matches!(progress.state, State::Open) {
            progress.state = state;
            drop(progress);
            self.changed.notify_waiters();
        }
    }

    /// When no delivery comes any more.
    pub(super) fn deliveries_end(&self) -> Instant {
        self.progress().first_seen + DELIVERIES_END
    }

    /// Waits until a delivery carries the published reply. Returns whether one did before the last had
    /// to be over.
    pub(super) async fn is_carried_in_time(&self) -> bool {
        let until = self.deliveries_end();
        let carried = self.until(|progress| progress.is_carried);
        tokio::time::timeout_at(until.into(), carried).await.is_ok()
    }
}

impl Progress {
    /// Which delivery it is by now: the number counted or, where larger, one for each 5 s since the
    /// ledger first saw the message.
    fn delivery(&self) -> u32 {
        self.deliveries.max(nth_after(self.first_seen.elapsed()))
    }

    /// Whether a delivery waits at whose other end the platform still listens.
    fn has_listener(&self, now: Instant) -> bool {
        self.carriers > 0 && now.duration_since(self.arrived) < LISTENS_FOR
    }

    fn is_over(&self, now: Instant) -> bool {
        let is_late = || now.duration_since(self.first_seen) >= DELIVERIES_END;
        !self.has_listener(now) && (self.is_over || is_late())
    }
}

/// Which delivery it is so long after the first.
pub(super) fn nth_after(first: Duration) -> u32 {
    let nth = first.as_secs() / DELIVERY_EVERY.as_secs() + 1;
    u32::try_from(nth).unwrap_or(u32::MAX)
}

/// A delivery that waits for its message's reply.
pub(super) struct Carrier {
    ticket: Arc<Ticket>,
    arrived: Instant,
    /// Counted among the ticket's carriers.
    is_carrier: bool,
}

impl Carrier {
    /// Waits for the reply, no longer than until `hurrying`. Without `holds` every delivery is answered in
    /// time, the first one too.
    pub(super) async fn wait(&mut self, holds: bool, hurrying: &CancellationToken) -> Waited {
        let is_ready = |progress: &Progress| !matches!(progress.state, State::Open);
        // Nearly always it is, without any waiting.
        let is_ready_now = is_ready(&self.ticket.progress());
        if !is_ready_now {
            let answer_at = self.arrived + ANSWER_WITHIN;
            let ready = self.ticket.until(is_ready);
            // Ready or not: what to do is decided under the lock.
            tokio::select! {
                biased;
                _ = tokio::time::timeout_at(answer_at.into(), ready) => {}
                () = hurrying.cancelled() => {}
            }
        }
        self.step_back(holds)
    }

    /// Waits until the platform has hung up. Past its time a delivery carries no reply, since nobody may
    /// listen any more: the next one carries it.
    pub(super) async fn hold(self) {
        tokio::time::sleep_until((self.arrived + HOLD_FOR).into()).await;
    }

    /// Takes the reply, or stops counting as a carrier.
    fn step_back(&mut self, holds: bool) -> Waited {
        self.is_carrier = false;
        let mut progress = self.ticket.progress();
        progress.carriers -= 1;
        let waited = match &progress.state {
            State::Said(_) if self.arrived.elapsed() >= LISTENS_FOR => Waited::Held,
            State::Said(said) => Waited::Said(Arc::clone(said)),
            State::Busy => Waited::Busy,
            State::Abandoned => Waited::Abandoned,
            State::Open if !holds || progress.delivery() >= LAST_DELIVERY => {
                progress.is_over = true;
                Waited::Last
            }
            State::Open => Waited::Held,
        };
        let carries = matches!(waited, Waited::Said(_)) && !progress.is_carried;
        progress.is_carried |= carries;
        drop(progress);
        if carries {
            self.ticket.changed.notify_waiters();
        }
        waited
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let mut progress = self.ticket.progress();
        progress.waiting -= 1;
        progress.carriers -= u32::from(self.is_carrier);
    }
}
