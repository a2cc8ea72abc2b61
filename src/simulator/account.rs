//! The simulated account: what its console's pages 基本配置 and 公众号设置 hold.

use serde_json::{Map, Value, json};

use crate::secret::Secret;
use crate::wechat::crypto::EncodingAesKey;
use crate::wechat::id::{AppId, OriginalId};

/// How messages travel ("WeChat: 消息加解密方式").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// 明文模式: clear elements, nothing signs the body.
    #[default]
    Plain,
    /// 兼容模式: clear elements and the ciphertext of the same.
    Compatible,
    /// 安全模式: ciphertext only, both ways.
    Safe,
}

/// The type of the account, which decides its rights ("WeChat: 接口权限").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A certified service account (已认证服务号): every right.
    #[default]
    Service,
    /// A certified subscription account (已认证公众号): no web OAuth.
    Subscription,
    /// An account without certification: pushes and passive replies.
    Unverified,
    /// The sandbox account (接口测试号): small quotas, web OAuth for its followers only.
    Sandbox,
}

/// Whether windows, counts, quotas and consents refuse calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limits {
    /// As the platform does: 45015, 45047, 45009 …
    #[default]
    Real,
    /// They are kept and shown, and refuse nothing.
    Relaxed,
}

/// A family of calls that an account's type may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Tokens, addresses, pushes: every account.
    Basic,
    /// Menus, followers, customer-service messages, media, drafts, the JS-SDK.
    Certified,
    /// Template messages, QR codes, remarks: not for subscription accounts.
    ServiceAccount,
    /// Web OAuth.
    WebAuthorization,
    /// Subscription notices.
    Notices,
    /// Mass messages to all or to a tag.
    MassByTag,
    /// Mass messages to a list of openids.
    MassByOpenid,
}

impl Right {
    /// The word for it in `/_sim/endpoints`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Certified => "certified",
            Self::ServiceAccount => "service_account",
            Self::WebAuthorization => "web_authorization",
            Self::Notices => "notices",
            Self::MassByTag => "mass_by_tag",
            Self::MassByOpenid => "mass_by_openid",
        }
    }
}

/// The settings that `/_sim/account` shows and changes.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) appid: AppId,
    pub(crate) appsecret: Secret,
    pub(crate) original_id: OriginalId,
    pub(crate) token: Secret,
    pub(crate) encoding_aes_key: Option<Secret>,
    pub(crate) callback_url: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) kind: Kind,
    pub(crate) limits: Limits,
    pub(crate) oauth_domains: Vec<String>,
    pub(crate) js_domains: Vec<String>,
    /// IP白名单: who may ask for tokens; empty means anybody.
    pub(crate) ip_whitelist: Vec<String>,
}

impl Account {
    /// Every member, secrets too: they open nothing but this simulator.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "appid": self.appid,
            "appsecret": self.appsecret.expose(),
            "original_id": self.original_id,
            "token": self.token.expose(),
            "encoding_aes_key": self.encoding_aes_key.as_ref().map(Secret::expose),
            "callback_url": self.callback_url,
            "mode": self.mode.as_str(),
            "kind": self.kind.as_str(),
            "limits": self.limits.as_str(),
            "oauth_domains": self.oauth_domains,
            "js_domains": self.js_domains,
            "ip_whitelist": self.ip_whitelist,
        })
    }

    /// This account with the members of `patch` in place of its own.
    ///
    /// # Errors
    ///
    /// A sentence that names the member which is unknown or of a wrong form.
    pub(crate) fn with(&self, patch: &Map<String, Value>) -> Result<Self, String> {
        let mut account = self.clone();
        for (name, value) in patch {
            account
                .set(name, value)
                .map_err(|why| format!("{name}: {why}"))?;
        }
        account.check()?;
        Ok(account)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            "appid" => self.appid = parse(text(value)?, AppId::parse)?,
            "appsecret" => self.appsecret = Secret::new(text(value)?),
            "original_id" => self.original_id = parse(text(value)?, OriginalId::parse)?,
            "token" => self.token = Secret::new(text(value)?),
            "encoding_aes_key" => self.encoding_aes_key = optional(value)?.map(Secret::new),
            "callback_url" => self.callback_url = optional(value)?.map(str::to_owned),
            "mode" => self.mode = parse(text(value)?, str::parse)?,
            "kind" => self.kind = parse(text(value)?, str::parse)?,
            "limits" => self.limits = parse(text(value)?, str::parse)?,
            "oauth_domains" => self.oauth_domains = texts(value)?,
            "js_domains" => self.js_domains = texts(value)?,
            "ip_whitelist" => self.ip_whitelist = texts(value)?,
            _ => return Err("no such member".to_owned()),
        }
        Ok(())
    }

    /// What only holds for the account as a whole, and the forms the console asks for.
    ///
    /// # Errors
    ///
    /// A sentence that names the member at fault.
    pub(crate) fn check(&self) -> Result<(), String> {
        let token = self.token.expose();
        if !(3..=32).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err("token: expected 3 to 32 letters and digits".to_owned());
        }
        if self.appsecret.expose().is_empty() {
            return Err("appsecret: must not be empty".to_owned());
        }
        match &self.encoding_aes_key {
            Some(key) => {
                EncodingAesKey::parse(key.expose())
                    .map_err(|why| format!("encoding_aes_key: {why}"))?;
            }
            None if self.mode != Mode::Plain => {
                return Err(format!(
                    "encoding_aes_key: needed in the mode {}",
                    self.mode.as_str()
                ));
            }
            None => {}
        }
        for entry in &self.ip_whitelist {
            if entry.parse::<std::net::IpAddr>().is_err() {
                return Err(format!("ip_whitelist: {entry} is no IP address"));
            }
        }
        if let Some(callback) = &self.callback_url {
            let url = url::Url::parse(callback).map_err(|why| format!("callback_url: {why}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err("callback_url: expected http or https".to_owned());
            }
        }
        Ok(())
    }
}

impl Kind {
    /// Whether an account of this type may make such calls ("WeChat: 接口权限"); without: 48001.
    pub(crate) fn grants(self, right: Right) -> bool {
        match right {
            Right::Basic => true,
            Right::Certified => self != Self::Unverified,
            Right::ServiceAccount | Right::WebAuthorization => {
                matches!(self, Self::Service | Self::Sandbox)
            }
            Right::MassByTag => matches!(self, Self::Service | Self::Subscription),
            Right::Notices | Right::MassByOpenid => self == Self::Service,
        }
    }
}

/// Whether `url` is on one of the `domains`: the host exactly, the port where the entry names one.
pub(crate) fn is_on_domain(url: &url::Url, domains: &[String]) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    domains.iter().any(|domain| {
        domain.eq_ignore_ascii_case(host)
            || url
                .port_or_known_default()
                .is_some_and(|port| domain.eq_ignore_ascii_case(&format!("{host}:{port}")))
    })
}

macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),+ })+) => {$(
        impl $name {
            /// The word for it in options and in `/_sim/account`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("expected one of: {}", [$($word),+].join(", "))),
                }
            }
        }
    )+};
}

words! {
    Mode { Plain = "plain", Compatible = "compatible", Safe = "safe" }
    Kind { Service = "service", Subscription = "subscription", Unverified = "unverified", Sandbox = "sandbox" }
    Limits { Real = "real", Relaxed = "relaxed" }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "expected a text".to_owned())
}

fn optional(value: &Value) -> Result<Option<&str>, String> {
    match value {
        Value::Null => Ok(None),
        value => match text(value)? {
            "" => Ok(None),
            text => Ok(Some(text)),
        },
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    value
        .as_array()
        .and_then(|items| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect()
        })
        .ok_or_else(|| "expected a list of texts".to_owned())
}

fn parse<T, E: ToString>(text: &str, with: impl Fn(&str) -> Result<T, E>) -> Result<T, String> {
    with(text).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_domain(url: &str, domain: &str, expected: bool) {
        let url = url::Url::parse(url).unwrap();
        assert_eq!(
            is_on_domain(&url, &[domain.to_owned()]),
            expected,
            "{url} on {domain}"
        );
    }

    #[test]
    fn a_domain_matches_its_host_exactly_and_its_port_if_it_names_one() {
        check_domain("http://127.0.0.1:3000/cb", "127.0.0.1", true);
        check_domain("http://127.0.0.1:3000/cb", "127.0.0.1:3000", true);
        check_domain("http://127.0.0.1:3001/cb", "127.0.0.1:3000", false);
        check_domain("https://wx.example.com/cb", "WX.example.com", true);
        check_domain("https://wx.example.com/cb", "wx.example.com:443", true);
        check_domain("https://wx.example.com/cb", "example.com", false);
        check_domain("https://example.com.evil.test/", "example.com", false);
        check_domain("http://[::1]:3000/", "[::1]", true);
    }
}
