//! One operation as its caller sees it: how long it waits at most, and how that ended.

use std::time::{Duration, Instant};

use super::{OPERATION_DEADLINE, StoreError};
use crate::telemetry::metrics::StoreMetrics;
use crate::timeout::timeout;

/// Waits for `answer` until [`OPERATION_DEADLINE`] and counts the outcome: `ok`, the kind of error,
/// or `abandoned` when the caller stopped waiting first.
pub(super) async fn watch<T>(
    metrics: &StoreMetrics,
    operation: &'static str,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut watch = Watch {
        metrics,
        operation,
        outcome: "abandoned",
        began: Instant::now(),
    };
    let answer = within(OPERATION_DEADLINE, answer).await;
    watch.outcome = outcome(&answer);
    answer
}

/// How an operation ended, in a word.
pub(super) fn outcome<T>(answer: &Result<T, StoreError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(StoreError::Unavailable(_)) => "unavailable",
        Err(StoreError::Timeout) => "timeout",
        Err(StoreError::Unusable(_)) => "unusable",
    }
}

/// Waits for an operation for as long as its caller can.
pub(crate) async fn within<T>(
    deadline: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(deadline, operation)
        .await
        .unwrap_or(Err(StoreError::Timeout))
}

struct Watch<'a> {
    metrics: &'a StoreMetrics,
    operation: &'static str,
    outcome: &'static str,
    began: Instant,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.metrics
            .observe(self.operation, self.outcome, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use prometheus::Registry;

    use super::*;

    #[tokio::test]
    async fn each_end_of_an_operation_is_counted_under_its_name() {
        let registry = Registry::new();
        let metrics = StoreMetrics::register(&registry).unwrap();

        let read = watch(&metrics, "read", ready(Ok(1))).await;
        assert_eq!(read, Ok(1));
        let error = Err::<(), _>(StoreError::Timeout);
        assert_eq!(watch(&metrics, "read", ready(error.clone())).await, error);
        let left = watch(&metrics, "write", pending::<Result<(), _>>());
        let waited = tokio::time::timeout(Duration::ZERO, left).await;
        assert!(waited.is_err(), "the caller left first");

        let mut seen: Vec<_> = registry.gather()[0]
            .get_metric()
            .iter()
            .map(|metric| {
                let labels: Vec<_> = metric.get_label().iter().map(|l| l.value()).collect();
                (labels.join(" "), metric.get_histogram().get_sample_count())
            })
            .collect();
        seen.sort();
        let expected = [("read ok", 1), ("read timeout", 1), ("write abandoned", 1)];
        assert_eq!(seen, expected.map(|(labels, n)| (labels.to_owned(), n)));
    }
}
