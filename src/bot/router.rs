//! The centre of the onion: the first route that fits answers.

use std::sync::Arc;

use regex::Regex;

use super::{BotResult, Context, Handler, hello};
use crate::rules::Rules;
use crate::wechat::Message;

/// What a message must be for a handler to answer it.
#[derive(Clone, Debug)]
pub enum Route {
    /// Its `MsgType`.
    Type(String),
    /// A text that is exactly this, blanks around it aside.
    Keyword(String),
    /// A text that this finds.
    Pattern(Regex),
    /// An event of this name and, if one is given, this key.
    Event {
        /// `Event`.
        event: String,
        /// `EventKey`, a QR code's without `qrscene_`.
        key: Option<String>,
    },
}

#[derive(Default)]
pub(super) struct Router {
    routes: Vec<(Route, Arc<dyn Handler>)>,
    forwarder: Option<Arc<dyn Handler>>,
    rules: Option<Arc<Rules>>,
    fallback: Option<Arc<dyn Handler>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.routes.iter().map(|(route, _)| route))
            .finish()
    }
}

impl Router {
    pub(super) fn add(&mut self, route: Route, handler: Arc<dyn Handler>) {
        self.routes.push((route, handler));
    }

    pub(super) fn set_fallback(&mut self, handler: Arc<dyn Handler>) {
        self.fallback = Some(handler);
    }

    pub(super) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    pub(super) fn set_forwarder(&mut self, forwarder: Arc<dyn Handler>) {
        self.forwarder = Some(forwarder);
    }

    pub(super) fn set_rules(&mut self, rules: Arc<Rules>) {
        self.rules = Some(rules);
    }

    pub(super) async fn answer(&self, ctx: Context) -> BotResult {
        for (route, handler) in &self.routes {
            if let Some(captures) = route.fit(ctx.message()) {
                return handler.call(ctx.with_captures(captures)).await;
            }
        }
        if let Some(rules) = &self.rules
            && let Some(reply) = rules.answer(&ctx).await?
        {
            return Ok(reply);
        }
        match self.forwarder.as_ref().or(self.fallback.as_ref()) {
            Some(handler) => handler.call(ctx).await,
            None => Ok(hello(&ctx)),
        }
    }
}

impl Route {
    /// The captures, if the message fits.
    fn fit(&self, message: &Message) -> Option<Arc<[String]>> {
        let fits = match self {
            Self::Type(msg_type) => message.msg_type() == msg_type,
            Self::Keyword(keyword) => message.text().is_some_and(|text| text.trim() == keyword),
            Self::Pattern(regex) => {
                let captures = regex.captures(message.text()?)?;
                let group = |group: Option<regex::Match<'_>>| {
                    group.map_or_else(String::new, |m| m.as_str().to_owned())
                };
                return Some(captures.iter().map(group).collect());
            }
            Self::Event { event, key } => {
                message.event_name() == Some(event)
                    && key
                        .as_ref()
                        .is_none_or(|key| message.scene().or(message.event_key()) == Some(key))
            }
        };
        fits.then(Arc::default)
    }
}
