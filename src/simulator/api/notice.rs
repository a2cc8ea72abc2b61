//! Subscription notices of service accounts ("WeChat: 订阅通知").

use serde_json::{Value, json};

use super::{Answer, Call, Endpoint, Refusal, get, ok, ok_with, post};
use crate::simulator::account::Right;
use crate::simulator::chat::From;
use crate::simulator::clock::Seconds;
use crate::simulator::platform::Platform;
use crate::simulator::templates::{Template, example};

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get(
        "/wxaapi/newtmpl/getcategory",
        "获取公众号类目",
        &[],
        categories,
    )
    .right(Right::Notices),
    get(
        "/wxaapi/newtmpl/getpubtemplatetitles",
        "获取类目下的公共模板",
        &["ids", "start", "limit"],
        titles,
    )
    .errors(&[200_016, 200_017, 200_018, 200_019])
    .right(Right::Notices),
    get(
        "/wxaapi/newtmpl/getpubtemplatekeywords",
        "获取模板中的关键词",
        &["tid"],
        keywords,
    )
    .errors(&[200_014])
    .right(Right::Notices),
    post(
        "/wxaapi/newtmpl/addtemplate",
        "选用模板: 2 to 5 of its keywords; 50 notices at most",
        &["tid", "kidList", "sceneDesc?"],
        add,
    )
    .errors(&[200_012, 200_014, 200_020, 200_021])
    .right(Right::Notices),
    get("/wxaapi/newtmpl/gettemplate", "获取私有模板列表", &[], list).right(Right::Notices),
    post(
        "/wxaapi/newtmpl/deltemplate",
        "删除私有模板",
        &["priTmplId"],
        delete,
    )
    .errors(&[40037])
    .right(Right::Notices),
    post(
        "/cgi-bin/message/subscribe/bizsend",
        "发送订阅通知: once for each consent; subscribe_msg_sent_event tells what became of it",
        &["touser", "template_id", "page?", "miniprogram?", "data"],
        send,
    )
    .errors(&[40003, 40037, 41030, 43019, 43101, 47003])
    .right(Right::Notices),
];

/// A template of the public library.
struct Public {
    tid: i64,
    title: &'static str,
    /// 2 one-time, 3 long-term.
    kind: i64,
    category: i64,
    /// Name and kind; a keyword's `kid` is its place, from 1.
    keywords: &'static [(&'static str, &'static str)],
}

const CATEGORIES: [(i64, &str); 2] = [(2, "出行与交通"), (616, "公交")];

/// A library of the simulator's own.
const LIBRARY: [Public; 3] = [
    Public {
        tid: 99,
        title: "付款成功通知",
        kind: 2,
        category: 616,
        keywords: &[
            ("付款金额", "amount"),
            ("付款时间", "time"),
            ("订单号", "character_string"),
            ("商品名称", "thing"),
            ("付款人", "name"),
            ("状态", "phrase"),
        ],
    },
    Public {
        tid: 401,
        title: "预约提醒",
        kind: 2,
        category: 2,
        keywords: &[
            ("预约内容", "thing"),
            ("预约时间", "time"),
            ("联系电话", "phone_number"),
            ("备注", "thing"),
        ],
    },
    Public {
        tid: 1001,
        title: "公交到站提醒",
        kind: 3,
        category: 616,
        keywords: &[
            ("线路", "thing"),
            ("到站时间", "time"),
            ("站点", "thing"),
            ("车牌号", "car_number"),
        ],
    },
];

/// How long a notice is under way.
const TAKES: Seconds = 2;
/// Letters of a scene's description.
const SCENE: usize = 15;

fn categories(_: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let data: Vec<_> = CATEGORIES
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name}))
        .collect();
    Ok(ok_with(json!({"data": data})))
}

fn titles(_: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let ids = call.need("ids", 200_018)?.split(',');
    let ids: Result<Vec<i64>, _> = ids.map(str::parse).collect();
    let ids = ids.map_err(|_| 200_019)?;
    let number = |name: &str| -> Option<usize> { call.query.get(name)?.parse().ok() };
    let start = number("start").ok_or(200_016)?;
    let limit = number("limit").filter(|limit| (1..=30).contains(limit));
    let limit = limit.ok_or(200_017)?;
    let found: Vec<_> = LIBRARY
        .iter()
        .filter(|public| ids.contains(&public.category))
        .map(|public| {
            json!({
                "tid": public.tid,
                "title": public.title,
                "type": public.kind,
                "categoryId": public.category.to_string(),
            })
        })
        .collect();
    let data: Vec<_> = found.iter().skip(start).take(limit).collect();
    Ok(ok_with(json!({"count": found.len(), "data": data})))
}

fn public(tid: Option<i64>) -> Result<&'static Public, Refusal> {
    let found = LIBRARY.iter().find(|public| Some(public.tid) == tid);
    found.ok_or(200_014.into())
}

fn keywords(_: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let public = public(call.query.get("tid").and_then(|tid| tid.parse().ok()))?;
    let data: Vec<_> = (1..)
        .zip(public.keywords)
        .map(|(kid, (name, rule))| {
            json!({"kid": kid, "name": name, "example": example(rule), "rule": rule})
        })
        .collect();
    Ok(ok_with(json!({"count": data.len(), "data": data})))
}

fn add(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let public = public(body.number("tid"))?;
    let kids = body.texts("kidList").unwrap_or_default();
    if !(2..=5).contains(&kids.len()) {
        return Err(200_020.into());
    }
    let mut chosen = Vec::new();
    for kid in &kids {
        let place: usize = kid.parse().map_err(|_| 200_020)?;
        let keyword = place.checked_sub(1).and_then(|at| public.keywords.get(at));
        let (name, kind) = keyword.ok_or(200_020)?;
        chosen.push(((*name).to_owned(), format!("{kind}{place}")));
    }
    let scene = body.text("sceneDesc").unwrap_or_default();
    if scene.chars().count() > SCENE {
        return Err(200_021.into());
    }
    let template = Template {
        id: platform.mint.text("template_id", 43),
        title: public.title.to_owned(),
        keywords: chosen,
        notice: Some(public.kind),
    };
    let id = template.id.clone();
    platform.templates.add(template)?;
    Ok(ok_with(json!({"priTmplId": id})))
}

fn list(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let one = |template: &Template| {
        json!({
            "priTmplId": template.id,
            "title": template.title,
            "content": template.content(),
            "example": template.example(),
            "type": template.notice,
        })
    };
    let data: Vec<_> = platform.templates.list(true).map(one).collect();
    Ok(ok_with(json!({"data": data})))
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let id = body.need("priTmplId", 40037)?;
    platform.templates.delete(id, true)?;
    Ok(ok())
}

fn send(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let fan = platform.fan(body.need("touser", 40003)?)?;
    if fan.blacklisted {
        return Err(43019.into());
    }
    let openid = fan.openid.clone();
    let id = body.need("template_id", 40037)?;
    let template = platform.templates.find(id, true)?.clone();
    if let Some(page) = body.get("page") {
        let url = page.as_str().map(url::Url::parse);
        if !matches!(url, Some(Ok(url)) if matches!(url.scheme(), "http" | "https")) {
            return Err(41030.into());
        }
    }
    let data = body.object("data").unwrap_or_default();
    template.check(&data)?;
    let agreed = platform.templates.use_consent(openid.as_str(), id);
    if !agreed && platform.is_strict() {
        return Err(43101.into());
    }
    let message = json!({"MsgType": "notice", "notice": body.0});
    let shown = template.filled(&data);
    platform.chat.say(&openid, From::Account, &shown, &message);
    let msgid = 1_700_000_000_000_000_000 + platform.mint.next("notice msgid");
    let due = platform.ends_in(TAKES);
    let more = json!({"SubscribeMsgSentEvent": {"List": [{
        "TemplateId": id,
        "MsgID": msgid,
        "ErrorCode": 0,
        "ErrorStatus": Value::from("success"),
    }]}});
    platform.announce(due, &openid, "subscribe_msg_sent_event", more);
    Ok(ok())
}
