//! The pages that people see, as typed templates. They escape what they are given, and hold neither
//! inline script nor inline style, so that the content security policy can forbid both.

use askama::Template;
use poem::error::MethodNotAllowedError;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Request, Response, handler};

use super::error::Problem;
use super::trace::RequestId;
use super::{Backend, files};
use crate::api::advice;
use crate::oauth::Intent;

/// The demo page: the five buttons, the signed-in user, the JS-SDK's state, and what each call answered.
///
/// No `Debug`: it may hold the admin token.
#[derive(Template)]
#[template(path = "demo.html")]
pub(crate) struct DemoPage<'a> {
    /// Where WeChat's script is loaded from.
    pub(crate) jssdk_url: &'a str,
    /// Where it is loaded from when the first address fails; WeChat keeps its script on two hosts.
    pub(crate) jssdk_fallback_url: Option<&'a str>,
    /// Fills the admin token's field. Only the demo may give it: whoever reads the page reads the token.
    pub(crate) admin_token: Option<&'a str>,
    /// The simulator's page, where there is one.
    pub(crate) simulator_url: Option<&'a str>,
}

/// What a person sees in WeChat's browser where a sign-in did not come to its end.
#[derive(Debug, Template)]
#[template(path = "notice.html")]
pub(crate) struct NoticePage<'a> {
    /// What happened, in a few Chinese words.
    pub(crate) title: &'a str,
    /// Why, and what to do now, in Chinese.
    pub(crate) message: &'a str,
    /// The same in one small English line.
    pub(crate) hint: &'a str,
    /// WeChat's return code, where WeChat said one.
    pub(crate) errcode: Option<i64>,
    /// Finds the request in the log.
    pub(crate) request_id: &'a str,
    /// Where 重新登录 leads; without it there is no such button.
    pub(crate) retry_url: Option<String>,
}

/// What the demo's page is given beyond the usual.
#[derive(Clone, Debug)]
pub(crate) struct Demo {
    /// The simulator's page.
    pub(crate) simulator_url: String,
}

/// The demo page at `/`, a file anywhere else.
#[handler]
pub(super) async fn home_or_file(request: &Request, backend: &Backend) -> poem::Result<Response> {
    let is_home = request.uri().path() == "/";
    match *request.method() {
        Method::GET | Method::HEAD if is_home => Ok(home(backend)),
        Method::GET | Method::HEAD => Ok(files::answer(request, &backend.files).await?),
        _ if is_home => Err(MethodNotAllowedError.into()),
        _ => Err(Problem::not_found().into()),
    }
}

fn home(backend: &Backend) -> Response {
    let page = DemoPage {
        jssdk_url: &backend.jssdk_url,
        jssdk_fallback_url: backend.policy.jssdk_fallback_url.as_deref(),
        // The demo listens on this machine alone.
        admin_token: backend
            .demo
            .as_ref()
            .and(backend.admin.as_ref())
            .map(|admin| admin.token().expose()),
        simulator_url: backend
            .demo
            .as_ref()
            .map(|demo| demo.simulator_url.as_str()),
    };
    render(backend, StatusCode::OK, &page)
}

/// What there is to tell a person in WeChat, and the status that goes with it.
pub(super) struct Notice {
    status: StatusCode,
    title: &'static str,
    message: String,
    hint: String,
    errcode: Option<i64>,
    retry: Option<String>,
}

impl Notice {
    /// The link that led here is wrong: its maker must mend it.
    pub(super) fn bad_link(fault: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            title: "链接有误",
            message: "这个登录链接不正确，请返回后重新打开。".into(),
            hint: format!("The link is wrong: {fault}."),
            errcode: None,
            retry: None,
        }
    }

    /// Not this browser's sign-in, or over.
    pub(super) fn bad_state() -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            title: "登录已失效",
            message: "登录链接已过期、已使用过，或不是在这个浏览器中打开的。请重新登录。".into(),
            hint: "This sign-in is over, was used, or was begun in another browser. Sign in again."
                .into(),
            errcode: None,
            retry: Some("/wxAuthorize".into()),
        }
    }

    /// The user refused.
    pub(super) fn declined(intent: &Intent) -> Self {
        Self {
            status: StatusCode::OK,
            title: "未授权",
            message: "你拒绝了授权，因此没有登录。需要时可以重新登录。".into(),
            hint: "You declined, so you are not signed in.".into(),
            errcode: None,
            retry: Some(intent.authorize_path()),
        }
    }

    /// A snapshot of the page (快照页).
    pub(super) fn snapshot(intent: &Intent) -> Self {
        Self {
            status: StatusCode::OK,
            title: "请使用完整服务",
            message: "当前是页面快照，无法登录。请点击右下角的“使用完整服务”，然后重新登录。"
                .into(),
            hint: "This is a snapshot of the page. Tap 使用完整服务, then sign in again.".into(),
            errcode: None,
            retry: Some(intent.authorize_path()),
        }
    }

    /// WeChat gave no token for the code.
    pub(super) fn exchange_failed(intent: &Intent, errcode: Option<i64>, timed_out: bool) -> Self {
        let status = if timed_out {
            StatusCode::GATEWAY_TIMEOUT
        } else {
            StatusCode::BAD_GATEWAY
        };
        // What only an operator can mend stands in the log, for it is none of the user's.
        let hint = errcode
            .filter(|errcode| matches!(errcode, 40029 | 40163 | 42003 | -1))
            .and_then(advice)
            .unwrap_or("WeChat did not confirm the sign-in. Try again");
        Self {
            status,
            title: "登录失败",
            message: "微信没有确认这次登录，请重新登录。".into(),
            hint: format!("{hint}."),
            errcode,
            retry: Some(intent.authorize_path()),
        }
    }

    /// Our own store did not answer.
    pub(super) fn store_away(intent: &Intent) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "服务繁忙",
            message: "服务暂时不可用，请稍后重新登录。".into(),
            hint: "The service is not available. Try again in a moment.".into(),
            errcode: None,
            retry: Some(intent.authorize_path()),
        }
    }
}

/// Renders a notice.
pub(super) fn notice(backend: &Backend, id: RequestId, notice: &Notice) -> Response {
    let page = NoticePage {
        title: notice.title,
        message: &notice.message,
        hint: &notice.hint,
        errcode: notice.errcode,
        request_id: &id.to_string(),
        retry_url: notice.retry.clone(),
    };
    render(backend, notice.status, &page)
}

fn render(backend: &Backend, status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Response::builder()
            .status(status)
            .content_type("text/html; charset=utf-8")
            .header(
                header::CONTENT_SECURITY_POLICY,
                backend.policy.header.clone(),
            )
            .header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .body(html),
        Err(error) => {
            tracing::error!(%error, "a page can't be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: DemoPage<'static> = DemoPage {
        jssdk_url: "https://res.wx.qq.com/open/js/jweixin-1.6.0.js",
        jssdk_fallback_url: None,
        admin_token: None,
        simulator_url: None,
    };

    const REFUSED: NoticePage<'static> = NoticePage {
        title: "授权没有完成",
        message: "你没有同意授权。",
        hint: "You did not consent.",
        errcode: None,
        request_id: "r-1",
        retry_url: None,
    };

    #[track_caller]
    fn assert_strict_policy_suffices(html: &str) {
        for script in html.split("<script").skip(1) {
            let (attributes, rest) = script.split_once('>').unwrap();
            assert!(attributes.contains("src="), "inline script: {attributes}");
            assert!(rest.starts_with("</script>"), "script with a body");
        }
        assert!(!html.contains("<style"), "inline style sheet");
        for attribute in [" style=", " onclick=", " onload=", "javascript:"] {
            assert!(!html.contains(attribute), "inline {attribute}");
        }
    }

    #[test]
    fn the_demo_page_has_the_five_buttons() {
        let html = BARE.render().unwrap();
        for (id, label) in [
            ("get-tokens", "getTokens"),
            ("get-followers", "getFollowers"),
            ("wx-login", "微信登录"),
            ("get-user", "获取用户信息"),
            ("get-jssdk-config", "获取JSSDKConfig"),
        ] {
            let (_, after) = html.split_once(&format!("id=\"{id}\"")).unwrap();
            let (_, text) = after.split_once('>').unwrap();
            let (text, _) = text.split_once('<').unwrap();
            assert_eq!(text, label);
        }
    }

    #[test]
    fn only_what_is_given_stands_on_the_demo_page() {
        let bare = BARE.render().unwrap();
        assert!(!bare.contains(" value="));
        assert!(!bare.contains("data-jssdk-fallback-url"));
        assert!(!bare.contains("open-simulator"));

        let full = DemoPage {
            jssdk_fallback_url: Some("https://res2.wx.qq.com/open/js/jweixin-1.6.0.js"),
            admin_token: Some("demo-token"),
            simulator_url: Some("http://127.0.0.1:4000/"),
            ..BARE
        }
        .render()
        .unwrap();
        assert!(full.contains("value=\"demo-token\""));
        assert!(full.contains(
            "data-jssdk-fallback-url=\"https://res2.wx.qq.com/open/js/jweixin-1.6.0.js\""
        ));
        assert!(full.contains("href=\"http://127.0.0.1:4000/\""));
    }

    #[test]
    fn the_pages_need_no_inline_script_or_style() {
        assert_strict_policy_suffices(&BARE.render().unwrap());
        assert_strict_policy_suffices(&REFUSED.render().unwrap());
    }

    #[test]
    fn markup_in_a_value_stays_text() {
        let html = NoticePage {
            title: "<script>alert(1)</script>",
            retry_url: Some("/wxAuthorize?next=\"><b>".to_owned()),
            ..REFUSED
        }
        .render()
        .unwrap();
        assert!(!html.contains("<script"));
        assert!(!html.contains("<b>"));

        let html = DemoPage {
            admin_token: Some("\"><b>"),
            ..BARE
        }
        .render()
        .unwrap();
        assert!(!html.contains("<b>"));
    }

    #[test]
    fn the_notice_shows_what_support_asks_for() {
        let html = NoticePage {
            errcode: Some(40029),
            retry_url: Some("/wxAuthorize?scope=snsapi_userinfo".to_owned()),
            ..REFUSED
        }
        .render()
        .unwrap();
        assert!(html.contains("errcode 40029"));
        assert!(html.contains("r-1"));
        assert!(html.contains("重新登录"));

        let bare = REFUSED.render().unwrap();
        assert!(!bare.contains("errcode"));
        assert!(!bare.contains("重新登录"));
    }
}
