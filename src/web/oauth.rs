//! `/wxAuthorize`, `/wxCallback` and `/getUser`. The first two are opened by a person in WeChat, so
//! what goes wrong there is a page.

use std::sync::Arc;

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse as _, Request, Response, handler};
use serde::Serialize;

use super::Backend;
use super::cookies::{self, BROWSER, SESSION};
use super::error::Problem;
use super::pages::{Notice, notice};
use super::request::parameter;
use super::trace::{RequestId, Shared};
use crate::oauth::{BrowserId, Callback, Intent, NextPath, Scope, SignInEnd, UserError};
use crate::store::{SignedIn, StoreError};
use crate::wechat::id::OpenId;

const MAX_ID_LENGTH: usize = 512;

/// Sends the browser to WeChat's consent.
#[handler]
pub(super) async fn authorize(request: &Request, backend: &Backend, id: RequestId) -> Response {
    let intent = match read_intent(request) {
        Ok(intent) => intent,
        Err(fault) => return notice(backend, id, &Notice::bad_link(&fault)),
    };
    let known =
        cookies::value(request, BROWSER).and_then(|cookie| backend.browser_key.verify(cookie));
    let browser = known.clone().unwrap_or_default();
    match backend.oauth.begin(&browser, &intent).await {
        Ok(url) => {
            let mut response = redirect(&url);
            if known.is_none() {
                let cookie = backend.browser_key.sign(&browser);
                cookies::set(&mut response, &backend.public_url, BROWSER, cookie);
            }
            response
        }
        Err(error) => notice(backend, id, &store_away(&error, &intent)),
    }
}

fn read_intent(request: &Request) -> Result<Intent, String> {
    let read = |name| parameter(request, name).map_err(|_| format!("`{name}` stands twice"));
    let scope = match read("scope")?.as_deref() {
        None | Some("") => Scope::SnsapiUserinfo,
        Some(scope) => {
            Scope::parse(scope).ok_or("`scope` is neither snsapi_userinfo nor snsapi_base")?
        }
    };
    let next = match read("next")?.as_deref() {
        None | Some("") => None,
        Some(next) => Some(NextPath::parse(next).map_err(|error| error.to_string())?),
    };
    let id = read("id")?.map(String::from);
    if id.as_ref().is_some_and(|id| id.len() > MAX_ID_LENGTH) {
        return Err(format!("`id` is over {MAX_ID_LENGTH} bytes"));
    }
    Ok(Intent { scope, next, id })
}

/// Where WeChat sends the browser back.
#[handler]
pub(super) async fn callback(
    request: &Request,
    Shared(backend): Shared,
    id: RequestId,
) -> Response {
    let backend = &backend;
    let browser =
        cookies::value(request, BROWSER).and_then(|cookie| backend.browser_key.verify(cookie));
    let (Ok(state), Ok(code)) = (parameter(request, "state"), parameter(request, "code")) else {
        return notice(backend, id, &Notice::bad_state());
    };
    let (Some(browser), Some(state)) = (browser, state) else {
        return notice(backend, id, &Notice::bad_state());
    };
    let code = code.as_deref().filter(|code| !code.is_empty());
    match finish(backend, &browser, &state, code).await {
        Ok(Callback::Ended(
            _,
            SignInEnd::SignedIn {
                session,
                redirect: to,
            },
        )) => {
            let mut response = redirect(&to);
            cookies::set(&mut response, &backend.public_url, SESSION, session);
            response
        }
        Ok(Callback::Ended(intent, SignInEnd::Snapshot)) => {
            notice(backend, id, &Notice::snapshot(&intent))
        }
        Ok(Callback::Ended(intent, SignInEnd::Failed { errcode, timed_out })) => notice(
            backend,
            id,
            &Notice::exchange_failed(&intent, errcode, timed_out),
        ),
        Ok(Callback::Declined(intent)) => notice(backend, id, &Notice::declined(&intent)),
        Ok(Callback::BadState) => notice(backend, id, &Notice::bad_state()),
        Err(error) => {
            let intent = Intent {
                scope: Scope::SnsapiUserinfo,
                next: None,
                id: None,
            };
            notice(backend, id, &store_away(&error, &intent))
        }
    }
}

/// Runs the callback to its end even when the browser goes away: a code is spent by one exchange, and
/// its result must be stored.
async fn finish(
    backend: &Arc<Backend>,
    browser: &BrowserId,
    state: &str,
    code: Option<&str>,
) -> Result<Callback, StoreError> {
    let (backend, browser) = (Arc::clone(backend), browser.clone());
    let (state, code) = (state.to_owned(), code.map(str::to_owned));
    let tasks = backend.tasks.clone();
    let finishing = tasks.spawn(async move {
        backend
            .oauth
            .callback(&browser, &state, code.as_deref())
            .await
    });
    finishing
        .await
        .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

/// The signed-in user's profile.
#[handler]
pub(super) async fn get_user(request: &Request, backend: &Backend) -> Result<Response, Problem> {
    let signed_in = signed_in(request, backend).await?;
    if let Some(asked) = parameter(request, "openid")?
        && OpenId::parse(&asked).ok().as_ref() != Some(&signed_in.session.open_id)
    {
        // The same for one who exists and one who does not.
        let detail = "`openid` is not the signed-in user's: leave it out, or sign in as that user";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign_openid",
            "Not your openid",
            detail,
        ));
    }
    match backend.oauth.user(signed_in).await {
        Ok(profile) => Ok(json(&profile)),
        Err(UserError::AuthorizationExpired(intent)) => {
            let detail = "WeChat has ended the authorization: open authorize_url to sign in again";
            let problem = Problem::new(
                StatusCode::UNAUTHORIZED,
                "authorization_expired",
                "Authorization expired",
                detail,
            );
            Err(problem.with_authorize_url(backend.public_url.join(&intent.authorize_path())))
        }
        Err(UserError::Api(error)) => Err(error.into()),
        Err(UserError::Store(error)) => Err(error.into()),
    }
}

async fn signed_in(request: &Request, backend: &Backend) -> Result<SignedIn, Problem> {
    if let Some(cookie) = cookies::value(request, SESSION)
        && let Some(signed_in) = backend.oauth.signed_in(cookie).await?
    {
        return Ok(signed_in);
    }
    let intent = Intent {
        scope: Scope::SnsapiUserinfo,
        next: None,
        id: None,
    };
    let detail = "nobody is signed in: open authorize_url in WeChat";
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "not_signed_in",
        "Not signed in",
        detail,
    );
    Err(problem.with_authorize_url(backend.public_url.join(&intent.authorize_path())))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Room for most answers.
const USUAL_JSON_BYTES: usize = 1_280;

/// An answer that no cache may keep.
pub(super) fn json(value: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(USUAL_JSON_BYTES);
    if let Err(error) = serde_json::to_writer(&mut body, value) {
        // Only a map with keys that are no text, and we have none.
        tracing::error!(%error, "an answer can't be written as JSON");
        return StatusCode::INTERNAL_SERVER_ERROR.into();
    }
    let mut response = Response::from(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    response
}

fn redirect(to: &str) -> Response {
    // Our own URLs are ASCII; a `next` may hold other characters, which go percent-encoded.
    let to = percent_encoding::utf8_percent_encode(to, NOT_IN_A_HEADER).to_string();
    match HeaderValue::from_str(&to) {
        Ok(to) => StatusCode::FOUND
            .with_header(header::LOCATION, to)
            .with_header(header::CACHE_CONTROL, "no-store")
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into(),
    }
}

/// Beyond ASCII is always encoded; `%` stays, for it is encoded already.
const NOT_IN_A_HEADER: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>');

fn store_away(error: &StoreError, intent: &Intent) -> Notice {
    tracing::error!(%error, "the store failed a sign-in");
    Notice::store_away(intent)
}
