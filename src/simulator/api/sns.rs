//! Web OAuth behind the scenes: `/sns/oauth2/access_token`, `refresh_token`, `/sns/userinfo`, `/sns/auth`.

use serde_json::json;

use super::token::check_secret;
use super::{Answer, Call, Endpoint, Refusal, get, ok};
use crate::simulator::account::Right;
use crate::simulator::grants::{Grant, Pair, Scope};
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get(
        "/sns/oauth2/access_token",
        "通过 code 换取网页授权 access_token: a code is good once, for 300 s",
        &["appid", "secret", "code", "grant_type"],
        access_token,
    )
    .errors(&[40002, 40013, 40029, 40125, 40163, 41002, 41004, 41008])
    .without_token()
    .right(Right::WebAuthorization),
    get(
        "/sns/oauth2/refresh_token",
        "刷新网页授权 access_token: for 30 days",
        &["appid", "grant_type", "refresh_token"],
        refresh_token,
    )
    .errors(&[40002, 40013, 40030, 41002, 41003, 42002])
    .without_token()
    .right(Right::WebAuthorization),
    get(
        "/sns/userinfo",
        "拉取用户信息: the profile, after snsapi_userinfo",
        &["access_token", "openid", "lang?"],
        userinfo,
    )
    .errors(&[40003, 41009])
    .without_token()
    .right(Right::WebAuthorization),
    get(
        "/sns/auth",
        "检验授权凭证: whether a web token is good for an openid",
        &["access_token", "openid"],
        auth,
    )
    .errors(&[40003, 41009])
    .without_token()
    .right(Right::WebAuthorization),
];

fn access_token(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    check_secret(platform, call.query.get("appid"), call.query.get("secret"))?;
    let code = call.need("code", 41008)?;
    if call.query.get("grant_type") != Some("authorization_code") {
        return Err(40002.into());
    }
    let now = platform.now();
    let pair = platform.grants.exchange(code, &mut platform.mint, now)?;
    Ok(tokens(&pair))
}

fn refresh_token(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    if call.need("appid", 41002)? != platform.account.appid.as_str() {
        return Err(40013.into());
    }
    if call.query.get("grant_type") != Some("refresh_token") {
        return Err(40002.into());
    }
    let token = call.need("refresh_token", 41003)?;
    let now = platform.now();
    let pair = platform.grants.renew(token, &mut platform.mint, now)?;
    Ok(tokens(&pair))
}

fn userinfo(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let grant = granted(platform, call)?;
    if grant.scope == Scope::Base || grant.snapshot {
        return Err(48001.into());
    }
    let fan = platform.fans.get(grant.openid.as_str()).ok_or(40003)?;
    let mut profile = json!({
        "openid": fan.openid,
        "nickname": fan.nickname,
        "sex": 0,
        "language": "",
        "city": "",
        "province": "",
        "country": "",
        "headimgurl": fan.headimgurl,
        "privilege": [],
    });
    if let Some(unionid) = &fan.unionid {
        profile["unionid"] = json!(unionid);
    }
    Ok(profile.into())
}

fn auth(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    granted(platform, call)?;
    Ok(ok())
}

/// The grant behind `access_token`, if it is for `openid`.
fn granted<'a>(platform: &'a Platform, call: &Call) -> Result<&'a Grant, Refusal> {
    let token = call.need("access_token", 41001)?;
    let grant = platform.grants.check(token, platform.now())?;
    if call.need("openid", 41009)? != grant.openid.as_str() {
        return Err(40003.into());
    }
    Ok(grant)
}

fn tokens(pair: &Pair) -> Answer {
    let mut answer = json!({
        "access_token": pair.access_token,
        "expires_in": pair.expires_in,
        "refresh_token": pair.refresh_token,
        "openid": pair.grant.openid,
        "scope": pair.grant.scope.as_str(),
    });
    if pair.grant.snapshot {
        answer["is_snapshotuser"] = json!(1);
    }
    if let (Scope::UserInfo, Some(unionid)) = (pair.grant.scope, &pair.grant.unionid) {
        answer["unionid"] = json!(unionid);
    }
    answer.into()
}
