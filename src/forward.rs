//! Forwarding: what nothing here answers goes to a program of the owner's, in any language, as signed
//! JSON with WeChat's names; what it answers is said.
//!
//! - Each message has one id (`webhook-id`), whenever and by whichever instance it is sent. It may be sent
//!   twice, for instance when the instance that sent it dies: the other program tells by the id.
//! - Whatever goes wrong is an error with a name, and the message a dead letter: an operator can look at
//!   it and send it again. The user gets `FALLBACK_TEXT`.
//! - Only `FORWARD_URL` is called. Addresses inside messages are another's words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use crate::config;
use crate::store::{DeadLetter, Store};
use crate::telemetry::metrics::ForwardMetrics;
use crate::wechat::Message;

mod answer;
mod call;
mod replay;
mod sign;

pub(crate) use answer::read_reply;
pub use answer::{Answer, Failure, NoReply};
pub(crate) use call::REPLY_URL_HEADER;
pub use call::WebhookId;
pub use replay::{DeadLetters, Replay, Replayed, Tally};
pub use sign::SigningKey;

use call::{Downstream, Letter};

/// How long a dead letter is kept.
const KEEP_DEAD_LETTERS: Duration = Duration::from_secs(30 * 24 * 3600);
/// Dead letters kept at most: the newest. Each may hold 64 KiB.
const MOST_DEAD_LETTERS: usize = 10_000;
/// The user's answer waits this long for a dead letter to be written.
const STORE_WITHIN: Duration = Duration::from_millis(1_200);
/// While the store is away, a dead letter is tried to be written for so long.
const REMEMBER_FOR: Duration = Duration::from_secs(60);
const WRITE_AGAIN_EVERY: Duration = Duration::from_secs(1);

/// A message that was forwarded in vain.
#[derive(Debug, thiserror::Error)]
#[error("{id} was forwarded in vain and is a dead letter: {failure}")]
pub struct ForwardError {
    /// The message's name on the list.
    pub id: WebhookId,
    /// Why.
    pub failure: Failure,
}

/// Sends messages to `FORWARD_URL`, and keeps those that were sent in vain. Cheap to clone.
#[derive(Clone)]
pub struct Forwarder {
    downstream: Downstream,
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    metrics: ForwardMetrics,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forwarder")
    }
}

impl Forwarder {
    /// Forwards as the settings say. What is still to be written runs on `tasks`.
    ///
    /// # Errors
    ///
    /// When the TLS roots of the system can't be read.
    pub(crate) fn new(
        forward: &config::Forward,
        store: Arc<dyn Store>,
        tasks: TaskTracker,
        metrics: ForwardMetrics,
    ) -> reqwest::Result<Self> {
        Ok(Self {
            downstream: Downstream::new(forward, metrics.clone())?,
            store,
            tasks,
            metrics,
        })
    }

    /// Sends a message and waits for what is said to it, 60 s at most. A reply that comes later goes to
    /// `reply_url`.
    ///
    /// # Errors
    ///
    /// [`ForwardError`] when there is no answer that can be used. The message is a dead letter then.
    pub async fn forward(
        &self,
        message: &Message,
        reply_url: Option<String>,
    ) -> Result<Answer, ForwardError> {
        let began = Instant::now();
        let letter = Letter::new(message, reply_url);
        let outcome = self.downstream.call(&letter).await;
        let elapsed = began.elapsed();
        let word = match &outcome {
            Ok(answer) => answer.name(),
            Err(failure) => failure.cause(),
        };
        self.metrics.count_call(word, elapsed);
        tracing::debug!(
            webhook.id = %letter.id,
            outcome = word,
            elapsed_ms = elapsed.as_millis(),
            "forwarded a message"
        );
        match outcome {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.keep(message, &letter.id, &failure).await;
                let id = letter.id;
                Err(ForwardError { id, failure })
            }
        }
    }

    /// Puts the message on the list. While the store is away that goes on behind the answer.
    async fn keep(&self, message: &Message, id: &WebhookId, failure: &Failure) {
        self.metrics.count_dead_letter(failure.cause());
        let letter = DeadLetter {
            id: id.as_str().to_owned(),
            open_id: message.subject().clone(),
            message: message.xml().to_owned(),
            reason: failure.to_string(),
            age: Duration::ZERO,
        };
        let writing = self.tasks.spawn(write(Arc::clone(&self.store), letter));
        let _ = tokio::time::timeout(STORE_WITHIN, writing).await;
    }
}

async fn write(store: Arc<dyn Store>, letter: DeadLetter) {
    let give_up_at = Instant::now() + REMEMBER_FOR;
    loop {
        let adding = store.add_dead_letter(&letter, KEEP_DEAD_LETTERS, MOST_DEAD_LETTERS);
        match adding.await {
            Ok(0) => return,
            Ok(dropped) => {
                return tracing::error!(
                    dropped,
                    "there are more than {MOST_DEAD_LETTERS} dead letters, and the oldest are dropped: mend \
                     the program at FORWARD_URL, and replay them"
                );
            }
            Err(error) if Instant::now() >= give_up_at => {
                return tracing::error!(webhook.id = letter.id, %error, "a dead letter was not written: the store is away too long");
            }
            Err(error) => {
                tracing::debug!(webhook.id = letter.id, %error, "a dead letter is not written yet");
                tokio::time::sleep(WRITE_AGAIN_EVERY).await;
            }
        }
    }
}
