//! The server API, `api.weixin.qq.com`.
//!
//! An endpoint is one [`Endpoint`] in the table of its area. What is common to all stands here, once:
//! the method, the token, the account's rights, quotas, ordered faults, the texts of errors with
//! their `rid`, and the log of calls. Handlers are sync over the [`Platform`], so that a seed and a
//! moved clock give the same answers; delays are waited for outside its lock.

mod callback;
mod custom;
mod sns;
mod ticket;
mod token;
mod user;

use std::borrow::Cow;
use std::time::Instant;

use poem::http::{Method, StatusCode};
use poem::{Request, Response};
use serde_json::{Map, Value, json};

use super::World;
use super::account::{Kind, Right};
use super::clock::machine_millis;
use super::errcode;
use super::http::{self, Pairs};
use super::platform::Platform;

/// One call of the API: what it is, what it needs, what it may refuse, what it does.
pub(crate) struct Endpoint {
    pub(crate) method: Verb,
    pub(crate) path: &'static str,
    /// One line for `/_sim/endpoints`.
    pub(crate) summary: &'static str,
    /// The codes this call answers beside [`COMMON`].
    pub(crate) errors: &'static [i64],
    pub(crate) access: Access,
    pub(crate) right: Right,
    pub(crate) daily: Option<Daily>,
    pub(crate) handler: fn(&mut Platform, &Call) -> Result<Answer, Refusal>,
}

/// The method that a call is for; the other one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
}

/// What a caller shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// `access_token` of the account in the query.
    Token,
    /// Something of its own, which the handler checks.
    Own,
}

/// Calls a day ("WeChat: 接口调用频次限制").
#[derive(Clone, Copy, Debug)]
pub(crate) struct Daily {
    pub(crate) account: u64,
    pub(crate) sandbox: u64,
}

/// Codes that every call may answer: busy, the token's, the method's, quota, form and rights.
pub(crate) const COMMON: &[i64] = &[
    -1, 40001, 40014, 41001, 42001, 43001, 43002, 44002, 45009, 45011, 47001, 48001,
];

/// The most of a body that the log of calls keeps.
const LOGGED_BYTES: usize = 1 << 20;

/// Every endpoint, area by area.
pub(crate) fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    [
        token::ENDPOINTS,
        ticket::ENDPOINTS,
        callback::ENDPOINTS,
        user::ENDPOINTS,
        custom::ENDPOINTS,
        sns::ENDPOINTS,
    ]
    .into_iter()
    .flatten()
}

impl Endpoint {
    /// As `/_sim/endpoints` lists it.
    pub(crate) fn to_json(&self) -> Value {
        let errors = self.errors.iter().chain(COMMON);
        json!({
            "method": self.method.as_str(),
            "path": self.path,
            "summary": self.summary,
            "needs_access_token": self.access == Access::Token,
            "daily": self.daily.map(|daily| daily.account),
            "errors": errors
                .map(|errcode| json!({"errcode": errcode, "errmsg": errcode::text(*errcode)}))
                .collect::<Vec<_>>(),
        })
    }
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// What a handler gets of the request.
pub(crate) struct Call {
    pub(crate) query: Pairs,
    body: Vec<u8>,
}

impl Call {
    /// A query parameter, or the refusal for want of it.
    pub(crate) fn need(&self, name: &str, missing: i64) -> Result<&str, Refusal> {
        self.query.get(name).ok_or(missing.into())
    }

    /// The body as a JSON object; raw UTF-8.
    pub(crate) fn json(&self) -> Result<Map<String, Value>, Refusal> {
        if self.body.is_empty() {
            return Err(44002.into());
        }
        serde_json::from_slice(&self.body).map_err(|_| 47001.into())
    }
}

/// The JSON of a success.
pub(crate) struct Answer(Value);

impl From<Value> for Answer {
    fn from(json: Value) -> Self {
        Self(json)
    }
}

/// `{"errcode":0,"errmsg":"ok"}`
pub(crate) fn ok() -> Answer {
    json!({"errcode": 0, "errmsg": "ok"}).into()
}

/// A code of [`errcode::TEXTS`], which gives the words.
#[derive(Debug)]
pub(crate) struct Refusal(i64);

impl From<i64> for Refusal {
    fn from(errcode: i64) -> Self {
        Self(errcode)
    }
}

/// What goes back: status, type, body, and the code for the log.
struct Said {
    status: StatusCode,
    body: String,
    errcode: Option<i64>,
}

/// Answers a call, known or not.
pub(crate) async fn answer(world: &World, request: Request) -> Response {
    let began = Instant::now();
    let at = machine_millis();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = Pairs::of(&request);
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let call = Call { query, body };
    let (said, delay) = {
        let mut platform = world.platform();
        let fault = platform.faults.take(&path);
        let said = match &fault {
            Some(fault) if fault.answers() => ordered(&mut platform, fault),
            _ => decide(&mut platform, &method, &path, &call),
        };
        let delay = fault.map_or(std::time::Duration::ZERO, |fault| fault.delay);
        let ms = u64::try_from((began.elapsed() + delay).as_millis()).unwrap_or(u64::MAX);
        platform.requests.push(json!({
            "at": at,
            "method": method.as_str(),
            "path": path,
            "query": call.query.iter().collect::<std::collections::BTreeMap<_, _>>(),
            "request_body": logged(&call.body),
            "status": said.status.as_u16(),
            "response_body": logged(said.body.as_bytes()),
            "errcode": said.errcode,
            "ms": ms,
        }));
        (said, delay)
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    http::answer(said.status, content_type(&path), said.body)
}

/// A body in the log: all of it, but for large files.
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

fn decide(platform: &mut Platform, method: &Method, path: &str, call: &Call) -> Said {
    let endpoint = endpoints().find(|endpoint| endpoint.path == path);
    let outcome = match endpoint {
        Some(endpoint) => run(platform, endpoint, method, call),
        None => Err(40066.into()),
    };
    match outcome {
        Ok(Answer(json)) => Said {
            status: StatusCode::OK,
            errcode: Some(json["errcode"].as_i64().unwrap_or(0)),
            body: json.to_string(),
        },
        Err(Refusal(errcode)) => {
            if let Some(endpoint) = endpoint {
                debug_assert!(
                    endpoint.errors.contains(&errcode) || COMMON.contains(&errcode),
                    "{path} answers {errcode} and does not declare it"
                );
            }
            refuse(platform, errcode)
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
        Verb::Get | Verb::Post => {}
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
fn refuse(platform: &mut Platform, errcode: i64) -> Said {
    let rid = platform.rid();
    let errmsg = format!(
        "{}{}rid: {rid}",
        errcode::text(errcode),
        errcode::rid_separator(errcode)
    );
    Said {
        status: StatusCode::OK,
        body: json!({"errcode": errcode, "errmsg": errmsg}).to_string(),
        errcode: Some(errcode),
    }
}

/// What an ordered fault says in place of the real answer.
fn ordered(platform: &mut Platform, fault: &super::faults::Fault) -> Said {
    let mut said = match (fault.errcode, &fault.body) {
        (Some(errcode), _) => refuse(platform, errcode),
        (None, body) => Said {
            status: StatusCode::OK,
            body: body.clone().unwrap_or_default(),
            errcode: None,
        },
    };
    if let Some(body) = &fault.body {
        said.body.clone_from(body);
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
        }
    }
}
