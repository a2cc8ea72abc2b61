//! Koa-style handling of messages: an onion of middleware around a router.
//!
//! ```
//! use offiaccount::{Bot, Context, Next};
//!
//! let bot = Bot::new()
//!     .with(async |ctx: Context, next: Next| {
//!         let reply = next.run(ctx).await; // the way in ends here, the way out begins
//!         reply
//!     })
//!     .on_event("subscribe", async |_: Context| "欢迎关注！")
//!     .on_keyword("帮助", async |_: Context| "发订单号查物流")
//!     .on_pattern(r"^订单\s*(\d+)$", async |ctx: Context| format!("订单 {} 正在路上", ctx.capture(1)));
//! # bot.check().unwrap();
//! ```

mod chain;
mod context;
mod handler;
mod handlers;
mod router;
mod session;

pub(crate) use chain::Chain;
pub use chain::{Middleware, Next};
pub use context::Context;
pub(crate) use context::Services;
pub use handler::{BotError, BotResult, Handler, IntoReply};
pub use router::Route;
pub use session::MAX_SESSION_BYTES;

use std::sync::Arc;

use crate::forward::Forwarder;
use crate::rules::Rules;
use crate::wechat::Reply;
use router::Router;

/// What an account answers: middleware, routes and a fallback.
///
/// Routes are tried in the order in which they were added; the first that fits answers. What none
/// fits goes to the fallback, which answers a text with `Hello <Content>` unless it is replaced.
#[derive(Default)]
pub struct Bot {
    middleware: Vec<Arc<dyn Middleware>>,
    router: Router,
    faults: Vec<String>,
}

impl std::fmt::Debug for Bot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bot")
            .field("middleware", &self.middleware.len())
            .field("router", &self.router)
            .finish()
    }
}

impl Bot {
    /// A bot with no middleware and no routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer inside those added before: the first is the outermost.
    #[must_use]
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// Answers messages of this `MsgType`: `text`, `image`, `voice`, `location`, …
    #[must_use]
    pub fn on_type(self, msg_type: &str, handler: impl Handler) -> Self {
        self.on(Route::Type(msg_type.into()), handler)
    }

    /// Answers a text that is exactly this, blanks around it aside.
    #[must_use]
    pub fn on_keyword(self, keyword: &str, handler: impl Handler) -> Self {
        self.on(Route::Keyword(keyword.into()), handler)
    }

    /// Answers a text that this regular expression finds. Its groups are [`Context::capture`].
    #[must_use]
    pub fn on_pattern(mut self, pattern: &str, handler: impl Handler) -> Self {
        match regex::Regex::new(pattern) {
            Ok(regex) => self.on(Route::Pattern(regex), handler),
            Err(error) => {
                self.faults.push(format!(
                    "the pattern `{pattern}` is no regular expression: {error}"
                ));
                self
            }
        }
    }

    /// Answers an event by its name: `subscribe`, `CLICK`, `SCAN`, … Upper and lower case differ.
    #[must_use]
    pub fn on_event(self, event: &str, handler: impl Handler) -> Self {
        self.on(
            Route::Event {
                event: event.into(),
                key: None,
            },
            handler,
        )
    }

    /// Answers an event with this `EventKey`: a menu button's key, a QR code's scene (`qrscene_` cut off).
    #[must_use]
    pub fn on_event_key(self, event: &str, key: &str, handler: impl Handler) -> Self {
        self.on(
            Route::Event {
                event: event.into(),
                key: Some(key.into()),
            },
            handler,
        )
    }

    /// Answers what no route fits, in place of `Hello <Content>`.
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.router.set_fallback(Arc::new(handler));
        self
    }

    /// Has what no route fits answered by another program, before the fallback.
    #[must_use]
    pub(crate) fn forwarding(mut self, forwarder: Forwarder) -> Self {
        self.router.set_forwarder(Arc::new(forwarder));
        self
    }

    /// Whether a fallback stands where the forwarder leaves nothing to it.
    pub(crate) fn has_fallback(&self) -> bool {
        self.router.has_fallback()
    }

    /// Has what no route fits answered by rules, before the fallback.
    #[must_use]
    pub(crate) fn ruled_by(mut self, rules: Arc<Rules>) -> Self {
        self.router.set_rules(rules);
        self
    }

    fn on(mut self, route: Route, handler: impl Handler) -> Self {
        self.router.add(route, Arc::new(handler));
        self
    }

    /// Says what is wrong with the bot, so that it fails at start and not at the first message.
    ///
    /// # Errors
    ///
    /// All faults in one text.
    pub fn check(&self) -> Result<(), String> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults.join("; "))
        }
    }

    /// The onion, ready to run.
    pub(crate) fn into_chain(self) -> Chain {
        Chain::new(self.middleware, self.router)
    }
}

/// `Hello <Content>` to a text, nothing to the rest.
fn hello(ctx: &Context) -> Reply {
    let Some(content) = ctx.text() else {
        return Reply::None;
    };
    // An echo is cut and not said in parts: nobody waits for the rest of what he wrote himself.
    let (reply, cuts) = Reply::Text(["Hello ", content].concat()).fitted(false);
    for cut in cuts {
        tracing::warn!("{cut}");
    }
    reply
}
