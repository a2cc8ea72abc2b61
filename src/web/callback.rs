//! `/wechat`: where the platform's server calls.
//!
//! Every failed authentication answers the same, whatever the cause; the cause is one line in the log.

use std::sync::Arc;

use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, Request, Response, handler};

use super::Backend;
use super::error::Problem;
use super::request;
use crate::ledger::Answer;
use crate::receiver::{ReceiveError, Refusal};
use crate::wechat::query::is_echostr;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const XML: HeaderValue = HeaderValue::from_static("application/xml; charset=utf-8");

/// The URL check (基本配置 → 服务器配置 → 提交): answers `echostr`, byte for byte.
#[handler]
pub(super) fn verify(request: &Request, backend: &Backend) -> Result<Response, Problem> {
    let query = match backend
        .receiver
        .verify(request.uri().query().unwrap_or_default())
    {
        Ok(query) => query,
        Err(refusal) => return Ok(refuse(backend, &refusal)),
    };
    // Never reflected unless it is what the platform sends: a signature can be replayed by whoever saw
    // one, with any echostr.
    match query.echostr.as_deref() {
        Some(echostr) if is_echostr(echostr) => {
            if backend.verified.is_due() {
                tracing::info!("the platform has verified this address");
            }
            Ok(answer(TEXT, echostr.to_owned()))
        }
        _ => Err(Problem::bad_request(
            "bad_echostr",
            "`echostr` is missing or not of WeChat's form",
        )),
    }
}

/// A delivery: a message or an event.
#[handler]
pub(super) async fn receive(
    request: &Request,
    body: Body,
    backend: &Backend,
) -> Result<Response, Problem> {
    let query = match backend
        .receiver
        .verify(request.uri().query().unwrap_or_default())
    {
        Ok(query) => query,
        Err(refusal) => return Ok(refuse(backend, &refusal)),
    };
    let body = request::body(request, body).await?;
    let (message, seal) = match backend.receiver.open(&query, &body) {
        Ok(opened) => opened,
        Err(ReceiveError::Refused(refusal)) => return Ok(refuse(backend, &refusal)),
        Err(ReceiveError::Malformed(error)) => {
            backend.metrics.messages.count_refused("malformed");
            tracing::warn!(%error, "an authentic delivery is no message");
            return Err(Problem::bad_request(
                "not_a_message",
                format!("the body is no message of WeChat's: {error}"),
            ));
        }
    };
    match backend.ledger.deliver(Arc::clone(&message)).await {
        Answer::Reply(said) => Ok(match backend.receiver.reply(&message, &said, seal) {
            Some(xml) => answer(XML, xml),
            None => answer(TEXT, "success".to_owned()),
        }),
        // Nobody is listening any more, or nothing was noted: the platform delivers again.
        Answer::HungUp | Answer::Busy => Ok(StatusCode::SERVICE_UNAVAILABLE.into()),
    }
}

fn refuse(backend: &Backend, refusal: &Refusal) -> Response {
    backend.metrics.messages.count_refused(refusal.cause());
    tracing::warn!(cause = refusal.cause(), "refused a delivery: {refusal}");
    Response::builder()
        .status(StatusCode::FORBIDDEN)
        .content_type("text/plain; charset=utf-8")
        .body("Invalid signature")
}

fn answer(content_type: HeaderValue, body: String) -> Response {
    let mut response = Response::from(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
