//! Tickets for the JS-SDK and for cards: `/cgi-bin/ticket/getticket`.

use serde_json::json;

use super::{Answer, Call, Endpoint, Refusal, get};
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[get(
    "/cgi-bin/ticket/getticket",
    "获取 jsapi_ticket / api_ticket: the same one while it lives",
    &["type"],
    ticket,
)
.errors(&[40097])];

fn ticket(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let kind = match call.query.get("type") {
        Some("jsapi") => "jsapi",
        Some("wx_card") => "wx_card",
        _ => return Err(40097.into()),
    };
    let now = platform.now();
    let given = platform.tokens.ticket(kind, &mut platform.mint, now);
    Ok(json!({
        "errcode": 0,
        "errmsg": "ok",
        "ticket": given.value,
        "expires_in": given.expires_in,
    })
    .into())
}
