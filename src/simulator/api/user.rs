//! Followers: `/cgi-bin/user/get`, `user/info`, `user/info/batchget`.

use serde_json::{Value, json};

use super::{Access, Answer, Call, Daily, Endpoint, Refusal, Verb};
use crate::simulator::account::Right;
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: Verb::Get,
        path: "/cgi-bin/user/get",
        summary: "获取用户列表: openids of followers, 10 000 a page",
        errors: &[40003],
        access: Access::Token,
        right: Right::Service,
        daily: Some(Daily {
            account: 500,
            sandbox: 100,
        }),
        handler: get,
    },
    Endpoint {
        method: Verb::Get,
        path: "/cgi-bin/user/info",
        summary: "获取用户基本信息: one follower, without name and picture since 2021",
        errors: &[40003, 41009],
        access: Access::Token,
        right: Right::Service,
        daily: Some(Daily {
            account: 5_000_000,
            sandbox: 500_000,
        }),
        handler: info,
    },
    Endpoint {
        method: Verb::Post,
        path: "/cgi-bin/user/info/batchget",
        summary: "批量获取用户基本信息: up to 100 people",
        errors: &[40003, 40032],
        access: Access::Token,
        right: Right::Service,
        daily: Some(Daily {
            account: 5_000_000,
            sandbox: 500_000,
        }),
        handler: batchget,
    },
];

/// Openids on one page of `user/get`.
const PAGE: usize = 10_000;
/// People in one `batchget`.
const BATCH: usize = 100;

fn get(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let followers: Vec<_> = platform.fans.followers().map(|fan| &fan.openid).collect();
    let start = match call.query.get("next_openid") {
        None => 0,
        Some(last) => {
            let place = followers.iter().position(|openid| openid.as_str() == last);
            place.ok_or(40003)? + 1
        }
    };
    let page: Vec<_> = followers.iter().skip(start).take(PAGE).collect();
    let mut answer = json!({
        "total": followers.len(),
        "count": page.len(),
        "next_openid": page.last().map_or("", |openid| openid.as_str()),
    });
    if !page.is_empty() {
        answer["data"] = json!({"openid": page});
    }
    Ok(answer.into())
}

fn info(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let openid = call.need("openid", 41009)?;
    Ok(profile(platform, openid)?.into())
}

fn batchget(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let list = body.get("user_list").and_then(Value::as_array);
    let list = list
        .filter(|list| (1..=BATCH).contains(&list.len()))
        .ok_or(40032)?;
    let profiles: Result<Vec<_>, Refusal> = list
        .iter()
        .map(|user| profile(platform, user["openid"].as_str().ok_or(40003)?))
        .collect();
    Ok(json!({"user_info_list": profiles?}).into())
}

/// What the account may know of a person; next to nothing unless he follows.
fn profile(platform: &Platform, openid: &str) -> Result<Value, Refusal> {
    let fan = platform.fans.get(openid).ok_or(40003)?;
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
            "groupid": 0,
            "tagid_list": [],
            "subscribe_scene": fan.subscribe_scene,
            "qr_scene": 0,
            "qr_scene_str": "",
        })
    } else {
        json!({"subscribe": 0, "openid": fan.openid})
    };
    if let Some(unionid) = &fan.unionid {
        profile["unionid"] = json!(unionid);
    }
    Ok(profile)
}
