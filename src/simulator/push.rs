//! Deliveries to the backend's callback, as the platform makes them.
//!
//! WeChat: "接收普通消息", "被动回复用户消息". A delivery has 5 s; then, or where it failed, the next try
//! begins, three in all. The message stays the same, its signature is new each time. What the fan
//! sees in the end is the reply, nothing, or the line that says the account is out of order.

mod attempt;
mod delivery;
mod message;
mod reply;

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use serde_json::{Map, Value, json};

use self::attempt::Route;
pub(crate) use self::attempt::{verify, words};
use self::delivery::deliver_until_answered;
use self::message::Message;
use super::World;
use super::chat::From;
use super::clock::machine_millis;
use super::fans::Trigger;
use super::platform::Platform;
use super::qrcodes::Scene;
use crate::wechat::id::OpenId;

/// How much later than the answer of a call the event that it caused sets out.
const AFTER_ANSWER: Duration = Duration::from_millis(50);
/// How long an empty outbox is left alone.
const IDLE: Duration = Duration::from_secs(3600);

/// Why a fan could not act: the status and the sentence for the caller.
pub(crate) type Refused = (StatusCode, String);

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
            "takes_reply": self.takes_reply(),
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
