//! Customer-service messages: `/cgi-bin/message/custom/…` ("WeChat: 客服消息").

use serde_json::{Value, json};

use super::{Answer, Call, Endpoint, Members, Refusal, ok, post};
use crate::simulator::chat::From;
use crate::simulator::clock::Seconds;
use crate::simulator::media::MediaKind;
use crate::simulator::platform::Platform;

/// The call that sends one.
pub(super) const SEND: &str = "/cgi-bin/message/custom/send";

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        SEND,
        "发送客服消息: 5 within 48 hours of a message, 3 within a minute of a gesture",
        &["touser", "msgtype", "customservice?"],
        send,
    )
    .errors(&[
        40003, 40007, 40008, 40013, 40035, 43019, 44004, 45002, 45008, 45015, 45047, 53600, 65401,
    ])
    .daily(500_000, 50_000),
    post(
        "/cgi-bin/message/custom/typing",
        "客服输入状态: within 30 s of a message of the fan's",
        &["touser", "command"],
        typing,
    )
    .errors(&[40003, 45072, 45080, 45081]),
];

/// The longest text, in bytes.
pub(super) const TEXT_BYTES: usize = 2048;
/// How long after a fan's message the account may show that it writes.
const TYPING_AFTER: Seconds = 30;
/// How long the phone shows it.
const TYPING_FOR: Seconds = 15;

/// Notes a call of [`SEND`], however it was answered.
pub(super) fn note(platform: &mut Platform, call: &Call, at: i64, errcode: Option<i64>) {
    let body = call.json().unwrap_or_default();
    let (Some(to), Some(msgtype)) = (body.text("touser"), body.text("msgtype")) else {
        return;
    };
    let content = body.object(msgtype).unwrap_or_default();
    let shown = match content.text("content").or(content.text("title")) {
        Some(text) => text.to_owned(),
        None => format!("[{msgtype}]"),
    };
    platform.sends.note(at, to, shown, errcode);
}

fn send(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let touser = body.need("touser", 40003)?;
    let msgtype = body.need("msgtype", 40008)?;
    let content = body.object(msgtype).ok_or(40008)?;
    let shown = check(platform, msgtype, &content)?;
    let worker = body.object("customservice").unwrap_or_default();
    let worker = worker.text("kf_account").unwrap_or_default();
    if !worker.is_empty() {
        platform.agents.find(worker)?;
    }

    let (now, is_strict) = (platform.now(), platform.is_strict());
    let fan = platform.fan(touser)?;
    if fan.blacklisted {
        return Err(43019.into());
    }
    match fan.use_window(now) {
        Err(errcode) if is_strict => return Err(errcode.into()),
        Ok(()) | Err(_) => {}
    }
    fan.typing_until = now;
    let openid = fan.openid.clone();
    let message = json!({"MsgType": msgtype, "custom": content.0});
    platform.chat.say(&openid, From::Account, &shown, &message);
    platform.agents.note_account(touser, &shown, worker, now);
    Ok(ok())
}

/// What the phone shows for a message of this type, if it may be sent.
fn check(platform: &Platform, msgtype: &str, content: &Members) -> Result<String, Refusal> {
    let now = platform.now();
    let member = |name: &str| content.text(name).unwrap_or_default();
    let media = |name: &str, kinds: &[MediaKind]| -> Result<(), Refusal> {
        let media_id = content.need(name, 40007)?;
        platform.media.find_kind(media_id, kinds, now)?;
        Ok(())
    };
    let thumb = || match content.get("thumb_media_id") {
        None => Ok(()),
        Some(_) => media("thumb_media_id", &[MediaKind::Thumb, MediaKind::Image]),
    };
    match msgtype {
        "text" => match member("content") {
            "" => Err(44004.into()),
            text if text.len() > TEXT_BYTES => Err(45002.into()),
            text => Ok(text.to_owned()),
        },
        "image" => {
            media("media_id", &[MediaKind::Image])?;
            Ok("[图片]".to_owned())
        }
        "voice" => {
            media("media_id", &[MediaKind::Voice])?;
            Ok("[语音]".to_owned())
        }
        "video" => {
            media("media_id", &[MediaKind::Video])?;
            thumb()?;
            Ok(named("视频", member("title")))
        }
        "music" => {
            thumb()?;
            Ok(named("音乐", member("title")))
        }
        "news" => match content.list("articles") {
            Some(articles) if articles.len() == 1 => {
                let title = articles[0]["title"].as_str().unwrap_or("");
                Ok(named("图文", title))
            }
            _ => Err(45008.into()),
        },
        "mpnews" => {
            let media_id = content.need("media_id", 40007)?;
            let title = article_title(platform, media_id)?;
            Ok(named("图文", &title))
        }
        "mpnewsarticle" => {
            let article_id = content.need("article_id", 53600)?;
            let article = platform.articles.article(article_id, now)?;
            let title = article.items[0]["title"].as_str().unwrap_or("");
            Ok(named("图文", title))
        }
        "msgmenu" => match content.list("list") {
            Some(list) if !list.is_empty() => Ok(named("菜单", member("head_content"))),
            _ => Err(40035.into()),
        },
        "wxcard" => Ok(named("卡券", content.need("card_id", 40035)?)),
        "miniprogrampage" => {
            content.need("appid", 40013)?;
            content.need("pagepath", 40035)?;
            thumb()?;
            Ok(named("小程序", member("title")))
        }
        _ => Err(40008.into()),
    }
}

/// The first title of a draft, or of articles for a mass message.
///
/// # Errors
///
/// 40007 where there is neither with that id.
pub(super) fn article_title(platform: &Platform, media_id: &str) -> Result<String, Refusal> {
    let items = news_items(platform, media_id)?;
    Ok(items[0]["title"].as_str().unwrap_or_default().to_owned())
}

/// The articles of a draft, or those for a mass message; at least one.
///
/// # Errors
///
/// 40007 where there is neither with that id.
pub(super) fn news_items<'a>(
    platform: &'a Platform,
    media_id: &str,
) -> Result<&'a [Value], Refusal> {
    let now = platform.now();
    if let Some(draft) = platform.articles.draft(media_id, now) {
        return Ok(&draft.items);
    }
    let news = platform
        .media
        .find_kind(media_id, &[MediaKind::News], now)?;
    Ok(&news.articles)
}

fn named(kind: &str, name: &str) -> String {
    format!("[{kind}] {name}").trim_end().to_owned()
}

fn typing(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let (now, is_strict) = (platform.now(), platform.is_strict());
    let fan = platform.fan(body.need("touser", 40003)?)?;
    match body.text("command") {
        Some("Typing") => {
            let wrote = fan
                .wrote_at
                .is_some_and(|at| (at..at + TYPING_AFTER).contains(&now));
            if is_strict && !wrote {
                return Err(45080.into());
            }
            if is_strict && now < fan.typing_until {
                return Err(45081.into());
            }
            fan.typing_until = now + TYPING_FOR;
        }
        Some("CancelTyping") => fan.typing_until = now,
        _ => return Err(45072.into()),
    }
    Ok(ok())
}
