//! What other instances have left: messages whose holder is gone, and answers that nobody gave.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Seat;
use super::handle::Begun;
use super::{Inner, LEASE};
use crate::store::StoreError;

/// How often it is looked for, give or take a half.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Conversations seen to at a time.
const AT_A_TIME: usize = 64;

impl Inner {
    /// Sees to what is overdue, until the end of the process.
    pub(super) async fn see_to_overdue(self: Arc<Self>) {
        let looking = async {
            loop {
                match self.services.store.overdue(AT_A_TIME).await {
                    Ok(overdue) => {
                        for of in overdue {
                            let seat = self.desks.seat(&of);
                            if let Err(error) = self.take_over(seat).await {
                                tracing::debug!(%error, "what is overdue can't be taken over");
                            }
                        }
                    }
                    Err(error) => tracing::debug!(%error, "what is overdue can't be read"),
                }
                tokio::time::sleep(LOOK_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
            }
        };
        self.closing.run_until_cancelled(looking).await;
    }

    async fn take_over(self: &Arc<Self>, seat: Seat) -> Result<(), StoreError> {
        let store = &self.services.store;
        let overdue = store.take_overdue(seat.of(), seat.turn, LEASE).await?;
        for key in overdue.not_given {
            // It was given here, which is being noted.
            let given = seat.find(&key);
            if given.is_some_and(|ticket| ticket.is_carried()) {
                continue;
            }
            tracing::info!("an answer that no delivery carried was left by another instance");
            let (inner, of) = (Arc::clone(self), seat.of().clone());
            self.spawn(&key, async move { inner.keep_and_send(&of, &key).await });
        }
        if let Some(held) = overdue.held
            && let Some(first) = seat.note(held.waiting, None)
        {
            tracing::info!("taking over messages whose handler is gone");
            let standing = Some((held.session, held.kept));
            let run = Arc::clone(self).run(seat, Begun { first, standing });
            self.tasks.spawn(run);
        }
        Ok(())
    }
}
