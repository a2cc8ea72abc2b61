//! Customer-service messages: what the account says to a user of itself.
//!
//! WeChat: "客服消息". A message that the platform would refuse is refused here, with the reason and
//! without a call: outside the user's windows, over their count, and where the account may send none.
//! What the store doesn't know the platform teaches: its refusals are remembered, in this process.
//!
//! A message is counted after it was sent, and two instances may send at once. So now and then the
//! platform is asked in vain; a message that it would take is never held back.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::{ApiError, Client, CustomMessage, Unsendable};
use crate::store::{Store, Trigger, Window, within};
use crate::telemetry::metrics::CustomerServiceMetrics;
use crate::token;
use crate::wechat::Reply;
use crate::wechat::id::OpenId;

mod window;

pub use window::{Refusal, allows, lasts, trigger, verdict};

/// How long an account that may send no messages is believed to be so.
const NOT_ALLOWED_FOR: Duration = Duration::from_secs(3600);
/// A refusal is remembered for as long as the longest window lasts.
const REMEMBER_REFUSALS: Duration = lasts(Trigger::Message);
/// Refusals remembered at most. After that they are learned anew, a call each.
const MOST_REFUSALS: usize = 10_000;
/// Each store operation.
const STORE_WITHIN: Duration = Duration::from_millis(1_200);

/// Why a message was not sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// No customer-service message can carry this reply.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
    /// The user's windows are closed or used up. He opens the way by writing.
    #[error("{refusal} (errcode {})", refusal.errcode())]
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The account may send no customer-service messages; it is asked again after an hour.
    #[error("the account may send no customer-service messages (errcode {errcode}): {}", crate::api::advice(*errcode).unwrap_or("see 接口权限 in the console"))]
    NotAllowed {
        /// 48001 or 48004.
        errcode: i64,
    },
    /// It did not go out, and the user has not seen it.
    #[error("{0}")]
    Failed(ApiError),
    /// It went out and there was no answer: the user may have seen it.
    #[error("{0}; the user may have seen the message")]
    Unclear(ApiError),
}

impl SendError {
    /// What WeChat answered, or would have answered.
    pub fn errcode(&self) -> Option<i64> {
        match self {
            Self::Refused { refusal } => Some(refusal.errcode()),
            Self::NotAllowed { errcode } => Some(*errcode),
            Self::Failed(error) | Self::Unclear(error) => error.errcode(),
            Self::Unsendable(_) => None,
        }
    }

    /// The word for it in the metrics.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unsendable(_) => "unsendable",
            Self::Refused { refusal } if refusal.errcode() == 45047 => "refused_count",
            Self::Refused { .. } => "refused_window",
            Self::NotAllowed { .. } => "not_allowed",
            Self::Failed(_) => "failed",
            Self::Unclear(_) => "unclear",
        }
    }
}

/// Sends customer-service messages. Cheap to clone.
#[derive(Clone)]
pub struct CustomerService(Arc<Inner>);

struct Inner {
    api: Client,
    store: Arc<dyn Store>,
    metrics: CustomerServiceMetrics,
    learned: Mutex<Learned>,
}

/// What the platform's refusals have taught.
#[derive(Default)]
struct Learned {
    not_allowed: Option<(Instant, i64)>,
    refused: HashMap<OpenId, (Instant, i64)>,
}

impl fmt::Debug for CustomerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerService")
    }
}

impl CustomerService {
    /// Sends through `api`, by what `store` knows of the users' windows.
    pub fn new(api: Client, store: Arc<dyn Store>, metrics: CustomerServiceMetrics) -> Self {
        Self(Arc::new(Inner {
            api,
            store,
            metrics,
            learned: Mutex::default(),
        }))
    }

    /// Says `reply` to a user. While the store is away the platform judges alone.
    ///
    /// # Errors
    ///
    /// [`SendError`] says whether he can have seen it.
    pub async fn send(&self, to: &OpenId, reply: &Reply) -> Result<(), SendError> {
        self.0.counted(self.0.send(to, reply, true).await)
    }

    /// As [`send`](Self::send), but the platform judges in any case. For windows that are not known
    /// here: the user has paid, or he wrote before this backend ran.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_unchecked(&self, to: &OpenId, reply: &Reply) -> Result<(), SendError> {
        self.0.counted(self.0.send(to, reply, false).await)
    }
}

impl Inner {
    fn counted(&self, outcome: Result<(), SendError>) -> Result<(), SendError> {
        self.metrics
            .count(outcome.as_ref().err().map_or("sent", SendError::outcome));
        outcome
    }

    async fn send(&self, to: &OpenId, reply: &Reply, is_checked: bool) -> Result<(), SendError> {
        let message = CustomMessage::of(reply)?;
        let looked_at = Instant::now();
        let window = match self.verdict(to).await {
            Ok(trigger) => trigger,
            Err(_) if !is_checked => None,
            Err(refusal) => return Err(refusal),
        };
        // First the token: without one nothing goes out, whatever else went wrong.
        let token = self.api.tokens().get(token::Kind::AccessToken).await;
        token.map_err(SendError::Failed)?;
        match self.api.send_custom(to, &message).await {
            Ok(()) => {
                self.lock().forget(to);
                if let Some(trigger) = window {
                    self.count(to, trigger).await;
                }
                Ok(())
            }
            Err(error) => Err(self.learn(to, looked_at, error)),
        }
    }

    /// The window in which a message counts; `None` while the store is away.
    async fn verdict(&self, to: &OpenId) -> Result<Option<Trigger>, SendError> {
        if let Some(errcode) = self.lock().not_allowed() {
            return Err(SendError::NotAllowed { errcode });
        }
        let windows = match within(STORE_WITHIN, self.store.windows(to)).await {
            Ok(windows) => windows,
            Err(error) => {
                tracing::debug!(%error, "the send window is not known: WeChat judges");
                return Ok(None);
            }
        };
        let told = self.lock().refused(to, &windows);
        match (told, verdict(&windows)) {
            (_, Err(refusal)) | (Some(refusal), Ok(_)) => Err(SendError::Refused { refusal }),
            (None, Ok(trigger)) => Ok(Some(trigger)),
        }
    }

    async fn count(&self, to: &OpenId, trigger: Trigger) {
        if let Err(error) = within(STORE_WITHIN, self.store.count_sent(to, trigger)).await {
            // One too many will be tried then, and refused.
            tracing::debug!(%error, "a customer-service message was not counted");
        }
    }

    fn learn(&self, to: &OpenId, looked_at: Instant, error: ApiError) -> SendError {
        match error {
            ApiError::Refused { errcode, .. } => match errcode {
                45015 | 45047 => {
                    self.lock().refuse(to, looked_at, errcode);
                    let refusal = Refusal::Told { errcode };
                    SendError::Refused { refusal }
                }
                // No right to the API, or banned from it.
                48001 | 48004 => {
                    let error = SendError::NotAllowed { errcode };
                    tracing::warn!("{error}");
                    self.lock().not_allowed = Some((Instant::now(), errcode));
                    error
                }
                _ => SendError::Failed(error),
            },
            ApiError::Unreachable(_) | ApiError::Store(_) => SendError::Failed(error),
            ApiError::Timeout | ApiError::Network(_) | ApiError::Nonsense(_) => {
                SendError::Unclear(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Learned {
    fn not_allowed(&self) -> Option<i64> {
        let (since, errcode) = self.not_allowed?;
        (since.elapsed() < NOT_ALLOWED_FOR).then_some(errcode)
    }

    /// The refusal that still holds: he has done nothing since it was given.
    fn refused(&mut self, to: &OpenId, windows: &[Window]) -> Option<Refusal> {
        let (looked_at, errcode) = *self.refused.get(to)?;
        let age = looked_at.elapsed();
        if age >= REMEMBER_REFUSALS || windows.iter().any(|window| window.age <= age) {
            self.refused.remove(to);
            return None;
        }
        Some(Refusal::Told { errcode })
    }

    fn refuse(&mut self, to: &OpenId, looked_at: Instant, errcode: i64) {
        if self.refused.len() >= MOST_REFUSALS {
            self.refused.clear();
        }
        self.refused.insert(to.clone(), (looked_at, errcode));
    }

    /// A message went out: none of it holds.
    fn forget(&mut self, to: &OpenId) {
        self.not_allowed = None;
        self.refused.remove(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: usize) -> OpenId {
        OpenId::parse(&format!("oFan{n:024}")).unwrap()
    }

    fn wrote(age: Duration) -> [Window; 1] {
        [Window {
            trigger: Trigger::Message,
            age,
            sent: 0,
        }]
    }

    #[test]
    fn a_refusal_holds_until_the_user_does_something() {
        let mut learned = Learned::default();
        let told = Some(Refusal::Told { errcode: 45015 });
        let (an_hour, a_minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let Some(looked_at) = Instant::now().checked_sub(a_minute) else {
            panic!("the machine runs for more than a minute");
        };
        learned.refuse(&user(1), looked_at, 45015);
        assert_eq!(learned.refused(&user(1), &wrote(an_hour)), told);
        assert_eq!(learned.refused(&user(1), &[]), told);
        assert_eq!(learned.refused(&user(2), &wrote(an_hour)), None);
        assert_eq!(learned.refused(&user(1), &wrote(a_minute / 2)), None);
        assert_eq!(learned.refused(&user(1), &wrote(an_hour)), None);
    }

    #[test]
    fn refusals_are_remembered_up_to_a_number() {
        let mut learned = Learned::default();
        for n in 0..=MOST_REFUSALS {
            learned.refuse(&user(n), Instant::now(), 45047);
        }
        assert_eq!(learned.refused.len(), 1);
        let told = Refusal::Told { errcode: 45047 };
        assert_eq!(
            learned.refused(&user(MOST_REFUSALS), &wrote(Duration::from_secs(3600))),
            Some(told)
        );
    }
}
