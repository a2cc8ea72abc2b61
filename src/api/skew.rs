//! How far the platform's clock is from ours, learned from the `Date` of its answers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A skew beyond this is worth a warning.
const WARN_OVER: i64 = 30;
const UNKNOWN: i64 = i64::MIN;

/// The platform's clock less ours, in seconds. `Date` has whole seconds, so 1 s is no skew.
#[derive(Debug)]
pub struct Skew(AtomicI64);

impl Default for Skew {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl Skew {
    /// The skew, if an answer has told it.
    pub fn seconds(&self) -> Option<i64> {
        let seconds = self.0.load(Ordering::Relaxed);
        (seconds != UNKNOWN).then_some(seconds)
    }

    /// Our clock, corrected to the platform's. Unix seconds.
    pub fn now(&self) -> i64 {
        unix_seconds(SystemTime::now()) + self.seconds().unwrap_or(0)
    }

    /// Learns from an answer that arrived `elapsed` after the call was sent.
    pub(super) fn observe(&self, date: SystemTime, elapsed: Duration) {
        let midway = SystemTime::now() - elapsed / 2;
        let seconds = unix_seconds(date) - unix_seconds(midway);
        let seconds = if seconds.abs() <= 1 { 0 } else { seconds };
        let before = self.0.swap(seconds, Ordering::Relaxed);
        let was_far = before != UNKNOWN && before.abs() > WARN_OVER;
        if seconds.abs() > WARN_OVER && !was_far {
            tracing::warn!(
                skew_s = seconds,
                "this machine's clock and WeChat's differ by {seconds} s: set it by NTP, deliveries are refused beyond 300 s"
            );
        }
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs().cast_signed(),
        Err(before) => -before.duration().as_secs().cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_corrected_by_what_was_seen() {
        let skew = Skew::default();
        assert_eq!(skew.seconds(), None);
        skew.observe(SystemTime::now() + Duration::from_secs(600), Duration::ZERO);
        assert!((skew.seconds().unwrap() - 600).abs() <= 1);
        assert!((skew.now() - unix_seconds(SystemTime::now()) - 600).abs() <= 2);
        skew.observe(SystemTime::now(), Duration::ZERO);
        assert_eq!(skew.seconds(), Some(0), "whole seconds are no skew");
    }
}
