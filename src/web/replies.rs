//! `/replies`: where the reply comes to a forwarded message that was answered 202.

use poem::http::StatusCode;
use poem::{Body, Request, handler};

use super::Backend;
use super::error::Problem;
use super::request::{self, parameter};
use crate::forward::{REPLY_URL_HEADER, read_reply};
use crate::store::Answered;

/// The reply to the message that the link is for.
#[handler]
pub(super) async fn take(
    request: &Request,
    body: Body,
    backend: &Backend,
) -> Result<StatusCode, Problem> {
    let token = parameter(request, "token")?.unwrap_or_default();
    let Some((open_id, key)) = backend.reply_links.open(&token) else {
        return Err(unknown());
    };
    let body = request::body(request, body).await?;
    // Whatever the Content-Type says: the link says who sends it.
    let reply = read_reply(&body).map_err(|fault| {
        let detail = format!("the body is {fault}; send a reply as JSON, or {{}} for none");
        Problem::bad_request("bad_reply", detail)
    })?;
    match backend.ledger.answer(&open_id, &key, reply).await? {
        Answered::Taken { .. } => Ok(StatusCode::NO_CONTENT),
        Answered::Already => Err(Problem::new(
            StatusCode::CONFLICT,
            "already_answered",
            "Already answered",
            "the message has its reply; a reply link is good once",
        )),
        Answered::Unknown => Err(unknown()),
    }
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown_reply",
        "Unknown reply link",
        "use the whole address of the header offiaccount-reply-url, within 24 h",
    )
}

/// Whether this program, or another instance of it, has forwarded the request: it would go in a circle.
pub(super) fn is_loop(request: &Request) -> bool {
    request.headers().contains_key(REPLY_URL_HEADER)
}

/// What a loop is answered.
pub(super) fn loop_detected() -> Problem {
    let detail =
        "this program forwarded the message to itself: set FORWARD_URL to the program that answers";
    Problem::new(
        StatusCode::LOOP_DETECTED,
        "forward_loop",
        "Loop detected",
        detail,
    )
}
