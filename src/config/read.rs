//! Reading the settings: each by its rule, all faults collected.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use url::Url;

use super::{
    Account, Config, Forward, ForwardUrl, LogFormat, Platform, PublicUrl, Settings, Site,
    SlowAnswers, Store, Texts, TokenMode,
};
use crate::forward::SigningKey;
use crate::rules;
use crate::secret::Secret;
use crate::store::{self, StoreKey};
use crate::wechat::crypto::EncodingAesKey;
use crate::wechat::id::AppId;

pub(super) fn parse_http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.fragment().is_none() => Ok(url),
        _ => Err("expected an absolute http:// or https:// URL".into()),
    }
}

/// Collects what is wrong while everything is read.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<String>);

impl Faults {
    pub(super) fn read(&mut self, settings: &Settings) -> Option<Config> {
        let account = self.account(settings);
        let platform = self.platform(settings);
        let site = self.site(settings);
        let store = self.store(settings);
        let admin_token = self.optional("ADMIN_TOKEN", &settings.admin_token, |text| {
            let fits = text.bytes().all(|b| b.is_ascii_graphic());
            fits.then(|| Secret::new(text))
                .ok_or_else(|| "expected visible ASCII without blanks".into())
        });
        let forward = self.forward(settings, site.as_ref());
        let log_format = self.optional("LOG_FORMAT", &settings.log_format, |text| match text {
            "pretty" => Ok(LogFormat::Pretty),
            "json" => Ok(LogFormat::Json),
            _ => Err("expected `pretty` or `json`".into()),
        });
        let replies = self.replies(settings);
        let texts = Texts {
            fallback: given(&settings.fallback_text)
                .unwrap_or(FALLBACK_TEXT)
                .to_owned(),
            thinking: given(&settings.thinking_text).map(str::to_owned),
        };
        let slow_answers =
            self.optional("SLOW_ANSWERS", &settings.slow_answers, parse_slow_answers);
        let log_format = log_format.unwrap_or_default();
        Some(Config {
            account: account?,
            platform: platform?,
            site: site?,
            store: store?,
            admin_token,
            replies,
            texts,
            slow_answers: slow_answers.unwrap_or_default(),
            forward,
            log_format,
        })
    }

    fn account(&mut self, settings: &Settings) -> Option<Account> {
        const CONSOLE: &str = "as on the console's 基本配置 page";
        let app_id = self.required("WECHAT_APPID", &settings.wechat_appid, CONSOLE, |text| {
            AppId::parse(text).map_err(|_| "expected `wx` and 16 hex digits".into())
        });
        let app_secret = self.required(
            "WECHAT_APPSECRET",
            &settings.wechat_appsecret,
            CONSOLE,
            |text| {
                let fits = text.bytes().all(|b| b.is_ascii_graphic());
                fits.then(|| Secret::new(text))
                    .ok_or_else(|| "expected 32 hex digits".into())
            },
        );
        let token = self.required("WECHAT_TOKEN", &settings.wechat_token, CONSOLE, parse_token);
        let token_previous = self.optional(
            "WECHAT_TOKEN_PREVIOUS",
            &settings.wechat_token_previous,
            parse_token,
        );
        let aes_key = self.optional(
            "WECHAT_ENCODING_AES_KEY",
            &settings.wechat_encoding_aes_key,
            parse_aes_key,
        );
        let aes_key_previous = self.optional(
            "WECHAT_ENCODING_AES_KEY_PREVIOUS",
            &settings.wechat_encoding_aes_key_previous,
            parse_aes_key,
        );
        if aes_key_previous.is_some() && given(&settings.wechat_encoding_aes_key).is_none() {
            self.0.push("WECHAT_ENCODING_AES_KEY_PREVIOUS: set without WECHAT_ENCODING_AES_KEY; unset it, or set both".into());
        }
        let token_mode = self.optional("TOKEN_MODE", &settings.token_mode, |text| match text {
            "stable" => Ok(TokenMode::Stable),
            "classic" => Ok(TokenMode::Classic),
            _ => Err("expected `stable` or `classic`".into()),
        });
        Some(Account {
            app_id: app_id?,
            app_secret: app_secret?,
            token: token?,
            token_previous,
            aes_key,
            aes_key_previous,
            token_mode: token_mode.unwrap_or_default(),
        })
    }

    fn platform(&mut self, settings: &Settings) -> Option<Platform> {
        let mut url = |name, value: &Option<String>, default: &str| {
            let url = self.optional(name, value, |text| {
                let url = parse_http_url(text)?;
                if url.query().is_some() {
                    Err("expected a URL without a query".into())
                } else {
                    Ok(url)
                }
            });
            url.map_or_else(
                || default.to_owned(),
                |url| url.as_str().trim_end_matches('/').to_owned(),
            )
        };
        Some(Platform {
            api_url: url(
                "WECHAT_API_URL",
                &settings.wechat_api_url,
                "https://api.weixin.qq.com",
            ),
            open_url: url(
                "WECHAT_OPEN_URL",
                &settings.wechat_open_url,
                "https://open.weixin.qq.com",
            ),
            jssdk_url: url("WECHAT_JSSDK_URL", &settings.wechat_jssdk_url, JSSDK_URL),
        })
    }

    fn site(&mut self, settings: &Settings) -> Option<Site> {
        let listen = self.optional("LISTEN", &settings.listen, |text| {
            text.parse()
                .map_err(|_| "expected an IP address and a port, e.g. 0.0.0.0:3000".into())
        });
        let public_url = self.optional("PUBLIC_URL", &settings.public_url, PublicUrl::parse);
        let jssdk_domains = self.optional("JSSDK_DOMAINS", &settings.jssdk_domains, |text| {
            text.split(',')
                .map(str::trim)
                .filter(|host| !host.is_empty())
                .map(parse_host)
                .collect()
        });
        let static_dir = self.optional("STATIC_DIR", &settings.static_dir, |text| {
            let path = PathBuf::from(text);
            if path.is_dir() {
                Ok(path)
            } else {
                Err(format!("there is no folder {text}"))
            }
        });
        let beside = PathBuf::from("static");
        Some(Site {
            listen: listen.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3000))),
            public_url,
            jssdk_domains,
            static_dir: static_dir.or_else(|| beside.is_dir().then_some(beside)),
        })
    }

    fn store(&mut self, settings: &Settings) -> Option<Store> {
        let url = given(&settings.database_url)
            .unwrap_or("sqlite://offiaccount.db")
            .to_owned();
        if let Err(expected) = store::check_url(&url) {
            self.0.push(format!("DATABASE_URL: {expected}"));
        }
        let parse_key = |text: &str| {
            StoreKey::parse(text).ok_or_else(|| {
                "expected 32 bytes as 64 hex digits or base64 (make one: openssl rand -hex 32)"
                    .into()
            })
        };
        let key = self.optional("STORE_KEY", &settings.store_key, parse_key);
        let key_previous = self.optional(
            "STORE_KEY_PREVIOUS",
            &settings.store_key_previous,
            parse_key,
        );
        if url.starts_with("mongodb") && given(&settings.store_key).is_none() {
            self.0.push("STORE_KEY: is missing; MongoDB needs one, the same on all instances (make one: openssl rand -hex 32)".into());
        }
        Some(Store {
            url: Secret::new(url),
            key,
            key_previous,
        })
    }

    /// Both or neither: without a secret anybody could forge what is forwarded.
    fn forward(&mut self, settings: &Settings, site: Option<&Site>) -> Option<Forward> {
        let url = self.optional("FORWARD_URL", &settings.forward_url, |text| {
            let url = ForwardUrl::parse(text)?;
            if site.is_some_and(|site| url.is_of(site)) {
                return Err("leads back here, as PUBLIC_URL or LISTEN say; expected the address of the program that answers".into());
            }
            Ok(url)
        });
        let key = self.optional("FORWARD_SECRET", &settings.forward_secret, |text| {
            SigningKey::parse(text).ok_or_else(|| {
                "expected `whsec_` and base64, or any other text (make one: echo whsec_$(openssl rand -base64 32))".into()
            })
        });
        match (given(&settings.forward_url), given(&settings.forward_secret)) {
            (Some(_), None) => self.0.push("FORWARD_SECRET: is missing; what goes to FORWARD_URL is signed with it (make one: echo whsec_$(openssl rand -base64 32))".into()),
            (None, Some(_)) => self.0.push("FORWARD_URL: is missing; FORWARD_SECRET is set, so set both or neither".into()),
            _ => {}
        }
        Some(Forward {
            url: url?,
            key: key?,
        })
    }

    /// Each fault of the file is one of the settings: all are told before anything starts.
    fn replies(&mut self, settings: &Settings) -> Option<PathBuf> {
        let path = PathBuf::from(given(&settings.replies)?);
        if let Err(faults) = rules::read(&path).rules {
            let faults = faults.iter().map(|fault| format!("REPLIES: {fault}"));
            self.0.extend(faults);
        }
        Some(path)
    }

    fn required<T>(
        &mut self,
        name: &str,
        value: &Option<String>,
        where_found: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if given(value).is_none() {
            self.0.push(format!("{name}: is missing; {where_found}"));
        }
        self.optional(name, value, parse)
    }

    fn optional<T>(
        &mut self,
        name: &str,
        value: &Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        // The value itself is never shown: it may be a secret.
        parse(given(value)?)
            .map_err(|expected| self.0.push(format!("{name}: {expected}")))
            .ok()
    }
}

const FALLBACK_TEXT: &str = "抱歉，暂时无法回答，请稍后再试。";
const JSSDK_URL: &str = "https://res.wx.qq.com/open/js/jweixin-1.6.0.js";

/// A setting that is there: an empty one counts as none.
fn given(value: &Option<String>) -> Option<&str> {
    value
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn parse_slow_answers(text: &str) -> Result<SlowAnswers, String> {
    let mut steps = SlowAnswers {
        hold: false,
        customer_service: false,
        keep: false,
    };
    if text == "none" {
        return Ok(steps);
    }
    for step in text.split(',') {
        match step.trim() {
            "hold" => steps.hold = true,
            "customer_service" => steps.customer_service = true,
            "keep" => steps.keep = true,
            _ => {
                return Err(
                    "expected `none`, or some of `hold`, `customer_service` and `keep`, by commas"
                        .into(),
                );
            }
        }
    }
    Ok(steps)
}

fn parse_token(text: &str) -> Result<Secret, String> {
    let fits = (3..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then(|| Secret::new(text))
        .ok_or_else(|| "expected 3 to 32 letters and digits".into())
}

fn parse_aes_key(text: &str) -> Result<EncodingAesKey, String> {
    EncodingAesKey::parse(text)
        .map_err(|_| "expected the 43 characters of the console's EncodingAESKey".into())
}

fn parse_host(text: &str) -> Result<String, String> {
    match Url::parse(&format!("http://{text}/")) {
        Ok(url) if url.port().is_none() && !text.contains(['@', '/', '\\', '?', '#']) => {
            Ok(url.host_str().unwrap_or_default().to_owned())
        }
        _ => Err(format!(
            "`{text}` is no host; expected e.g. wx.example.com,m.example.com, without scheme, port and path"
        )),
    }
}
