//! The settings as typed: each an environment variable and a flag of the same name.

use super::ConfigError;

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident = $env:literal $(, value_name = $value:literal)?;)+) => {
        /// Settings as text, unchecked. Flags of the command line, or the environment.
        #[derive(Clone, Default, clap::Args)]
        #[expect(clippy::doc_markdown, reason = "these texts are --help, read in a terminal")]
        pub struct Settings {$(
            $(#[doc = $doc])+
            // Values of the environment stay out of --help: some are secrets.
            #[arg(long, env = $env, hide_env_values = true, value_name = settings!(@value $($value)?))]
            pub $field: Option<String>,
        )+}

        impl Settings {
            /// The names of all settings, as in the environment.
            pub const NAMES: &[&str] = &[$($env),+];

            fn read(get: impl Fn(&str) -> Option<String>) -> Self {
                Self { $($field: get($env)),+ }
            }
        }
    };
    (@value $value:literal) => { $value };
    (@value) => { "TEXT" };
}

settings! {
    /// AppID, as on the console's 基本配置 page (required).
    wechat_appid = "WECHAT_APPID";
    /// AppSecret, as on the same page (required).
    wechat_appsecret = "WECHAT_APPSECRET";
    /// Token (令牌) of the server settings (required): 3 to 32 letters and digits.
    wechat_token = "WECHAT_TOKEN";
    /// EncodingAESKey, 43 characters. Set: every message must be encrypted (安全模式 or 兼容模式). Unset: none may be (明文模式).
    wechat_encoding_aes_key = "WECHAT_ENCODING_AES_KEY";
    /// The Token before the last change, accepted beside the current one.
    wechat_token_previous = "WECHAT_TOKEN_PREVIOUS";
    /// The EncodingAESKey before the last change, accepted beside the current one.
    wechat_encoding_aes_key_previous = "WECHAT_ENCODING_AES_KEY_PREVIOUS";
    /// How the access_token is fetched: `stable` (default) or `classic`.
    token_mode = "TOKEN_MODE", value_name = "MODE";
    /// The address users' phones see, e.g. `https://wx.example.com`. Default: `http://` and LISTEN.
    public_url = "PUBLIC_URL", value_name = "URL";
    /// The address to listen on. Default: 0.0.0.0:3000.
    listen = "LISTEN", value_name = "IP:PORT";
    /// `sqlite://PATH` or `mongodb://…`. Default: `sqlite://offiaccount.db`.
    database_url = "DATABASE_URL", value_name = "URL";
    /// 32 bytes as 64 hex digits or base64, to seal what is stored. Default: made beside the embedded store. Required with MongoDB.
    store_key = "STORE_KEY", value_name = "KEY";
    /// The STORE_KEY before the last change, accepted beside the current one.
    store_key_previous = "STORE_KEY_PREVIOUS", value_name = "KEY";
    /// The bearer token that opens all management routes. Unset: only named keys open them.
    admin_token = "ADMIN_TOKEN", value_name = "TOKEN";
    /// Hosts for which a JS-SDK config is signed, by commas. Default: the host of PUBLIC_URL.
    jssdk_domains = "JSSDK_DOMAINS", value_name = "HOSTS";
    /// The platform's server API. Default: `https://api.weixin.qq.com`.
    wechat_api_url = "WECHAT_API_URL", value_name = "URL";
    /// The platform's OAuth page. Default: `https://open.weixin.qq.com`.
    wechat_open_url = "WECHAT_OPEN_URL", value_name = "URL";
    /// The JS-SDK script that the demo page loads. Default: WeChat's jweixin-1.6.0.js.
    wechat_jssdk_url = "WECHAT_JSSDK_URL", value_name = "URL";
    /// A TOML file of reply rules; read again when it changes. Default: none.
    replies = "REPLIES", value_name = "FILE";
    /// What the bot says when a handler fails. Default: 抱歉，暂时无法回答，请稍后再试。
    fallback_text = "FALLBACK_TEXT";
    /// Said by the last delivery of a message whose answer is still in the making. Default: nothing.
    thinking_text = "THINKING_TEXT";
    /// What becomes of answers that take over 4.4 s: some of `hold`, `customer_service` and `keep`, by commas, or `none`. Default: all three.
    slow_answers = "SLOW_ANSWERS", value_name = "STEPS";
    /// Messages that nothing here answers go there as signed JSON. Default: nowhere.
    forward_url = "FORWARD_URL", value_name = "URL";
    /// Signs what is forwarded: `whsec_` and base64, or any text taken as its bytes. Required with FORWARD_URL.
    forward_secret = "FORWARD_SECRET", value_name = "SECRET";
    /// A folder whose files are served first: put MP_verify_*.txt there. Default: ./static if it is there.
    static_dir = "STATIC_DIR", value_name = "DIR";
    /// `pretty` (default) or `json`. Levels: RUST_LOG.
    log_format = "LOG_FORMAT", value_name = "FORMAT";
}

impl Settings {
    /// Reads `.env`, if there is one, and the environment, which wins.
    ///
    /// # Errors
    ///
    /// A `.env` that can't be read or parsed.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::load_dotenv()?;
        Ok(Self::read(|name| std::env::var(name).ok()))
    }

    /// Adds `.env`, if there is one, to the environment. Call it before threads start.
    ///
    /// # Errors
    ///
    /// A `.env` that can't be read or parsed.
    pub fn load_dotenv() -> Result<(), ConfigError> {
        match dotenvy::dotenv() {
            Ok(_) => Ok(()),
            Err(error) if error.not_found() => Ok(()),
            // The error's own text quotes the line, which may hold a secret.
            Err(dotenvy::Error::LineParse(_, at)) => Err(ConfigError {
                faults: vec![format!(
                    ".env: a line can't be read (at its character {at}); expected NAME=value, quoted if it holds blanks"
                )],
            }),
            Err(_) => Err(ConfigError {
                faults: vec![".env: can't be read; check its permissions".into()],
            }),
        }
    }
}
