//! Calls to `FORWARD_URL`.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, Registry};

use super::words::Words;

/// What [`ForwardMetrics::count_call`] counts: three kinds of answers, then the failures.
const FORWARDED: &[&str] = &[
    "reply",
    "nothing",
    "later",
    "unreachable",
    "unavailable",
    "crowded",
    "timeout",
    "tls",
    "broken",
    "redirect",
    "loop",
    "status",
    "too_large",
    "not_json",
    "bad_json",
    "bad_reply",
];
/// What [`ForwardMetrics::count_retry`] and [`ForwardMetrics::count_dead_letter`] count.
const FAILURES: &[&str] = FORWARDED.split_at(3).1;

/// Calls to `FORWARD_URL`.
#[derive(Clone, Debug)]
pub struct ForwardMetrics {
    calls: Words,
    retries: Words,
    dead_letters: Words,
    seconds: Histogram,
}

impl ForwardMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            calls: Words::register(
                registry,
                "offiaccount_forward_calls_total",
                "Messages forwarded, by outcome: reply, nothing, later, or the cause of a failure.",
                "outcome",
                FORWARDED,
            )?,
            retries: Words::register(
                registry,
                "offiaccount_forward_retries_total",
                "Tries of a call that were followed by another, by cause.",
                "cause",
                FAILURES,
            )?,
            dead_letters: Words::register(
                registry,
                "offiaccount_dead_letters_total",
                "Messages that were forwarded in vain, by cause.",
                "cause",
                FAILURES,
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "offiaccount_forward_seconds",
                    "Time from forwarding a message to its answer, all tries together.",
                )
                .buckets(vec![
                    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 4.5, 10.0, 14.5, 30.0, 60.0,
                ]),
            )?,
        };
        registry.register(Box::new(this.seconds.clone()))?;
        Ok(this)
    }

    /// Counts a call that ended, by the word of its answer or its failure.
    pub fn count_call(&self, outcome: &'static str, elapsed: Duration) {
        self.calls.count(outcome);
        self.seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts a try that another follows.
    pub fn count_retry(&self, cause: &'static str) {
        self.retries.count(cause);
    }

    /// Counts a message that was forwarded in vain.
    pub fn count_dead_letter(&self, cause: &'static str) {
        self.dead_letters.count(cause);
    }
}
