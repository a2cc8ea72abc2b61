//! The consent page, `open.weixin.qq.com/connect/oauth2/authorize` ("WeChat: 网页授权").
//!
//! Plain HTML that works without JavaScript. The platform matches the query against one pattern, so the
//! order of the parameters counts. What it cannot see is the fragment `#wechat_redirect`.

use askama::Template;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};
use url::Url;

use super::World;
use super::account::{Kind, Right, is_on_domain};
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
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' http: https: data:; \
                      base-uri 'none'; frame-ancestors 'self'";

/// A well-formed wish of a site to know the user.
struct Ask {
    redirect_uri: Url,
    scope: Scope,
    state: String,
    force_popup: bool,
    force_snapshot: bool,
}

/// What the platform's error page says.
#[derive(Debug, PartialEq, Eq)]
struct PageError {
    /// The platform's number, where it has one.
    code: Option<i64>,
    words: &'static str,
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
    let remembered = remembered(&request);
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
            return error_page(PageError {
                code: Some(code),
                words: errcode::text(code),
            });
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
    let ask = match read(&query, platform) {
        Ok(ask) => ask,
        Err(error) => return error_page(error),
    };
    // What the form says comes first, then the address, then who was here last.
    let named = form.get("_fan").or(query.get("_fan"));
    let openid = named.or(remembered.as_deref());
    let fan = openid.and_then(|openid| platform.fans.get(openid)).cloned();
    match (form.get("_choice"), fan) {
        (Some("allow"), Some(fan)) => allow(platform, &ask, &fan),
        (None, Some(fan)) if is_silent(&ask, &fan) => allow(platform, &ask, &fan),
        (Some("allow") | None, fan) => consent(platform, &ask, &raw_query, fan.as_ref()),
        (Some(_), _) => back(&ask, None),
    }
}

/// No page: the openid alone is asked for, or a snapshot, which gives nothing away.
fn is_silent(ask: &Ask, fan: &Fan) -> bool {
    match ask.scope {
        Scope::Base => true,
        Scope::UserInfo => !ask.force_popup && is_snapshot(ask, fan),
    }
}

fn is_snapshot(ask: &Ask, fan: &Fan) -> bool {
    ask.scope == Scope::UserInfo && (ask.force_snapshot || fan.snapshot)
}

/// Checks the query as the platform does.
fn read(query: &Pairs, platform: &Platform) -> Result<Ask, PageError> {
    let error = |code, words| PageError {
        code: Some(code),
        words,
    };
    let appid = query.get("appid").ok_or(error(10012, "appid 不能为空"))?;
    let redirect_uri = query
        .get("redirect_uri")
        .ok_or(error(10011, "redirect_uri 不能为空"))?;
    let scope = query.get("scope").ok_or(error(10010, "scope 不能为空"))?;
    let state = query.get("state").ok_or(error(10013, "state 不能为空"))?;
    let no_link = PageError {
        code: None,
        words: "该链接无法访问",
    };
    if !is_in_order(query) || query.get("response_type") != Some("code") {
        return Err(no_link);
    }
    if state.len() > STATE_BYTES {
        return Err(PageError {
            code: None,
            words: "state 参数过长",
        });
    }
    if appid != platform.account.appid.as_str() {
        return Err(error(40013, "appid 参数错误"));
    }
    let scope = Scope::parse(scope).ok_or(error(10005, "scope 参数错误或没有 scope 权限"))?;
    if !platform.account.kind.grants(Right::WebAuthorization) {
        return Err(error(10005, "scope 参数错误或没有 scope 权限"));
    }
    let foreign = error(10003, "redirect_uri 域名与后台配置不一致");
    let redirect_uri = match Url::parse(redirect_uri) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => return Err(foreign),
    };
    if !is_on_domain(&redirect_uri, &platform.account.oauth_domains) {
        return Err(foreign);
    }
    Ok(Ask {
        redirect_uri,
        scope,
        state: state.to_owned(),
        force_popup: query.get("forcePopup") == Some("true"),
        force_snapshot: query.get("forceSnapShot") == Some("true"),
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

fn allow(platform: &mut Platform, ask: &Ask, fan: &Fan) -> Response {
    if platform.account.kind == Kind::Sandbox && !fan.subscribed {
        return error_page(PageError {
            code: Some(10006),
            words: "必须关注此测试号",
        });
    }
    let snapshot = is_snapshot(ask, fan);
    let grant = if snapshot {
        let openid = platform.new_openid();
        Grant {
            openid,
            unionid: None,
            scope: ask.scope,
            snapshot,
        }
    } else {
        Grant {
            openid: fan.openid.clone(),
            unionid: fan.unionid.clone(),
            scope: ask.scope,
            snapshot,
        }
    };
    let now = platform.now();
    let code = platform.grants.code(grant, &mut platform.mint, now);
    let cookie = format!("{COOKIE}={}; Path=/; SameSite=Lax", fan.openid);
    let response = back(ask, Some(&code));
    match HeaderValue::from_str(&cookie) {
        Ok(cookie) => http::with_header(response, header::SET_COOKIE, cookie),
        Err(_) => response,
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
        Err(_) => error_page(PageError {
            code: Some(10003),
            words: "redirect_uri 参数错误",
        }),
    }
}

fn consent(platform: &Platform, ask: &Ask, raw_query: &str, chosen: Option<&Fan>) -> Response {
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

fn error_page(PageError { code, words }: PageError) -> Response {
    render(&ErrorPage { code, words })
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(page) => http::html(page, POLICY),
        Err(why) => http::text(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}

fn remembered(request: &Request) -> Option<String> {
    let cookies = request
        .headers()
        .get(header::COOKIE)?
        .to_str()
        .ok()?
        .to_owned();
    cookie::Cookie::split_parse(cookies)
        .flatten()
        .find(|cookie| cookie.name() == COOKIE)
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
    }
}
