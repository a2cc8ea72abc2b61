//! One handling and one reply for each message, however often and wherever it is delivered.
//!
//! The platform waits 5 s and delivers three times in all; the connection of a late answer is already
//! cut. So a retry is not dropped: it joins the running handler, and carries its reply.
//!
//! - The handler runs in a task of its own. A closed connection never cancels it.
//! - A claim in the store keeps other instances from handling the same message; they wait for its
//!   reply. A claim whose holder died runs out and is taken over.
//! - While a handler runs, the first and the second delivery are left without an answer, so that the
//!   platform delivers again. The third is always answered in time.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::api::Skew;
use crate::bot::{Bot, Chain, Context};
use crate::config::Texts;
use crate::customer_service::CustomerService;
use crate::privacy;
use crate::store::{Claim, Digest, InstanceId, Store, StoreError};
use crate::telemetry::metrics::MessageMetrics;
use crate::wechat::{Kind, Message, Reply};

/// Every answer is sent this soon after its delivery: the platform hangs up at 5 s.
const ANSWER_WITHIN: Duration = Duration::from_millis(4_400);
/// A delivery that is to get no answer is held this long: past the platform's own deadline.
const HOLD_FOR: Duration = Duration::from_millis(5_600);
/// The platform's deadline, and so the time between two deliveries.
const DELIVERY_EVERY: Duration = Duration::from_secs(5);
/// The number of deliveries.
const LAST_DELIVERY: u32 = 3;
/// A claim lives this long unless it is renewed, so a dead holder's message waits no longer.
const LEASE: Duration = Duration::from_secs(4);
const RENEW_EVERY: Duration = Duration::from_millis(1_300);
/// How often a message that another instance handles is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// How long a reply is kept: far longer than a signature is fresh and a retry can come.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Each store operation on the way to an answer.
const STORE_WITHIN: Duration = Duration::from_millis(1_200);
/// Giving claims back, at the end of the process.
const RELEASE_WITHIN: Duration = Duration::from_millis(300);
/// How long a reply that the store does not take is remembered here.
const REMEMBER_FOR: Duration = Duration::from_secs(60);
const KEEP_AGAIN_EVERY: Duration = Duration::from_secs(1);

/// What a delivery is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// This reply; [`Reply::None`] is `success`.
    Reply(Said),
    /// Nothing: the platform has hung up, and delivers again.
    HungUp,
}

/// A reply and its `CreateTime`: each delivery of the message gets the same, to the letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// What is said.
    pub reply: Reply,
    /// When it was ready, in Unix seconds of the platform's clock.
    pub at: i64,
}

/// The ledger of one instance, over a store that all instances share.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

struct Inner {
    bot: Chain,
    customer_service: CustomerService,
    store: Arc<dyn Store>,
    owner: InstanceId,
    texts: Texts,
    skew: Arc<Skew>,
    metrics: MessageMetrics,
    tasks: TaskTracker,
    running: Mutex<HashMap<Digest, Arc<watch::Sender<Progress>>>>,
}

/// How far a message has come.
#[derive(Clone, Debug)]
struct Progress {
    /// Deliveries counted, here and elsewhere.
    deliveries: u32,
    first_seen: Instant,
    said: Option<Said>,
}

impl Progress {
    /// Which delivery it is by now: the number counted or, where larger, one for each 5 s since the
    /// ledger first saw the message.
    fn delivery(&self) -> u32 {
        let by_time = self.first_seen.elapsed().as_secs() / DELIVERY_EVERY.as_secs() + 1;
        self.deliveries
            .max(u32::try_from(by_time).unwrap_or(u32::MAX))
    }

    /// Adds what the store knows of deliveries elsewhere.
    fn count(&mut self, deliveries: u32, since_first: Duration) {
        self.deliveries = self.deliveries.max(deliveries);
        if let Some(first_seen) = Instant::now().checked_sub(since_first) {
            self.first_seen = self.first_seen.min(first_seen);
        }
    }
}

impl Ledger {
    /// A ledger that has `bot` handle messages.
    pub fn new(
        bot: Bot,
        customer_service: CustomerService,
        store: Arc<dyn Store>,
        owner: InstanceId,
        texts: Texts,
        skew: Arc<Skew>,
        metrics: MessageMetrics,
    ) -> Self {
        let running = Mutex::default();
        let tasks = TaskTracker::new();
        Self(Arc::new(Inner {
            bot: bot.into_chain(),
            customer_service,
            store,
            owner,
            texts,
            skew,
            metrics,
            tasks,
            running,
        }))
    }

    /// Takes a delivery and waits for what it is to be answered.
    pub async fn deliver(&self, message: Message) -> Answer {
        let arrived = Instant::now();
        let key = Digest(message.ledger_key());
        let (is_event, is_farewell) = (message.is_event(), message.is_farewell());
        let mut progress = self.join_or_start(key, message);
        let hold = tokio::time::sleep_until((arrived + HOLD_FOR).into());
        let answer = tokio::time::sleep_until((arrived + ANSWER_WITHIN).into());
        tokio::pin!(hold, answer);
        let mut must_answer = false;
        loop {
            {
                let progress = progress.borrow_and_update();
                if let Some(said) = &progress.said {
                    // Past its time a delivery carries no reply: the platform may have hung up, and
                    // the next one carries it.
                    if arrived.elapsed() < ANSWER_WITHIN {
                        self.0.metrics.count_delivery(if said.reply == Reply::None {
                            "success"
                        } else {
                            "reply"
                        });
                        return Answer::Reply(said.clone());
                    }
                }
                if must_answer && progress.delivery() >= LAST_DELIVERY {
                    self.0.metrics.count_delivery("thinking");
                    let thinking = self.0.texts.thinking.clone().filter(|_| !is_farewell);
                    let thinking = self.0.fit(thinking.into(), is_event);
                    return Answer::Reply(self.0.say(thinking));
                }
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() {
                    // The task ended without a reply: it was cut short. The next delivery starts anew.
                    return Answer::HungUp;
                },
                () = &mut answer, if !must_answer => must_answer = true,
                () = &mut hold => {
                    self.0.metrics.count_delivery("held");
                    return Answer::HungUp;
                }
            }
        }
    }

    /// The number of messages whose handler runs.
    pub fn running(&self) -> usize {
        self.0.lock().len()
    }

    /// Waits until every handler has ended and every reply is written. What still runs shortly before
    /// `deadline` is given back, so that another instance handles it at once.
    pub async fn close(&self, deadline: tokio::time::Instant) {
        self.0.tasks.close();
        if tokio::time::timeout_at(deadline - RELEASE_WITHIN, self.0.tasks.wait())
            .await
            .is_ok()
        {
            return;
        }
        let running: Vec<Digest> = self.0.lock().keys().copied().collect();
        tracing::warn!(
            messages = running.len(),
            "leaving messages to other instances"
        );
        let release = |key| async move {
            let release = self.0.store.release_message(&key, &self.0.owner);
            within(RELEASE_WITHIN, release).await
        };
        // A claim that can't be given back runs out by itself.
        futures_util::future::join_all(running.into_iter().map(release)).await;
    }

    fn join_or_start(&self, key: Digest, message: Message) -> watch::Receiver<Progress> {
        let mut running = self.0.lock();
        if let Some(progress) = running.get(&key) {
            self.0.metrics.count_repeat("joined");
            progress.send_modify(|progress| progress.deliveries += 1);
            return progress.subscribe();
        }
        let (progress, receiver) = watch::channel(Progress {
            deliveries: 1,
            first_seen: Instant::now(),
            said: None,
        });
        let progress = Arc::new(progress);
        running.insert(key, Arc::clone(&progress));
        drop(running);
        let span = tracing::info_span!("message", msg.key = %hex::encode(&key.0[..6]));
        let inner = Arc::clone(&self.0);
        self.0
            .tasks
            .spawn(async move { inner.work(key, message, &progress).await }.instrument(span));
        receiver
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<watch::Sender<Progress>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees a message to its end: claims it or waits for whoever did, handles it, keeps the reply.
    async fn work(&self, key: Digest, message: Message, progress: &watch::Sender<Progress>) {
        // Until it is written a retry finds the reply here.
        let _running = Running { inner: self, key };
        let said = match self.claim(&key, progress).await {
            Claimed::Elsewhere(said) => {
                self.metrics.count_repeat("kept");
                progress.send_modify(|progress| progress.said = Some(said));
                None
            }
            Claimed::Here => {
                let said = self.say(self.handle_under_lease(&key, message).await);
                // The answer does not wait for the write: a retry that finds the claim still open
                // waits, and one that finds it expired handles the message again.
                progress.send_modify(|progress| progress.said = Some(said.clone()));
                Some(said)
            }
        };
        if let Some(said) = said {
            self.keep(&key, &said).await;
        }
    }

    /// Takes the message, or waits until the instance that has it is done or dead.
    async fn claim(&self, key: &Digest, progress: &watch::Sender<Progress>) -> Claimed {
        let mut claim = within(
            STORE_WITHIN,
            self.store.claim_message(key, &self.owner, LEASE, KEEP),
        )
        .await;
        loop {
            match claim {
                Ok(Claim::New) => return Claimed::Here,
                Ok(Claim::TakenOver {
                    deliveries,
                    first_seen,
                }) => {
                    progress.send_modify(|progress| progress.count(deliveries, first_seen));
                    tracing::info!("taking over a message whose handler is gone");
                    return Claimed::Here;
                }
                Ok(Claim::Done(said)) => match serde_json::from_slice(&said) {
                    Ok(said) => return Claimed::Elsewhere(said),
                    Err(error) => {
                        tracing::error!(%error, "the kept reply can't be read; handling the message again");
                        return Claimed::Here;
                    }
                },
                Ok(Claim::Running {
                    deliveries,
                    first_seen,
                }) => {
                    progress.send_modify(|progress| progress.count(deliveries, first_seen));
                    tokio::time::sleep(LOOK_EVERY).await;
                    claim = within(
                        STORE_WITHIN,
                        self.store.reclaim_message(key, &self.owner, LEASE, KEEP),
                    )
                    .await;
                }
                // A message must be answered while the store is away: from this instance's memory.
                Err(error) => {
                    tracing::warn!(%error, "handling a message without the ledger");
                    return Claimed::Here;
                }
            }
        }
    }

    async fn handle_under_lease(&self, key: &Digest, message: Message) -> Reply {
        let handler = self.handle(message);
        tokio::pin!(handler);
        loop {
            tokio::select! {
                reply = &mut handler => return reply,
                () = tokio::time::sleep(RENEW_EVERY) => {
                    match within(STORE_WITHIN, self.store.renew_message(key, &self.owner, LEASE)).await {
                        Ok(true) => {}
                        Ok(false) => tracing::warn!("another instance has taken the message over"),
                        Err(error) => tracing::debug!(%error, "the claim could not be renewed"),
                    }
                }
            }
        }
    }

    /// Runs the bot. Whatever happens in it, there is a reply.
    async fn handle(&self, message: Message) -> Reply {
        let began = Instant::now();
        let service = self.customer_service.clone();
        let ctx = Context::new(message, service, Arc::clone(&self.store));
        let message = ctx.message();
        let (kind, is_event) = (label(message), message.is_event());
        let is_farewell = message.is_farewell();
        let running = AssertUnwindSafe(self.bot.run(ctx.clone())).catch_unwind();
        let (reply, outcome) = match running.await {
            Ok(Ok(reply)) if reply == Reply::None || is_farewell => (Reply::None, "silent"),
            Ok(Ok(reply)) => (self.fit(reply, is_event), "answered"),
            Ok(Err(error)) => {
                tracing::error!(msg.kind = kind, %error, "the handler of a {kind} failed");
                let fallback = if is_event {
                    Reply::None
                } else {
                    self.fit(Reply::Text(self.texts.fallback.clone()), is_event)
                };
                (fallback, "failed")
            }
            Err(_panic) => {
                self.metrics.count_panic();
                tracing::error!(msg.kind = kind, "the handler of a {kind} panicked");
                (Reply::None, "panicked")
            }
        };
        // Last, so that the handler still finds whom it says farewell to.
        privacy::forget_if_demanded(&*self.store, message).await;
        let elapsed = began.elapsed();
        self.metrics.count_handled(kind, outcome, elapsed);
        tracing::debug!(
            msg.kind = kind,
            outcome,
            elapsed_ms = elapsed.as_millis(),
            "handled a {kind}"
        );
        reply
    }

    fn say(&self, reply: Reply) -> Said {
        let at = self.skew.now();
        Said { reply, at }
    }

    /// Cuts a reply to what the platform delivers.
    fn fit(&self, reply: Reply, is_event: bool) -> Reply {
        let (reply, cuts) = reply.fitted(is_event);
        for cut in cuts {
            tracing::warn!("{cut}");
        }
        reply
    }

    /// Writes the reply down; while the store is away, again and again until no retry can come.
    async fn keep(&self, key: &Digest, said: &Said) {
        let said = match serde_json::to_vec(said) {
            Ok(said) => said,
            Err(error) => return tracing::error!(%error, "a reply can't be written down"),
        };
        let give_up_at = Instant::now() + REMEMBER_FOR;
        loop {
            match self
                .store
                .finish_message(key, &self.owner, &said, KEEP)
                .await
            {
                Ok(true) => return,
                Ok(false) => return tracing::warn!("another instance has handled the message too"),
                Err(error) if Instant::now() >= give_up_at => {
                    return tracing::error!(%error, "a reply was not written down: the store is away too long");
                }
                Err(error) => {
                    tracing::debug!(%error, "a reply is kept in memory until the store takes it");
                    tokio::time::sleep(KEEP_AGAIN_EVERY).await;
                }
            }
        }
    }
}

/// A message that is being seen to its end. When that is over, by a panic too, it leaves the list, and
/// the next delivery looks into the store.
struct Running<'a> {
    inner: &'a Inner,
    key: Digest,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.inner.lock().remove(&self.key);
    }
}

/// A word for metrics and logs, of a closed set: what a sender makes up is `unknown`.
fn label(message: &Message) -> &str {
    match &message.kind {
        Kind::Unknown(_) => "unknown",
        Kind::Event(event) => event.name(),
        kind => kind.name(),
    }
}

/// Who handles a message.
enum Claimed {
    Here,
    /// It was handled, and this is its reply.
    Elsewhere(Said),
}

async fn within<T>(
    deadline: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(deadline, operation)
        .await
        .unwrap_or(Err(StoreError::Timeout))
}
