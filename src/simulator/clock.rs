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

/// A day of the calendar in China (UTC+8), where the platform's days begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(i64);

const DAY: Seconds = 24 * 3600;
const EAST: Seconds = 8 * 3600;

impl Day {
    /// The day of a moment.
    pub(crate) fn of(at: Seconds) -> Self {
        Self((at + EAST).div_euclid(DAY))
    }

    /// Reads `2026-11-01`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next()?;
            let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse::<i64>().ok())?
        };
        let (year, month, day) = (part(4)?, part(2)?, part(2)?);
        if parts.next().is_some() || !(1..=12).contains(&month) {
            return None;
        }
        // Years that begin in March: the leap day is then the last one.
        let (y, m) = (year - i64::from(month < 3), (month + 9) % 12);
        let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
        let parsed = Self(days + (153 * m + 2) / 5 + day - 1 - 719_468);
        (parsed.date() == (year, month, day)).then_some(parsed)
    }

    /// Year, month and day of the month.
    pub(crate) fn date(self) -> (i64, i64, i64) {
        let z = self.0 + 719_468;
        let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        (
            yoe + era * 400 + i64::from(month < 3),
            month,
            doy - (153 * mp + 2) / 5 + 1,
        )
    }

    pub(crate) fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// Days from the other one to this.
    pub(crate) fn since(self, other: Self) -> i64 {
        self.0 - other.0
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.date();
        write!(f, "{year:04}-{month:02}-{day:02}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_written_and_begin_in_china() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("2026-11-20", 20_777),
        ] {
            assert_eq!(Day::parse(text), Some(Day(days)));
            assert_eq!(Day(days).to_string(), text);
        }
        for text in [
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "20261101",
            "2026-11-01-1",
        ] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
        assert_eq!(Day::of(1_700_064_000).since(Day::of(1_700_063_999)), 1);
        assert_eq!(Day::of(16 * 3600 - 1).to_string(), "1970-01-01");
        assert_eq!(Day::of(16 * 3600).to_string(), "1970-01-02");
    }
}
