//! Answers with what the program at `FORWARD_URL` says.

use futures_util::future::BoxFuture;

use crate::bot::{BotResult, Context, Handler};
use crate::forward::{Answer, Forwarder};
use crate::wechat::Reply;

impl Handler for Forwarder {
    fn call(&self, ctx: Context) -> BoxFuture<'static, BotResult> {
        let forwarder = self.clone();
        Box::pin(async move {
            match forwarder
                .forward(ctx.message(), Some(ctx.reply_url()))
                .await?
            {
                Answer::Reply(reply) => Ok(reply),
                Answer::Later => {
                    ctx.answer_later();
                    Ok(Reply::None)
                }
            }
        })
    }
}
