//! Tokens of the account: `/cgi-bin/token`, `/cgi-bin/stable_token`.

use std::net::IpAddr;

use serde_json::json;

use super::{Answer, Call, Endpoint, Refusal, get, post};
use crate::simulator::account::{Kind, Right};
use crate::simulator::platform::Platform;
use crate::simulator::tokens::Given;

/// Codes of both calls: `grant_type`, appid and secret, missing or wrong.
const ERRORS: &[i64] = &[40002, 40013, 40125, 40164, 41002, 41004];

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get(
        "/cgi-bin/token",
        "获取 Access token: a new one each time, the one before lives 300 s more",
        &["grant_type", "appid", "secret"],
        classic,
    )
    .errors(ERRORS)
    .without_token()
    .right(Right::Basic)
    .daily(2000, 200),
    post(
        "/cgi-bin/stable_token",
        "获取稳定版接口调用凭据: the same one until 300 s before its end",
        &["grant_type", "appid", "secret", "force_refresh?"],
        stable,
    )
    .errors(ERRORS)
    .without_token()
    .right(Right::Basic)
    .daily(500_000, 500_000),
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
    check_address(platform, call.client)?;
    let now = platform.now();
    Ok(answer(platform.tokens.classic(&mut platform.mint, now)))
}

fn stable(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let member = |name: &str| body.text(name);
    check_credentials(
        platform,
        member("grant_type"),
        member("appid"),
        member("secret"),
    )?;
    check_address(platform, call.client)?;
    let now = platform.now();
    let given = if body.is_set("force_refresh") && platform.tokens.may_force(now) {
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

/// IP白名单: from where tokens may be asked for. The sandbox account has none.
fn check_address(platform: &Platform, client: IpAddr) -> Result<(), Refusal> {
    let whitelist = &platform.account.ip_whitelist;
    let is_listed = |entry: &String| entry.parse() == Ok(client);
    if platform.account.kind == Kind::Sandbox
        || whitelist.is_empty()
        || whitelist.iter().any(is_listed)
    {
        return Ok(());
    }
    let mapped = match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let words = format!("invalid ip {client} ipv6 {mapped}, not in whitelist");
    Err(Refusal::saying(40164, words))
}

fn answer(given: Given) -> Answer {
    json!({"access_token": given.value, "expires_in": given.expires_in}).into()
}
