//! The audit list.

use prometheus::{IntCounter, Registry};

use super::words::Words;

/// What [`AuditMetrics::count`] counts.
const ENTRIES: &[&str] = &["written", "lost"];

/// The audit list.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    uses: Words,
    failures: IntCounter,
}

impl AuditMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            uses: Words::register(
                registry,
                "offiaccount_audit_uses_total",
                "Uses of the management routes, by what became of their audit entry: written or lost.",
                "outcome",
                ENTRIES,
            )?,
            failures: IntCounter::new(
                "offiaccount_audit_write_failures_total",
                "Tries to write audit entries that failed; they are tried again.",
            )?,
        };
        registry.register(Box::new(this.failures.clone()))?;
        Ok(this)
    }

    /// Counts uses whose entry was `written` or `lost`.
    pub fn count(&self, outcome: &'static str, uses: u64) {
        self.uses.count_many(outcome, uses);
    }

    /// Counts a write that failed.
    pub fn count_failure(&self) {
        self.failures.inc();
    }
}
