//! What a middleware or a handler is given: the message, who sent it, the API and the store.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::Client;
use crate::customer_service::CustomerService;
use crate::store::Store;
use crate::wechat::Message;
use crate::wechat::id::OpenId;

/// One message on its way through the onion. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
    captures: Arc<[String]>,
}

struct Shared {
    message: Message,
    customer_service: CustomerService,
    store: Arc<dyn Store>,
    state: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
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
    pub(crate) fn new(
        message: Message,
        customer_service: CustomerService,
        store: Arc<dyn Store>,
    ) -> Self {
        let shared = Shared {
            message,
            customer_service,
            store,
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
        self.shared.customer_service.api()
    }

    /// What is said to a user of the account's own accord: to this one or another, now or later.
    pub fn customer_service(&self) -> &CustomerService {
        &self.shared.customer_service
    }

    /// What the backend keeps.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
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
