//! The addresses of both sides: `getcallbackip`, `get_api_domain_ip`, `callback/check`.

use serde_json::json;

use super::{Answer, Call, Endpoint, Refusal, get, post};
use crate::simulator::account::Right;
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get(
        "/cgi-bin/getcallbackip",
        "获取微信推送服务器IP: where pushes come from",
        &[],
        addresses,
    )
    .right(Right::Basic),
    get(
        "/cgi-bin/get_api_domain_ip",
        "获取微信API服务器IP: where the API is",
        &[],
        addresses,
    )
    .right(Right::Basic),
    post(
        "/cgi-bin/callback/check",
        "网络通信检测: how the platform reaches the callback",
        &["action", "check_operator?"],
        check,
    )
    .errors(&[40201, 40202, 40203])
    .right(Right::Basic),
];

/// Both sides of this platform are one machine.
fn addresses(_: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Ok(json!({"ip_list": ["127.0.0.1"]}).into())
}

fn check(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let member = |name: &str| body.text(name);
    if platform.account.callback_url.is_none() {
        return Err(40201.into());
    }
    let (dns, ping) = match member("action") {
        Some("all") => (true, true),
        Some("dns") => (true, false),
        Some("ping") => (false, true),
        _ => return Err(40202.into()),
    };
    let operator = match member("check_operator") {
        None => "DEFAULT",
        Some(operator @ ("DEFAULT" | "CHINANET" | "UNICOM" | "CAP")) => operator,
        Some(_) => return Err(40203.into()),
    };
    let mut answer = json!({});
    if dns {
        answer["dns"] = json!([{"ip": "127.0.0.1", "real_operator": operator}]);
    }
    if ping {
        answer["ping"] = json!([{
            "ip": "127.0.0.1",
            "from_operator": operator,
            "package_loss": "0%",
            "time": "0.079ms",
        }]);
    }
    Ok(answer.into())
}
