//! The server API, `api.weixin.qq.com`.
//!
//! An endpoint is one [`Endpoint`] in the table of its area. What is common to all stands here, once:
//! the method, the token, the account's rights, quotas, ordered faults, the texts of errors with
//! their `rid`, and the log of calls. Handlers are sync over the [`Platform`], so that a seed and a
//! moved clock give the same answers; delays are waited for outside its lock. What a call causes
//! later, an event, it leaves in the platform's outbox.

mod article;
mod callback;
mod comment;
mod custom;
mod datacube;
mod endpoint;
mod form;
mod group;
mod kf;
mod mass;
mod material;
mod media;
mod menu;
mod notice;
mod qrcode;
mod quota;
mod sns;
mod tag;
mod template;
mod ticket;
mod token;
mod user;

pub(crate) mod call;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::web::RemoteAddr;
use poem::{Addr, Request, Response};
use serde_json::json;

pub(crate) use self::call::{Answer, Call, File, Members, Refusal, ok, ok_with};
pub(crate) use self::endpoint::{Access, Body, Endpoint, Verb};
use self::endpoint::{COMMON, get, post, upload};
use super::World;
use super::account::Kind;
use super::clock::machine_millis;
use super::errcode;
use super::faults::Fault;
use super::http::{self, Pairs};
use super::platform::Platform;

/// The most of a body that the log of calls keeps.
const LOGGED_BYTES: usize = 1 << 20;

/// Every endpoint, area by area.
pub(crate) fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    [
        token::ENDPOINTS,
        ticket::ENDPOINTS,
        callback::ENDPOINTS,
        quota::ENDPOINTS,
        user::ENDPOINTS,
        tag::ENDPOINTS,
        group::ENDPOINTS,
        menu::ENDPOINTS,
        qrcode::ENDPOINTS,
        custom::ENDPOINTS,
        kf::ENDPOINTS,
        template::ENDPOINTS,
        notice::ENDPOINTS,
        mass::ENDPOINTS,
        media::ENDPOINTS,
        material::ENDPOINTS,
        article::ENDPOINTS,
        comment::ENDPOINTS,
        datacube::ENDPOINTS,
        sns::ENDPOINTS,
    ]
    .into_iter()
    .flatten()
}

/// What goes back: status, type, body, and what the log has of it.
struct Said {
    status: StatusCode,
    content_type: &'static str,
    disposition: Option<String>,
    body: Vec<u8>,
    errcode: Option<i64>,
    rid: Option<String>,
}

impl Said {
    fn json(path: &str, body: String, errcode: Option<i64>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: content_type(path),
            disposition: None,
            body: body.into_bytes(),
            errcode,
            rid: None,
        }
    }

    fn into_response(self) -> Response {
        let response = http::answer(self.status, self.content_type, self.body);
        let disposition = self.disposition.map(HeaderValue::try_from);
        match disposition {
            Some(Ok(value)) => http::with_header(response, header::CONTENT_DISPOSITION, value),
            _ => response,
        }
    }
}

/// Answers a call, known or not.
pub(crate) async fn answer(world: &Arc<World>, request: Request) -> Response {
    let began = Instant::now();
    let at = machine_millis();
    let method = request.method().clone();
    let call = Call {
        path: request.uri().path().to_owned(),
        query: Pairs::of(&request),
        client: client(&request),
        content_type: request.content_type().unwrap_or_default().to_owned(),
        body: Vec::new(),
    };
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let call = Call { body, ..call };
    let (said, delay) = {
        let mut platform = world.platform();
        let fault = platform.faults.take(&call.path);
        let said = match &fault {
            Some(fault) if fault.answers() => ordered(&mut platform, &call, fault),
            _ => decide(&mut platform, &method, &call),
        };
        let delay = fault.map_or(Duration::ZERO, |fault| fault.delay);
        let ms = u64::try_from((began.elapsed() + delay).as_millis()).unwrap_or(u64::MAX);
        if call.path == custom::SEND {
            custom::note(&mut platform, &call, at, said.errcode);
        }
        let invoke_time = platform.now();
        platform.requests.push(json!({
            "at": at,
            "method": method.as_str(),
            "path": call.path,
            "query": call.query.iter().collect::<std::collections::BTreeMap<_, _>>(),
            "request_body": call.logged(),
            "status": said.status.as_u16(),
            "response_body": said.logged(),
            "errcode": said.errcode,
            "rid": said.rid,
            "ms": ms,
            "client": call.client,
            "invoke_time": invoke_time,
        }));
        (said, delay)
    };
    world.stir();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    said.into_response()
}

/// Who calls: the other end of the connection, no header is believed.
fn client(request: &Request) -> IpAddr {
    match request.remote_addr() {
        RemoteAddr(Addr::SocketAddr(addr)) => addr.ip().to_canonical(),
        RemoteAddr(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

impl Call {
    /// The body in the log: of a form what its parts are.
    fn logged(&self) -> Cow<'_, str> {
        let parts = self.form();
        if parts.is_empty() {
            return logged(&self.body);
        }
        let lines = parts.iter().map(|part| match &part.filename {
            Some(filename) => format!("{}: {filename}, {} bytes", part.name, part.bytes.len()),
            None => format!("{}: {}", part.name, part.text()),
        });
        lines.collect::<Vec<_>>().join("\n").into()
    }
}

impl Said {
    /// The body in the log: of a file how large it is.
    fn logged(&self) -> Cow<'_, str> {
        if self.disposition.is_some() {
            return format!("{}, {} bytes", self.content_type, self.body.len()).into();
        }
        logged(&self.body)
    }
}

/// A body in the log: all of it, but for large ones.
fn logged(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&body[..body.len().min(LOGGED_BYTES)])
}

/// The platform's own, unreliable types: nothing may depend on them.
fn content_type(path: &str) -> &'static str {
    if path.starts_with("/sns/") {
        "text/plain"
    } else {
        "application/json; encoding=utf-8"
    }
}

fn decide(platform: &mut Platform, method: &Method, call: &Call) -> Said {
    let endpoint = endpoints().find(|endpoint| endpoint.path == call.path);
    let outcome = match endpoint {
        Some(endpoint) => run(platform, endpoint, method, call),
        None => Err(40066.into()),
    };
    match outcome {
        Ok(Answer::Json(json)) => {
            let errcode = json["errcode"].as_i64().unwrap_or(0);
            Said::json(&call.path, json.to_string(), Some(errcode))
        }
        Ok(Answer::File(file)) => Said {
            status: StatusCode::OK,
            content_type: file.content_type,
            disposition: file
                .name
                .map(|name| format!("attachment; filename=\"{name}\"")),
            body: file.bytes,
            errcode: Some(0),
            rid: None,
        },
        Ok(Answer::Missing) => Said {
            status: StatusCode::NOT_FOUND,
            ..Said::json(&call.path, String::new(), None)
        },
        Err(refusal) => {
            if let Some(endpoint) = endpoint {
                let errcode = refusal.errcode;
                debug_assert!(
                    endpoint.errors.contains(&errcode) || COMMON.contains(&errcode),
                    "{} answers {errcode} and does not declare it",
                    call.path
                );
            }
            refuse(platform, call, refusal)
        }
    }
}

fn run(
    platform: &mut Platform,
    endpoint: &'static Endpoint,
    method: &Method,
    call: &Call,
) -> Result<Answer, Refusal> {
    match endpoint.method {
        Verb::Get if method != Method::GET => return Err(43001.into()),
        Verb::Post if method != Method::POST => return Err(43002.into()),
        Verb::Get | Verb::Post | Verb::Either => {}
    }
    if endpoint.access == Access::Token {
        let token = call.need("access_token", 41001)?;
        platform.tokens.check(token, platform.now())?;
    }
    if !platform.account.kind.grants(endpoint.right) {
        return Err(48001.into());
    }
    if let Some(daily) = endpoint.daily {
        let limit = match platform.account.kind {
            Kind::Sandbox => daily.sandbox,
            Kind::Service | Kind::Subscription | Kind::Unverified => daily.account,
        };
        platform.count(endpoint.path, limit)?;
    }
    (endpoint.handler)(platform, call)
}

/// The platform says no: status 200 all the same.
fn refuse(platform: &mut Platform, call: &Call, refusal: Refusal) -> Said {
    let rid = platform.rid();
    let errcode = refusal.errcode;
    let words = match &refusal.errmsg {
        Some(words) => words.as_str(),
        None => errcode::text(errcode),
    };
    let errmsg = format!("{words}{}rid: {rid}", errcode::rid_separator(errcode));
    let mut body = json!({"errcode": errcode, "errmsg": errmsg});
    for (name, value) in refusal.more {
        body[name] = value;
    }
    Said {
        rid: Some(rid),
        ..Said::json(&call.path, body.to_string(), Some(errcode))
    }
}

/// What an ordered fault says in place of the real answer.
fn ordered(platform: &mut Platform, call: &Call, fault: &Fault) -> Said {
    let mut said = match (fault.errcode, &fault.body) {
        (Some(errcode), _) => refuse(platform, call, errcode.into()),
        (None, body) => Said::json(&call.path, body.clone().unwrap_or_default(), None),
    };
    if let Some(body) = &fault.body {
        said.body = body.clone().into_bytes();
    }
    if let Some(status) = fault.status {
        said.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_declared_once_with_texts_for_its_errors() {
        let mut paths = std::collections::BTreeSet::new();
        for endpoint in endpoints() {
            assert!(paths.insert(endpoint.path), "{} twice", endpoint.path);
            assert!(!endpoint.summary.is_empty());
            for errcode in endpoint.errors.iter().chain(COMMON) {
                assert_ne!(errcode::text(*errcode), "error", "{errcode}");
            }
            for errcode in endpoint.errors {
                assert!(!COMMON.contains(errcode), "{}: {errcode}", endpoint.path);
            }
        }
    }
}
