//! Quotas, the log of calls by `rid`, and the console's own replies.

use serde_json::{Value, json};

use super::token::check_secret;
use super::{Answer, Call, Endpoint, Refusal, endpoints, get, ok, ok_with, post};
use crate::simulator::account::{Kind, Right};
use crate::simulator::clock::Seconds;
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/clear_quota",
        "重置API调用次数: all calls; 10 times a month",
        &["appid"],
        clear,
    )
    .errors(&[40013, 41002, 48006])
    .right(Right::Basic),
    post(
        "/cgi-bin/clear_quota/v2",
        "使用AppSecret重置API调用次数: where tokens are used up too",
        &["appid", "appsecret"],
        clear_by_secret,
    )
    .errors(&[40013, 40125, 41002, 41004, 48006])
    .without_token()
    .right(Right::Basic),
    post(
        "/cgi-bin/openapi/quota/clear",
        "重置指定API调用次数: one call; of the same 10 a month",
        &["cgi_path"],
        clear_one,
    )
    .errors(&[48006, 76021])
    .right(Right::Basic),
    post(
        "/cgi-bin/openapi/quota/get",
        "查询API调用额度",
        &["cgi_path"],
        read,
    )
    .errors(&[76021])
    .right(Right::Basic),
    post(
        "/cgi-bin/openapi/rid/get",
        "查询rid信息: the call behind a refusal of the last 7 days",
        &["rid"],
        by_rid,
    )
    .errors(&[76001, 76002, 76004])
    .right(Right::Basic),
    get(
        "/cgi-bin/get_current_autoreply_info",
        "获取公众号的自动回复规则: the console's, all off here",
        &[],
        auto_replies,
    ),
];

/// How long a call is known by its `rid`.
const KNOWN_FOR: Seconds = 7 * 24 * 3600;

/// One of the ten clears of a month.
fn take_clear(platform: &mut Platform) -> Result<(), Refusal> {
    let now = platform.now();
    if !platform.quotas.take_clear(now) && platform.is_strict() {
        return Err(48006.into());
    }
    Ok(())
}

fn clear(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    if body.need("appid", 41002)? != platform.account.appid.as_str() {
        return Err(40013.into());
    }
    take_clear(platform)?;
    platform.quotas.clear();
    Ok(ok())
}

fn clear_by_secret(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json_or_nothing()?;
    let member = |name: &str| body.text(name).or(call.query.get(name));
    check_secret(platform, member("appid"), member("appsecret"))?;
    take_clear(platform)?;
    platform.quotas.clear();
    Ok(ok())
}

/// The call that `cgi_path` names.
fn named(call: &Call) -> Result<&'static Endpoint, Refusal> {
    let body = call.json()?;
    let path = body.need("cgi_path", 76021)?;
    let found = endpoints().find(|endpoint| endpoint.path == path);
    found.ok_or(76021.into())
}

fn clear_one(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let endpoint = named(call)?;
    take_clear(platform)?;
    platform.quotas.clear_one(endpoint.path);
    Ok(ok())
}

fn read(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let endpoint = named(call)?;
    let limit = endpoint.daily.map(|daily| match platform.account.kind {
        Kind::Sandbox => daily.sandbox,
        Kind::Service | Kind::Subscription | Kind::Unverified => daily.account,
    });
    let used = platform.quotas.used(endpoint.path, platform.now());
    let limit = limit.unwrap_or(0);
    let no_rate = json!({"call_count": 0, "refresh_second": 0});
    Ok(ok_with(json!({
        "quota": {
            "daily_limit": limit,
            "used": used,
            "remain": limit.saturating_sub(used),
        },
        "rate_limit": no_rate,
        "component_rate_limit": no_rate,
    })))
}

fn by_rid(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let rid = body.need("rid", 76002)?;
    let groups: Vec<_> = rid.split('-').collect();
    let is_hex8 = |group: &&str| group.len() == 8 && u32::from_str_radix(group, 16).is_ok();
    if groups.len() != 3 || !groups.iter().all(is_hex8) {
        return Err(76002.into());
    }
    let at = i64::from_str_radix(groups[0], 16).map_err(|_| 76002)?;
    if at + KNOWN_FOR <= platform.now() {
        return Err(76004.into());
    }
    let found = platform
        .requests
        .iter()
        .find(|request| request["rid"] == rid);
    let request = found.ok_or(76001)?;
    let path = request["path"].as_str().unwrap_or_default();
    let mut url = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in request["query"].as_object().into_iter().flatten() {
        // Tokens are told to nobody a second time.
        let value = match name.as_str() {
            "access_token" | "secret" => "***",
            _ => value.as_str().unwrap_or_default(),
        };
        url.append_pair(name, value);
    }
    Ok(ok_with(json!({"request": {
        "invoke_time": request["invoke_time"],
        "cost_in_ms": request["ms"],
        "request_url": format!("{path}?{}", url.finish()),
        "request_body": request["request_body"],
        "response_body": request["response_body"],
        "client_ip": request["client"],
    }})))
}

fn auto_replies(_: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Ok(json!({
        "is_add_friend_reply_open": 0,
        "is_autoreply_open": 0,
        "keyword_autoreply_info": {"list": Value::Array(Vec::new())},
    })
    .into())
}
