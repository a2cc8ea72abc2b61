//! The server's time, for filters.
//!
//! In the filter of an upsert `$$NOW` is not known. So what the server said its time is, is remembered, and
//! counted on by the monotonic clock. What is told is at most [`CLOSE`] ahead of the server's time, give or
//! take what the clocks of servers differ that took over from each other. It may be behind, after the
//! machine has slept: filters have to be such that this makes them hold less often.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mongodb::bson::DateTime;

/// An answer that took longer tells too little.
const CLOSE: Duration = Duration::from_millis(500);
/// What was said longer ago is not counted on.
const GOOD_FOR: Duration = Duration::from_secs(300);
/// After this long it is worth asking again.
const AGING_AFTER: Duration = Duration::from_secs(60);
/// Who got no answer asks again.
const ASK_EVERY: Duration = Duration::from_secs(1);

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

    /// Notes what the server said its time is, in an answer that came `at` to what was `asked_at`.
    pub(super) fn note(&self, now: DateTime, asked_at: Instant, at: Instant) {
        if at.duration_since(asked_at) <= CLOSE {
            let millis = now.timestamp_millis();
            self.lock().said = Some(Said { millis, asked_at });
        }
    }

    /// The server's time, if it is known.
    pub(super) fn now(&self, at: Instant) -> Option<DateTime> {
        let said = self.lock().said?;
        let since = at.duration_since(said.asked_at);
        let millis = i64::try_from(since.as_millis()).ok()?;
        (since < GOOD_FOR).then(|| DateTime::from_millis(said.millis.saturating_add(millis)))
    }

    /// Whether the caller is to ask the server for its time.
    pub(super) fn is_to_be_asked(&self, at: Instant) -> bool {
        let mut state = self.lock();
        let is_within = |then: Instant, limit| at.duration_since(then) < limit;
        if state
            .said
            .is_some_and(|said| is_within(said.asked_at, AGING_AFTER))
            || state
                .asked_at
                .is_some_and(|asked_at| is_within(asked_at, ASK_EVERY))
        {
            return false;
        }
        state.asked_at = Some(at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: DateTime = DateTime::from_millis(1_000_000);

    #[test]
    fn the_time_goes_on_from_what_was_said_until_that_is_too_old() {
        let (clock, began) = (ServerClock::default(), Instant::now());
        assert_eq!(clock.now(began), None);
        clock.note(SAID, began, began + CLOSE);
        for (after, now) in [
            (0, Some(1_000_000)),
            (250, Some(1_000_250)),
            (300_000, None),
        ] {
            let known = clock.now(began + Duration::from_millis(after));
            assert_eq!(known, now.map(DateTime::from_millis), "{after}");
        }
    }

    #[test]
    fn a_late_answer_tells_nothing() {
        let (clock, began) = (ServerClock::default(), Instant::now());
        clock.note(SAID, began, began + CLOSE + Duration::from_millis(1));
        assert_eq!(clock.now(began), None);
    }

    #[test]
    fn one_caller_asks_until_there_is_an_answer_and_again_when_it_ages() {
        let (clock, began) = (ServerClock::default(), Instant::now());
        assert!(clock.is_to_be_asked(began));
        assert!(!clock.is_to_be_asked(began), "another asks");
        let later = began + ASK_EVERY;
        assert!(clock.is_to_be_asked(later), "he got no answer");
        clock.note(SAID, later, later);
        assert!(!clock.is_to_be_asked(later + AGING_AFTER / 2));
        assert!(clock.is_to_be_asked(later + AGING_AFTER));
    }
}
