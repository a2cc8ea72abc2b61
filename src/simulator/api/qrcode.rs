//! Codes with a scene, their picture, and short keys.

use serde_json::json;

use super::{Answer, Call, Endpoint, File, Members, Refusal, get, ok_with, post};
use crate::simulator::account::Right;
use crate::simulator::clock::Seconds;
use crate::simulator::picture;
use crate::simulator::platform::Platform;
use crate::simulator::qrcodes::Scene;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/qrcode/create",
        "生成带参数的二维码: for up to 30 days, or one of 100 000 for ever",
        &["action_name", "action_info", "expire_seconds?"],
        create,
    )
    .errors(&[40052, 40053, 45029])
    .right(Right::ServiceAccount)
    .daily(100_000, 10_000),
    get(
        "/cgi-bin/showqrcode",
        "通过ticket换取二维码: a picture; 404 for a ticket that is unknown or has run out",
        &["ticket"],
        show,
    )
    .without_token()
    .right(Right::Basic),
    post(
        "/cgi-bin/shorten/gen",
        "短key托管: a key of 15 letters for up to 4 KB",
        &["long_data", "expire_seconds?"],
        shorten,
    )
    .errors(&[47003]),
    post("/cgi-bin/shorten/fetch", "还原短key", &["short_key"], fetch).errors(&[47003, 9_410_010]),
    post(
        "/cgi-bin/shorturl",
        "长链接转短链接: stopped in 2021",
        &["action", "long_url"],
        stopped,
    )
    .errors(&[45106]),
];

/// The longest life of a code and of a key.
const LIFE: Seconds = 2_592_000;
/// The life of a code without a word about it.
const SHORT_LIFE: Seconds = 60;
/// Permanent scenes by number.
const PERMANENT: u32 = 100_000;
/// Letters of a scene.
const LETTERS: usize = 64;
/// Bytes behind one key.
const LONG_DATA: usize = 4096;

fn create(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let (by_number, lasts) = match body.text("action_name") {
        Some("QR_SCENE") => (true, false),
        Some("QR_STR_SCENE") => (false, false),
        Some("QR_LIMIT_SCENE") => (true, true),
        Some("QR_LIMIT_STR_SCENE") => (false, true),
        _ => return Err(40052.into()),
    };
    let scene = body
        .object("action_info")
        .and_then(|info| info.object("scene"));
    let scene = scene.ok_or(40053)?;
    let scene = if by_number {
        number(&scene, lasts)
    } else {
        text(&scene)
    };
    let life = body.number("expire_seconds").unwrap_or(SHORT_LIFE);
    let life = life.clamp(1, LIFE);
    let expires_at = (!lasts).then_some(platform.now() + life);
    let code = platform
        .qrcodes
        .create(scene.ok_or(40053)?, expires_at, &mut platform.mint)?;
    let mut answer = json!({"ticket": code.ticket, "url": code.url});
    if !lasts {
        answer["expire_seconds"] = json!(life);
    }
    Ok(answer.into())
}

fn number(scene: &Members, lasts: bool) -> Option<Scene> {
    let number = u32::try_from(scene.number("scene_id")?).ok()?;
    let most = if lasts { PERMANENT } else { u32::MAX };
    (1..=most)
        .contains(&number)
        .then_some(Scene::Number(number))
}

fn text(scene: &Members) -> Option<Scene> {
    let text = scene.text("scene_str")?;
    (text.chars().count() <= LETTERS).then(|| Scene::Text(text.to_owned()))
}

fn show(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let now = platform.now();
    let code = call
        .query
        .get("ticket")
        .and_then(|ticket| platform.qrcodes.by_ticket(ticket, now));
    Ok(match code {
        Some(code) => File {
            content_type: "image/svg+xml",
            name: None,
            bytes: picture::qr_code(code).into_bytes(),
        }
        .into(),
        None => Answer::Missing,
    })
}

fn shorten(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let long_data = body
        .text("long_data")
        .filter(|data| data.len() <= LONG_DATA);
    let long_data = long_data.ok_or_else(|| Refusal::argument("long_data"))?;
    let life = match body.get("expire_seconds") {
        None => Some(LIFE),
        Some(_) => body
            .number("expire_seconds")
            .filter(|life| (1..=LIFE).contains(life)),
    };
    let life = life.ok_or_else(|| Refusal::argument("expire_seconds"))?;
    let now = platform.now();
    let short_key = platform
        .qrcodes
        .shorten(long_data, life, &mut platform.mint, now);
    Ok(ok_with(json!({"short_key": short_key})))
}

fn fetch(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let short_key = body.text("short_key");
    let short_key = short_key.ok_or_else(|| Refusal::argument("short_key"))?;
    let now = platform.now();
    let (long_data, create_time, left) = platform
        .qrcodes
        .long_data(short_key, now)
        .ok_or(9_410_010)?;
    Ok(ok_with(json!({
        "long_data": long_data,
        "create_time": create_time,
        "expire_seconds": left,
    })))
}

fn stopped(_: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Err(45106.into())
}
