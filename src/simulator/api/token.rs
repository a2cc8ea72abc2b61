//! Tokens of the account: `/cgi-bin/token`, `/cgi-bin/stable_token`.

use serde_json::json;

use super::{Access, Answer, Call, Daily, Endpoint, Refusal, Verb};
use crate::simulator::account::Right;
use crate::simulator::platform::Platform;
use crate::simulator::tokens::Given;

/// Codes of both calls: `grant_type`, appid and secret, missing or wrong.
const ERRORS: &[i64] = &[40002, 40013, 40125, 41002, 41004];

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: Verb::Get,
        path: "/cgi-bin/token",
        summary: "获取 Access token: a new one each time, the one before lives 300 s more",
        errors: ERRORS,
        access: Access::Own,
        right: Right::Basic,
        daily: Some(Daily {
            account: 2000,
            sandbox: 200,
        }),
        handler: classic,
    },
    Endpoint {
        method: Verb::Post,
        path: "/cgi-bin/stable_token",
        summary: "获取稳定版接口调用凭据: the same one until 300 s before its end",
        errors: ERRORS,
        access: Access::Own,
        right: Right::Basic,
        daily: Some(Daily {
            account: 500_000,
            sandbox: 500_000,
        }),
        handler: stable,
    },
];

/// Forced refreshes a day.
const FORCED_A_DAY: u64 = 20;

fn classic(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    check_credentials(
        platform,
        call.query.get("grant_type"),
        call.query.get("appid"),
        call.query.get("secret"),
    )?;
    let now = platform.now();
    Ok(answer(platform.tokens.classic(&mut platform.mint, now)))
}

fn stable(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let member = |name: &str| body.get(name).and_then(|value| value.as_str());
    check_credentials(
        platform,
        member("grant_type"),
        member("appid"),
        member("secret"),
    )?;
    let now = platform.now();
    let force = body.get("force_refresh").and_then(|value| value.as_bool());
    let given = if force == Some(true) && platform.tokens.may_force(now) {
        platform.count("/cgi-bin/stable_token force_refresh", FORCED_A_DAY)?;
        platform.tokens.force(&mut platform.mint, now)
    } else {
        platform.tokens.stable(&mut platform.mint, now)
    };
    Ok(answer(given))
}

/// Who calls with the account's secret: grant type, then appid, then secret.
fn check_credentials(
    platform: &Platform,
    grant_type: Option<&str>,
    appid: Option<&str>,
    secret: Option<&str>,
) -> Result<(), Refusal> {
    if grant_type != Some("client_credential") {
        return Err(40002.into());
    }
    check_secret(platform, appid, secret)
}

/// The account's appid and secret, as the web's code exchange shows them too.
pub(super) fn check_secret(
    platform: &Platform,
    appid: Option<&str>,
    secret: Option<&str>,
) -> Result<(), Refusal> {
    let appid = appid.filter(|text| !text.is_empty()).ok_or(41002)?;
    let secret = secret.filter(|text| !text.is_empty()).ok_or(41004)?;
    if appid != platform.account.appid.as_str() {
        return Err(40013.into());
    }
    if secret != platform.account.appsecret.expose() {
        return Err(40125.into());
    }
    Ok(())
}

fn answer(given: Given) -> Answer {
    json!({"access_token": given.value, "expires_in": given.expires_in}).into()
}
