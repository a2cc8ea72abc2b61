//! The settings: read once, checked together, and told with all their faults in one message.
//!
//! [`Settings`] is what was typed, on the command line or in the environment. [`Config`] is what it
//! means; nothing else in the crate reads the environment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::secret::Secret;
use crate::store::StoreKey;
use crate::wechat::crypto::EncodingAesKey;
use crate::wechat::id::AppId;

mod forward;
mod read;
mod settings;

pub use forward::{Forward, ForwardUrl};
pub use settings::Settings;

use read::{Faults, parse_http_url};

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account as its console's 基本配置 page shows it.
    pub account: Account,
    /// Where the platform is reached.
    pub platform: Platform,
    /// Where we are reached, and what we serve there.
    pub site: Site,
    /// What keeps our state.
    pub store: Store,
    /// The bearer token of all management routes. Without one only named keys open them.
    pub admin_token: Option<Secret>,
    /// The file of reply rules.
    pub replies: Option<PathBuf>,
    /// What the bot says when it has no answer.
    pub texts: Texts,
    /// What becomes of answers that are not ready in time.
    pub slow_answers: SlowAnswers,
    /// Where messages go that nothing here answers.
    pub forward: Option<Forward>,
    /// The form of log lines.
    pub log_format: LogFormat,
}

/// The account's identity and keys.
#[derive(Clone, Debug)]
pub struct Account {
    /// AppID.
    pub app_id: AppId,
    /// AppSecret.
    pub app_secret: Secret,
    /// Token (令牌): signs every delivery.
    pub token: Secret,
    /// The token before the last change; accepted beside the current one.
    pub token_previous: Option<Secret>,
    /// EncodingAESKey. With one, every message must be encrypted; without, none may be.
    pub aes_key: Option<EncodingAesKey>,
    /// The key before the last change; decrypts beside the current one.
    pub aes_key_previous: Option<EncodingAesKey>,
    /// How the `access_token` is fetched.
    pub token_mode: TokenMode,
}

/// Which call gives the `access_token`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenMode {
    /// `/cgi-bin/stable_token` in normal mode: idempotent, so two fetchers do no harm.
    #[default]
    Stable,
    /// `/cgi-bin/token`: each call ends the token before it.
    Classic,
}

/// The platform's addresses, without a trailing slash.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The server API.
    pub api_url: String,
    /// The OAuth page.
    pub open_url: String,
    /// The JS-SDK script that our page loads.
    pub jssdk_url: String,
}

/// Our own address and pages.
#[derive(Clone, Debug)]
pub struct Site {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The address users' phones see, if it was set. See [`Site::public_url`].
    pub public_url: Option<PublicUrl>,
    /// Hosts for which a JS-SDK config is signed, if they were set; else the host of the public URL.
    pub jssdk_domains: Option<Vec<String>>,
    /// A folder whose files are served before the built-in ones.
    pub static_dir: Option<PathBuf>,
}

impl Site {
    /// The public URL, given the address that was bound: `http://<LISTEN>` unless one is set, a
    /// wildcard address read as 127.0.0.1.
    pub fn public_url(&self, bound: SocketAddr) -> PublicUrl {
        self.public_url.clone().unwrap_or_else(|| {
            let ip = match bound.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let address = SocketAddr::new(ip, bound.port());
            let host = match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            PublicUrl {
                origin: format!("http://{address}"),
                host,
            }
        })
    }
}

/// The origin that users' phones see: scheme, host and port, no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    host: String,
}

impl PublicUrl {
    /// Reads an absolute http or https URL without path, query and fragment.
    fn parse(text: &str) -> Result<Self, String> {
        let url = parse_http_url(text)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if url.path() != "/" || url.query().is_some() || has_user {
            return Err("expected scheme and host alone, e.g. https://wx.example.com".into());
        }
        // `host_str` of an http URL is never none.
        let host = url.host_str().unwrap_or_default().to_owned();
        Ok(Self {
            origin: url.origin().ascii_serialization(),
            host,
        })
    }

    /// `https://wx.example.com`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// `wx.example.com`, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether cookies may be marked `Secure`.
    pub fn is_https(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// An absolute URL of a path of this site.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}

/// Where state is kept.
#[derive(Clone, Debug)]
pub struct Store {
    /// `sqlite://PATH` or `mongodb://…`. It may hold a password.
    pub url: Secret,
    /// The key that seals what is kept. Without one, it is generated beside the embedded store.
    pub key: Option<StoreKey>,
    /// The key before the last change; opens beside the current one.
    pub key_previous: Option<StoreKey>,
}

/// What the bot says when it has no answer.
#[derive(Clone, Debug)]
pub struct Texts {
    /// When a handler fails.
    pub fallback: String,
    /// By the last delivery of a message whose answer is still in the making. Without one: nothing.
    pub thinking: Option<String>,
}

/// What becomes of an answer that is not ready within the delivery of its message. The steps are taken
/// in this order; by default all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowAnswers {
    /// `hold`: the first and the second delivery are left without an answer, so that the platform
    /// delivers again, and a retry can carry it. Without, the first delivery is answered in any case.
    pub hold: bool,
    /// `customer_service`: it is sent as a customer-service message, if the account may.
    pub customer_service: bool,
    /// `keep`: it is given with the user's next message.
    pub keep: bool,
}

impl Default for SlowAnswers {
    fn default() -> Self {
        Self {
            hold: true,
            customer_service: true,
            keep: true,
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Every fault of the settings, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} setting(s) to mend, in the environment or in .env:",
            self.faults.len()
        )?;
        for fault in &self.faults {
            writeln!(f, "  - {fault}")?;
        }
        write!(
            f,
            "No account at hand? `offiaccount demo` needs none of them."
        )
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `.env`, if there is one, and the environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names all that is missing or malformed.
    pub fn from_env() -> Result<Self, ConfigError> {
        Settings::from_env().and_then(|settings| Self::from_settings(&settings))
    }

    /// Checks settings from elsewhere.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names all that is missing or malformed.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let mut faults = Faults::default();
        let config = faults.read(settings);
        match config {
            Some(config) if faults.0.is_empty() => Ok(config),
            _ => Err(ConfigError { faults: faults.0 }),
        }
    }

    /// What is legal but risky, one sentence each, for the log at start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let account = &self.account;
        if account.token.expose().len() < 8 {
            warnings.push("WECHAT_TOKEN is under 8 characters: it is easy to guess, and whoever guesses it can send you messages in anyone's name".into());
        }
        if !is_usual_app_id(account.app_id.as_str()) {
            warnings.push(format!(
                "WECHAT_APPID {} does not look like `wx` and 16 letters and digits: copy it again from the console",
                account.app_id
            ));
        }
        let is_real = self.platform.api_url.ends_with(".weixin.qq.com");
        if account.aes_key.is_none() && is_real {
            warnings.push("WECHAT_ENCODING_AES_KEY is not set: in 明文模式 the platform signs no body, so choose 安全模式 in the console and set it".into());
        }
        if is_real && self.site.public_url.is_none() {
            warnings.push(
                "PUBLIC_URL is not set: sign-in links will point at this machine alone".into(),
            );
        }
        if self
            .forward
            .as_ref()
            .is_some_and(|forward| forward.key.is_short())
        {
            warnings.push("FORWARD_SECRET is under 24 bytes: whoever guesses it can forge messages to your program (make one: echo whsec_$(openssl rand -base64 32))".into());
        }
        warnings
    }
}

/// `wx` and 16 characters. They are hex digits, but a simulator's need not be.
fn is_usual_app_id(app_id: &str) -> bool {
    app_id
        .strip_prefix("wx")
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Settings {
        Settings {
            wechat_appid: Some("wx0123456789abcdef".into()),
            wechat_appsecret: Some("0123456789abcdef0123456789abcdef".into()),
            wechat_token: Some("simtoken2026".into()),
            ..Settings::default()
        }
    }

    fn faults(settings: &Settings) -> Vec<String> {
        Config::from_settings(settings).unwrap_err().faults
    }

    #[test]
    fn all_faults_are_named_in_one_message() {
        let settings = Settings {
            wechat_token: Some("no".into()),
            wechat_encoding_aes_key: Some("short".into()),
            listen: Some("3000".into()),
            database_url: Some("mysql://x".into()),
            ..Settings::default()
        };
        let message = Config::from_settings(&settings).unwrap_err().to_string();
        for name in [
            "WECHAT_APPID",
            "WECHAT_APPSECRET",
            "WECHAT_TOKEN",
            "WECHAT_ENCODING_AES_KEY",
            "LISTEN",
            "DATABASE_URL",
        ] {
            assert!(message.contains(name), "{name} in {message}");
        }
    }

    #[test]
    fn an_empty_setting_is_a_missing_one() {
        let settings = Settings {
            wechat_token: Some(String::new()),
            ..valid()
        };
        assert_eq!(faults(&settings).len(), 1);
    }

    #[test]
    fn a_fault_never_shows_the_value() {
        let settings = Settings {
            wechat_token: Some("canary token".into()),
            store_key: Some("canary".into()),
            ..valid()
        };
        assert!(!faults(&settings).concat().contains("canary"));
    }

    #[test]
    fn mongodb_needs_a_store_key() {
        let settings = Settings {
            database_url: Some("mongodb://127.0.0.1/x".into()),
            ..valid()
        };
        assert!(faults(&settings)[0].starts_with("STORE_KEY"));
    }

    #[test]
    fn the_public_url_falls_back_to_the_address_that_was_bound() {
        let site = Config::from_settings(&valid()).unwrap().site;
        assert_eq!(site.listen.to_string(), "0.0.0.0:3000");
        assert_eq!(
            site.public_url("0.0.0.0:81".parse().unwrap()).origin(),
            "http://127.0.0.1:81"
        );
        assert_eq!(site.public_url("[::]:81".parse().unwrap()).host(), "[::1]");
    }

    #[test]
    fn the_public_url_is_an_origin() {
        let parse = |text: &str| PublicUrl::parse(text).map(|url| url.origin);
        assert_eq!(
            parse("https://WX.example.com/").unwrap(),
            "https://wx.example.com"
        );
        assert_eq!(
            parse("http://127.0.0.1:3000").unwrap(),
            "http://127.0.0.1:3000"
        );
        for bad in [
            "wx.example.com",
            "ftp://x",
            "https://x/path",
            "https://x/?q",
            "https://u@x",
            "https://x/#f",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn jssdk_domains_are_hosts() {
        let settings = Settings {
            jssdk_domains: Some("WX.example.com, m.example.com".into()),
            ..valid()
        };
        let domains = Config::from_settings(&settings)
            .unwrap()
            .site
            .jssdk_domains
            .unwrap();
        assert_eq!(domains, ["wx.example.com", "m.example.com"]);
        for bad in ["https://x.com", "x.com:81", "x.com/p"] {
            let settings = Settings {
                jssdk_domains: Some(bad.into()),
                ..valid()
            };
            assert_eq!(faults(&settings).len(), 1, "{bad}");
        }
    }

    #[test]
    fn risky_settings_are_warned_of() {
        let settings = Settings {
            wechat_appid: Some("wxshort".into()),
            wechat_token: Some("abc".into()),
            forward_url: Some("http://127.0.0.1:5000/".into()),
            forward_secret: Some("short".into()),
            ..valid()
        };
        assert_eq!(
            Config::from_settings(&settings).unwrap().warnings().len(),
            5
        );
    }
}
