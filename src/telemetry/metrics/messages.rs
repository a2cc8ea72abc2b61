//! Deliveries and messages.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::words::Words;

/// How nearly all messages end, so its series are looked up once.
const USUAL: (&str, &str) = ("text", "answered");
/// What [`MessageMetrics::count_delivery`] counts.
const ANSWERS: &[&str] = &["reply", "success", "thinking", "held", "abandoned", "shed"];
/// What [`MessageMetrics::count_repeat`] counts.
const FOUND: &[&str] = &["joined", "kept", "twice"];
/// What [`MessageMetrics::count_late`] counts.
const STEPS: &[&str] = &["customer_service", "kept", "given", "dropped"];
/// What [`MessageMetrics::count_refused`] counts.
const REFUSALS: &[&str] = &[
    "query",
    "signature",
    "stale",
    "not_encrypted",
    "encrypted",
    "decryption",
    "envelope",
    "replay",
    "malformed",
];

/// How messages end.
#[derive(Clone, Debug)]
pub struct MessageMetrics {
    handled: IntCounterVec,
    seconds: HistogramVec,
    /// Both of [`USUAL`].
    usual: (IntCounter, Histogram),
    deliveries: Words,
    repeats: Words,
    late: Words,
    refused: Words,
    panics: IntCounter,
    in_progress: IntGaugeVec,
}

impl MessageMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let handled = IntCounterVec::new(
            Opts::new(
                "offiaccount_messages_total",
                "Messages handled, by kind and outcome.",
            ),
            &["kind", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "offiaccount_message_seconds",
                "Time of handlers, by kind. WeChat waits 5 s for an answer, three times.",
            )
            .buckets(vec![
                0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 4.5, 5.0, 10.0, 14.5, 30.0, 60.0,
            ]),
            &["kind"],
        )?;
        let this = Self {
            usual: (
                handled.with_label_values(&[USUAL.0, USUAL.1]),
                seconds.with_label_values(&[USUAL.0]),
            ),
            handled,
            seconds,
            deliveries: Words::register(
                registry,
                "offiaccount_deliveries_total",
                "Deliveries, by what each was answered.",
                "answer",
                ANSWERS,
            )?,
            repeats: Words::register(
                registry,
                "offiaccount_deliveries_repeated_total",
                "Deliveries of a message that was delivered before, by what they found.",
                "found",
                FOUND,
            )?,
            late: Words::register(
                registry,
                "offiaccount_late_answers_total",
                "Answers that no delivery of their message carried, by the step that they took.",
                "step",
                STEPS,
            )?,
            refused: Words::register(
                registry,
                "offiaccount_deliveries_refused_total",
                "Deliveries refused before any handling, by cause.",
                "cause",
                REFUSALS,
            )?,
            panics: IntCounter::new(
                "offiaccount_handler_panics_total",
                "Handlers that panicked.",
            )?,
            in_progress: IntGaugeVec::new(
                Opts::new(
                    "offiaccount_messages_in_progress",
                    "Messages at this instance that are being handled, or wait for their turn.",
                ),
                &["state"],
            )?,
        };
        registry.register(Box::new(this.handled.clone()))?;
        registry.register(Box::new(this.seconds.clone()))?;
        registry.register(Box::new(this.panics.clone()))?;
        registry.register(Box::new(this.in_progress.clone()))?;
        Ok(this)
    }

    /// Counts a handled message. `kind` is a `MsgType`, or `event` and the event's name, of the known ones.
    pub fn count_handled(&self, kind: &str, outcome: &'static str, elapsed: Duration) {
        if (kind, outcome) == USUAL {
            self.usual.0.inc();
            return self.usual.1.observe(elapsed.as_secs_f64());
        }
        self.handled.with_label_values(&[kind, outcome]).inc();
        self.seconds
            .with_label_values(&[kind])
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a delivery by its answer: `reply`, `success`, `thinking`, `held` for none, so that the
    /// platform delivers again, `abandoned` for 503 as no reply comes from here, `shed` for too many.
    pub fn count_delivery(&self, answer: &'static str) {
        self.deliveries.count(answer);
    }

    /// Counts a delivery that was not the message's first: it `joined` the running handler, or got the
    /// `kept` reply.
    pub fn count_repeat(&self, how: &'static str) {
        self.repeats.count(how);
    }

    /// Counts an answer that no delivery of its message carried, by the step that it took.
    pub fn count_late(&self, step: &'static str) {
        self.late.count(step);
    }

    /// Counts a delivery that was refused.
    pub fn count_refused(&self, cause: &'static str) {
        self.refused.count(cause);
    }

    /// Counts a handler's panic.
    pub fn count_panic(&self) {
        self.panics.inc();
    }

    /// Sets the gauges of messages that are `handled` at the moment, and of those `waiting` behind one
    /// of the same user.
    pub fn set_in_progress(&self, handled: usize, waiting: usize) {
        for (state, messages) in [("handled", handled), ("waiting", waiting)] {
            self.in_progress
                .with_label_values(&[state])
                .set(i64::try_from(messages).unwrap_or(i64::MAX));
        }
    }
}
