//! Customer-service accounts, their sessions and the record ("WeChat: 客服管理", "会话控制").

use serde_json::json;

use super::{Answer, Call, Endpoint, Refusal, get, ok, post, upload};
use crate::simulator::media::{Media, MediaKind};
use crate::simulator::platform::Platform;
use crate::wechat::id::OpenId;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/customservice/kfaccount/add",
        "添加客服账号: prefix@account, up to 100",
        &["kf_account", "nickname"],
        add,
    )
    .errors(&[65403, 65404, 65405, 65406]),
    post(
        "/customservice/kfaccount/update",
        "设置客服信息",
        &["kf_account", "nickname"],
        update,
    )
    .errors(&[65401, 65403]),
    post(
        "/customservice/kfaccount/inviteworker",
        "邀请绑定客服账号: a person's WeChat id",
        &["kf_account", "invite_wx"],
        invite,
    )
    .errors(&[65401, 65407, 65408, 65409, 65411, 65412]),
    upload(
        "/customservice/kfaccount/uploadheadimg",
        "上传客服头像: a JPG",
        &["kf_account"],
        &["media"],
        head_image,
    )
    .errors(&[40005, 40009, 40137, 41005, 44001, 65401]),
    get(
        "/customservice/kfaccount/del",
        "删除客服账号",
        &["kf_account"],
        delete,
    )
    .errors(&[65401])
    .by_either_method(),
    get(
        "/cgi-bin/customservice/getkflist",
        "获取所有客服账号",
        &[],
        list,
    ),
    get(
        "/cgi-bin/customservice/getonlinekflist",
        "获取在线客服",
        &[],
        online,
    ),
    post(
        "/customservice/kfsession/create",
        "创建会话: an online account takes a fan",
        &["kf_account", "openid"],
        open,
    )
    .errors(&[40003, 65401, 65402, 65414, 65415]),
    post(
        "/customservice/kfsession/close",
        "关闭会话",
        &["kf_account", "openid"],
        close,
    )
    .errors(&[40003, 65401, 65413, 65414]),
    get(
        "/customservice/kfsession/getsession",
        "获取客户会话状态: who serves this fan",
        &["openid"],
        session,
    )
    .errors(&[40003, 41009]),
    get(
        "/customservice/kfsession/getsessionlist",
        "获取客服会话列表: whom this account serves",
        &["kf_account"],
        sessions,
    )
    .errors(&[65401]),
    get(
        "/customservice/kfsession/getwaitcase",
        "获取未接入会话列表: who was handed over and waits",
        &[],
        waiting,
    ),
    post(
        "/customservice/msgrecord/getmsglist",
        "获取聊天记录: of up to 24 hours",
        &["starttime", "endtime", "msgid", "number"],
        record,
    )
    .errors(&[65416, 65417]),
];

/// Letters before the `@`.
const PREFIX: usize = 10;
/// Letters of a nickname.
const NICKNAME: usize = 16;
/// The longest span of the record, in seconds.
const SPAN: i64 = 24 * 3600;
/// Lines in one answer.
const LINES: i64 = 10_000;

fn add(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let kf_account = body.need("kf_account", 65404)?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (prefix, account) = kf_account.split_once('@').ok_or(65404)?;
    if !(1..=PREFIX).contains(&prefix.len()) || !prefix.bytes().all(is_letter) || account.is_empty()
    {
        return Err(65404.into());
    }
    platform
        .agents
        .add(kf_account, nickname(body.text("nickname"))?)?;
    Ok(ok())
}

fn nickname(given: Option<&str>) -> Result<&str, Refusal> {
    let fits = |name: &&str| name.chars().count() <= NICKNAME;
    given.filter(fits).ok_or(65403.into())
}

fn update(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let agent = platform.agents.find(body.need("kf_account", 65401)?)?;
    nickname(body.text("nickname"))?.clone_into(&mut agent.nickname);
    Ok(ok())
}

fn invite(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let kf_account = body.need("kf_account", 65401)?;
    platform.agents.find(kf_account)?;
    let wx = body.need("invite_wx", 65409)?;
    let now = platform.now();
    platform.agents.invite(kf_account, wx, now)?;
    Ok(ok())
}

fn head_image(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let kf_account = call.need("kf_account", 65401)?;
    platform.agents.find(kf_account)?;
    let (name, part) = super::media::file(call)?;
    let format = MediaKind::Image.check(&name, &part.bytes, false)?;
    if format.extension != "jpg" {
        return Err(40137.into());
    }
    let now = platform.now();
    let picture = Media::new(
        MediaKind::Image,
        format,
        part.bytes,
        &mut platform.mint,
        now,
    );
    let path = platform.media.add(picture.unlisted(), now).path();
    let url = format!("{}{path}", platform.origin);
    platform.agents.find(kf_account)?.headimgurl = url;
    Ok(ok())
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json_or_nothing()?;
    let kf_account = call.query.get("kf_account").or(body.text("kf_account"));
    platform.agents.delete(kf_account.ok_or(65401)?)?;
    Ok(ok())
}

fn list(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Ok(json!({"kf_list": platform.agents.to_json(platform.now())}).into())
}

fn online(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Ok(json!({"kf_online_list": platform.agents.online_json()}).into())
}

/// The account and the fan that a body names.
fn pair(platform: &mut Platform, call: &Call) -> Result<(String, OpenId), Refusal> {
    let body = call.json()?;
    let kf_account = body.need("kf_account", 65401)?;
    let openid = platform.fan(body.need("openid", 40003)?)?.openid.clone();
    Ok((kf_account.to_owned(), openid))
}

fn open(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let (kf_account, openid) = pair(platform, call)?;
    let now = platform.now();
    let is_new = platform
        .agents
        .open_session(&kf_account, openid.as_str(), now)?;
    if is_new {
        let more = json!({"KfAccount": kf_account});
        platform.announce(now, &openid, "kf_create_session", more);
    }
    Ok(ok())
}

fn close(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let (kf_account, openid) = pair(platform, call)?;
    platform
        .agents
        .close_session(&kf_account, openid.as_str())?;
    let more = json!({"KfAccount": kf_account});
    platform.announce(platform.now(), &openid, "kf_close_session", more);
    Ok(ok())
}

fn session(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let openid = call.need("openid", 41009)?;
    platform.fan(openid)?;
    let (kf_account, created_at) = platform.agents.session(openid).unwrap_or(("", 0));
    Ok(json!({"createtime": created_at, "kf_account": kf_account}).into())
}

fn sessions(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let kf_account = call.need("kf_account", 65401)?;
    platform.agents.find(kf_account)?;
    let list: Vec<_> = platform
        .agents
        .served_by(kf_account)
        .map(|(openid, at)| json!({"createtime": at, "openid": openid}))
        .collect();
    Ok(json!({"sessionlist": list}).into())
}

fn waiting(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Ok(platform.agents.waiting_json().into())
}

fn record(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let number = |name: &str| body.number(name).ok_or(65416);
    let (start, end) = (number("starttime")?, number("endtime")?);
    let from = u64::try_from(number("msgid")?).map_err(|_| 65416)?;
    let most = Some(number("number")?).filter(|number| (1..=LINES).contains(number));
    let most = most
        .and_then(|most| usize::try_from(most).ok())
        .ok_or(65416)?;
    if end < start {
        return Err(65416.into());
    }
    if end - start > SPAN {
        return Err(65417.into());
    }
    Ok(platform.agents.record_json((start, end), from, most).into())
}
