//! The server's time, for operations that can't ask for it.
//!
//! `$$NOW` is known to expressions alone, which cost the server far more than plain values. So what it said
//! a moment ago is remembered, and counted on by the monotonic clock. A time that is told is at or after the
//! server's own, by no more than a round trip ([`CLOSE`]).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mongodb::bson::DateTime;

/// An answer that took longer tells too little.
const CLOSE: Duration = Duration::from_millis(50);
/// What was said longer ago is not counted on: another server may be the primary by now, and clocks drift.
const GOOD_FOR: Duration = Duration::from_secs(3);
/// After this long it is worth asking again.
const AGING_AFTER: Duration = Duration::from_secs(1);

/// What is known of the server's time.
#[derive(Default)]
pub(super) struct ServerClock(Mutex<State>);

#[derive(Default)]
struct State {
    said: Option<Said>,
    asked_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Said {
    millis: i64,
    asked_at: Instant,
}

impl ServerClock {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the server said its time is, in the answer to what was `asked_at`.
    pub(super) fn note(&self, now: DateTime, asked_at: Instant) {
        if asked_at.elapsed() <= CLOSE {
            let millis = now.timestamp_millis();
            self.lock().said = Some(Said { millis, asked_at });
        }
    }

    /// What was said is not to be counted on: an operation failed, and others may have taken over.
    pub(super) fn forget(&self) {
        self.lock().said = None;
    }

    /// The server's time, if it is known.
    pub(super) fn now(&self) -> Option<DateTime> {
        let said = self.lock().said?;
        let since = said.asked_at.elapsed();
        let millis = i64::try_from(since.as_millis()).ok()?;
        (since < GOOD_FOR).then(|| DateTime::from_millis(said.millis.saturating_add(millis)))
    }

    /// Whether the caller is to ask the server for its time: true for one caller in a second.
    pub(super) fn is_to_be_asked(&self) -> bool {
        let mut state = self.lock();
        let is_recent = |at: Instant| at.elapsed() < AGING_AFTER;
        if state.said.is_some_and(|said| is_recent(said.asked_at))
            || state.asked_at.is_some_and(is_recent)
        {
            return false;
        }
        state.asked_at = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(duration: Duration) -> Instant {
        Instant::now().checked_sub(duration).unwrap()
    }

    #[test]
    fn the_time_goes_on_from_what_was_said() {
        let clock = ServerClock::default();
        assert_eq!(clock.now(), None);
        clock.note(DateTime::from_millis(1_000_000), Instant::now());
        let now = clock.now().unwrap().timestamp_millis();
        assert!((1_000_000..1_000_500).contains(&now), "{now}");
        clock.forget();
        assert_eq!(clock.now(), None);
    }

    #[test]
    fn a_late_answer_and_an_old_one_tell_nothing() {
        let clock = ServerClock::default();
        clock.note(DateTime::from_millis(1), ago(CLOSE * 2));
        assert_eq!(clock.now(), None);
        clock.lock().said = Some(Said {
            millis: 1,
            asked_at: ago(GOOD_FOR),
        });
        assert_eq!(clock.now(), None);
    }

    #[test]
    fn one_caller_asks_when_what_was_said_ages() {
        let clock = ServerClock::default();
        assert!(clock.is_to_be_asked());
        assert!(!clock.is_to_be_asked(), "another asks");
        clock.lock().asked_at = Some(ago(AGING_AFTER));
        assert!(clock.is_to_be_asked(), "he got no answer");
        clock.lock().asked_at = Some(ago(AGING_AFTER));
        clock.note(DateTime::from_millis(1), Instant::now());
        assert!(!clock.is_to_be_asked());
    }
}
