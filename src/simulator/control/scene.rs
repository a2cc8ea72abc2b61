//! What a person does with the phone beside writing: scan a code, tap the menu, agree to notices.
//!
//! An act is turned into the messages that the phone would send, in its order.

use serde_json::{Map, Value, json};

use super::{Refused, bad};
use crate::simulator::chat::From;
use crate::simulator::fans::Fan;
use crate::simulator::media::{Media, MediaKind, format_of};
use crate::simulator::menu::leaves;
use crate::simulator::platform::Platform;
use crate::wechat::id::OpenId;
use poem::http::StatusCode;

/// The picture that a fan takes: 8 by 8, green.
const PICTURE: &[u8] = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\
    \x00\x00\x00\x08\x00\x00\x00\x08\x08\x02\x00\x00\x00\x4b\x6d\x29\xdc\x00\x00\x00\x11\x49\x44\
    \x41\x54\x78\xda\x63\xa8\xd8\x57\x81\x15\x31\x0c\x2d\x09\x00\x01\x3e\x6b\x81\x1c\x9d\xd2\x00\
    \x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";
/// Its MD5, as `SendPicsInfo` has it.
const PICTURE_MD5: &str = "3e26ad1a3790b44405068591de895f40";
/// Pictures of one act.
const PICTURES: u64 = 9;

/// The messages of an act, as `/_sim/send` takes them, and what the phone does by itself.
#[derive(Debug, Default)]
pub(super) struct Act {
    pub(super) messages: Vec<Map<String, Value>>,
    /// Members of the answer.
    pub(super) answer: Map<String, Value>,
}

impl Act {
    fn message(&mut self, openid: &OpenId, kind: &str, members: Value) {
        let mut message = match members {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        message.insert("openid".to_owned(), json!(openid));
        message.insert("MsgType".to_owned(), json!(kind));
        self.messages.push(message);
    }

    fn event(&mut self, openid: &OpenId, event: &str, mut members: Value) {
        members["Event"] = json!(event);
        self.message(openid, "event", members);
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn openid(members: &Map<String, Value>) -> Result<OpenId, Refused> {
    let openid = text(members, "openid").unwrap_or_default();
    OpenId::parse(openid).map_err(|why| bad(format!("openid: {why}")))
}

/// Only a person that is known can be looked at closely.
fn fan<'a>(platform: &'a Platform, members: &Map<String, Value>) -> Result<&'a Fan, Refused> {
    let openid = openid(members)?;
    let fan = platform.fans.get(openid.as_str());
    fan.ok_or_else(|| (StatusCode::NOT_FOUND, "openid: nobody has it".to_owned()))
}

/// A code is scanned: who follows sends SCAN, who does not follows by it.
pub(super) fn scan(platform: &mut Platform, members: &Map<String, Value>) -> Result<Act, Refused> {
    let openid = openid(members)?;
    let now = platform.now();
    let code = match (text(members, "ticket"), members.get("scene")) {
        (Some(ticket), _) => platform.qrcodes.by_ticket(ticket, now),
        (None, Some(Value::String(scene))) => platform.qrcodes.by_scene(scene, now),
        (None, Some(scene @ Value::Number(_))) => {
            platform.qrcodes.by_scene(&scene.to_string(), now)
        }
        (None, _) => return Err(bad("expected a ticket or a scene".to_owned())),
    };
    let code = code.ok_or_else(|| {
        let why = "no such code, or it has run out";
        (StatusCode::NOT_FOUND, why.to_owned())
    })?;
    let (key, ticket) = (code.scene.key(), code.ticket.clone());
    let follows = platform
        .fans
        .get(openid.as_str())
        .is_some_and(|fan| fan.subscribed);
    let mut act = Act::default();
    if follows {
        act.event(&openid, "SCAN", json!({"EventKey": key, "Ticket": ticket}));
    } else {
        let key = format!("qrscene_{key}");
        act.event(
            &openid,
            "subscribe",
            json!({"EventKey": key, "Ticket": ticket}),
        );
    }
    Ok(act)
}

/// A button of the menu that this fan sees is tapped.
pub(super) fn click(platform: &mut Platform, members: &Map<String, Value>) -> Result<Act, Refused> {
    let fan = fan(platform, members)?;
    let openid = fan.openid.clone();
    if !fan.subscribed {
        let why = "the fan does not follow and sees no menu";
        return Err((StatusCode::CONFLICT, why.to_owned()));
    }
    let buttons = platform.menu.of(fan).ok_or_else(|| {
        let why = "the account has no menu";
        (StatusCode::CONFLICT, why.to_owned())
    })?;
    let menuid = buttons.menuid;
    let button = find(&buttons.list, members)?.clone();
    let member = |name: &str| button[name].as_str().unwrap_or_default().to_owned();
    let kind = member("type");
    let key = member("key");
    let mut act = Act::default();
    act.answer.insert("type".to_owned(), json!(kind));
    act.answer.insert("name".to_owned(), button["name"].clone());
    match kind.as_str() {
        "click" => act.event(&openid, "CLICK", json!({"EventKey": key})),
        "view" => {
            let url = member("url");
            act.event(&openid, "VIEW", json!({"EventKey": url, "MenuId": menuid}));
            act.answer.insert("opens".to_owned(), json!(url));
        }
        "miniprogram" => {
            let path = member("pagepath");
            let event = json!({"EventKey": path, "MenuId": menuid});
            act.event(&openid, "view_miniprogram", event);
            act.answer.insert("opens".to_owned(), json!(path));
        }
        "scancode_push" | "scancode_waitmsg" => {
            let scanned = json!({
                "ScanType": text(members, "scan_type").unwrap_or("qrcode"),
                "ScanResult": text(members, "scan_result").unwrap_or("https://example.com/"),
            });
            act.event(
                &openid,
                &kind,
                json!({"EventKey": key, "ScanCodeInfo": scanned}),
            );
        }
        "pic_sysphoto" | "pic_photo_or_album" | "pic_weixin" => {
            let count = members.get("count").and_then(Value::as_u64).unwrap_or(1);
            let count = count.clamp(1, PICTURES);
            let item: Vec<_> = (0..count)
                .map(|_| json!({"PicMd5Sum": PICTURE_MD5}))
                .collect();
            let info = json!({"Count": count, "PicList": {"item": item}});
            act.event(
                &openid,
                &kind,
                json!({"EventKey": key, "SendPicsInfo": info}),
            );
            for _ in 0..count {
                let picture = take_picture(platform);
                act.message(&openid, "image", picture);
            }
        }
        "location_select" => {
            let number =
                |name: &str, usual: f64| members.get(name).and_then(Value::as_f64).unwrap_or(usual);
            let (x, y) = (
                number("latitude", 31.230_416),
                number("longitude", 121.473_701),
            );
            let label = text(members, "label").unwrap_or("上海市黄浦区人民大道185号");
            let poi = text(members, "poiname").unwrap_or_default();
            // In the event everything is text; in the message that follows, numbers.
            let info = json!({
                "Location_X": x.to_string(),
                "Location_Y": y.to_string(),
                "Scale": "15",
                "Label": label,
                "Poiname": poi,
            });
            act.event(
                &openid,
                &kind,
                json!({"EventKey": key, "SendLocationInfo": info}),
            );
            let location = json!({"Location_X": x, "Location_Y": y, "Scale": 15, "Label": label});
            act.message(&openid, "location", location);
        }
        // The phone has these from the platform; the account hears nothing.
        _ => {
            let shown = format!("[{kind}] {}{}", member("media_id"), member("article_id"));
            platform
                .chat
                .say(&openid, From::Account, &shown, &json!({"menu": button}));
            act.answer.insert("shown_to_user".to_owned(), json!(shown));
        }
    }
    Ok(act)
}

/// The button with that key or URL, or at that place: `1`, or `[1, 0]` in a sub-menu.
fn find<'a>(list: &'a [Value], members: &Map<String, Value>) -> Result<&'a Value, Refused> {
    let missing = || {
        let why = "no such button in the menu that this fan sees";
        (StatusCode::NOT_FOUND, why.to_owned())
    };
    if let Some(key) = text(members, "key") {
        let named = |button: &&Value| button["key"] == key || button["url"] == key;
        return leaves(list).into_iter().find(named).ok_or_else(missing);
    }
    let place = |index: &Value| {
        let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
        index.ok_or_else(|| bad("index: expected a number, or a list of two".to_owned()))
    };
    let button = match members.get("index") {
        Some(Value::Array(indexes)) if indexes.len() == 2 => {
            let top = list.get(place(&indexes[0])?).ok_or_else(missing)?;
            top["sub_button"].get(place(&indexes[1])?)
        }
        Some(index) => list.get(place(index)?),
        None => return Err(bad("expected a key or an index".to_owned())),
    };
    // Opening a sub-menu sends nothing; there is no act in it.
    let does_something = |button: &&Value| button["type"].is_string();
    button.filter(does_something).ok_or_else(missing)
}

/// An image message with a picture that can be fetched.
fn take_picture(platform: &mut Platform) -> Value {
    let Some(format) = format_of(PICTURE) else {
        return json!({});
    };
    let now = platform.now();
    let picture = Media::new(
        MediaKind::Image,
        format,
        PICTURE.to_vec(),
        &mut platform.mint,
        now,
    );
    let picture = platform.media.add(picture, now);
    let (media_id, path) = (picture.media_id.clone(), picture.path());
    json!({"MediaId": media_id, "PicUrl": format!("{}{path}", platform.origin)})
}

/// A fan agrees to notices or refuses them, on a page or, refusing, in the settings.
pub(super) fn subscribe_notice(
    platform: &mut Platform,
    members: &Map<String, Value>,
) -> Result<Act, Refused> {
    let openid = fan(platform, members)?.openid.clone();
    let template_ids: Vec<_> = match (members.get("template_id"), members.get("template_ids")) {
        (Some(Value::String(id)), None) => vec![id.clone()],
        (None, Some(Value::Array(ids))) => ids
            .iter()
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect(),
        _ => return Err(bad("expected template_id or template_ids".to_owned())),
    };
    let is_set = |name: &str, usual: bool| match members.get(name) {
        None => Ok(usual),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| bad(format!("{name}: expected true or false"))),
    };
    let accepts = is_set("accept", true)?;
    let in_settings = is_set("in_settings", false)?;
    for template_id in &template_ids {
        if accepts {
            platform.templates.agree(openid.as_str(), template_id);
        } else {
            platform.templates.refuse(openid.as_str(), template_id);
        }
    }
    let word = if accepts { "accept" } else { "reject" };
    let notices: Vec<_> = template_ids
        .iter()
        .filter(|id| platform.templates.find(id, true).is_ok())
        .map(|id| json!({"TemplateId": id, "SubscribeStatusString": word}))
        .collect();
    let mut act = Act::default();
    // The older one-time subscription tells its page, not the callback.
    if !notices.is_empty() && platform.account.callback_url.is_some() {
        if in_settings && !accepts {
            let list = json!({"List": notices});
            let event = json!({"SubscribeMsgChangeEvent": list});
            act.event(&openid, "subscribe_msg_change_event", event);
        } else {
            let mut notices = notices;
            for notice in &mut notices {
                notice["PopupScene"] = json!(1);
            }
            let event = json!({"SubscribeMsgPopupEvent": {"List": notices}});
            act.event(&openid, "subscribe_msg_popup_event", event);
        }
    }
    let consents = platform.templates.consents_json(openid.as_str());
    act.answer.insert("consents".to_owned(), consents);
    Ok(act)
}
