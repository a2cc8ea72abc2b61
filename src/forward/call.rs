//! One call of `FORWARD_URL`: its tries, its deadline, its answer.
//!
//! A call may take 60 s, and while it runs it is never made again. Only what was surely not taken is
//! sent again: no connection, 502, 503, 504. Each try is signed anew, under the same id.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::redirect::Policy;
use reqwest::{Response, header};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use super::answer::{self, Answer, Failure, MAX_ANSWER_BYTES};
use super::sign::SigningKey;
use crate::api::is_loopback;
use crate::config::Forward;
use crate::telemetry::metrics::ForwardMetrics;
use crate::wechat::Message;

/// All tries of a call together.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// Calls under way at once, each with a connection of its own. More wait for their turn, within the same
/// time.
const MOST_CALLS: usize = 1_024;
/// A host that does not take a connection in this time is tried again.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An idle connection is used again within this time only. Servers close theirs after some seconds,
/// and one that closes as a message is being sent leaves open whether it was taken.
const IDLE_FOR: Duration = Duration::from_secs(1);
/// Before the second try; doubled before each one after it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where the reply of a 202 goes. On a request to ourselves it means that messages go in a circle.
pub(crate) const REPLY_URL_HEADER: &str = "offiaccount-reply-url";

/// Names a message to the other program, each time it is sent: `msg_` and the digest that is its ledger
/// key, in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookId(String);

impl WebhookId {
    /// The id of a message.
    pub fn of(message: &Message) -> Self {
        Self(format!("msg_{}", hex::encode(message.ledger_key())))
    }

    /// As it stands in `webhook-id`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message on its way out.
pub(super) struct Letter {
    pub(super) id: WebhookId,
    body: Vec<u8>,
    reply_url: Option<String>,
}

impl Letter {
    pub(super) fn new(message: &Message, reply_url: Option<String>) -> Self {
        Self {
            id: WebhookId::of(message),
            body: message.to_json().to_string().into_bytes(),
            reply_url,
        }
    }
}

/// The program at `FORWARD_URL`. Cheap to clone.
#[derive(Clone)]
pub(super) struct Downstream {
    http: reqwest::Client,
    url: Url,
    key: SigningKey,
    metrics: ForwardMetrics,
    turns: Arc<Semaphore>,
}

impl Downstream {
    pub(super) fn new(forward: &Forward, metrics: ForwardMetrics) -> reqwest::Result<Self> {
        // The first of several applications in one process wins; all install the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = forward.url.expose().clone();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .pool_idle_timeout(IDLE_FOR)
            .redirect(Policy::none())
            .user_agent(concat!("offiaccount/", env!("CARGO_PKG_VERSION")));
        // A proxy of the environment is for the way out.
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build()?,
            url,
            key: forward.key.clone(),
            metrics,
            turns: Arc::new(Semaphore::new(MOST_CALLS)),
        })
    }

    /// Sends a letter until it is taken, refused, or 60 s are over.
    pub(super) async fn call(&self, letter: &Letter) -> Result<Answer, Failure> {
        let again = |failure: &Failure| {
            self.metrics.count_retry(failure.cause());
            tracing::debug!(webhook.id = %letter.id, %failure, "trying again");
        };
        persist(&self.turns, CALL_WITHIN, || self.send(letter), again).await
    }

    /// Sends a letter once.
    pub(super) async fn call_once(&self, letter: &Letter) -> Result<Answer, Failure> {
        tokio::time::timeout(CALL_WITHIN, self.send(letter))
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    async fn send(&self, letter: &Letter) -> Result<Answer, Failure> {
        // Before 1970 no clock is good anyway.
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let id = letter.id.as_str();
        let mut request = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header(
                "webhook-signature",
                self.key.sign(id, timestamp, &letter.body),
            )
            .body(letter.body.clone());
        if let Some(reply_url) = &letter.reply_url {
            request = request.header(REPLY_URL_HEADER, reply_url);
        }
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => Err(without_answer(error)),
        }
    }
}

/// Makes a call when its turn comes, and again while it was not taken and there is time.
async fn persist<C, F>(
    turns: &Semaphore,
    within: Duration,
    mut call: C,
    again: impl Fn(&Failure),
) -> Result<Answer, Failure>
where
    C: FnMut() -> F,
    F: Future<Output = Result<Answer, Failure>>,
{
    let give_up_at = Instant::now() + within;
    // It is never closed.
    let Ok(_turn) = tokio::time::timeout_at(give_up_at, turns.acquire()).await else {
        return Err(Failure::Crowded);
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let failure = match tokio::time::timeout_at(give_up_at, call()).await {
            Err(_) => return Err(Failure::Timeout),
            Ok(Err(failure)) if failure.may_pass() => failure,
            Ok(outcome) => return outcome,
        };
        let wanted = match &failure {
            Failure::Unavailable {
                retry_after: Some(wanted),
                ..
            } => *wanted,
            _ => Duration::ZERO,
        };
        // Many messages that failed together must not come back together.
        let wait = pause.mul_f64(rand::random_range(0.5..1.0)).max(wanted);
        if wait >= give_up_at.saturating_duration_since(Instant::now()) {
            return Err(failure);
        }
        again(&failure);
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn read(mut response: Response) -> Result<Answer, Failure> {
    let header = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let retry_after = header(header::RETRY_AFTER);
    let content_type = header(header::CONTENT_TYPE);
    if let Some(answer) = answer::by_status(response.status().as_u16(), retry_after.as_deref()) {
        return answer;
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(without_answer)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    answer::by_body(content_type.as_deref(), &body)
}

/// What the HTTP client says of a try, without the URL.
fn without_answer(error: reqwest::Error) -> Failure {
    let was_connecting = error.is_connect();
    let error = error.without_url();
    // The innermost cause says more than "error sending request".
    let mut cause: &dyn std::error::Error = &error;
    let mut is_tls = false;
    loop {
        is_tls |= cause.downcast_ref().is_some_and(is_of_tls);
        match cause.source() {
            Some(inner) => cause = inner,
            None => break,
        }
    }
    let cause = cause.to_string();
    match (was_connecting, is_tls) {
        (true, false) => Failure::Unreachable(cause),
        (true, true) => Failure::Tls(cause),
        (false, _) => Failure::Broken(cause),
    }
}

/// Whether it wraps an error of the TLS library's, which its `source` skips.
fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        inner.is::<rustls::Error>() || inner.downcast_ref().is_some_and(is_of_tls)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::wechat::Reply;

    const SAID: Answer = Answer::Reply(Reply::None);

    fn refused() -> Failure {
        Failure::Unreachable("refused".into())
    }

    fn unavailable(retry_after: Option<u64>) -> Failure {
        Failure::Unavailable {
            status: 503,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    /// Calls with these outcomes one after another, the last for ever; when each began, and how it ended.
    async fn calls(
        outcomes: &[Result<Answer, Failure>],
    ) -> (Vec<Duration>, Result<Answer, Failure>) {
        let began = Instant::now();
        let at = RefCell::new(Vec::new());
        let call = || {
            let mut at = at.borrow_mut();
            at.push(began.elapsed());
            let number = at.len().min(outcomes.len());
            std::future::ready(outcomes[number - 1].clone())
        };
        let outcome = persist(&Semaphore::new(1), CALL_WITHIN, call, |_| ()).await;
        (at.into_inner(), outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_after_a_minute_and_is_never_made_again_meanwhile() {
        let (began, made) = (Instant::now(), Cell::new(0));
        let call = || {
            made.set(made.get() + 1);
            std::future::pending()
        };
        let outcome = persist(&Semaphore::new(1), CALL_WITHIN, call, |_| ()).await;
        assert_eq!(outcome, Err(Failure::Timeout));
        // The clock's own grain is a millisecond.
        let elapsed = began.elapsed();
        assert!(elapsed >= Duration::from_secs(60), "{elapsed:?}");
        assert!(elapsed < Duration::from_millis(60_010), "{elapsed:?}");
        assert_eq!(made.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn all_tries_together_have_the_minute() {
        let (began, made) = (Instant::now(), Cell::new(0));
        let call = || {
            made.set(made.get() + 1);
            let number = made.get();
            async move {
                tokio::time::sleep(Duration::from_secs(25)).await;
                if number < 3 {
                    Err(unavailable(None))
                } else {
                    Ok(SAID)
                }
            }
        };
        let outcome = persist(&Semaphore::new(1), CALL_WITHIN, call, |_| ()).await;
        assert_eq!((made.get(), outcome), (3, Err(Failure::Timeout)));
        let elapsed = began.elapsed();
        assert!(elapsed < Duration::from_millis(60_010), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_their_turn_within_the_minute() {
        let turns = Semaphore::new(1);
        let began = Instant::now();
        let taking = |seconds| {
            let turns = &turns;
            async move {
                let call = || async move {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    Ok(SAID)
                };
                let outcome = persist(turns, CALL_WITHIN, call, |_| ()).await;
                (outcome, began.elapsed().as_secs())
            }
        };
        let (first, second, third) = tokio::join!(taking(40), taking(10), taking(20));
        assert_eq!(first, (Ok(SAID), 40));
        assert_eq!(second, (Ok(SAID), 50));
        assert_eq!(third, (Err(Failure::Timeout), 60), "it had its turn");
        let (_, crowded) = tokio::join!(taking(70), taking(1));
        assert_eq!(crowded, (Err(Failure::Crowded), 120));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_taken_is_sent_again() {
        let outcomes = [Err(refused()), Err(unavailable(None)), Ok(SAID)];
        let (at, outcome) = calls(&outcomes).await;
        assert_eq!(outcome, Ok(SAID));
        assert_eq!(at.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_taken_is_not() {
        for failure in [
            Failure::Timeout,
            Failure::Broken("reset".into()),
            Failure::Tls("of another name".into()),
            Failure::Status(500),
            Failure::Redirect(307),
            Failure::Loop,
            Failure::TooLarge,
        ] {
            let (at, outcome) = calls(&[Err(failure.clone()), Ok(SAID)]).await;
            assert_eq!((at.len(), outcome), (1, Err(failure)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_differ_and_end_within_the_minute() {
        let (at, outcome) = calls(&[Err(refused())]).await;
        assert_eq!(
            outcome,
            Err(refused()),
            "the cause, not the time that ran out"
        );
        let pauses: Vec<_> = at.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses[0] <= Duration::from_millis(260), "{pauses:?}");
        for pause in &pauses[5..] {
            assert!(*pause >= Duration::from_millis(2_500), "{pauses:?}");
            assert!(*pause <= Duration::from_millis(5_010), "{pauses:?}");
        }
        let last = *at.last().unwrap();
        assert!(last < CALL_WITHIN, "{last:?}");
        assert!(last > CALL_WITHIN - Duration::from_secs(6), "{last:?}");
        let (other, _) = calls(&[Err(refused())]).await;
        assert_ne!(at, other, "no two messages come back at the same times");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_to_be_left_alone_is_kept_while_there_is_time() {
        let (at, outcome) = calls(&[Err(unavailable(Some(20))), Ok(SAID)]).await;
        assert_eq!(outcome, Ok(SAID));
        assert!(at[1] >= Duration::from_secs(20), "{at:?}");
        let (at, outcome) = calls(&[Err(unavailable(Some(u64::MAX))), Ok(SAID)]).await;
        assert_eq!((at.len(), outcome), (1, Err(unavailable(Some(u64::MAX)))));
    }
}
