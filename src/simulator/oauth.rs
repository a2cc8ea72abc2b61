//! The consent page, `open.weixin.qq.com/connect/oauth2/authorize` ("WeChat: 网页授权").
//!
//! Plain HTML that works without JavaScript. The platform matches the query against one pattern, so the
//! order of the parameters counts. What it cannot see is the fragment `#wechat_redirect`.

mod link;

use askama::Template;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};
use serde_json::json;

use self::link::{Ask, PageError, own_parameters_removed, read};
use super::World;
use super::account::Kind;
use super::clock::machine_millis;
use super::fans::Fan;
use super::faults::Fault;
use super::grants::{Grant, Scope};
use super::http::{self, Pairs};
use super::platform::Platform;
use crate::wechat::id::OpenId;

/// Remembers who holds the phone; the page at `/` sets it too. Cookies know no port, so the name must
/// be no backend's.
const COOKIE: &str = "sim_fan";
/// Remembers that the page was opened from the account's chat or menu; the phone at `/` sets it.
const FROM_COOKIE: &str = "sim_from";
/// Remembers that 使用完整服务 was pressed on the snapshot page that the phone shows.
const FULL_COOKIE: &str = "sim_full";
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' http: https: data:; \
                      base-uri 'none'; frame-ancestors 'self'";

/// What came of a visit, as `/_sim/oauth` lists it.
#[derive(Clone, Copy)]
enum Outcome {
    Consent,
    Code,
    Silent,
    Snapshot,
    Refused,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Code => "code",
            Self::Silent => "silent",
            Self::Snapshot => "snapshot",
            Self::Refused => "refused",
        }
    }
}

#[derive(Template)]
#[template(path = "simulator/authorize.html")]
struct ConsentPage<'a> {
    action: &'a str,
    site: &'a str,
    wants_profile: bool,
    fans: Vec<Choice<'a>>,
}

struct Choice<'a> {
    openid: &'a str,
    nickname: &'a str,
    headimgurl: &'a str,
    is_chosen: bool,
}

impl<'a> Choice<'a> {
    fn of(fan: &'a Fan, chosen: Option<&OpenId>) -> Self {
        Self {
            openid: fan.openid.as_str(),
            nickname: &fan.nickname,
            headimgurl: &fan.headimgurl,
            is_chosen: chosen == Some(&fan.openid),
        }
    }
}

#[derive(Template)]
#[template(path = "simulator/authorize_error.html")]
struct ErrorPage {
    code: Option<i64>,
    words: &'static str,
}

/// Shows the page, or takes the user's choice from its form.
pub(super) async fn answer(world: &World, request: Request) -> Response {
    let method = request.method().clone();
    let raw_query = request.original_uri().query().unwrap_or("").to_owned();
    let remembered = cookie(&request, COOKIE);
    let came_from = cookie(&request, FROM_COOKIE);
    let is_full = cookie(&request, FULL_COOKIE).is_some();
    let form = match method {
        Method::GET => Pairs::default(),
        Method::POST => match http::body(request).await {
            Ok(body) => Pairs::parse(&body),
            Err(refused) => return refused,
        },
        _ => return http::text(StatusCode::METHOD_NOT_ALLOWED, "GET or POST"),
    };
    let (fault, delay) = {
        let fault = world.platform().faults.take("/connect/oauth2/authorize");
        let delay = fault
            .as_ref()
            .map_or(std::time::Duration::ZERO, |fault| fault.delay);
        (fault.filter(Fault::answers), delay)
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match fault {
        Some(Fault {
            errcode: Some(code),
            ..
        }) => {
            let error = PageError::numbered(code);
            note_error(&mut world.platform(), &raw_query, "fault", &error);
            return error_page(error);
        }
        Some(fault) => {
            let status = fault
                .status
                .and_then(|status| StatusCode::from_u16(status).ok());
            return http::text(
                status.unwrap_or(StatusCode::OK),
                fault.body.unwrap_or_default(),
            );
        }
        None => {}
    }

    let query = Pairs::parse(raw_query.as_bytes());
    let platform = &mut *world.platform();
    let mut ask = match read(&query, platform) {
        Ok(ask) => ask,
        Err(error) => {
            note_error(platform, &raw_query, "error", &error);
            return error_page(error);
        }
    };
    let came_from = query.get("_from").or(came_from.as_deref());
    ask.wants_full_service |= is_full;
    ask.from_account = matches!(came_from, Some("chat" | "menu"));
    // What the form says comes first, then the address, then who was here last.
    let named = form.get("_fan").or(query.get("_fan"));
    let openid = named.or(remembered.as_deref());
    let fan = openid.and_then(|openid| platform.fans.get(openid)).cloned();
    let visit = Visit {
        ask,
        raw_query: own_parameters_removed(&raw_query),
    };
    match (form.get("_choice"), fan) {
        // Where nobody was known, the form was shown for a snapshot too, only to say who it is.
        (Some("allow") | None, Some(fan)) if is_snapshot(&visit.ask, &fan) => {
            visit.allow(platform, &fan, Outcome::Snapshot)
        }
        (Some("allow"), Some(fan)) => visit.allow(platform, &fan, Outcome::Code),
        (None, Some(fan)) if is_silent(&visit.ask, &fan) => {
            visit.allow(platform, &fan, Outcome::Silent)
        }
        (Some("allow") | None, fan) => visit.consent(platform, &raw_query, fan.as_ref()),
        (Some(_), fan) => {
            visit.note(platform, Outcome::Refused, fan.as_ref(), None);
            back(&visit.ask, None)
        }
    }
}

/// A well-formed visit to the page.
struct Visit {
    ask: Ask,
    /// The query without our own parameters.
    raw_query: String,
}

/// No page: the openid alone is asked for; or a follower comes from the account itself, and then
/// `forcePopup` has no effect.
fn is_silent(ask: &Ask, fan: &Fan) -> bool {
    match ask.scope {
        Scope::Base => true,
        Scope::UserInfo => fan.subscribed && ask.from_account && !ask.wants_full_service,
    }
}

/// The page is opened as a snapshot first. A follower who comes from the account itself is known
/// already, unless the link forces it.
fn is_snapshot(ask: &Ask, fan: &Fan) -> bool {
    let is_known = fan.subscribed && ask.from_account;
    ask.scope == Scope::UserInfo
        && !ask.wants_full_service
        && !ask.force_popup
        && (ask.force_snapshot || fan.snapshot && !is_known)
}

fn note_error(platform: &mut Platform, raw_query: &str, outcome: &str, error: &PageError) {
    platform.oauth.push(json!({
        "at": machine_millis(),
        "outcome": outcome,
        "query": own_parameters_removed(raw_query),
        "errcode": error.code,
        "words": error.words,
        "topic": error.topic(),
    }));
}

impl Visit {
    fn note(
        &self,
        platform: &mut Platform,
        outcome: Outcome,
        fan: Option<&Fan>,
        code: Option<&str>,
    ) {
        platform.oauth.push(json!({
            "at": machine_millis(),
            "outcome": outcome.as_str(),
            "query": self.raw_query,
            "openid": fan.map(|fan| &fan.openid),
            "scope": self.ask.scope.as_str(),
            "redirect_uri": self.ask.redirect_uri.as_str(),
            "from_account": self.ask.from_account,
            "code": code,
        }));
    }

    fn allow(&self, platform: &mut Platform, fan: &Fan, outcome: Outcome) -> Response {
        if platform.account.kind == Kind::Sandbox && !fan.subscribed {
            let error = PageError::numbered(10006);
            note_error(platform, &self.raw_query, "error", &error);
            return error_page(error);
        }
        let snapshot = matches!(outcome, Outcome::Snapshot);
        let (openid, unionid) = if snapshot {
            (platform.new_openid(), None)
        } else {
            (fan.openid.clone(), fan.unionid.clone())
        };
        let grant = Grant {
            openid,
            unionid,
            scope: self.ask.scope,
            snapshot,
        };
        let now = platform.now();
        let code = platform.grants.code(grant, &mut platform.mint, now);
        self.note(platform, outcome, Some(fan), Some(&code));
        let cookie = format!("{COOKIE}={}; Path=/; SameSite=Lax", fan.openid);
        let response = back(&self.ask, Some(&code));
        match HeaderValue::from_str(&cookie) {
            Ok(cookie) => http::with_header(response, header::SET_COOKIE, cookie),
            Err(_) => response,
        }
    }

    fn consent(&self, platform: &mut Platform, raw_query: &str, chosen: Option<&Fan>) -> Response {
        self.note(platform, Outcome::Consent, chosen, None);
        let ask = &self.ask;
        let chosen = chosen
            .or_else(|| platform.fans.iter().next())
            .map(|fan| &fan.openid);
        let page = ConsentPage {
            action: &format!("/connect/oauth2/authorize?{raw_query}"),
            site: ask.redirect_uri.host_str().unwrap_or_default(),
            wants_profile: ask.scope == Scope::UserInfo,
            fans: platform
                .fans
                .iter()
                .map(|fan| Choice::of(fan, chosen))
                .collect(),
        };
        render(&page)
    }
}

/// To the site: with a code, or with the state alone for a refusal. (The phone would only close the
/// page; so a backend's own page for it could not be tried.)
fn back(ask: &Ask, code: Option<&str>) -> Response {
    let mut url = ask.redirect_uri.clone();
    let mut pairs = url.query_pairs_mut();
    if let Some(code) = code {
        pairs.append_pair("code", code);
    }
    pairs.append_pair("state", &ask.state);
    drop(pairs);
    let response = http::text(StatusCode::FOUND, "");
    match HeaderValue::from_str(url.as_str()) {
        Ok(location) => http::with_header(response, header::LOCATION, location),
        Err(_) => error_page(PageError::numbered(10003)),
    }
}

fn error_page(PageError { code, words, .. }: PageError) -> Response {
    render(&ErrorPage { code, words })
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(page) => http::html(page, POLICY),
        Err(why) => http::text(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}

fn cookie(request: &Request, name: &str) -> Option<String> {
    let cookies = request.headers().get(header::COOKIE)?.to_str().ok()?;
    cookie::Cookie::split_parse(cookies.to_owned())
        .flatten()
        .find(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned())
}
