//! A time-out for what mostly ends at once.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;

/// As tokio's, but the timer is made only for a future that has to wait: making one costs more than many
/// of them take.
pub(crate) async fn timeout<F: Future>(
    duration: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => tokio::time::timeout(duration, future).await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_is_given_and_what_does_not_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(timeout(Duration::ZERO, ready(1)).await, Ok(1));
        let soon = async {
            tokio::time::sleep(second / 2).await;
            2
        };
        assert_eq!(timeout(second, soon).await, Ok(2));
        let began = tokio::time::Instant::now();
        assert!(timeout(second, pending::<()>()).await.is_err());
        assert_eq!(began.elapsed(), second);
    }
}
