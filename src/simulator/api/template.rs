//! Template messages ("WeChat: 模板消息"), and the older one-time subscription.

use serde_json::{Value, json};

use super::{Answer, Call, Endpoint, Members, Refusal, get, ok, ok_with, post};
use crate::simulator::account::Right;
use crate::simulator::chat::From;
use crate::simulator::clock::{Day, Seconds};
use crate::simulator::platform::Platform;
use crate::simulator::templates::{Template, kind_for};

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/template/api_set_industry",
        "设置所属行业: once a month",
        &["industry_id1", "industry_id2"],
        set_industry,
    )
    .errors(&[40102, 43100])
    .right(Right::ServiceAccount),
    get(
        "/cgi-bin/template/get_industry",
        "获取设置的行业信息",
        &[],
        industry,
    )
    .errors(&[40102])
    .right(Right::ServiceAccount)
    .by_either_method(),
    post(
        "/cgi-bin/template/api_add_template",
        "获得模板ID: by the number of the library; 25 at most",
        &["template_id_short", "keyword_name_list?"],
        add,
    )
    .errors(&[40037, 45026])
    .right(Right::ServiceAccount),
    get(
        "/cgi-bin/template/get_all_private_template",
        "获取已添加至账号下所有模板列表",
        &[],
        list,
    )
    .right(Right::ServiceAccount)
    .by_either_method(),
    post(
        "/cgi-bin/template/del_private_template",
        "删除模板",
        &["template_id"],
        delete,
    )
    .errors(&[40037])
    .right(Right::ServiceAccount),
    post(
        "/cgi-bin/message/template/send",
        "发送模板消息: TEMPLATESENDJOBFINISH tells what became of it",
        &[
            "touser",
            "template_id",
            "url?",
            "miniprogram?",
            "client_msg_id?",
            "data",
        ],
        send,
    )
    .errors(&[40003, 40036, 40037, 41028, 43004, 43019, 47003])
    .right(Right::ServiceAccount)
    .daily(100_000, 100_000),
    post(
        "/cgi-bin/message/template/subscribe",
        "推送一次性订阅消息: to whom agreed to it on a page",
        &[
            "touser",
            "template_id",
            "url?",
            "miniprogram?",
            "scene",
            "title",
            "data",
        ],
        send_once,
    )
    .errors(&[40003, 40036, 43101, 47003])
    .right(Right::ServiceAccount),
];

/// What a template without a list of keywords says.
const KEYWORDS: [&str; 4] = ["订单编号", "商品名称", "支付金额", "支付时间"];
/// Industries of 行业代码查询.
const INDUSTRIES: [(&str, &str); 41] = [
    ("IT科技", "互联网|电子商务"),
    ("IT科技", "IT软件与服务"),
    ("IT科技", "IT硬件与设备"),
    ("IT科技", "电子技术"),
    ("IT科技", "通信与运营商"),
    ("IT科技", "网络游戏"),
    ("金融业", "银行"),
    ("金融业", "基金|理财|信托"),
    ("金融业", "保险"),
    ("餐饮", "餐饮"),
    ("酒店旅游", "酒店"),
    ("酒店旅游", "旅游"),
    ("运输与仓储", "快递"),
    ("运输与仓储", "物流"),
    ("运输与仓储", "仓储"),
    ("教育", "培训"),
    ("教育", "院校"),
    ("政府与公共事业", "学术科研"),
    ("政府与公共事业", "交警"),
    ("政府与公共事业", "博物馆"),
    ("政府与公共事业", "公共事业|非盈利机构"),
    ("医药护理", "医药医疗"),
    ("医药护理", "护理美容"),
    ("医药护理", "保健与卫生"),
    ("交通工具", "汽车相关"),
    ("交通工具", "摩托车相关"),
    ("交通工具", "火车相关"),
    ("交通工具", "飞机相关"),
    ("房地产", "建筑"),
    ("房地产", "物业"),
    ("消费品", "消费品"),
    ("商业服务", "法律"),
    ("商业服务", "会展"),
    ("商业服务", "中介服务"),
    ("商业服务", "认证"),
    ("商业服务", "审计"),
    ("文体娱乐", "传媒"),
    ("文体娱乐", "体育"),
    ("文体娱乐", "娱乐休闲"),
    ("印刷", "印刷"),
    ("其它", "其它"),
];
/// How long a message is under way.
const TAKES: Seconds = 2;
/// No template id is longer.
const ID_LETTERS: usize = 64;
/// Letters of a one-time message's title.
const TITLE: usize = 15;
/// Letters of its text.
const CONTENT: usize = 200;
/// The highest scene of a one-time subscription.
const SCENE: i64 = 10_000;

fn set_industry(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let known = |name: &str| {
        let number = body.number(name)?;
        (1..=41).contains(&number).then_some(number)
    };
    let first = known("industry_id1").ok_or(40102)?;
    let second = known("industry_id2").ok_or(40102)?;
    let (year, month, _) = Day::of(platform.now()).date();
    let is_again = platform.templates.industry_set == Some((year, month));
    if is_again && platform.is_strict() {
        return Err(43100.into());
    }
    platform.templates.industry = Some((first, second));
    platform.templates.industry_set = Some((year, month));
    Ok(ok())
}

fn industry(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let (first, second) = platform.templates.industry.ok_or(40102)?;
    Ok(json!({
        "primary_industry": classes(first),
        "secondary_industry": classes(second),
    })
    .into())
}

fn classes(industry: i64) -> Value {
    let place = usize::try_from(industry - 1).unwrap_or_default();
    let (first, second) = INDUSTRIES.get(place).copied().unwrap_or_default();
    json!({"first_class": first, "second_class": second})
}

fn add(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let short = body.need("template_id_short", 40037)?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !short.bytes().all(is_letter) {
        return Err(40037.into());
    }
    let names = body.texts("keyword_name_list").unwrap_or_default();
    let names = match names.is_empty() {
        true => KEYWORDS.map(str::to_owned).to_vec(),
        false => names,
    };
    let keywords = (1..).zip(names).map(|(number, name)| {
        let place = format!("{}{number}", kind_for(&name));
        (name, place)
    });
    let template = Template {
        id: platform.mint.text("template_id", 43),
        title: format!("模板 {short}"),
        keywords: keywords.collect(),
        notice: None,
    };
    let template_id = template.id.clone();
    platform.templates.add(template)?;
    Ok(ok_with(json!({"template_id": template_id})))
}

fn list(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let (first, second) = platform.templates.industry.unwrap_or((41, 41));
    let one = |template: &Template| {
        json!({
            "template_id": template.id,
            "title": template.title,
            "primary_industry": classes(first)["first_class"],
            "deputy_industry": classes(second)["second_class"],
            "content": template.content(),
            "example": template.example(),
        })
    };
    let list: Vec<_> = platform.templates.list(false).map(one).collect();
    Ok(json!({"template_list": list}).into())
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let id = body.need("template_id", 40037)?;
    platform.templates.delete(id, false)?;
    Ok(ok())
}

/// The `template_id` of a body.
///
/// # Errors
///
/// 40036 for none and for one that is too long.
fn template_id(body: &Members) -> Result<&str, Refusal> {
    let id = body.text("template_id");
    id.filter(|id| id.len() <= ID_LETTERS).ok_or(40036.into())
}

fn send(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let touser = body.need("touser", 40003)?;
    // A form's id comes from mini programs, which send by another call.
    if body.get("form_id").is_some() {
        return Err(41028.into());
    }
    let template = platform.templates.find(template_id(&body)?, false)?.clone();
    let fan = platform.receiver(touser)?;
    let (openid, is_refused) = (fan.openid.clone(), fan.refuses_templates);
    let data = body.object("data").unwrap_or_default();
    template.check(&data)?;

    let now = platform.now();
    let client_msg_id = body.text("client_msg_id");
    let sent = client_msg_id.and_then(|id| platform.templates.sent(touser, id, now));
    if let Some(msgid) = sent {
        return Ok(ok_with(json!({"msgid": msgid})));
    }
    let msgid = 3_700_000_000_000_000_000 + platform.mint.next("template msgid");
    if let Some(id) = client_msg_id {
        platform.templates.note_sent(touser, id, msgid, now);
    }
    let status = match platform.outcomes.template.take() {
        Some(status) => status,
        None if is_refused => "failed:user block".to_owned(),
        None => "success".to_owned(),
    };
    if status == "success" {
        let message = json!({"MsgType": "template", "template": body.0});
        let shown = template.filled(&data);
        platform.chat.say(&openid, From::Account, &shown, &message);
    }
    let due = platform.ends_in(TAKES);
    let more = json!({"MsgID": msgid, "Status": status});
    platform.announce(due, &openid, "TEMPLATESENDJOBFINISH", more);
    Ok(ok_with(json!({"msgid": msgid})))
}

fn send_once(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let openid = platform.fan(body.need("touser", 40003)?)?.openid.clone();
    let id = template_id(&body)?;
    let scene = body
        .number("scene")
        .filter(|scene| (0..=SCENE).contains(scene));
    scene.ok_or_else(|| Refusal::argument("scene"))?;
    let title = body
        .text("title")
        .filter(|title| title.chars().count() <= TITLE);
    let title = title.ok_or_else(|| Refusal::argument("title"))?;
    let content = body
        .object("data")
        .and_then(|data| data.object("content"))
        .unwrap_or_default();
    let content = content
        .text("value")
        .filter(|text| text.chars().count() <= CONTENT);
    let content = content.ok_or_else(|| Refusal::argument("data.content.value"))?;
    let agreed = platform.templates.use_consent(openid.as_str(), id);
    if !agreed && platform.is_strict() {
        return Err(43101.into());
    }
    let shown = format!("{title}\n{content}");
    let message = json!({"MsgType": "template", "template": body.0});
    platform.chat.say(&openid, From::Account, &shown, &message);
    Ok(ok())
}
