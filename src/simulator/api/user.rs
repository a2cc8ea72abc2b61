//! Followers: `/cgi-bin/user/get`, `user/info`, remarks, and the move from another account.

use serde_json::{Value, json};

use super::group::group_of;
use super::{Answer, Call, Endpoint, Members, Refusal, get, ok, ok_with, post};
use crate::simulator::account::Right;
use crate::simulator::fans::Fan;
use crate::simulator::platform::Platform;
use crate::simulator::qrcodes::Scene;
use crate::wechat::id::{AppId, OpenId};

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get(
        "/cgi-bin/user/get",
        "获取用户列表: openids of followers, 10 000 a page",
        &["next_openid?"],
        list,
    )
    .errors(&[40003])
    .daily(500, 100),
    get(
        "/cgi-bin/user/info",
        "获取用户基本信息: one follower, without name and picture since 2021",
        &["openid", "lang?"],
        info,
    )
    .errors(&[40003, 41009])
    .daily(5_000_000, 500_000),
    post(
        "/cgi-bin/user/info/batchget",
        "批量获取用户基本信息: up to 100 people",
        &["user_list"],
        batchget,
    )
    .errors(&[40003, 40032])
    .daily(5_000_000, 500_000),
    post(
        "/cgi-bin/user/info/updateremark",
        "设置用户备注名: less than 30 letters",
        &["openid", "remark"],
        remark,
    )
    .errors(&[40003, 40035])
    .right(Right::ServiceAccount)
    .daily(10_000, 10_000),
    post(
        "/cgi-bin/changeopenid",
        "转换openid: of up to 100 followers who moved here with another account",
        &["from_appid", "openid_list"],
        change_openid,
    )
    .errors(&[40013, 40032]),
];

/// Openids on one page.
pub(super) const PAGE: usize = 10_000;
/// People in one call.
const BATCH: usize = 100;
/// A remark has fewer letters.
const REMARK: usize = 30;

fn list(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let followers = platform.fans.followers().map(|fan| &fan.openid);
    let mut page = page(followers, call.query.get("next_openid"))?;
    page["total"] = json!(platform.fans.followers().count());
    Ok(page.into())
}

/// `count`, `data` and `next_openid` of the page after `last`; without `data` where it is empty.
///
/// # Errors
///
/// 40003 for a `last` that is not in the list.
pub(super) fn page<'a>(
    openids: impl Iterator<Item = &'a OpenId>,
    last: Option<&str>,
) -> Result<Value, Refusal> {
    let openids: Vec<_> = openids.collect();
    let start = match last {
        None => 0,
        Some(last) => {
            let place = openids.iter().position(|openid| openid.as_str() == last);
            place.ok_or(40003)? + 1
        }
    };
    let page: Vec<_> = openids.iter().skip(start).take(PAGE).collect();
    let mut answer = json!({
        "count": page.len(),
        "next_openid": page.last().map_or("", |openid| openid.as_str()),
    });
    if !page.is_empty() {
        answer["data"] = json!({"openid": page});
    }
    Ok(answer)
}

fn info(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let openid = call.need("openid", 41009)?;
    Ok(profile(platform.fan(openid)?).into())
}

fn batchget(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let list = body.list("user_list");
    let list = list
        .filter(|list| (1..=BATCH).contains(&list.len()))
        .ok_or(40032)?;
    let profiles: Result<Vec<_>, Refusal> = list
        .iter()
        .map(|user| {
            let openid = Members::of(user).need("openid", 40003)?.to_owned();
            Ok(profile(platform.fan(&openid)?))
        })
        .collect();
    Ok(json!({"user_info_list": profiles?}).into())
}

/// What the account may know of a person; next to nothing unless he follows.
fn profile(fan: &Fan) -> Value {
    let mut profile = if fan.subscribed {
        json!({
            "subscribe": 1,
            "openid": fan.openid,
            "nickname": "",
            "sex": 0,
            "language": "zh_CN",
            "city": "",
            "province": "",
            "country": "",
            "headimgurl": "",
            "subscribe_time": fan.subscribe_time,
            "remark": fan.remark,
            "groupid": group_of(fan),
            "tagid_list": fan.tags,
            "subscribe_scene": fan.subscribe_scene,
            "qr_scene": Scene::number(fan.scene.as_ref()),
            "qr_scene_str": Scene::text(fan.scene.as_ref()),
        })
    } else {
        json!({"subscribe": 0, "openid": fan.openid})
    };
    if let Some(unionid) = &fan.unionid {
        profile["unionid"] = json!(unionid);
    }
    profile
}

fn remark(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let fan = platform.fan(body.need("openid", 40003)?)?;
    let remark = body.get("remark").and_then(Value::as_str).ok_or(40035)?;
    if remark.chars().count() >= REMARK {
        return Err(40035.into());
    }
    remark.clone_into(&mut fan.remark);
    Ok(ok())
}

fn change_openid(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let from = body.need("from_appid", 40013)?;
    if AppId::parse(from).is_err() || from == platform.account.appid.as_str() {
        return Err(40013.into());
    }
    let list = body.texts("openid_list").unwrap_or_default();
    if !(1..=BATCH).contains(&list.len()) {
        return Err(40032.into());
    }
    let results: Vec<_> = list
        .iter()
        .map(|former| {
            let moved = |fan: &&Fan| fan.former_openid.as_ref() == Some(former);
            match platform.fans.iter().find(moved) {
                Some(fan) => {
                    json!({"ori_openid": former, "new_openid": fan.openid, "err_msg": "ok"})
                }
                None => json!({"ori_openid": former, "err_msg": "ori_openid error"}),
            }
        })
        .collect();
    Ok(ok_with(json!({"result_list": results})))
}
