//! Customer-service messages: `/cgi-bin/message/custom/send` ("WeChat: 客服消息").

use serde_json::{Map, Value, json};

use super::{Access, Answer, Call, Daily, Endpoint, Refusal, Verb, ok};
use crate::simulator::account::{Limits, Right};
use crate::simulator::chat::From;
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    method: Verb::Post,
    path: "/cgi-bin/message/custom/send",
    summary: "发送客服消息: 5 within 48 hours of a message, 3 within a minute of a gesture",
    errors: &[40003, 40007, 40008, 44004, 45002, 45008, 45015, 45047],
    access: Access::Token,
    right: Right::Service,
    daily: Some(Daily {
        account: 500_000,
        sandbox: 50_000,
    }),
    handler: send,
}];

/// The longest text, in bytes.
const TEXT_BYTES: usize = 2048;

fn send(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let touser = body.get("touser").and_then(Value::as_str).ok_or(40003)?;
    let msgtype = body.get("msgtype").and_then(Value::as_str).ok_or(40008)?;
    let shown = shown(msgtype, body.get(msgtype).and_then(Value::as_object))?;
    let (now, limits) = (platform.now(), platform.account.limits);
    let fan = platform.fans.get_mut(touser).ok_or(40003)?;
    match fan.use_window(now) {
        Err(errcode) if limits == Limits::Real => return Err(errcode.into()),
        Ok(()) | Err(_) => {}
    }
    let openid = fan.openid.clone();
    let message = json!({"MsgType": msgtype, "custom": body.get(msgtype)});
    platform.chat.say(&openid, From::Account, &shown, &message);
    Ok(ok())
}

/// What the phone shows for a message of this type.
fn shown(msgtype: &str, content: Option<&Map<String, Value>>) -> Result<String, Refusal> {
    let content = content.ok_or(40008)?;
    let member = |name: &str| content.get(name).and_then(Value::as_str).unwrap_or("");
    match msgtype {
        "text" => match member("content") {
            "" => Err(44004.into()),
            text if text.len() > TEXT_BYTES => Err(45002.into()),
            text => Ok(text.to_owned()),
        },
        "image" | "voice" | "video" => match member("media_id") {
            "" => Err(40007.into()),
            media_id => Ok(format!("[{}] {media_id}", name_of(msgtype))),
        },
        "music" => Ok(format!("[音乐] {}", member("title"))),
        "news" => match content.get("articles").and_then(Value::as_array) {
            Some(articles) if articles.len() == 1 => {
                let title = articles[0]["title"].as_str().unwrap_or("");
                Ok(format!("[图文] {title}"))
            }
            _ => Err(45008.into()),
        },
        "msgmenu" => Ok(format!("[菜单] {}", member("head_content"))),
        "mpnews" | "mpnewsarticle" | "wxcard" | "miniprogrampage" => Ok(format!("[{msgtype}]")),
        _ => Err(40008.into()),
    }
}

fn name_of(msgtype: &str) -> &str {
    match msgtype {
        "image" => "图片",
        "voice" => "语音",
        "video" => "视频",
        other => other,
    }
}
