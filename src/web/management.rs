//! The routes for other programs of the account's owner, behind `Authorization: Bearer …`: a named key with
//! the route's scope, or `ADMIN_TOKEN`, which opens them all.

use std::mem;
use std::time::Duration;

use poem::error::ResponseError as _;
use poem::http::{StatusCode, header};
use poem::{Body, Request, Response, handler};
use serde::Serialize;
use serde_json::Value;

use super::Backend;
use super::error::Problem;
use super::oauth::json;
use super::request::{self, parameter};
use super::trace::RequestId;
use crate::audit::Audit;
use crate::keys::{self, Gate, Scope};
use crate::secret::Secret;
use crate::store::AuditEntry;
use crate::token::{Credential, Kind};
use crate::wechat::id::OpenId;

/// The account's `access_token`.
#[handler]
pub(super) async fn get_tokens(request: &Request, backend: &Backend) -> Result<Response, Problem> {
    let visit = admit(request, backend, Scope::Tokens, "GET /getTokens").await?;
    let answer = async {
        let credential = backend.api.tokens().get(Kind::AccessToken).await?;
        Ok(tokens(&credential))
    };
    visit.end(answer.await)
}

/// A new `access_token`, if the one that failed is still the stored one.
#[handler]
pub(super) async fn refresh_tokens(
    request: &Request,
    body: Body,
    backend: &Backend,
) -> Result<Response, Problem> {
    let visit = admit(request, backend, Scope::Tokens, "POST /refreshTokens").await?;
    visit.end(renewed(request, body, backend).await)
}

async fn renewed(request: &Request, body: Body, backend: &Backend) -> Result<Response, Problem> {
    let body = request::body(request, body).await?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reported = body.get("access_token").and_then(Value::as_str);
    let Some(reported) = reported.filter(|token| !token.is_empty()) else {
        let detail = "send {\"access_token\": \"the one that failed\"}: only if it is still the stored one is a new one fetched";
        return Err(Problem::bad_request("missing_access_token", detail));
    };
    let credential = backend
        .api
        .tokens()
        .renew_reported(Kind::AccessToken, &Secret::new(reported))
        .await?;
    Ok(tokens(&credential))
}

/// A ticket of the account, for programs that sign their own configs or cards.
#[handler]
pub(super) async fn get_tickets(request: &Request, backend: &Backend) -> Result<Response, Problem> {
    let visit = admit(request, backend, Scope::Tickets, "GET /getTickets").await?;
    visit.end(ticket(request, backend).await)
}

#[derive(Serialize)]
struct Ticket<'a> {
    ticket: &'a str,
    /// Seconds.
    expires_in: u64,
}

async fn ticket(request: &Request, backend: &Backend) -> Result<Response, Problem> {
    let kind = match parameter(request, "type")?.as_deref() {
        Some("jsapi") => Kind::JsapiTicket,
        Some("wx_card") => Kind::WxCardTicket,
        _ => {
            let detail = "say which ticket: `type=jsapi` or `type=wx_card`";
            return Err(Problem::bad_request("bad_ticket_type", detail));
        }
    };
    let ticket = backend.api.tokens().get(kind).await?;
    Ok(json(&Ticket {
        ticket: ticket.value.expose(),
        expires_in: ticket.expires_in().as_secs(),
    }))
}

/// A page of followers with their records.
#[handler]
pub(super) async fn get_followers(
    request: &Request,
    backend: &Backend,
) -> Result<Response, Problem> {
    let visit = admit(request, backend, Scope::Followers, "GET /getFollowers").await?;
    visit.end(followers(request, backend).await)
}

async fn followers(request: &Request, backend: &Backend) -> Result<Response, Problem> {
    let next_openid = parameter(request, "next_openid")?.filter(|openid| !openid.is_empty());
    if next_openid
        .as_ref()
        .is_some_and(|openid| OpenId::parse(openid).is_err())
    {
        return Err(Problem::bad_request(
            "bad_next_openid",
            "`next_openid` is no openid: send the one of the last page",
        ));
    }
    let followers = backend.api.followers(next_openid.as_deref()).await?;
    Ok(json(&followers))
}

#[derive(Serialize)]
struct AccessToken<'a> {
    access_token: &'a str,
    /// Seconds.
    expires_in: u64,
}

fn tokens(credential: &Credential) -> Response {
    json(&AccessToken {
        access_token: credential.value.expose(),
        expires_in: credential.expires_in().as_secs(),
    })
}

/// Whoever may use the route, noted in the audit list when the answer is known. Credentials that are
/// nobody's are counted with the requests and not noted: else anybody could fill the list.
async fn admit(
    request: &Request,
    backend: &Backend,
    scope: Scope,
    action: &'static str,
) -> Result<Visit, Problem> {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let visit = |name: &str| Visit {
        audit: backend.audit.clone(),
        entry: AuditEntry {
            key: name.to_owned(),
            action: action.into(),
            status: None,
            errcode: None,
            request: RequestId::of(request).map(|id| id.to_string()),
            times: 1,
            age: Duration::ZERO,
        },
    };
    let admin = backend.admin.as_ref();
    if given
        .zip(admin)
        .is_some_and(|(given, admin)| admin.is(given))
    {
        return Ok(visit(keys::ADMIN));
    }
    let holder = match given {
        Some(given) => backend.gate.holder(given).await?,
        None => None,
    };
    match holder {
        Some(holder) if holder.scopes.contains(&scope) => Ok(visit(holder.name.as_str())),
        Some(holder) => {
            let problem = needs(scope);
            let mut refused = visit(holder.name.as_str());
            refused.entry.status = Some(problem.status().as_u16());
            Err(problem)
        }
        None if backend.admin.is_none() && !given.is_some_and(Gate::is_key) => Err(off()),
        None => Err(unauthorized()),
    }
}

/// One use of a route by somebody known.
struct Visit {
    audit: Audit,
    entry: AuditEntry,
}

impl Visit {
    /// Notes how it ended.
    fn end(mut self, answer: Result<Response, Problem>) -> Result<Response, Problem> {
        let (status, errcode) = match &answer {
            Ok(response) => (response.status(), None),
            Err(problem) => (problem.status(), problem.errcode()),
        };
        self.entry.status = Some(status.as_u16());
        self.entry.errcode = errcode;
        answer
    }
}

impl Drop for Visit {
    /// Also where the caller hung up before there was an answer.
    fn drop(&mut self) {
        self.audit.note(mem::take(&mut self.entry));
    }
}

/// RFC 6750, section 3.1: who it is is known, and he may not.
fn needs(scope: Scope) -> Problem {
    let (code, challenge) = match scope {
        Scope::Tokens => (
            "needs_scope_tokens",
            r#"Bearer error="insufficient_scope", scope="tokens""#,
        ),
        Scope::Tickets => (
            "needs_scope_tickets",
            r#"Bearer error="insufficient_scope", scope="tickets""#,
        ),
        Scope::Followers => (
            "needs_scope_followers",
            r#"Bearer error="insufficient_scope", scope="followers""#,
        ),
    };
    let detail = format!(
        "this key lacks the scope `{scope}`: make one with `--scope {scope}` and use it here"
    );
    Problem::new(StatusCode::FORBIDDEN, code, "Forbidden", detail)
        .with_header(header::WWW_AUTHENTICATE, challenge)
}

fn off() -> Problem {
    let detail = "the management routes are off without a key: set ADMIN_TOKEN, or make a key by `offiaccount keys add`, and send it as `Authorization: Bearer …`";
    Problem::new(
        StatusCode::FORBIDDEN,
        "management_off",
        "Management is off",
        detail,
    )
}

/// RFC 6750, section 3. The same for a key that never was, was removed or is over.
fn unauthorized() -> Problem {
    let detail = "send `Authorization: Bearer …` with a key that is good, or with ADMIN_TOKEN";
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Unauthorized",
        detail,
    )
    .with_header(header::WWW_AUTHENTICATE, "Bearer")
}
