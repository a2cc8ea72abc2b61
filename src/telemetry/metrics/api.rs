//! Calls to the platform.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::api::ApiError;

/// Calls to the platform.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
}

impl ApiMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            calls: IntCounterVec::new(
                Opts::new(
                    "offiaccount_api_calls_total",
                    "Calls to WeChat, by path and errcode (or timeout, network, nonsense).",
                ),
                &["path", "errcode"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "offiaccount_api_seconds",
                    "Time of calls to WeChat, by path.",
                )
                .buckets(vec![
                    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0,
                ]),
                &["path"],
            )?,
        };
        registry.register(Box::new(this.calls.clone()))?;
        registry.register(Box::new(this.seconds.clone()))?;
        Ok(this)
    }

    /// Counts one call.
    pub fn observe(&self, path: &'static str, error: Option<&ApiError>, elapsed: Duration) {
        let errcode = match error {
            None => "0".to_owned(),
            Some(ApiError::Refused { errcode, .. }) => errcode.to_string(),
            Some(ApiError::Timeout) => "timeout".to_owned(),
            Some(ApiError::Unreachable(_) | ApiError::Network(_)) => "network".to_owned(),
            Some(ApiError::Nonsense(_)) => "nonsense".to_owned(),
            Some(ApiError::Store(_)) => "store".to_owned(),
        };
        self.calls.with_label_values(&[path, &errcode]).inc();
        self.seconds
            .with_label_values(&[path])
            .observe(elapsed.as_secs_f64());
    }
}
