//! The last steps of the ladder: what no delivery carried is kept, tried as a customer-service message,
//! and else given with the user's next message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::desk::{Charge, Seat};
use super::{Inner, Said, within};
use crate::customer_service::SendError;
use crate::store::{DELIVERIES_END, Digest, Handled};
use crate::wechat::Reply;
use crate::wechat::id::OpenId;

/// How long sending one answer may take before another may try.
const SENDING_LEASE: Duration = Duration::from_secs(15);
/// What follows a reply sets out this much after it, so that it arrives behind it.
const BEHIND_THE_REPLY: Duration = Duration::from_millis(300);
/// 40007, invalid `media_id`: temporary files live for three days.
const MEDIA_IS_GONE: i64 = 40007;
/// Each store operation: nobody waits for it.
const STORE_WITHIN: Duration = Duration::from_secs(5);

impl Inner {
    /// Sees to it that an answer that was written down reaches the user.
    pub(super) fn see_given(self: &Arc<Self>, seat: &Seat, charge: Charge, handled: &Handled) {
        if !handled.kept.is_empty() {
            let (inner, of) = (Arc::clone(self), seat.of().clone());
            let key = charge.key;
            self.spawn(&key, async move {
                tokio::time::sleep(BEHIND_THE_REPLY).await;
                inner.send_kept(&of).await;
            });
        }
        if !handled.given {
            let (inner, seat) = (Arc::clone(self), seat.beside());
            let key = charge.key;
            self.spawn(&key, async move { inner.give_late(&seat, charge).await });
        }
    }

    /// Waits for a delivery to carry the reply, and sends it on its further way if none does.
    async fn give_late(self: &Arc<Self>, seat: &Seat, charge: Charge) {
        let waiting = charge.is_carried_in_time();
        match self.closing.run_until_cancelled(waiting).await {
            Some(true) => self.note_given(seat.of(), &charge).await,
            Some(false) => {
                self.keep_and_send(seat.of(), &charge.key).await;
            }
            // Another instance finds it overdue.
            None => {}
        }
    }

    /// Has a reply that came from outside carried by a delivery, or sends it on its further way.
    pub(super) fn give_from_outside(
        self: &Arc<Self>,
        of: &OpenId,
        key: Digest,
        said: Said,
        first_seen: Duration,
    ) {
        let (inner, of) = (Arc::clone(self), of.clone());
        self.spawn(&key, async move {
            let charge = inner.desks.find(&of, &key);
            let charge = charge.map(|ticket| inner.desks.charge(ticket));
            let waiting = async {
                match charge {
                    Some(charge) => {
                        charge.publish(said, Instant::now());
                        charge.is_carried_in_time().await.then_some(charge)
                    }
                    None => {
                        tokio::time::sleep(DELIVERIES_END.saturating_sub(first_seen)).await;
                        None
                    }
                }
            };
            match inner.closing.run_until_cancelled(waiting).await {
                Some(Some(charge)) => inner.note_given(&of, &charge).await,
                Some(None) => inner.keep_and_send(&of, &key).await,
                // Another instance finds it overdue.
                None => {}
            }
        });
    }

    /// Keeps a reply that no delivery has carried, and tries it as a customer-service message.
    pub(super) async fn keep_and_send(&self, of: &OpenId, key: &Digest) {
        let keeping = self.services.store.keep_answer(of, key);
        match within(STORE_WITHIN, keeping).await {
            Ok(true) => self.send_kept(of).await,
            // Carried elsewhere, or the user has left.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "an answer that no delivery carried could not be kept yet");
            }
        }
    }

    /// Tries the kept answers of a user as customer-service messages, oldest first.
    pub(super) async fn send_kept(&self, of: &OpenId) {
        let store = &self.services.store;
        if self.slow_answers.keep && !self.slow_answers.customer_service {
            return self.metrics.count_late("kept");
        }
        while !self.closing.is_cancelled() {
            let beginning = store.begin_sending(of, SENDING_LEASE);
            let answer = match within(STORE_WITHIN, beginning).await {
                Ok(Some(answer)) => answer,
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "kept answers can't be read"),
            };
            let sent = self.slow_answers.customer_service
                && self.send(of, &self.decode(&answer.reply)).await;
            let is_over = sent || !self.slow_answers.keep;
            let ending = store.end_sending(of, answer.id, is_over);
            if let Err(error) = within(STORE_WITHIN, ending).await {
                tracing::debug!(%error, "the end of a sending was not noted");
            }
            self.metrics
                .count_late(match (sent, self.slow_answers.keep) {
                    (true, _) => "customer_service",
                    (false, true) => "kept",
                    (false, false) => "dropped",
                });
            if !is_over {
                return;
            }
        }
    }

    /// Sends one answer as a customer-service message, or several: each holds one article. Returns
    /// whether it went out.
    async fn send(&self, of: &OpenId, said: &Said) -> bool {
        let articles = match &said.reply {
            Reply::News(articles) => articles.as_slice(),
            _ => &[],
        };
        let messages = match articles.len() {
            0 | 1 => vec![said.reply.clone()],
            _ => articles
                .iter()
                .map(|article| Reply::News(vec![article.clone()]))
                .collect(),
        };
        for message in messages {
            if let Err(error) = self.send_one(of, message).await {
                tracing::info!(%error, "a late answer is no customer-service message");
                return false;
            }
        }
        tracing::info!("a late answer went out as a customer-service message");
        true
    }

    /// Sends one message. A file of the rules that the platform no longer has is uploaded again.
    async fn send_one(&self, of: &OpenId, message: Reply) -> Result<(), SendError> {
        let service = &self.services.customer_service;
        let outcome = service.send(of, &message).await;
        match &outcome {
            Err(error) if error.errcode() == Some(MEDIA_IS_GONE) => {}
            _ => return outcome,
        }
        let (Some(rules), Some(gone)) = (&self.services.rules, message.media_id()) else {
            return outcome;
        };
        match rules.renew_media(gone).await {
            Some(media_id) => service.send(of, &message.with_media_id(media_id)).await,
            None => outcome,
        }
    }
}
