//! JS-SDK configs: what a page hands to `wx.config`.

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use url::Url;

use crate::api::ApiError;
use crate::token::{Kind, TokenCentre};
use crate::wechat::id::AppId;
use crate::wechat::signature;

/// Interfaces that a page may want. One that the account has no right to does no harm in the list.
static JS_API_LIST: List = LazyLock::new(|| {
    list(&[
        "updateAppMessageShareData",
        "updateTimelineShareData",
        "onMenuShareWeibo",
        "startRecord",
        "stopRecord",
        "onVoiceRecordEnd",
        "playVoice",
        "pauseVoice",
        "stopVoice",
        "onVoicePlayEnd",
        "uploadVoice",
        "downloadVoice",
        "chooseImage",
        "previewImage",
        "uploadImage",
        "downloadImage",
        "getLocalImgData",
        "translateVoice",
        "getNetworkType",
        "openLocation",
        "getLocation",
        "startSearchBeacons",
        "stopSearchBeacons",
        "onSearchBeacons",
        "hideOptionMenu",
        "showOptionMenu",
        "hideMenuItems",
        "showMenuItems",
        "hideAllNonBaseMenuItem",
        "showAllNonBaseMenuItem",
        "closeWindow",
        "scanQRCode",
        "openProductSpecificView",
        "addCard",
        "chooseCard",
        "openCard",
        "chooseWXPay",
    ])
});

/// Open tags (开放标签).
static OPEN_TAG_LIST: List = LazyLock::new(|| {
    list(&[
        "wx-open-launch-weapp",
        "wx-open-launch-app",
        "wx-open-subscribe",
        "wx-open-audio",
    ])
});

/// Names that every config repeats: written as JSON once.
type List = LazyLock<Box<RawValue>>;

fn list(names: &[&str]) -> Box<RawValue> {
    // Texts can be written as JSON, whatever they are.
    to_raw_value(names).unwrap_or_default()
}

/// The argument of `wx.config`, with its own names. Its lists are JSON already: write it by `serde_json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JsConfig {
    debug: bool,
    app_id: AppId,
    /// Unix seconds.
    timestamp: u64,
    nonce_str: String,
    signature: String,
    js_api_list: &'static RawValue,
    open_tag_list: &'static RawValue,
}

/// Why no config was signed.
#[derive(Debug, thiserror::Error)]
pub enum JsConfigError {
    /// The page's address is no absolute http or https URL.
    #[error(
        "`url` is not an absolute http or https URL: send encodeURIComponent(location.href.split('#')[0])"
    )]
    Url,
    /// The page's host is not ours.
    #[error(
        "the host {0} is not in JSSDK_DOMAINS: add it there, and in the console under JS接口安全域名"
    )]
    Host(String),
    /// No ticket.
    #[error(transparent)]
    Ticket(#[from] ApiError),
}

/// Signs configs for the pages of some hosts.
#[derive(Clone, Debug)]
pub struct JsSdk {
    app_id: AppId,
    hosts: Vec<String>,
    tokens: TokenCentre,
}

impl JsSdk {
    /// A signer for pages of exactly these hosts; ports don't count.
    pub fn new(app_id: AppId, hosts: Vec<String>, tokens: TokenCentre) -> Self {
        Self {
            app_id,
            hosts,
            tokens,
        }
    }

    /// Signs the page's URL exactly as given, less its fragment. `now` is in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`JsConfigError`] says what the caller mends.
    pub async fn config(&self, url: &str, now: u64) -> Result<JsConfig, JsConfigError> {
        let url = signature::without_fragment(url);
        self.check_host(url)?;
        let ticket = self.tokens.get(Kind::JsapiTicket).await?.value;
        let nonce_str = nonce();
        Ok(JsConfig {
            debug: false,
            app_id: self.app_id.clone(),
            timestamp: now,
            signature: signature::jssdk(ticket.expose(), &nonce_str, now, url)
                .as_str()
                .to_owned(),
            nonce_str,
            js_api_list: &JS_API_LIST,
            open_tag_list: &OPEN_TAG_LIST,
        })
    }

    fn check_host(&self, url: &str) -> Result<(), JsConfigError> {
        let authority = authority_of(url).ok_or(JsConfigError::Url)?;
        let is_ours = |host: &str| self.hosts.iter().any(|ours| ours == host);
        // Nearly always it is written as it is in the settings, where it was parsed.
        if is_ours(without_port(authority)) {
            return Ok(());
        }
        let host = host_of(url).ok_or(JsConfigError::Url)?;
        if is_ours(&host) {
            Ok(())
        } else {
            Err(JsConfigError::Host(host))
        }
    }
}

/// An authority (RFC 3986, section 3.2) without a port that is one.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.starts_with('+') && port.parse::<u16>().is_ok() => host,
        _ => authority,
    }
}

/// The host as a browser would read it, in lower case. A form that no browser's `location.href` has is
/// refused: a name before the host, a backslash for a slash, characters that a parser drops.
fn host_of(text: &str) -> Option<String> {
    authority_of(text)?;
    Url::parse(text).ok()?.host_str().map(str::to_owned)
}

/// What stands between `://` and the path, if that has the form of a browser's address.
fn authority_of(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let is_http = ["http", "https"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(scheme));
    let authority = rest.split(['/', '?']).next()?;
    let is_plain = !authority.is_empty() && !authority.contains(['@', '\\']);
    let has_controls = if text.is_ascii() {
        text.bytes().any(|byte| byte.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    };
    let is_whole = is_http && is_plain && !has_controls;
    is_whole.then_some(authority)
}

/// 16 hex digits.
fn nonce() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_a_browser_would_reach() {
        let check =
            |url: &str, host: Option<&str>| assert_eq!(host_of(url).as_deref(), host, "{url}");
        check("https://WX.example.com:8443/p?q=1", Some("wx.example.com"));
        check("http://127.0.0.1:3000/", Some("127.0.0.1"));
        check("https://wx.example.com?q=@ \\", Some("wx.example.com"));
        check(r"https://evil.example\@wx.example.com/", None);
        check(r"https://wx.example.com\.evil.example/", None);
        check("https://wx.example.com@evil.example/", None);
        check("https://evil.example@wx.example.com/", None);
        check("https:/wx.example.com/", None);
        check("https:wx.example.com/", None);
        check("https:///wx.example.com/", None);
        check("https://wx.exa\tmple.com/", None);
        check(" https://wx.example.com/", None);
        check("javascript:alert(1)", None);
        check("/path", None);
        check("", None);
    }
}
