//! The consent page, `open.weixin.qq.com/connect/oauth2/authorize` ("WeChat: 网页授权").
//!
//! Plain HTML that works without JavaScript. The platform matches the query against one pattern, so the
//! order of the parameters counts. What it cannot see is the fragment `#wechat_redirect`.

use askama::Template;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};
use serde_json::json;
use url::Url;

use super::World;
use super::account::{Kind, Right, is_on_domain};
use super::clock::machine_millis;
use super::errcode;
use super::fans::Fan;
use super::faults::Fault;
use super::grants::{Grant, Scope};
use super::http::{self, Pairs};
use super::platform::Platform;
use crate::wechat::id::OpenId;

/// The parameters in the one order, then those that may follow.
const ORDER: [&str; 5] = ["appid", "redirect_uri", "response_type", "scope", "state"];
const OPTIONAL: [&str; 3] = ["connect_redirect", "forcePopup", "forceSnapShot"];
/// The longest `state`, in bytes.
const STATE_BYTES: usize = 128;
/// Remembers who holds the phone; the page at `/` sets it too. Cookies know no port, so the name must
/// be no backend's.
const COOKIE: &str = "sim_fan";
/// Remembers that the page was opened from the account's chat or menu; the phone at `/` sets it.
const FROM_COOKIE: &str = "sim_from";
/// Remembers that 使用完整服务 was pressed on the snapshot page that the phone shows.
const FULL_COOKIE: &str = "sim_full";
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' http: https: data:; \
                      base-uri 'none'; frame-ancestors 'self'";

/// The numbers that only the platform's side can cause, with the words of its page. They come by a
/// fault ordered for this path.
const PAGE_ERRORS: [(i64, &str); 11] = [
    (10003, "redirect_uri 域名与后台配置不一致"),
    (10004, "此公众号被封禁"),
    (10005, "此公众号没有这些 scope 的权限"),
    (10006, "必须关注此测试号"),
    (10009, "操作太频繁了，请稍后再试"),
    (10010, "scope 不能为空"),
    (10011, "redirect_uri 不能为空"),
    (10012, "appid 不能为空"),
    (10013, "state 不能为空"),
    (10015, "公众号未授权第三方平台，请检查授权状态"),
    (10016, "不支持微信开放平台的 AppID，请使用公众号 AppID"),
];

/// A well-formed wish of a site to know the user.
struct Ask {
    redirect_uri: Url,
    scope: Scope,
    state: String,
    force_popup: bool,
    force_snapshot: bool,
    /// The page was opened from the account's own chat or menu.
    from_account: bool,
    /// 使用完整服务 was pressed: no snapshot this time, and no silence.
    wants_full_service: bool,
}

/// What the platform's error page says.
#[derive(Debug, PartialEq, Eq)]
struct PageError {
    /// The platform's number, where it has one.
    code: Option<i64>,
    words: &'static str,
    /// What the glossary has under `oauth:`.
    topic: &'static str,
}

impl PageError {
    fn numbered(code: i64) -> Self {
        let known = PAGE_ERRORS.iter().find(|(number, _)| *number == code);
        Self {
            code: Some(code),
            words: known.map_or_else(|| errcode::text(code), |(_, words)| words),
            topic: "",
        }
    }

    fn link(topic: &'static str, words: &'static str) -> Self {
        Self {
            code: None,
            words,
            topic,
        }
    }

    /// The entry of the glossary, without its `oauth:`.
    fn topic(&self) -> String {
        self.code
            .map_or_else(|| self.topic.to_owned(), |code| code.to_string())
    }
}

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

/// Checks the query as the platform does.
fn read(query: &Pairs, platform: &Platform) -> Result<Ask, PageError> {
    let error = PageError::numbered;
    let appid = query.get("appid").ok_or_else(|| error(10012))?;
    let redirect_uri = query.get("redirect_uri").ok_or_else(|| error(10011))?;
    let scope = query.get("scope").ok_or_else(|| error(10010))?;
    let state = query.get("state").ok_or_else(|| error(10013))?;
    // Only a link of a third-party platform has it, and none was ever authorised here.
    if query.get("component_appid").is_some() {
        return Err(error(10015));
    }
    if !is_in_order(query) || query.get("response_type") != Some("code") {
        return Err(PageError::link("order", "该链接无法访问"));
    }
    if state.len() > STATE_BYTES {
        return Err(PageError::link("state", "state 参数过长"));
    }
    if appid != platform.account.appid.as_str() {
        return Err(PageError {
            words: "appid 参数错误",
            ..error(40013)
        });
    }
    let scope = Scope::parse(scope).ok_or_else(|| error(10005))?;
    if !platform.account.kind.grants(Right::WebAuthorization) {
        return Err(error(10005));
    }
    let redirect_uri = match Url::parse(redirect_uri) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => return Err(error(10003)),
    };
    if !is_on_domain(&redirect_uri, &platform.account.oauth_domains) {
        return Err(error(10003));
    }
    Ok(Ask {
        redirect_uri,
        scope,
        state: state.to_owned(),
        force_popup: query.get("forcePopup") == Some("true"),
        force_snapshot: query.get("forceSnapShot") == Some("true"),
        from_account: false,
        wants_full_service: query.get("_full") == Some("1"),
    })
}

/// Our own parameters begin with `_` and stand anywhere.
fn is_in_order(query: &Pairs) -> bool {
    let mut names = query
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with('_'));
    ORDER.iter().all(|expected| names.next() == Some(expected))
        && names.all(|name| OPTIONAL.contains(&name))
}

/// The query as the site wrote it.
fn own_parameters_removed(raw_query: &str) -> String {
    let pairs = raw_query.split('&').filter(|pair| !pair.starts_with('_'));
    pairs.collect::<Vec<_>>().join("&")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Options;

    const GOOD: &str = "appid=wx0000000000000sim&redirect_uri=http%3A%2F%2F127.0.0.1%3A3000%2Fcb\
                        &response_type=code&scope=snsapi_base&state=abc";

    fn outcome(query: &str) -> Result<Ask, PageError> {
        let options = Options::default();
        let platform = Platform::new(&options, options.account().unwrap(), "http://127.0.0.1:1");
        read(&Pairs::parse(query.as_bytes()), &platform)
    }

    #[track_caller]
    fn check(from: &str, to: &str, code: Option<i64>) {
        let query = GOOD.replace(from, to);
        assert_ne!(query, GOOD);
        assert_eq!(
            outcome(&query).err().map(|error| error.code),
            Some(code),
            "{query}"
        );
    }

    #[test]
    fn a_query_is_taken_in_the_platforms_order_only() {
        assert!(outcome(GOOD).is_ok());
        assert!(outcome(&format!("{GOOD}&connect_redirect=1")).is_ok());
        assert!(outcome(&format!("_fan=oFan&{GOOD}&forcePopup=true")).is_ok());
        assert!(outcome(&format!("{GOOD}&more=1")).is_err());
        check(
            "response_type=code&scope=snsapi_base",
            "scope=snsapi_base&response_type=code",
            None,
        );
        check("response_type=code", "response_type=token", None);
        check("&response_type=code", "", None);
    }

    #[test]
    fn each_fault_of_a_query_has_the_platforms_number() {
        check("127.0.0.1", "evil.test", Some(10003));
        check("http%3A%2F%2F127", "javascript%3A%2F%2F127", Some(10003));
        check("snsapi_base", "snsapi_all", Some(10005));
        check("snsapi_base", "", Some(10010));
        check("http%3A%2F%2F127.0.0.1%3A3000%2Fcb", "", Some(10011));
        check("wx0000000000000sim", "", Some(10012));
        check("wx0000000000000sim", "wxother", Some(40013));
        check("state=abc", "state=", Some(10013));
        check("&state=abc", "", Some(10013));
        check("state=abc", &format!("state={}", "a".repeat(129)), None);
        check(
            "state=abc",
            "state=abc&component_appid=wxplatform",
            Some(10015),
        );
    }
}
