//! Handlers return what is said: a [`Reply`], a text, or nothing.

use std::error::Error;
use std::fmt;
use std::future::Future;

use futures_util::future::BoxFuture;

use super::Context;
use crate::wechat::Reply;

/// What a layer or a handler ends with.
pub type BotResult = Result<Reply, BotError>;

/// Any error of a handler, by `?`. It is logged; the user gets `FALLBACK_TEXT`.
pub struct BotError(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for BotError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for BotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An answer to a message: any `async (Context)` whose result is [`IntoReply`].
pub trait Handler: Send + Sync + 'static {
    /// Answers the message.
    fn call(&self, ctx: Context) -> BoxFuture<'static, BotResult>;
}

impl<F, Fut> Handler for F
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoReply> + Send + 'static,
{
    fn call(&self, ctx: Context) -> BoxFuture<'static, BotResult> {
        let answer = self(ctx);
        Box::pin(async move { answer.await.into_reply() })
    }
}

/// What a handler may return.
pub trait IntoReply {
    /// The reply, or why there is none.
    ///
    /// # Errors
    ///
    /// The handler's own error.
    fn into_reply(self) -> BotResult;
}

macro_rules! into_reply {
    ($($returned:ty),+) => {$(
        impl IntoReply for $returned {
            fn into_reply(self) -> BotResult {
                Ok(self.into())
            }
        }
    )+};
}

into_reply!(Reply, &'static str, String, ());

impl<T: Into<Reply>> IntoReply for Option<T> {
    fn into_reply(self) -> BotResult {
        Ok(self.map_or(Reply::None, Into::into))
    }
}

impl<T: Into<Reply>> IntoReply for Result<T, BotError> {
    fn into_reply(self) -> BotResult {
        self.map(Into::into)
    }
}
