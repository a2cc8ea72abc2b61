//! The link to the consent page, checked as the platform checks it.

use url::Url;

use crate::simulator::account::{Right, is_on_domain};
use crate::simulator::errcode;
use crate::simulator::grants::Scope;
use crate::simulator::http::Pairs;
use crate::simulator::platform::Platform;

/// The parameters in the one order, then those that may follow.
const ORDER: [&str; 5] = ["appid", "redirect_uri", "response_type", "scope", "state"];
const OPTIONAL: [&str; 3] = ["connect_redirect", "forcePopup", "forceSnapShot"];
/// The longest `state`, in bytes.
const STATE_BYTES: usize = 128;

/// The numbers of the platform's error page, with its words. Those that no link causes (10004, 10009,
/// 10016) come by a fault ordered for the page.
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
pub(super) struct Ask {
    pub(super) redirect_uri: Url,
    pub(super) scope: Scope,
    pub(super) state: String,
    pub(super) force_popup: bool,
    pub(super) force_snapshot: bool,
    /// The page was opened from the account's own chat or menu.
    pub(super) from_account: bool,
    /// 使用完整服务 was pressed: no snapshot this time, and no silence.
    pub(super) wants_full_service: bool,
}

/// What the platform's error page says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageError {
    /// The platform's number, where it has one.
    pub(super) code: Option<i64>,
    pub(super) words: &'static str,
    /// What the glossary has under `oauth:`.
    pub(super) topic: &'static str,
}

impl PageError {
    pub(super) fn numbered(code: i64) -> Self {
        let known = PAGE_ERRORS.iter().find(|(number, _)| *number == code);
        Self {
            code: Some(code),
            words: known.map_or_else(|| errcode::text(code), |(_, words)| words),
            topic: "",
        }
    }

    pub(super) fn link(topic: &'static str, words: &'static str) -> Self {
        Self {
            code: None,
            words,
            topic,
        }
    }

    /// The entry of the glossary, without its `oauth:`.
    pub(super) fn topic(&self) -> String {
        self.code
            .map_or_else(|| self.topic.to_owned(), |code| code.to_string())
    }
}

/// Checks the query as the platform does.
pub(super) fn read(query: &Pairs, platform: &Platform) -> Result<Ask, PageError> {
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
pub(super) fn own_parameters_removed(raw_query: &str) -> String {
    let pairs = raw_query.split('&').filter(|pair| !pair.starts_with('_'));
    pairs.collect::<Vec<_>>().join("&")
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
