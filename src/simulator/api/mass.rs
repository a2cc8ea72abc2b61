//! Mass messages: `/cgi-bin/message/mass/…` ("WeChat: 群发接口").

use serde_json::{Value, json};

use super::custom::{TEXT_BYTES, news_items};
use super::{Answer, Call, Endpoint, Members, Refusal, ok, post};
use crate::simulator::account::{Kind, Right};
use crate::simulator::chat::From;
use crate::simulator::clock::Seconds;
use crate::simulator::fans::Fan;
use crate::simulator::mass::Job;
use crate::simulator::media::MediaKind;
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/message/mass/sendall",
        "根据标签进行群发: to all or to a tag; MASSSENDJOBFINISH tells the end",
        &["filter", "msgtype", "send_ignore_reprint?", "clientmsgid?"],
        send_all,
    )
    .errors(&[
        40007, 40008, 40035, 44004, 45002, 45028, 45065, 45066, 45067, 45159,
    ])
    .right(Right::MassByTag)
    .daily(100, 0),
    post(
        "/cgi-bin/message/mass/send",
        "根据OpenID列表群发: 2 to 10 000 of them; for service accounts",
        &["touser", "msgtype", "send_ignore_reprint?", "clientmsgid?"],
        send,
    )
    .errors(&[
        40007, 40008, 40032, 40035, 44004, 45002, 45028, 45065, 45066, 45067,
    ])
    .right(Right::MassByOpenid)
    .daily(100, 0),
    post(
        "/cgi-bin/message/mass/preview",
        "预览消息: to one follower",
        &["touser?", "towxname?", "msgtype"],
        preview,
    )
    .errors(&[
        40003, 40007, 40008, 40035, 40132, 43004, 43019, 44004, 45002,
    ])
    .right(Right::MassByTag)
    .daily(100, 0),
    post(
        "/cgi-bin/message/mass/delete",
        "删除群发消息: articles and videos",
        &["msg_id", "article_idx?", "url?"],
        delete,
    )
    .errors(&[40059])
    .right(Right::MassByTag)
    .daily(10, 0),
    post(
        "/cgi-bin/message/mass/get",
        "查询群发消息发送状态",
        &["msg_id"],
        status,
    )
    .errors(&[40059])
    .right(Right::MassByTag),
    post(
        "/cgi-bin/message/mass/speed/get",
        "获取群发速度",
        &[],
        speed,
    )
    .right(Right::MassByTag),
    post(
        "/cgi-bin/message/mass/speed/set",
        "设置群发速度: 0 the fastest to 4 the slowest",
        &["speed"],
        set_speed,
    )
    .errors(&[45083, 45084])
    .right(Right::MassByTag),
];

/// How long a job takes.
const TAKES: Seconds = 5;
/// Openids of one job.
const OPENIDS: std::ops::RangeInclusive<usize> = 2..=10_000;
/// Bytes of a `clientmsgid`.
const CLIENT_ID: usize = 64;
/// 10 000 messages a minute, for each speed.
const SPEEDS: [i64; 5] = [80, 60, 45, 30, 10];
/// Jobs a day of a subscription account.
const SUBSCRIPTION_JOBS: u64 = 1;

fn send_all(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let shown = content(platform, &body)?;
    let filter = body.object("filter").unwrap_or_default();
    let tag = match filter.is_set("is_to_all") {
        true => None,
        false => {
            // Clients of before 2016 still say group.
            let tag = filter.number("tag_id").or(filter.number("group_id"));
            let tag = tag.and_then(|tag| u64::try_from(tag).ok());
            let tag = tag.filter(|tag| platform.tags.has(*tag));
            Some(tag.ok_or(45159)?)
        }
    };
    let carries = |fan: &&Fan| tag.is_none_or(|tag| fan.tags.contains(&tag));
    let followers = platform.fans.followers().filter(carries);
    let targets = followers.map(|fan| fan.openid.to_string()).collect();
    submit(platform, &body, targets, &shown)
}

fn send(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let shown = content(platform, &body)?;
    let targets = body.texts("touser").unwrap_or_default();
    if !OPENIDS.contains(&targets.len()) {
        return Err(40032.into());
    }
    submit(platform, &body, targets, &shown)
}

/// Starts a job. What it comes to is settled now and told when its time is over.
fn submit(
    platform: &mut Platform,
    body: &Members,
    targets: Vec<String>,
    shown: &str,
) -> Result<Answer, Refusal> {
    let (now, is_strict) = (platform.now(), platform.is_strict());
    let clientmsgid = body.text("clientmsgid").map(str::to_owned);
    if let Some(id) = &clientmsgid {
        if id.len() > CLIENT_ID {
            return Err(45067.into());
        }
        if let Some((errcode, job)) = platform.mass.duplicate(id, now) {
            return Err(Refusal::from(errcode)
                .with("msg_id", json!(job.msg_id))
                .with("msg_data_id", json!(job.msg_data_id)));
        }
    }
    let is_subscription = platform.account.kind == Kind::Subscription;
    if is_strict && is_subscription && platform.mass.today(now) >= SUBSCRIPTION_JOBS {
        return Err(45028.into());
    }
    let receives = |platform: &Platform, openid: &str| {
        let in_quota = is_subscription || platform.mass.may_receive(openid, now);
        in_quota || !is_strict
    };
    let total = targets.len();
    let (passed, over): (Vec<_>, Vec<_>) = targets
        .into_iter()
        .partition(|openid| receives(platform, openid));
    if passed.is_empty() && !over.is_empty() {
        return Err(45028.into());
    }
    platform.mass.note_job(now);

    let status = platform.outcomes.mass.take();
    let status = status.unwrap_or_else(|| "send success".to_owned());
    let is_well = status == "send success";
    let message = sent(body);
    let mut count = 0;
    if is_well {
        for openid in &passed {
            let Ok(fan) = platform.receiver(openid) else {
                continue;
            };
            let openid = fan.openid.clone();
            platform.chat.say(&openid, From::Account, shown, &message);
            platform.mass.note_received(openid.as_str(), now);
            count += 1;
        }
    }
    let filtered = if is_well { passed.len() } else { 0 };
    let msg_id = 1_000_000_000 + platform.mint.next("mass msg_id");
    let msg_data_id = 2_247_483_000 + platform.mint.next("msg_data_id");
    let mut more = json!({
        "MsgID": msg_id,
        "Status": status,
        "TotalCount": total,
        "FilterCount": filtered,
        "SentCount": count,
        "ErrorCount": filtered - count,
        "CopyrightCheckResult": {"Count": 0, "ResultList": {}, "CheckState": 0},
    });
    if body.text("msgtype") == Some("mpnews") {
        let media_id = body.object("mpnews").unwrap_or_default();
        let media_id = media_id.text("media_id").unwrap_or_default().to_owned();
        let items = news_items(platform, &media_id)?.to_vec();
        let urls: Vec<_> = (1..)
            .zip(&items)
            .map(|(idx, item)| json!({"ArticleIdx": idx, "ArticleUrl": item["url"]}))
            .collect();
        more["ArticleUrlResult"] = json!({"Count": urls.len(), "ResultList": {"item": urls}});
        platform.comments.open_articles(msg_data_id, &items);
    }
    let due = platform.ends_in(TAKES);
    platform.mass.add(Job {
        msg_id,
        msg_data_id,
        started_at: now,
        due,
        outcome: status,
        is_deleted: false,
        clientmsgid,
    });
    let helper = platform.helper();
    platform.announce(due, &helper, "MASSSENDJOBFINISH", more);
    Ok(json!({
        "errcode": 0,
        "errmsg": "send job submission success",
        "msg_id": msg_id,
        "msg_data_id": msg_data_id,
    })
    .into())
}

/// The message as chats keep it.
fn sent(body: &Members) -> Value {
    let msgtype = body.text("msgtype").unwrap_or_default();
    json!({"MsgType": msgtype, "mass": body.get(content_name(body))})
}

/// The member that holds the content: several pictures stand in another one than one.
fn content_name(body: &Members) -> &str {
    match body.text("msgtype") {
        Some("image") if body.get("images").is_some() => "images",
        Some(msgtype) => msgtype,
        None => "",
    }
}

/// What phones show for this message, if it may be sent.
fn content(platform: &Platform, body: &Members) -> Result<String, Refusal> {
    let now = platform.now();
    let name = content_name(body);
    let content = body.object(name).ok_or(40008)?;
    let media = |media_id: &str, kind| -> Result<(), Refusal> {
        platform.media.find_kind(media_id, &[kind], now)?;
        Ok(())
    };
    let one = || content.need("media_id", 40007);
    match name {
        "text" => match content.text("content") {
            None => Err(44004.into()),
            Some(text) if text.len() > TEXT_BYTES => Err(45002.into()),
            Some(text) => Ok(text.to_owned()),
        },
        "mpnews" => {
            let items = news_items(platform, one()?)?;
            let titles: Vec<_> = items
                .iter()
                .filter_map(|item| item["title"].as_str())
                .collect();
            Ok(format!("[图文] {}", titles.join(" / ")))
        }
        "image" => media(one()?, MediaKind::Image).map(|()| "[图片]".to_owned()),
        "images" => {
            let media_ids = content.texts("media_ids").unwrap_or_default();
            if media_ids.is_empty() {
                return Err(40007.into());
            }
            for media_id in &media_ids {
                media(media_id, MediaKind::Image)?;
            }
            Ok(format!("[图片] {}", media_ids.len()))
        }
        "voice" => media(one()?, MediaKind::Voice).map(|()| "[语音]".to_owned()),
        "mpvideo" => media(one()?, MediaKind::Video).map(|()| "[视频]".to_owned()),
        "music" => Ok("[音乐]".to_owned()),
        "wxcard" => Ok(format!("[卡券] {}", content.need("card_id", 40035)?)),
        _ => Err(40008.into()),
    }
}

fn preview(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let shown = content(platform, &body)?;
    let fan = match (body.text("touser"), body.text("towxname")) {
        // A person is known here by his nickname, too.
        (_, Some(name)) => {
            let named = |fan: &&Fan| fan.subscribed && fan.nickname == name;
            platform.fans.iter().find(named).ok_or(40132)?
        }
        (openid, None) => platform.receiver(openid.ok_or(40003)?)?,
    };
    let openid = fan.openid.clone();
    let message = sent(&body);
    platform.chat.say(&openid, From::Account, &shown, &message);
    let msg_id = 1_000_000_000 + platform.mint.next("mass msg_id");
    Ok(json!({"errcode": 0, "errmsg": "preview success", "msg_id": msg_id}).into())
}

/// The `msg_id` of a body.
fn job<'a>(platform: &'a mut Platform, body: &Members) -> Result<&'a mut Job, Refusal> {
    let msg_id = body.number("msg_id").and_then(|id| u64::try_from(id).ok());
    Ok(platform.mass.find(msg_id.ok_or(40059)?)?)
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    job(platform, &call.json()?)?.is_deleted = true;
    Ok(ok())
}

fn status(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let now = platform.now();
    let job = job(platform, &call.json()?)?;
    Ok(json!({"msg_id": job.msg_id, "msg_status": job.status(now)}).into())
}

fn speed(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let speed = platform.mass.speed;
    let place = usize::try_from(speed).unwrap_or_default();
    Ok(json!({"speed": speed, "realspeed": SPEEDS[place]}).into())
}

fn set_speed(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    body.get("speed").ok_or(45084)?;
    let speed = body.number("speed").filter(|speed| (0..=4).contains(speed));
    platform.mass.speed = speed.ok_or(45083)?;
    Ok(ok())
}
