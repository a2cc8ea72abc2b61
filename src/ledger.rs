//! One handling and one answer for each message, in order for each user, however slow the answer and
//! however often and wherever the message is delivered.
//!
//! The platform waits 5 s and delivers three times in all; the connection of a late answer is already
//! cut. So a retry is not dropped: it joins the running handler, and carries its reply. An answer takes
//! the first step of this ladder that it can:
//!
//! 1. the delivery in which the message came, if it is ready within 4.4 s;
//! 2. the second or the third delivery: the ones before are left without an answer, so that the
//!    platform delivers again. The third is always answered, with `THINKING_TEXT` if need be;
//! 3. a customer-service message, if the account may;
//! 4. the user's next message: until then it is kept.
//!
//! What happens once, and what at least once:
//!
//! - The reply, the session and the kept answers are written in one step, which takes effect once for
//!   each message. A handler whose instance dies before that runs again elsewhere.
//! - So what a handler asks of others (the platform's API, a downstream, another database) happens at
//!   least once, as does sending a customer-service message.
//! - An answer that depends on nothing that is written (no session was changed, nothing kept is in it)
//!   goes out before it is written. All others wait for it.
//!
//! While the store is away an instance answers from its own memory, and writes the entries when the store
//! is back. A message that reads or changes the session waits for that, and so do the user's messages
//! behind it. One is handled twice, and counted, where a retry of it reaches another instance meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Waker};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::api::Skew;
use crate::bot::{Bot, Chain, Services};
use crate::config::{SlowAnswers, Texts};
use crate::store::{Answered, DELIVERIES_END, Digest, StoreError, within};
use crate::telemetry::metrics::MessageMetrics;
use crate::wechat::id::OpenId;
use crate::wechat::{Kind, Message, Reply};

mod compose;
mod desk;
mod follow;
mod handle;
mod late;
mod overdue;
mod register;
mod ticket;

use desk::{Desks, Entered};
use follow::Followed;
use ticket::{Ticket, Waited};

/// A conversation's lease lives this long unless it is renewed, so a dead holder's messages wait no
/// longer.
const LEASE: Duration = Duration::from_secs(4);
/// Each store operation on the way to an answer.
const STORE_WITHIN: Duration = Duration::from_millis(1_200);
/// Giving conversations back, at the end of the process.
const RELEASE_WITHIN: Duration = Duration::from_millis(300);

/// The span of the log in which a message's tasks run.
const MESSAGE_SPAN: &str = "message";

/// What a delivery is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// This reply; [`Reply::None`] is `success`.
    Reply(Arc<Said>),
    /// Nothing: the platform has hung up, and delivers again.
    HungUp,
    /// Too much is under way. Nothing was noted; the platform delivers again.
    Busy,
}

/// A reply and its `CreateTime`: each delivery of the message gets the same, to the letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// What is said.
    pub reply: Reply,
    /// When it was ready, in Unix seconds of the platform's clock.
    pub at: i64,
    /// Answers that were kept for the user stand in it, so it must not be dropped for another reply to the
    /// same message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) holds_kept: bool,
}

/// The ledger of one instance, over a store that all instances share.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

/// What a ledger is made of.
pub(crate) struct Parts {
    pub(crate) bot: Bot,
    pub(crate) services: Arc<Services>,
    pub(crate) texts: Texts,
    pub(crate) slow_answers: SlowAnswers,
    pub(crate) skew: Arc<Skew>,
    pub(crate) metrics: MessageMetrics,
}

struct Inner {
    bot: Chain,
    services: Arc<Services>,
    texts: Texts,
    slow_answers: SlowAnswers,
    skew: Arc<Skew>,
    metrics: MessageMetrics,
    desks: Arc<Desks>,
    followed: Arc<Followed>,
    tasks: TaskTracker,
    /// Cancelled shortly before the server stops: no delivery comes here any more.
    hurrying: CancellationToken,
    /// Cancelled when the process ends: what can wait is left to other instances.
    closing: CancellationToken,
}

impl Ledger {
    /// A ledger that has the bot handle messages.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            bot: parts.bot.into_chain(),
            services: parts.services,
            texts: parts.texts,
            slow_answers: parts.slow_answers,
            skew: parts.skew,
            metrics: parts.metrics,
            desks: Arc::default(),
            followed: Arc::default(),
            tasks: TaskTracker::new(),
            hurrying: CancellationToken::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// Takes a delivery and waits for what it is to be answered.
    pub async fn deliver(&self, message: Arc<Message>) -> Answer {
        let inner = &self.0;
        let (is_event, is_farewell) = (message.is_event(), message.is_farewell());
        let nth = inner.nth_by_its_time(&message);
        let now = Instant::now();
        let ticket = Arc::new(Ticket::new(message, now));
        let mut delivery = match inner.desks.enter(ticket) {
            Entered::Joined(ticket) => {
                inner.metrics.count_repeat("joined");
                ticket.deliver(nth, now)
            }
            Entered::InLine(ticket) => ticket.deliver(nth, now),
            Entered::First(ticket, seat, charge) => {
                let delivery = ticket.deliver(nth, now);
                inner.start(&ticket.key, Arc::clone(inner).register(seat, charge));
                delivery
            }
            Entered::Full => {
                inner.metrics.count_delivery("shed");
                return Answer::Busy;
            }
        };
        let (counted, answer) = match delivery
            .wait(inner.slow_answers.hold, &inner.hurrying)
            .await
        {
            Waited::Said(said) if said.reply == Reply::None => ("success", Answer::Reply(said)),
            Waited::Said(said) => ("reply", Answer::Reply(said)),
            Waited::Last => {
                let thinking = inner.texts.thinking.clone().filter(|_| !is_farewell);
                let thinking = inner.fit(thinking.into(), is_event);
                ("thinking", Answer::Reply(Arc::new(inner.say(thinking))))
            }
            Waited::Held => {
                // Counted first: when the platform hangs up, this future is dropped.
                inner.metrics.count_delivery("held");
                delivery.hold().await;
                return Answer::HungUp;
            }
            Waited::Abandoned => ("abandoned", Answer::HungUp),
            Waited::Busy => ("shed", Answer::Busy),
        };
        inner.metrics.count_delivery(counted);
        answer
    }

    /// Takes the reply of a message whose handler left it to be answered from outside.
    ///
    /// # Errors
    ///
    /// The store is away: try again.
    pub async fn answer(
        &self,
        of: &OpenId,
        key: &Digest,
        reply: Reply,
    ) -> Result<Answered, StoreError> {
        let inner = &self.0;
        let said = inner.say(inner.fit(reply, false));
        let answered = inner
            .services
            .store
            .answer(of, key, &inner.encode(&said))
            .await?;
        if let Answered::Taken { first_seen } = answered {
            inner.give_from_outside(of, *key, said, first_seen);
        }
        Ok(answered)
    }

    /// Sets the gauges of messages under way.
    pub(crate) fn report(&self) {
        let (handled, waiting) = self.0.desks.in_progress();
        self.0.metrics.set_in_progress(handled, waiting);
    }

    /// Looks for what other instances have left, until the ledger is closed.
    pub(crate) fn watch_for_overdue(&self) {
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(inner.see_to_overdue());
    }

    /// Has the deliveries that wait decide now: a last one is answered without its reply.
    pub(crate) fn hurry(&self) {
        self.0.hurrying.cancel();
    }

    /// Waits until every handler has ended and every reply is written. What still runs shortly before
    /// `deadline` is given back, so that another instance handles it at once.
    pub async fn close(&self, deadline: tokio::time::Instant) {
        let inner = &self.0;
        inner.closing.cancel();
        inner.tasks.close();
        if tokio::time::timeout_at(deadline - RELEASE_WITHIN, inner.tasks.wait())
            .await
            .is_ok()
        {
            return;
        }
        let busy = inner.desks.busy();
        tracing::warn!(
            conversations = busy.len(),
            "leaving messages to other instances"
        );
        let messages = inner.desks.not_stored();
        if messages > 0 {
            tracing::error!(
                messages,
                "the store was away, and does not know these messages: those without an answer are lost \
                 unless WeChat delivers them again, which may have the others handled again"
            );
        }
        let release = |(of, turn)| async move {
            let release = inner.services.store.release(&of, turn);
            within(RELEASE_WITHIN, release).await
        };
        // A lease that can't be given back runs out by itself.
        futures_util::future::join_all(busy.into_iter().map(release)).await;
    }
}

impl Inner {
    /// Runs a task that the end of the process waits for.
    fn spawn(&self, key: &Digest, task: impl Future<Output = ()> + Send + 'static) {
        let current = tracing::Span::current();
        let is_ours = current.metadata().is_some_and(|m| m.name() == MESSAGE_SPAN);
        let span = if is_ours { current } else { Self::span(key) };
        self.tasks.spawn(task.instrument(span));
    }

    /// As [`spawn`](Self::spawn), but as far as the task gets without waiting it is run here and now. By
    /// then most messages are handled, and none of them has cost a task.
    fn start(&self, key: &Digest, task: impl Future<Output = ()> + Send + 'static) {
        let _open = self.tasks.token();
        let mut task = Box::pin(task).instrument(Self::span(key));
        // Where it waits, it is polled again by a task of its own, which is woken then.
        let mut cx = task::Context::from_waker(Waker::noop());
        if pin!(&mut task).poll(&mut cx).is_pending() {
            self.tasks.spawn(task);
        }
    }

    /// Under which a message's log lines stand.
    fn span(key: &Digest) -> tracing::Span {
        let mut digits = [0; 12];
        // Two digits for each byte are what there is room for, and ASCII.
        let _ = hex::encode_to_slice(&key.0[..6], &mut digits);
        let digits = str::from_utf8(&digits).unwrap_or_default();
        tracing::info_span!(MESSAGE_SPAN, msg.key = digits)
    }

    fn say(&self, reply: Reply) -> Said {
        Said {
            reply,
            at: self.skew.now(),
            holds_kept: false,
        }
    }

    /// Which delivery of the message this is at least, by the message's own time. While the store is away
    /// nobody counts those at other instances, and the third must be answered.
    fn nth_by_its_time(&self, message: &Message) -> u32 {
        let age = self.skew.now().saturating_sub(message.create_time);
        let age = Duration::from_secs(age.try_into().unwrap_or(0));
        if age >= DELIVERIES_END {
            // No message is under way so long: one of the clocks is wrong.
            return 1;
        }
        ticket::nth_after(age)
    }

    /// Cuts a reply to what the platform delivers.
    fn fit(&self, reply: Reply, is_event: bool) -> Reply {
        let (reply, cuts) = reply.fitted(is_event);
        for cut in cuts {
            tracing::warn!("{cut}");
        }
        reply
    }

    /// A reply as the store keeps it.
    fn encode(&self, said: &Said) -> Vec<u8> {
        serde_json::to_vec(said).unwrap_or_else(|error| {
            tracing::error!(%error, "a reply can't be written down");
            Vec::new()
        })
    }

    /// A reply that the store kept. One that can't be read says nothing, nor does one that was erased
    /// because the user was to be forgotten.
    fn decode(&self, stored: &[u8]) -> Said {
        if stored.is_empty() {
            return self.say(Reply::None);
        }
        serde_json::from_slice(stored).unwrap_or_else(|error| {
            tracing::error!(%error, "a kept reply can't be read");
            self.say(Reply::None)
        })
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
