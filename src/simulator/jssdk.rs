//! The stand-in for `jweixin`, and the checks that the real phone would make ("WeChat: JS-SDK").
//!
//! The script runs on the backend's page, so its calls come across origins, without cookies, and learn
//! nothing but the `errMsg`. Why a config was refused, with the very string that should have been
//! signed, stands under `/_sim/jssdk`.

mod files;

use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};
use serde_json::{Value, json};
use url::Url;

use super::World;
use super::account::{Right, is_on_domain};
use super::clock::machine_millis;
use super::http;
use super::platform::Platform;
use crate::wechat::signature;

const SCRIPT: &str = include_str!("../../templates/simulator/jweixin.js");

/// `/open/js/jweixin-1.6.0.js`; every version is the same script here.
pub(super) async fn script(world: &World, path: &str) -> Response {
    let fault = world.platform().faults.take(path);
    if let Some(fault) = fault {
        if !fault.delay.is_zero() {
            tokio::time::sleep(fault.delay).await;
        }
        if fault.answers() {
            let status = fault
                .status
                .and_then(|status| StatusCode::from_u16(status).ok());
            let body = fault.body.unwrap_or_default();
            return http::text(status.unwrap_or(StatusCode::OK), body);
        }
    }
    let name = path.trim_start_matches("/open/js/");
    if !name.starts_with("jweixin-") || !name.ends_with(".js") {
        return http::text(StatusCode::NOT_FOUND, "no such script");
    }
    let response = http::answer(
        StatusCode::OK,
        "application/javascript; charset=utf-8",
        SCRIPT,
    );
    let name = header::HeaderName::from_static("cross-origin-resource-policy");
    http::with_header(response, name, HeaderValue::from_static("cross-origin"))
}

/// `/sdk/…`: what the script asks on behalf of any page.
pub(super) async fn answer(world: &World, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if request.method() != Method::POST {
        return http::text(StatusCode::METHOD_NOT_ALLOWED, "POST");
    }
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let platform = &mut *world.platform();
    let answer = match path.as_str() {
        "/sdk/preVerifyJSAPI" => pre_verify(platform, &asked),
        "/sdk/share" => share(platform, &asked),
        "/sdk/call" => note_call(platform, &asked),
        "/sdk/picture" => files::keep_picture(platform, &body),
        "/sdk/voice" => files::record_voice(platform),
        "/sdk/upload" => files::upload(platform, &asked),
        "/sdk/download" => files::download(platform, &asked),
        "/sdk/data" => files::data(platform, &asked),
        _ => return http::text(StatusCode::NOT_FOUND, "no such call"),
    };
    let response = http::json(StatusCode::OK, &answer);
    let any = HeaderValue::from_static("*");
    http::with_header(response, header::ACCESS_CONTROL_ALLOW_ORIGIN, any)
}

/// `wx.config`: domain, then signature, then rights.
fn pre_verify(platform: &mut Platform, asked: &Value) -> Value {
    let text = |name: &str| match &asked[name] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let page = text("url");
    let url = signature::without_fragment(&page);
    let (nonce, timestamp, given) = (text("nonceStr"), text("timestamp"), text("signature"));
    let ticket = platform.tokens.jsapi_ticket(platform.now());
    let ticket = ticket.unwrap_or_default();
    let string1 = |ticket: &str, url: &str| {
        format!("jsapi_ticket={ticket}&noncestr={nonce}&timestamp={timestamp}&url={url}")
    };
    let sign = |ticket: &str, url: &str| {
        let timestamp = timestamp.parse().ok()?;
        Some(signature::jssdk(ticket, &nonce, timestamp, url))
    };
    let expected = sign(ticket, url);
    let on_domain =
        Url::parse(url).is_ok_and(|url| is_on_domain(&url, &platform.account.js_domains));
    let outcome = if text("appId") != platform.account.appid.as_str() {
        "invalid appid"
    } else if !on_domain {
        "invalid url domain"
    } else if ticket.is_empty() || !expected.is_some_and(|expected| expected.matches(&given)) {
        "invalid signature"
    } else if !platform.account.kind.grants(Right::Certified) {
        "permission denied"
    } else {
        "ok"
    };
    // What the page signed instead, where it is one of the usual mistakes.
    let signed = || {
        let urls = mistaken(&page);
        let tickets = platform.tokens.jsapi_tickets();
        let mut pairs = tickets.flat_map(|ticket| urls.iter().map(move |url| (ticket, url)));
        pairs.find_map(|(ticket, url)| {
            let matches = sign(ticket, url)?.matches(&given);
            matches.then(|| string1(ticket, url))
        })
    };
    let signed = (outcome == "invalid signature").then(signed).flatten();
    let entry = json!({
        "at": machine_millis(),
        "call": "config",
        "errMsg": format!("config:{outcome}"),
        "config": asked,
        "string1": string1(ticket, url),
        "signed": signed,
        "expected_signature": expected.map(|expected| expected.to_string()),
    });
    platform.jssdk.push(entry);
    json!({"errMsg": format!("config:{outcome}")})
}

/// What a backend may have taken for the page's address.
fn mistaken(page: &str) -> Vec<String> {
    let url = signature::without_fragment(page);
    let path = url.split('?').next().unwrap_or(url);
    let mut urls = vec![
        page.to_owned(),
        url.to_owned(),
        path.to_owned(),
        path.trim_end_matches('/').to_owned(),
        format!("{path}/"),
        percent_encoding::percent_decode_str(url)
            .decode_utf8_lossy()
            .into_owned(),
        url::form_urlencoded::byte_serialize(url.as_bytes()).collect(),
    ];
    if let Ok(parsed) = Url::parse(url) {
        let origin = parsed.origin().ascii_serialization();
        urls.extend([format!("{origin}/"), origin]);
    }
    let other_scheme = match url.split_once("://") {
        Some(("http", rest)) => Some(format!("https://{rest}")),
        Some(("https", rest)) => Some(format!("http://{rest}")),
        _ => None,
    };
    urls.extend(other_scheme);
    urls
}

/// A call of a page's and what it was answered.
fn note_call(platform: &mut Platform, asked: &Value) -> Value {
    let member = |name: &str| asked[name].as_str().unwrap_or_default();
    platform.jssdk.push(json!({
        "at": machine_millis(),
        "call": member("call"),
        "page": member("page"),
        "errMsg": member("errMsg"),
    }));
    json!({"errMsg": "ok"})
}

/// A page hands over the card it would share.
fn share(platform: &mut Platform, asked: &Value) -> Value {
    let member = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    platform.jssdk.push(json!({
        "at": machine_millis(),
        "call": member("call"),
        "page": member("page"),
        "card": {
            "title": member("title"),
            "desc": member("desc"),
            "link": member("link"),
            "imgUrl": member("imgUrl"),
        },
    }));
    json!({"errMsg": "ok"})
}
