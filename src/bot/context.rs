//! What a middleware or a handler is given: the message, who sent it, the API and the store.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BotError;
use super::session::Session;
use crate::api::Client;
use crate::customer_service::CustomerService;
use crate::reply_link::ReplyLinks;
use crate::rules::Rules;
use crate::store::{Digest, SessionChange, Store};
use crate::wechat::Message;
use crate::wechat::id::OpenId;

/// One message on its way through the onion. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
    captures: Arc<[String]>,
}

struct Shared {
    message: Arc<Message>,
    services: Arc<Services>,
    session: Session,
    is_answered_later: AtomicBool,
    state: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// What every message's handlers may use.
pub(crate) struct Services {
    pub(crate) api: Client,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) customer_service: CustomerService,
    pub(crate) reply_links: ReplyLinks,
    pub(crate) rules: Option<Arc<Rules>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the message's content: it is the user's.
        f.debug_struct("Context")
            .field("msg_type", &self.message().msg_type())
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(crate) fn new(message: Arc<Message>, services: Arc<Services>) -> Self {
        let shared = Shared {
            message,
            services,
            session: Session::default(),
            is_answered_later: AtomicBool::new(false),
            state: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            captures: Arc::default(),
        }
    }

    pub(super) fn with_captures(self, captures: Arc<[String]>) -> Self {
        Self { captures, ..self }
    }

    /// The message as the platform sent it.
    pub fn message(&self) -> &Message {
        &self.shared.message
    }

    /// Who sent it: `FromUserName`.
    pub fn sender(&self) -> &OpenId {
        &self.shared.message.from
    }

    /// `Content`, if the message is a text.
    pub fn text(&self) -> Option<&str> {
        self.message().text()
    }

    /// `EventKey`, if the message is an event that has one.
    pub fn event_key(&self) -> Option<&str> {
        self.message().event_key()
    }

    /// Group `n` of the pattern that led here; 0 is the whole match. Empty if there is none.
    pub fn capture(&self, n: usize) -> &str {
        self.captures.get(n).map_or("", String::as_str)
    }

    /// The account's API.
    pub fn api(&self) -> &Client {
        &self.shared.services.api
    }

    /// What is said to a user of the account's own accord: to this one or another, now or later.
    pub fn customer_service(&self) -> &CustomerService {
        &self.shared.services.customer_service
    }

    /// What the backend keeps.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.services.store
    }

    /// The conversation's state, if one was set and its time is not over. It is read with the message;
    /// only while the store is away this waits until it is back.
    ///
    /// # Errors
    ///
    /// What is stored is of another type.
    pub async fn session<T: DeserializeOwned>(&self) -> Result<Option<T>, BotError> {
        self.shared.session.get().await
    }

    /// Sets the conversation's state, for `timeout` from the end of this message. It is written together
    /// with the reply, in one step, and not at all if the handler fails: for each message it changes once,
    /// whatever dies meanwhile.
    ///
    /// # Errors
    ///
    /// The value can't be written as JSON, or has more than
    /// [`MAX_SESSION_BYTES`](super::MAX_SESSION_BYTES) as JSON.
    pub fn set_session<T: Serialize>(&self, value: &T, timeout: Duration) -> Result<(), BotError> {
        self.shared.session.set(value, timeout)
    }

    /// Ends the conversation's state, as [`set_session`](Self::set_session) sets it.
    pub fn clear_session(&self) {
        self.shared.session.clear();
    }

    /// An address of ours at which another program may give the reply to this message: by POST, as JSON
    /// with WeChat's names, once, within 24 h. Hand it to one that you trust, and call
    /// [`answer_later`](Self::answer_later).
    pub fn reply_url(&self) -> String {
        let key = Digest(self.message().ledger_key());
        self.shared.services.reply_links.url(self.sender(), &key)
    }

    /// The reply does not come from this handler but later, from outside, as through
    /// [`reply_url`](Self::reply_url). What the handler returns is not
    /// said, and the user's next messages are handled meanwhile.
    pub fn answer_later(&self) {
        self.shared.is_answered_later.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_answered_later(&self) -> bool {
        self.shared.is_answered_later.load(Ordering::Relaxed)
    }

    /// Tells the session as it is stored.
    pub(crate) fn load_session(&self, stored: Option<Vec<u8>>) {
        self.shared.session.load(stored);
    }

    /// What the handlers did to the session.
    pub(crate) fn take_session_change(&self) -> SessionChange {
        self.shared.session.take_change()
    }

    /// Leaves a value for the layers and the handler further in (Koa's `ctx.state`), by its type.
    pub fn set<T: Any + Send + Sync>(&self, value: T) {
        self.state().insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of this type that another layer left.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.state()
            .get(&TypeId::of::<T>())?
            .clone()
            .downcast()
            .ok()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HashMap<TypeId, Arc<dyn Any + Send + Sync>>> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
