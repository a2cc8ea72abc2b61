//! Customer-service messages.

use prometheus::Registry;

use super::words::Words;

/// What [`CustomerServiceMetrics::count`] counts.
const SENDINGS: &[&str] = &[
    "sent",
    "refused_window",
    "refused_count",
    "not_allowed",
    "unsendable",
    "failed",
    "unclear",
];

/// Customer-service messages.
#[derive(Clone, Debug)]
pub struct CustomerServiceMetrics {
    messages: Words,
}

impl CustomerServiceMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let messages = Words::register(
            registry,
            "offiaccount_customer_service_messages_total",
            "Customer-service messages, by outcome. Refused and not allowed: mostly before any call.",
            "outcome",
            SENDINGS,
        )?;
        Ok(Self { messages })
    }

    /// Counts a message: `sent`; `refused_window` or `refused_count` by the user's windows,
    /// `not_allowed` to the account, `unsendable` by its kind; `failed`, or `unclear` without an answer.
    pub fn count(&self, outcome: &'static str) {
        self.messages.count(outcome);
    }
}
