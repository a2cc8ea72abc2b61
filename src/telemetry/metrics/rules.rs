//! The rules of `REPLIES`.

use prometheus::{IntCounterVec, Opts, Registry};

use super::RENEWALS;
use super::words::Words;

/// The rules of `REPLIES`.
#[derive(Clone, Debug)]
pub struct RuleMetrics {
    fits: IntCounterVec,
    reloads: Words,
}

impl RuleMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            fits: IntCounterVec::new(
                Opts::new(
                    "offiaccount_rule_fits_total",
                    "Messages that a rule fitted, by the rule's name or number.",
                ),
                &["rule"],
            )?,
            reloads: Words::register(
                registry,
                "offiaccount_rules_reloads_total",
                "Changes of the file of rules: ok, or failed and the last good rules stayed.",
                "outcome",
                RENEWALS,
            )?,
        };
        registry.register(Box::new(this.fits.clone()))?;
        Ok(this)
    }

    /// Counts a message that a rule fitted. The rules are those of one file, so their names are few.
    pub fn count_fit(&self, rule: &str) {
        self.fits.with_label_values(&[rule]).inc();
    }

    /// Lets go of a rule that is gone from the file.
    pub fn forget(&self, rule: &str) {
        // It may never have fitted.
        let _ = self.fits.remove_label_values(&[rule]);
    }

    /// Counts a change of the file: `ok` or `failed`.
    pub fn count_reload(&self, outcome: &'static str) {
        self.reloads.count(outcome);
    }
}
