//! One request to the callback: where it goes, how it is signed, and what came back.

use std::time::{Duration, Instant};

use poem::http::StatusCode;
use serde_json::{Value, json};

use super::Refused;
use super::message::Message;
use crate::simulator::World;
use crate::simulator::account::{Account, Mode};
use crate::simulator::clock::{machine_millis, machine_seconds};
use crate::wechat::crypto::{Cipher, EncodingAesKey};
use crate::wechat::signature::{sign, sign_encrypted};

/// How long the platform waits for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// More than any reply: 20 KB of text would already be cut.
const ANSWER_LIMIT: usize = 1 << 20;

/// One answer, or none, to one delivery.
pub(super) struct Attempt {
    /// When it began, in the machine's milliseconds.
    pub(super) at: i64,
    /// What was sent: the address and the body.
    pub(super) sent: (String, String),
    /// 0 where there was no answer.
    pub(super) status: u16,
    pub(super) ms: u64,
    pub(super) body: Vec<u8>,
    pub(super) error: Option<String>,
    /// The deadline ended it.
    pub(super) is_late: bool,
}

/// Where and how to deliver, as the account is set at the moment the fan acts.
pub(super) struct Route {
    pub(super) url: url::Url,
    pub(super) account: Account,
    pub(super) cipher: Option<Cipher>,
}

/// The console's 提交 button: the callback must give the `echostr` back, byte for byte.
///
/// Gives `{"ok":true}`, or `ok` false with an `error` and what the callback said.
pub(crate) async fn verify(world: &World) -> Value {
    let (mut url, token, nonce, echostr) = {
        let platform = &mut *world.platform();
        let route = match Route::new(&platform.account) {
            Ok(route) => route,
            Err((_, why)) => return json!({"ok": false, "error": why}),
        };
        let nonce = platform.mint.digits("nonce", 10);
        let echostr = platform.mint.digits("echostr", 19);
        (route.url, platform.account.token.clone(), nonce, echostr)
    };
    let timestamp = machine_seconds().to_string();
    let signature = sign(token.expose(), &timestamp, &nonce);
    url.query_pairs_mut()
        .append_pair("signature", signature.as_str())
        .append_pair("timestamp", &timestamp)
        .append_pair("nonce", &nonce)
        .append_pair("echostr", &echostr);
    let sent = (url.to_string(), String::new());
    let attempt = exchange(world.client.get(url), sent).await;
    let why = match &attempt {
        Attempt {
            error: Some(error), ..
        } => format!("no answer: {error}"),
        Attempt {
            status: 200, body, ..
        } if body == echostr.as_bytes() => {
            return json!({"ok": true});
        }
        Attempt { status: 200, .. } => "the body is not the echostr, byte for byte".to_owned(),
        Attempt { status, .. } => format!("status {status} instead of 200"),
    };
    let mut result = attempt.to_json();
    result["topic"] = json!(attempt.topic().unwrap_or("echostr"));
    result["ok"] = json!(false);
    result["error"] = json!(why);
    result["echostr"] = json!(echostr);
    result
}

/// One POST. The timestamp is the machine's: the backend compares it with its own clock.
pub(super) async fn deliver(world: &World, route: &Route, message: &Message) -> Attempt {
    let (nonce, random) = {
        let platform = &mut *world.platform();
        (
            platform.mint.digits("nonce", 10),
            platform.mint.array("random"),
        )
    };
    let token = route.account.token.expose();
    let timestamp = machine_seconds().to_string();
    let mut url = route.url.clone();
    url.query_pairs_mut()
        .append_pair("signature", sign(token, &timestamp, &nonce).as_str())
        .append_pair("timestamp", &timestamp)
        .append_pair("nonce", &nonce)
        .append_pair("openid", message.fan.as_str());
    let body = match &route.cipher {
        None => message.xml(),
        Some(cipher) => {
            let encrypt = cipher.encrypt(&message.xml(), random);
            let msg_signature = sign_encrypted(token, &timestamp, &nonce, &encrypt);
            url.query_pairs_mut()
                .append_pair("encrypt_type", "aes")
                .append_pair("msg_signature", msg_signature.as_str());
            if route.account.mode == Mode::Safe {
                message.safe_envelope(&encrypt)
            } else {
                message.compatible_envelope(&encrypt)
            }
        }
    };
    let sent = (url.to_string(), body.clone());
    let request = world
        .client
        .post(url)
        .header("Content-Type", "text/xml")
        .body(body);
    exchange(request, sent).await
}

async fn exchange(request: reqwest::RequestBuilder, sent: (String, String)) -> Attempt {
    let at = machine_millis();
    let began = Instant::now();
    let answer = async {
        let mut response = request.timeout(DEADLINE).send().await?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_LIMIT {
                break;
            }
        }
        Ok::<_, reqwest::Error>((status, body))
    };
    let answer = answer.await;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok((status, body)) => Attempt {
            at,
            sent,
            status,
            ms,
            body,
            error: None,
            is_late: false,
        },
        Err(error) => Attempt {
            at,
            sent,
            status: 0,
            ms,
            body: Vec::new(),
            error: Some(words(&error)),
            is_late: error.is_timeout(),
        },
    }
}

/// What went wrong, without the URL, which holds the signature.
pub(crate) fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", DEADLINE.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

impl Route {
    pub(super) fn new(account: &Account) -> Result<Self, Refused> {
        let callback = account.callback_url.as_deref().ok_or_else(|| {
            let why = "the account has no callback_url: PUT it to /_sim/account";
            (StatusCode::CONFLICT, why.to_owned())
        })?;
        let url = url::Url::parse(callback)
            .map_err(|why| (StatusCode::CONFLICT, format!("callback_url: {why}")))?;
        let cipher = match (&account.encoding_aes_key, account.mode) {
            (None, _) | (_, Mode::Plain) => None,
            (Some(key), Mode::Compatible | Mode::Safe) => {
                let key = EncodingAesKey::parse(key.expose())
                    .map_err(|why| (StatusCode::CONFLICT, format!("encoding_aes_key: {why}")))?;
                Some(Cipher::new(&key, account.appid.clone()))
            }
        };
        Ok(Self {
            url,
            account: account.clone(),
            cipher,
        })
    }
}

impl Attempt {
    /// What the glossary has under `push:` for an attempt that brought no answer to judge.
    pub(super) fn topic(&self) -> Option<&'static str> {
        match self.status {
            200 => None,
            0 if self.is_late => Some("timeout"),
            0 => Some("unreachable"),
            _ => Some("status"),
        }
    }

    /// As `/_sim/pushes` keeps it: with what was sent.
    pub(super) fn record(&self) -> Value {
        let mut json = self.to_json();
        json["at"] = json!(self.at);
        json["url"] = json!(self.sent.0);
        json["request_body"] = json!(self.sent.1);
        if let Some(topic) = self.topic() {
            json["topic"] = json!(topic);
        }
        json
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({
            "status": self.status,
            "ms": self.ms,
            "body": String::from_utf8_lossy(&self.body),
        });
        if let Some(error) = &self.error {
            json["error"] = json!(error);
        }
        json
    }
}
