//! What of the world is set by hand: fans, agents, files of fans, comments, outcomes of jobs.

use serde_json::{Map, Value, json};

use super::{Refused, bad};
use crate::simulator::api::Members;
use crate::simulator::http::Pairs;
use crate::simulator::media::{Format, Media, MediaKind};
use crate::simulator::platform::Platform;
use crate::wechat::id::{OpenId, UnionId};
use poem::http::StatusCode;

/// The members of a fan that can be set.
pub(super) const FAN: &[&str] = &[
    "openid?",
    "unionid?",
    "nickname?",
    "headimgurl?",
    "subscribe?",
    "subscribe_time?",
    "subscribe_scene?",
    "remark?",
    "blacklisted?",
    "refuses_templates?",
    "client_platform_type?",
    "former_openid?",
    "snapshot?",
];

/// Refuses members that nobody knows, as a misspelt one would do nothing.
fn check_names(members: &Map<String, Value>, known: &[&str]) -> Result<(), Refused> {
    let is_known = |name: &String| {
        known
            .iter()
            .any(|known| known.trim_end_matches('?') == name)
    };
    match members.keys().find(|name| !is_known(name)) {
        Some(unknown) => Err(bad(format!("{unknown}: no such member"))),
        None => Ok(()),
    }
}

/// Adds a fan or changes one: an `openid` that is there already is the one that is meant.
pub(super) fn put_fan(
    platform: &mut Platform,
    members: &Map<String, Value>,
) -> Result<Value, Refused> {
    check_names(members, FAN)?;
    let text = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(bad(format!("{name}: expected a text"))),
    };
    let flag = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(value) => {
            let wrong = || bad(format!("{name}: expected true or false"));
            value.as_bool().map(Some).ok_or_else(wrong)
        }
    };
    let number = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(value) => {
            let wrong = || bad(format!("{name}: expected a number"));
            value.as_i64().map(Some).ok_or_else(wrong)
        }
    };
    let unionid = text("unionid")?.map(UnionId::parse).transpose();
    let unionid = unionid.map_err(|why| bad(format!("unionid: {why}")))?;
    let subscribe = match members.get("subscribe") {
        None => None,
        Some(Value::Bool(follows)) => Some(*follows),
        Some(Value::Number(number)) if number.as_u64().is_some_and(|number| number <= 1) => {
            Some(number.as_u64() == Some(1))
        }
        Some(_) => return Err(bad("subscribe: expected 0 or 1".to_owned())),
    };
    let subscribe_time = number("subscribe_time")?;
    let client = match number("client_platform_type")? {
        None => None,
        Some(client) => {
            let client = u8::try_from(client)
                .ok()
                .filter(|client| (1..=3).contains(client));
            let wrong = || bad("client_platform_type: expected 1, 2 or 3".to_owned());
            Some(client.ok_or_else(wrong)?)
        }
    };
    let snapshot = flag("snapshot")?;
    let (blacklisted, refuses_templates) = (flag("blacklisted")?, flag("refuses_templates")?);
    let (nickname, headimgurl) = (text("nickname")?, text("headimgurl")?);
    let (scene, remark) = (text("subscribe_scene")?, text("remark")?);
    let former_openid = text("former_openid")?;
    let openid = match text("openid")? {
        Some(openid) => OpenId::parse(openid).map_err(|why| bad(format!("openid: {why}")))?,
        None => platform.new_openid(),
    };

    let now = platform.now();
    let fan = platform.meet(openid);
    if let Some(nickname) = nickname {
        nickname.clone_into(&mut fan.nickname);
    }
    if let Some(headimgurl) = headimgurl {
        headimgurl.clone_into(&mut fan.headimgurl);
    }
    if let Some(scene) = scene {
        scene.clone_into(&mut fan.subscribe_scene);
    }
    if let Some(remark) = remark {
        remark.clone_into(&mut fan.remark);
    }
    // A null is a word too: this fan has no unionid.
    if members.contains_key("unionid") {
        fan.unionid = unionid;
    }
    if members.contains_key("former_openid") {
        fan.former_openid = former_openid.map(str::to_owned);
    }
    match subscribe {
        Some(true) if !fan.subscribed => fan.follow(now),
        Some(false) => fan.leave(),
        Some(true) | None => {}
    }
    if let Some(time) = subscribe_time {
        fan.subscribe_time = time;
    }
    if let Some(client) = client {
        fan.client_platform_type = client;
    }
    if let Some(blacklisted) = blacklisted {
        fan.blacklisted = blacklisted;
    }
    if let Some(refuses) = refuses_templates {
        fan.refuses_templates = refuses;
    }
    if let Some(snapshot) = snapshot {
        fan.snapshot = snapshot;
    }
    Ok(fan.to_json())
}

/// The console's page of agents: who was invited agrees, an agent comes or goes.
pub(super) fn put_agent(
    platform: &mut Platform,
    members: &Map<String, Value>,
) -> Result<Value, Refused> {
    check_names(members, &["kf_account", "wx", "online"])?;
    let given = Members(members.clone());
    let agent = platform
        .agents
        .find(given.text("kf_account").unwrap_or_default())
        .map_err(|_| (StatusCode::NOT_FOUND, "kf_account: no such one".to_owned()))?;
    if let Some(wx) = given.text("wx") {
        agent.wx = Some(wx.to_owned());
        agent.invitation = None;
    }
    if let Some((wx, _)) = agent.invitation.take() {
        agent.wx = Some(wx);
    }
    if members.contains_key("online") {
        agent.is_online = given.is_set("online");
    }
    Ok(platform.agents.to_json(platform.now()))
}

/// A fan's file, or what a page recorded: as if the phone had uploaded it.
pub(super) fn put_media(
    platform: &mut Platform,
    query: &Pairs,
    body: &[u8],
) -> Result<Value, Refused> {
    let kind = query.get("type").and_then(MediaKind::parse);
    let kind = kind.ok_or_else(|| bad("type: expected image, voice, video or thumb".to_owned()))?;
    let from_page = query.get("from") == Some("jssdk");
    let format = match kind.check("", body, false) {
        Ok(format) => format,
        // What the JS-SDK records has no header by which it could be known.
        Err(40113) if from_page && kind == MediaKind::Voice => Format {
            extension: "speex",
            content_type: "voice/speex",
        },
        Err(errcode) => {
            let why = crate::simulator::errcode::text(errcode);
            return Err(bad(format!("body: {why} ({errcode})")));
        }
    };
    let now = platform.now();
    let media = Media::new(kind, format, body.to_vec(), &mut platform.mint, now);
    let media = Media { from_page, ..media };
    let media = platform.media.add(media, now);
    let (media_id, path) = (media.media_id.clone(), media.path());
    Ok(json!({"media_id": media_id, "url": format!("{}{path}", platform.origin)}))
}

/// A fan comments an article.
pub(super) fn put_comment(
    platform: &mut Platform,
    members: &Map<String, Value>,
) -> Result<Value, Refused> {
    check_names(members, &["openid", "msg_data_id", "index", "content"])?;
    let given = Members(members.clone());
    let number = |name: &str| {
        given
            .number(name)
            .and_then(|number| u64::try_from(number).ok())
    };
    let openid = given.text("openid").unwrap_or_default();
    if platform.fans.get(openid).is_none() {
        return Err((StatusCode::NOT_FOUND, "openid: nobody has it".to_owned()));
    }
    let msg_data_id =
        number("msg_data_id").ok_or_else(|| bad("msg_data_id: missing".to_owned()))?;
    let article = (msg_data_id, number("index").unwrap_or(0));
    let content = given.text("content");
    let content = content.ok_or_else(|| bad("content: missing".to_owned()))?;
    let now = platform.now();
    let added = platform.comments.add(article, openid, content, now);
    let id = added.map_err(|errcode| match errcode {
        88000 => (
            StatusCode::CONFLICT,
            "the article is closed for comments".to_owned(),
        ),
        _ => (StatusCode::NOT_FOUND, "no such article".to_owned()),
    })?;
    Ok(json!({"user_comment_id": id}))
}

/// How the next jobs are to end.
pub(super) fn put_outcomes(
    platform: &mut Platform,
    members: &Map<String, Value>,
) -> Result<Value, Refused> {
    check_names(members, &["template", "mass", "publish"])?;
    let given = Members(members.clone());
    let text = |name: &str| given.text(name).map(str::to_owned);
    let publish = match given.get("publish") {
        None => None,
        Some(_) => {
            let status = given
                .number("publish")
                .filter(|status| (2..=4).contains(status));
            Some(status.ok_or_else(|| bad("publish: expected 2, 3 or 4".to_owned()))?)
        }
    };
    if members.contains_key("template") {
        platform.outcomes.template = text("template");
    }
    if members.contains_key("mass") {
        platform.outcomes.mass = text("mass");
    }
    if members.contains_key("publish") {
        platform.outcomes.publish = publish;
    }
    Ok(outcomes(platform))
}

pub(super) fn outcomes(platform: &Platform) -> Value {
    let outcomes = &platform.outcomes;
    json!({
        "template": outcomes.template,
        "mass": outcomes.mass,
        "publish": outcomes.publish,
    })
}
