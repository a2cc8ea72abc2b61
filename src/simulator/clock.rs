//! The platform's clock: the machine's, moved by as much as a test asks for.
//!
//! Tokens, tickets, codes, windows and quotas live by it. Pushes keep the machine's time, since the
//! backend compares their `timestamp` with its own clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in seconds.
pub(crate) type Seconds = i64;

/// How far the platform runs ahead of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    advanced: Seconds,
}

impl Clock {
    pub(crate) fn now(self) -> Seconds {
        machine_seconds().saturating_add(self.advanced)
    }

    pub(crate) fn advance(&mut self, by: Seconds) {
        self.advanced = self.advanced.saturating_add(by);
    }

    pub(crate) fn advanced(self) -> Seconds {
        self.advanced
    }
}

/// The machine's time in seconds.
pub(crate) fn machine_seconds() -> Seconds {
    machine_millis() / 1000
}

/// The machine's time in milliseconds.
pub(crate) fn machine_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
