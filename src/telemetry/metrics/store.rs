//! The store.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

/// How long store operations take and how they end.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    latency: HistogramVec,
}

impl StoreMetrics {
    /// Registers the family `offiaccount_store_seconds`.
    ///
    /// # Errors
    ///
    /// When the registry holds a family of that name already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let latency = HistogramVec::new(
            HistogramOpts::new(
                "offiaccount_store_seconds",
                "Time of store operations, by operation and outcome.",
            )
            .buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.2, 5.0,
            ]),
            &["operation", "outcome"],
        )?;
        registry.register(Box::new(latency.clone()))?;
        Ok(Self { latency })
    }

    /// Counts one operation.
    pub fn observe(&self, operation: &'static str, outcome: &'static str, elapsed: Duration) {
        self.latency
            .with_label_values(&[operation, outcome])
            .observe(elapsed.as_secs_f64());
    }

    /// An operation's good ends, for one that is too frequent to be looked up each time.
    pub(crate) fn good_ends(&self, operation: &'static str) -> Histogram {
        self.latency.with_label_values(&[operation, "ok"])
    }
}
