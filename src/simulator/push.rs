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
use super::platform::Platform;
use super::qrcodes::Scene;
use crate::wechat::crypto::{Cipher, EncodingAesKey};
use crate::wechat::id::OpenId;
use crate::wechat::signature::{sign, sign_encrypted};

/// How long the platform waits for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Deliveries of one message in all.
const ATTEMPTS: usize = 3;
/// More than any reply: 20 KB of text would already be cut.
const ANSWER_LIMIT: usize = 1 << 20;
/// How much later than the answer of a call the event that it caused sets out.
const AFTER_ANSWER: Duration = Duration::from_millis(50);
/// How long an empty outbox is left alone.
const IDLE: Duration = Duration::from_secs(3600);
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
    let (route, message, is_blacklisted) = act(&mut world.platform(), members)?;
    if is_blacklisted && message.event.is_none() {
        let why = "the fan is on the blacklist: what he says is not pushed";
        return Ok(json!({"attempts": [], "reply": null, "shown_to_user": "", "failure": why}));
    }
    let delivered = deliver_until_answered(&world, &route, &message).await;
    let result = delivered.to_json();
    {
        let platform = &mut *world.platform();
        if !delivered.shown.is_empty() {
            let from = if delivered.failure.is_some() {
                From::System
            } else {
                From::Account
            };
            let (shown, reply) = (&delivered.shown, &delivered.reply);
            platform.chat.say(&message.fan, from, shown, reply);
        }
        if delivered.reply["MsgType"] == "transfer_customer_service" {
            hand_over(platform, &message.fan, &delivered.reply);
        }
        delivered.keep(platform);
    }
    world.pushed.notify_waiters();
    world.stir();
    Ok(result)
}

/// What the fan's act changes at once, and the message it makes; with it, whether he is blacklisted.
fn act(
    platform: &mut Platform,
    members: Map<String, Value>,
) -> Result<(Route, Message, bool), Refused> {
    let route = Route::new(&platform.account)?;
    let message = Message::build(members, &platform.account, &mut platform.mint)
        .map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    let now = platform.now();
    let scanned = message.scanned_scene(platform);
    let fan = platform.meet(message.fan.clone());
    match message.event.as_deref() {
        Some("subscribe") => {
            fan.follow(now);
            if scanned.is_some() {
                "ADD_SCENE_QR_CODE".clone_into(&mut fan.subscribe_scene);
            }
            fan.scene = scanned;
        }
        Some("unsubscribe") => fan.leave(),
        Some(_) => {}
        None => {
            fan.wrote_at = Some(now);
            fan.typing_until = now;
        }
    }
    if let Some(trigger) = message.trigger() {
        fan.open_window(trigger, now);
    }
    let is_blacklisted = fan.blacklisted;
    if message.withdraws_consent() {
        platform.grants.revoke(message.fan.as_str());
    }
    let from = if message.event.is_some() {
        From::System
    } else {
        let fan = message.fan.as_str();
        platform.agents.note_fan(fan, &message.shown, now);
        From::Fan
    };
    platform
        .chat
        .say(&message.fan, from, &message.shown, &message.json);
    Ok((route, message, is_blacklisted))
}

/// The account hands a fan to its people: to the one it names if he is there, else into the queue.
fn hand_over(platform: &mut Platform, fan: &OpenId, reply: &Value) {
    let now = platform.now();
    if let Some(kf_account) = reply["TransInfo"]["KfAccount"].as_str() {
        let opened = platform.agents.open_session(kf_account, fan.as_str(), now);
        if opened.is_ok() {
            let more = json!({"KfAccount": kf_account});
            platform.announce(now, fan, "kf_create_session", more);
            return;
        }
    }
    platform.agents.wait(fan.as_str(), now);
}

/// Pushes what falls due in the outbox, until the simulator stops.
pub(crate) async fn release_events(world: Arc<World>) {
    loop {
        let (due, next) = {
            let platform = &mut *world.platform();
            let now = platform.now();
            let due = platform.outbox.take(now);
            let wait = platform.outbox.next().map_or(IDLE, |at| {
                Duration::from_secs(u64::try_from(at - now).unwrap_or(0))
            });
            (due, wait)
        };
        if !due.is_empty() {
            let (shared, closing) = (world.clone(), world.closing.clone());
            world.deliveries.spawn(async move {
                let reports = async {
                    // The answer of the call that caused them is out first.
                    tokio::time::sleep(AFTER_ANSWER).await;
                    for members in due {
                        report(&shared, members).await;
                    }
                };
                closing.run_until_cancelled(reports).await
            });
        }
        tokio::select! {
            biased;
            () = world.closing.cancelled() => return,
            () = world.stirred.notified() => {}
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// Delivers an event that no fan's act has caused: nothing of it stands in a chat.
async fn report(world: &World, members: Map<String, Value>) {
    let built = {
        let platform = &mut *world.platform();
        Message::build(members, &platform.account, &mut platform.mint)
            .map(|message| (Route::new(&platform.account), message))
    };
    let (route, message) = match built {
        Ok(built) => built,
        Err(why) => {
            tracing::error!(why, "an event of the simulator's own makes no message");
            return;
        }
    };
    match route {
        Ok(route) => {
            let delivered = deliver_until_answered(world, &route, &message).await;
            delivered.keep(&mut world.platform());
        }
        Err((_, why)) => {
            let mut record = message.record();
            record["shown_to_user"] = json!("");
            record["reply"] = Value::Null;
            record["failure"] = json!(why);
            world.platform().pushes.push(record);
        }
    }
    world.pushed.notify_waiters();
}

/// What all tries of one message came to.
struct Delivered {
    run: Run,
    attempts: Vec<Value>,
    reply: Value,
    /// The XML of the reply, decrypted.
    clear_reply: Option<String>,
    shown: String,
    failure: Option<Failure>,
}

impl Delivered {
    fn to_json(&self) -> Value {
        let mut json = json!({
            "attempts": self.attempts,
            "reply": self.reply,
            "shown_to_user": self.shown,
        });
        if let Some(failure) = &self.failure {
            json["failure"] = json!(failure.why);
        }
        json
    }

    /// From under way to over.
    fn keep(self, platform: &mut Platform) {
        // A reset has taken everything away meanwhile.
        let Some(mut record) = self.run.end(platform) else {
            return;
        };
        record["reply"] = self.reply;
        record["reply_xml"] = json!(self.clear_reply);
        record["shown_to_user"] = json!(self.shown);
        if let Some(failure) = self.failure {
            record["failure"] = json!(failure.why);
            record["failure_topic"] = json!(failure.topic);
        }
        platform.pushes.push(record);
    }
}

/// The place of a delivery among those under way.
struct Run {
    id: u64,
    resets: u64,
}

impl Run {
    fn begin(platform: &mut Platform, record: Value) -> Self {
        Self {
            id: platform.under_way.push(record),
            resets: platform.resets,
        }
    }

    fn note(&self, platform: &mut Platform, attempt: Value) {
        if self.resets == platform.resets {
            platform.under_way.update(self.id, |record| {
                if let Some(attempts) = record["attempts"].as_array_mut() {
                    attempts.push(attempt);
                }
            });
        }
    }

    fn end(&self, platform: &mut Platform) -> Option<Value> {
        let is_mine = self.resets == platform.resets;
        let mut record = is_mine.then(|| platform.under_way.take(self.id))??;
        record["running"] = json!(false);
        record["run"] = record["id"].take();
        Some(record)
    }
}

/// Up to three tries, and what the fan sees of the answer.
async fn deliver_until_answered(world: &World, route: &Route, message: &Message) -> Delivered {
    let run = {
        let mut record = message.record();
        record["running"] = json!(true);
        Run::begin(&mut world.platform(), record)
    };
    let mut attempts = Vec::new();
    let mut verdict = None;
    let mut last_topic = "";
    while verdict.is_none() && attempts.len() < ATTEMPTS {
        let attempt = deliver(world, route, message).await;
        let mut record = attempt.record();
        if attempt.status == 200 {
            let judged = reply::judge(
                &attempt.body,
                message,
                &route.account,
                route.cipher.as_ref(),
            );
            if let Verdict::Failure(failure) = &judged {
                record["topic"] = json!(failure.topic);
            }
            verdict = Some(judged);
        }
        last_topic = attempt.topic().unwrap_or_default();
        run.note(&mut world.platform(), record);
        attempts.push(attempt.to_json());
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
    Delivered {
        run,
        attempts,
        reply,
        clear_reply,
        shown,
        failure,
    }
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
            None if self.json.get("bizmsgmenuid").is_some() => Some(Trigger::Click),
            None => Some(Trigger::Message),
            Some("CLICK" | "scancode_push" | "scancode_waitmsg") => Some(Trigger::Click),
            Some("subscribe") => Some(Trigger::Follow),
            Some("SCAN") => Some(Trigger::Scan),
            Some(_) => None,
        }
    }

    /// The scene by which a fan follows: that of the code behind the ticket, else as the key reads.
    fn scanned_scene(&self, platform: &Platform) -> Option<Scene> {
        let key = self.json["EventKey"].as_str()?.strip_prefix("qrscene_")?;
        let code = self.json["Ticket"]
            .as_str()
            .and_then(|ticket| platform.qrcodes.by_ticket(ticket, platform.now()));
        Some(match (code, key.parse()) {
            (Some(code), _) => code.scene.clone(),
            (None, Ok(number)) => Scene::Number(number),
            (None, Err(_)) => Scene::Text(key.to_owned()),
        })
    }

    /// What `/_sim/pushes` shows of it before anything is delivered.
    fn record(&self) -> Value {
        json!({
            "at": machine_millis(),
            "openid": self.fan,
            "msg_type": self.json["MsgType"],
            "event": self.event,
            "message": self.json,
            "xml": self.xml(),
            "attempts": [],
        })
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
