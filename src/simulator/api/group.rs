//! Groups, which tags took the place of in 2016 ("WeChat: 用户分组管理"). Older clients still call them: a
//! group is a tag, and a fan is in the group of the first tag that he carries.

use serde_json::{Value, json};

use super::tag::{TAGGED, people, person};
use super::{Answer, Call, Endpoint, Members, Refusal, get, ok, post};
use crate::simulator::fans::Fan;
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/groups/create",
        "创建分组: of before 2016, makes a tag",
        &["group"],
        create,
    )
    .errors(&[40051, 45056])
    .daily(1000, 100),
    get(
        "/cgi-bin/groups/get",
        "查询所有分组: the tags, 未分组 and 黑名单",
        &[],
        list,
    )
    .daily(1000, 100),
    post(
        "/cgi-bin/groups/getid",
        "查询用户所在分组: the first tag of a follower",
        &["openid"],
        of_fan,
    )
    .errors(&[40003, 49003]),
    post("/cgi-bin/groups/update", "修改分组名", &["group"], update)
        .errors(&[40050, 40051])
        .daily(1000, 100),
    post(
        "/cgi-bin/groups/members/update",
        "移动用户分组: 0 is none",
        &["openid", "to_groupid"],
        move_one,
    )
    .errors(&[40003, 40050, 49003])
    .daily(100_000, 1000),
    post(
        "/cgi-bin/groups/members/batchupdate",
        "批量移动用户分组: up to 50 followers",
        &["openid_list", "to_groupid"],
        move_many,
    )
    .errors(&[40003, 40032, 40050, 49003])
    .daily(100_000, 1000),
    post(
        "/cgi-bin/groups/delete",
        "删除分组: its followers are in none then",
        &["group"],
        delete,
    )
    .errors(&[40050])
    .daily(1000, 100),
];

/// No group.
const NONE: u64 = 0;
/// The group of who is blocked.
const BLOCKED: u64 = 1;

/// The group that a fan is in.
pub(super) fn group_of(fan: &Fan) -> u64 {
    match fan.blacklisted {
        true => BLOCKED,
        false => fan.tags.first().copied().unwrap_or(NONE),
    }
}

/// The member `group` of a body.
fn wanted(call: &Call) -> Result<Members, Refusal> {
    Ok(call.json()?.object("group").unwrap_or_default())
}

/// A group's id: what is none names no group.
fn id(members: &Members, name: &str) -> Result<u64, Refusal> {
    let id = members.number(name).and_then(|id| u64::try_from(id).ok());
    id.ok_or(40050.into())
}

/// A tag's refusal in the words of groups.
fn in_words_of_groups(errcode: i64) -> Refusal {
    match errcode {
        40035 | 45157 | 45158 => 40051.into(),
        45058 | 45159 => 40050.into(),
        other => other.into(),
    }
}

fn create(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let group = wanted(call)?;
    let tag = platform.tags.create(group.text("name").unwrap_or(""));
    let tag = tag.map_err(in_words_of_groups)?;
    Ok(json!({"group": {"id": tag.id, "name": tag.name}}).into())
}

fn list(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let count = |group| {
        let followers = platform.fans.followers();
        followers.filter(|fan| group_of(fan) == group).count()
    };
    let one = |id: u64, name: &str| json!({"id": id, "name": name, "count": count(id)});
    let tags = platform.tags.iter().map(|tag| one(tag.id, &tag.name));
    let groups: Vec<Value> = [one(NONE, "未分组"), one(BLOCKED, "黑名单")]
        .into_iter()
        .chain(tags)
        .collect();
    Ok(json!({"groups": groups}).into())
}

fn of_fan(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let openid = body.need("openid", 40003)?;
    person(platform, openid)?;
    Ok(json!({"groupid": group_of(platform.fan(openid)?)}).into())
}

fn update(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let group = wanted(call)?;
    let name = group.text("name").unwrap_or("");
    let renamed = platform.tags.rename(id(&group, "id")?, name);
    renamed.map_err(in_words_of_groups)?;
    Ok(ok())
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let group = id(&wanted(call)?, "id")?;
    let deleted = platform.tags.delete(group);
    deleted.map_err(in_words_of_groups)?;
    for fan in platform.fans.iter_mut() {
        fan.tags.retain(|carried| *carried != group);
    }
    Ok(ok())
}

fn move_one(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let openid = body.need("openid", 40003)?;
    person(platform, openid)?;
    move_to(platform, &body, &[openid.to_owned()])
}

fn move_many(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let openids = people(platform, &body, TAGGED)?;
    move_to(platform, &body, &openids)
}

/// Moves followers into the group that a body names: out of the one they are in, their other tags stay.
fn move_to(platform: &mut Platform, body: &Members, openids: &[String]) -> Result<Answer, Refusal> {
    let group = id(body, "to_groupid")?;
    if group > BLOCKED && !platform.tags.has(group) {
        return Err(40050.into());
    }
    for openid in openids {
        let fan = platform.fan(openid)?;
        fan.blacklisted = group == BLOCKED;
        if group == BLOCKED {
            continue;
        }
        let former = group_of(fan);
        fan.tags.retain(|tag| *tag != former && *tag != group);
        if group != NONE {
            fan.tags.insert(0, group);
        }
    }
    Ok(ok())
}
