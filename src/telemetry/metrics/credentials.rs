//! The token centre.

use std::time::Duration;

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

use super::RENEWALS;
use crate::token::Kind;

/// The token centre.
#[derive(Clone, Debug)]
pub struct CredentialMetrics {
    refreshes: IntCounterVec,
    expires_in: GaugeVec,
    age: GaugeVec,
}

impl CredentialMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            refreshes: IntCounterVec::new(
                Opts::new(
                    "offiaccount_credential_refreshes_total",
                    "Fetches of a credential, by outcome.",
                ),
                &["credential", "outcome"],
            )?,
            expires_in: GaugeVec::new(
                Opts::new(
                    "offiaccount_credential_expires_in_seconds",
                    "What is left of the life of the credential in use.",
                ),
                &["credential"],
            )?,
            age: GaugeVec::new(
                Opts::new(
                    "offiaccount_credential_age_seconds",
                    "Since this instance first saw the credential in use.",
                ),
                &["credential"],
            )?,
        };
        for kind in Kind::ALL {
            for outcome in RENEWALS {
                this.refreshes.with_label_values(&[kind.name(), outcome]);
            }
        }
        registry.register(Box::new(this.refreshes.clone()))?;
        registry.register(Box::new(this.expires_in.clone()))?;
        registry.register(Box::new(this.age.clone()))?;
        Ok(this)
    }

    /// Counts a fetch: `ok` or `failed`.
    pub fn count_refresh(&self, credential: &'static str, outcome: &'static str) {
        self.refreshes
            .with_label_values(&[credential, outcome])
            .inc();
    }

    /// Sets the gauges of a credential that is in use.
    pub fn set_life(&self, credential: &'static str, expires_in: Duration, age: Duration) {
        self.expires_in
            .with_label_values(&[credential])
            .set(expires_in.as_secs_f64());
        self.age
            .with_label_values(&[credential])
            .set(age.as_secs_f64());
    }
}
