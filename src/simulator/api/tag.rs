//! Tags and the blacklist ("WeChat: 标签管理", "黑名单管理").

use serde_json::json;

use super::user::page;
use super::{Answer, Call, Endpoint, Members, Refusal, get, ok, post};
use crate::simulator::platform::Platform;
use crate::wechat::id::OpenId;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/tags/create",
        "创建标签: up to 100, of up to 30 letters",
        &["tag"],
        create,
    )
    .errors(&[40035, 45056, 45157, 45158])
    .daily(1000, 100),
    get(
        "/cgi-bin/tags/get",
        "获取标签: all, with how many followers carry each",
        &[],
        list,
    )
    .daily(1000, 100),
    post("/cgi-bin/tags/update", "编辑标签", &["tag"], update)
        .errors(&[40035, 45058, 45157, 45158, 45159])
        .daily(1000, 100),
    post(
        "/cgi-bin/tags/delete",
        "删除标签: one that up to 100 000 followers carry",
        &["tag"],
        delete,
    )
    .errors(&[45057, 45058, 45159])
    .daily(1000, 100),
    post(
        "/cgi-bin/user/tag/get",
        "获取标签下粉丝列表: 10 000 a page",
        &["tagid", "next_openid?"],
        members,
    )
    .errors(&[40003, 45159]),
    post(
        "/cgi-bin/tags/members/batchtagging",
        "批量为用户打标签: up to 50 followers, each with up to 20 tags",
        &["openid_list", "tagid"],
        tagging,
    )
    .errors(&[40003, 40032, 45059, 45159, 49003])
    .daily(100_000, 1000),
    post(
        "/cgi-bin/tags/members/batchuntagging",
        "批量为用户取消标签",
        &["openid_list", "tagid"],
        untagging,
    )
    .errors(&[40003, 40032, 45159, 49003])
    .daily(100_000, 1000),
    post(
        "/cgi-bin/tags/getidlist",
        "获取用户身上的标签列表",
        &["openid"],
        of_fan,
    )
    .errors(&[40003, 49003]),
    post(
        "/cgi-bin/tags/members/getblacklist",
        "获取公众号的黑名单列表: 10 000 a page",
        &["begin_openid?"],
        blacklist,
    )
    .errors(&[40003]),
    post(
        "/cgi-bin/tags/members/batchblacklist",
        "拉黑用户: up to 20",
        &["openid_list"],
        block,
    )
    .errors(&[40003, 40032, 49003]),
    post(
        "/cgi-bin/tags/members/batchunblacklist",
        "取消拉黑用户: up to 20",
        &["openid_list"],
        unblock,
    )
    .errors(&[40003, 40032, 49003]),
];

/// Followers in one tagging.
pub(super) const TAGGED: usize = 50;
/// Tags of one follower.
const TAGS: usize = 20;
/// People in one change of the blacklist.
const BLOCKED: usize = 20;
/// A tag that more carry cannot be deleted.
const DELETABLE: usize = 100_000;

fn create(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let tag = wanted(call)?;
    let tag = platform.tags.create(tag.text("name").unwrap_or(""))?;
    Ok(json!({"tag": {"id": tag.id, "name": tag.name}}).into())
}

fn list(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let one = |tag: &crate::simulator::tags::Tag| {
        let count = carriers(platform, tag.id).count();
        json!({"id": tag.id, "name": tag.name, "count": count})
    };
    let tags: Vec<_> = platform.tags.iter().map(one).collect();
    Ok(json!({"tags": tags}).into())
}

fn update(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let tag = wanted(call)?;
    let name = tag.text("name").unwrap_or("");
    platform.tags.rename(id(&tag, "id")?, name)?;
    Ok(ok())
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let tag = id(&wanted(call)?, "id")?;
    if carriers(platform, tag).count() > DELETABLE {
        return Err(45057.into());
    }
    platform.tags.delete(tag)?;
    for fan in platform.fans.iter_mut() {
        fan.tags.retain(|carried| *carried != tag);
    }
    Ok(ok())
}

/// The member `tag` of a body.
fn wanted(call: &Call) -> Result<Members, Refusal> {
    Ok(call.json()?.object("tag").unwrap_or_default())
}

/// A tag's id; what is none belongs to no tag.
fn id(members: &Members, name: &str) -> Result<u64, Refusal> {
    let id = members.number(name).and_then(|id| u64::try_from(id).ok());
    id.ok_or(45159.into())
}

fn carriers(platform: &Platform, tag: u64) -> impl Iterator<Item = &OpenId> {
    let followers = platform.fans.followers();
    followers
        .filter(move |fan| fan.tags.contains(&tag))
        .map(|fan| &fan.openid)
}

fn members(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let tag = known(platform, &body)?;
    Ok(page(carriers(platform, tag), body.text("next_openid"))?.into())
}

/// The `tagid` of a body, if there is such a tag.
fn known(platform: &Platform, body: &Members) -> Result<u64, Refusal> {
    let tag = id(body, "tagid")?;
    if !platform.tags.has(tag) {
        return Err(45159.into());
    }
    Ok(tag)
}

fn tagging(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let tag = known(platform, &body)?;
    let openids = people(platform, &body, TAGGED)?;
    for openid in &openids {
        let fan = platform.fan(openid)?;
        if !fan.tags.contains(&tag) && fan.tags.len() >= TAGS {
            return Err(45059.into());
        }
    }
    for openid in &openids {
        let fan = platform.fan(openid)?;
        if !fan.tags.contains(&tag) {
            fan.tags.push(tag);
        }
    }
    Ok(ok())
}

fn untagging(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let tag = known(platform, &body)?;
    for openid in people(platform, &body, TAGGED)? {
        platform
            .fan(&openid)?
            .tags
            .retain(|carried| *carried != tag);
    }
    Ok(ok())
}

/// The `openid_list` of a body: up to `most`, each a follower.
pub(super) fn people(
    platform: &mut Platform,
    body: &Members,
    most: usize,
) -> Result<Vec<String>, Refusal> {
    let openids = body.texts("openid_list").unwrap_or_default();
    if !(1..=most).contains(&openids.len()) {
        return Err(40032.into());
    }
    for openid in &openids {
        person(platform, openid)?;
    }
    Ok(openids)
}

/// 40003 for what is no openid or does not follow, 49003 for one of another account.
pub(super) fn person(platform: &mut Platform, openid: &str) -> Result<(), Refusal> {
    if openid.len() != 28 && platform.fans.get(openid).is_none() {
        return Err(40003.into());
    }
    match platform.fans.get(openid) {
        None => Err(49003.into()),
        Some(fan) if !fan.subscribed => Err(40003.into()),
        Some(_) => Ok(()),
    }
}

fn of_fan(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let openid = body.need("openid", 40003)?;
    person(platform, openid)?;
    Ok(json!({"tagid_list": platform.fan(openid)?.tags}).into())
}

fn blacklist(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json_or_nothing()?;
    let blocked = || {
        let blocked = platform.fans.iter().filter(|fan| fan.blacklisted);
        blocked.map(|fan| &fan.openid)
    };
    let mut page = page(blocked(), body.text("begin_openid"))?;
    page["total"] = json!(blocked().count());
    Ok(page.into())
}

fn block(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    set_blacklisted(platform, call, true)
}

fn unblock(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    set_blacklisted(platform, call, false)
}

fn set_blacklisted(
    platform: &mut Platform,
    call: &Call,
    blacklisted: bool,
) -> Result<Answer, Refusal> {
    for openid in people(platform, &call.json()?, BLOCKED)? {
        platform.fan(&openid)?.blacklisted = blacklisted;
    }
    Ok(ok())
}
