//! Deliveries to the backend's callback, as the platform makes them.
//!
//! WeChat: "接收普通消息", "被动回复用户消息". A delivery has 5 s; then, or where it failed, the next try
//! begins, three in all. The message stays the same, its signature is new each time. What the fan
//! sees in the end is the reply, nothing, or the line that says the account is out of order.

mod message;
mod reply;

use std::sync::Arc;
use std::time::{Duration, Instant};

use poem::http::StatusCode;
use serde_json::{Map, Value, json};

use self::message::Message;
use self::reply::{Failure, Verdict};
use super::World;
use super::account::{Account, Mode};
use super::chat::From;
use super::clock::{machine_millis, machine_seconds};
use super::fans::Trigger;
use crate::wechat::crypto::{Cipher, EncodingAesKey};
use crate::wechat::signature::{sign, sign_encrypted};

/// How long the platform waits for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Deliveries of one message in all.
const ATTEMPTS: usize = 3;
/// More than any reply: 20 KB of text would already be cut.
const ANSWER_LIMIT: usize = 1 << 20;
/// What the fan's phone shows when the account did not answer as it should.
const FAILURE_LINE: &str = "该公众号提供的服务出现故障，请稍后再试";

/// Why a fan could not act: the status and the sentence for the caller.
pub(crate) type Refused = (StatusCode, String);

/// One answer, or none, to one delivery.
struct Attempt {
    /// When it began, in the machine's milliseconds.
    at: i64,
    /// What was sent: the address and the body.
    sent: (String, String),
    /// 0 where there was no answer.
    status: u16,
    ms: u64,
    body: Vec<u8>,
    error: Option<String>,
    /// The deadline ended it.
    is_late: bool,
}

/// Where and how to deliver, as the account is set at the moment the fan acts.
struct Route {
    url: url::Url,
    account: Account,
    cipher: Option<Cipher>,
}

/// A fan acts: the state changes, the message is delivered, the answer judged and shown.
///
/// # Errors
///
/// 400 for members that make no message, 409 where the account has no callback URL.
pub(crate) async fn send(world: Arc<World>, members: Map<String, Value>) -> Result<Value, Refused> {
    let (route, message) = {
        let platform = &mut *world.platform();
        let route = Route::new(&platform.account)?;
        let message = Message::build(members, &platform.account, &mut platform.mint)
            .map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        let now = platform.now();
        let fan = platform.meet(message.fan.clone());
        match message.event.as_deref() {
            Some("subscribe") => fan.follow(now),
            Some("unsubscribe") => fan.leave(),
            _ => {}
        }
        if let Some(trigger) = message.trigger() {
            fan.open_window(trigger, now);
        }
        if message.withdraws_consent() {
            platform.grants.revoke(message.fan.as_str());
        }
        let from = if message.event.is_some() {
            From::System
        } else {
            From::Fan
        };
        platform
            .chat
            .say(&message.fan, from, &message.shown, &message.json);
        (route, message)
    };

    let id = world.platform().pushes.push(json!({
        "at": machine_millis(),
        "running": true,
        "openid": message.fan,
        "message": message.json,
        "xml": message.xml(),
        "attempts": [],
    }));
    let mut attempts = Vec::new();
    let mut verdict = None;
    let mut last_topic = "";
    while verdict.is_none() && attempts.len() < ATTEMPTS {
        let attempt = deliver(&world, &route, &message).await;
        let mut record = attempt.record();
        if attempt.status == 200 {
            let judged = reply::judge(
                &attempt.body,
                &message,
                &route.account,
                route.cipher.as_ref(),
            );
            if let Verdict::Failure(failure) = &judged {
                record["topic"] = json!(failure.topic);
            }
            verdict = Some(judged);
        }
        last_topic = attempt.topic().unwrap_or_default();
        attempts.push(attempt.to_json());
        world.platform().pushes.update(id, |push| {
            if let Some(list) = push["attempts"].as_array_mut() {
                list.push(record);
            }
        });
    }

    let no_answer = || {
        Verdict::Failure(Failure {
            topic: last_topic,
            why: "no delivery was answered with status 200".to_owned(),
        })
    };
    let mut clear_reply = None;
    let (reply, shown, failure) = match verdict.unwrap_or_else(no_answer) {
        Verdict::Silence => (Value::Null, String::new(), None),
        Verdict::Reply { json, shown, clear } => {
            clear_reply = Some(clear);
            // Without a chat in which it could stand the phone drops it.
            let is_shown = message.takes_reply();
            (json, if is_shown { shown } else { String::new() }, None)
        }
        Verdict::Failure(failure) if message.takes_reply() => {
            (Value::Null, FAILURE_LINE.to_owned(), Some(failure))
        }
        Verdict::Failure(failure) => (Value::Null, String::new(), Some(failure)),
    };
    let mut result = json!({"attempts": attempts, "reply": reply, "shown_to_user": shown});
    if let Some(failure) = &failure {
        result["failure"] = json!(failure.why);
    }
    let mut platform = world.platform();
    if !shown.is_empty() {
        let from = if failure.is_some() {
            From::System
        } else {
            From::Account
        };
        platform.chat.say(&message.fan, from, &shown, &reply);
    }
    platform.pushes.update(id, |push| {
        push["running"] = json!(false);
        push["reply"] = reply;
        push["reply_xml"] = json!(clear_reply);
        push["shown_to_user"] = json!(shown);
        if let Some(failure) = failure {
            push["failure"] = json!(failure.why);
            push["failure_topic"] = json!(failure.topic);
        }
    });
    Ok(result)
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
async fn deliver(world: &World, route: &Route, message: &Message) -> Attempt {
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
pub(super) fn words(error: &reqwest::Error) -> String {
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
    fn new(account: &Account) -> Result<Self, Refused> {
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
    fn topic(&self) -> Option<&'static str> {
        match self.status {
            200 => None,
            0 if self.is_late => Some("timeout"),
            0 => Some("unreachable"),
            _ => Some("status"),
        }
    }

    /// As `/_sim/pushes` keeps it: with what was sent.
    fn record(&self) -> Value {
        let mut json = self.to_json();
        json["at"] = json!(self.at);
        json["url"] = json!(self.sent.0);
        json["request_body"] = json!(self.sent.1);
        if let Some(topic) = self.topic() {
            json["topic"] = json!(topic);
        }
        json
    }

    fn to_json(&self) -> Value {
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

impl Message {
    /// Which window for customer-service messages this opens.
    fn trigger(&self) -> Option<Trigger> {
        match self.event.as_deref() {
            // A tap on a `msgmenu` arrives as a text and counts as a click.
            None if self.json.get("bizmsgmenuid").is_some() => Some(Trigger::Gesture),
            None => Some(Trigger::Message),
            Some("CLICK" | "SCAN" | "subscribe" | "scancode_push" | "scancode_waitmsg") => {
                Some(Trigger::Gesture)
            }
            Some(_) => None,
        }
    }

    /// Whether a passive reply reaches the fan.
    fn takes_reply(&self) -> bool {
        matches!(
            self.event.as_deref(),
            None | Some("subscribe" | "SCAN" | "CLICK" | "LOCATION" | "scancode_waitmsg")
        )
    }

    fn withdraws_consent(&self) -> bool {
        matches!(
            self.event.as_deref(),
            Some("user_authorization_revoke" | "user_authorization_cancellation")
        )
    }
}
