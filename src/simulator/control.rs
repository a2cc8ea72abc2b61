//! `/_sim`: the control side, for tests in any language and for the page.
//!
//! JSON in and out. What a caller did wrong is `{"error": "a sentence"}` with a 4xx status.

use std::sync::Arc;

use poem::http::{Method, StatusCode, header};
use poem::{Request, Response};
use serde_json::{Map, Value, json};
use url::Url;

use super::api;
use super::faults::Fault;
use super::http::{self, Pairs};
use super::live::Revision;
use super::platform::Platform;
use super::push::{self, Refused};
use super::{World, framing, glossary, guard};
use crate::wechat::id::{OpenId, UnionId};

/// Answers a call under `/_sim`.
pub(super) async fn answer(world: &Arc<World>, request: Request) -> Response {
    if !guard::is_local(&request, world.listen) {
        let why = "Host or Origin is not this machine".to_owned();
        return refuse((StatusCode::FORBIDDEN, why));
    }
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    if path == "/_sim/events" && method == Method::GET {
        return world.live.answer(world.closing.clone());
    }
    let ancestor = own_address(&request);
    let query = Pairs::of(&request);
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let outcome = match (method.as_str(), path.as_str()) {
        ("GET", "/_sim/frame") => frame(world, &query, ancestor).await,
        _ => act(world, &method, &path["/_sim".len()..], &query, &body).await,
    };
    if outcome.is_ok() && method != Method::GET {
        world.platform().settings += 1;
    }
    match outcome {
        Ok(json) => http::json(StatusCode::OK, &json),
        Err(refused) => refuse(refused),
    }
}

/// This simulator's address as the caller knows it.
fn own_address(request: &Request) -> Option<Url> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    Url::parse(&format!("http://{host}/")).ok()
}

/// Whether the phone's web view can show the page at `url`.
async fn frame(world: &World, query: &Pairs, ancestor: Option<Url>) -> Result<Value, Refused> {
    let url = query.get("url").and_then(|url| Url::parse(url).ok());
    match (url, ancestor) {
        (Some(url), Some(ancestor)) if matches!(url.scheme(), "http" | "https") => {
            Ok(framing::ask(world, url, &ancestor).await)
        }
        _ => Err(bad("url: expected an address of the web".to_owned())),
    }
}

fn refuse((status, why): Refused) -> Response {
    http::json(status, &json!({"error": why}))
}

async fn act(
    world: &Arc<World>,
    method: &Method,
    path: &str,
    query: &Pairs,
    body: &[u8],
) -> Result<Value, Refused> {
    match (method.as_str(), path) {
        ("GET", "/account") => Ok(world.platform().account.to_json()),
        ("PUT", "/account") => change_account(&mut world.platform(), &object(body)?),
        ("GET", "/fans") => {
            let platform = world.platform();
            Ok(platform
                .fans
                .iter()
                .map(super::fans::Fan::to_json)
                .collect())
        }
        ("POST", "/fans") => put_fan(&mut world.platform(), &object(body)?),
        ("POST", "/verify") => Ok(push::verify(world).await),
        ("POST", "/send") => send(world, object(body)?).await,
        ("GET", "/chat") => chat(&world.platform(), query),
        ("GET", "/requests") => Ok(world.platform().requests.to_json(limit(query)?)),
        ("GET", "/pushes") => Ok(world.platform().pushes.to_json(limit(query)?)),
        ("GET", "/oauth") => Ok(world.platform().oauth.to_json(limit(query)?)),
        ("GET", "/revision") => Ok(Revision::of(&world.platform()).to_json()),
        ("GET", "/glossary") => Ok(glossary::to_json()),
        ("GET", "/jssdk") => Ok(world.platform().jssdk.to_json(limit(query)?)),
        ("GET", "/tokens") => {
            let platform = world.platform();
            Ok(platform.tokens.to_json(platform.now()))
        }
        ("GET", "/endpoints") => Ok(api::endpoints().map(api::Endpoint::to_json).collect()),
        ("GET", "/faults") => Ok(world.platform().faults.to_json()),
        ("POST", "/faults") => {
            let fault = Fault::parse(&object(body)?).map_err(bad)?;
            let mut platform = world.platform();
            platform.faults.add(fault);
            Ok(platform.faults.to_json())
        }
        ("DELETE", "/faults") => {
            world.platform().faults.clear();
            Ok(json!([]))
        }
        ("GET", "/clock") => Ok(world.platform().clock_json()),
        ("POST", "/clock") => advance(&mut world.platform(), &object(body)?),
        ("POST", "/reset") => {
            world.reset().map_err(|why| bad(why.to_string()))?;
            Ok(json!({"ok": true}))
        }
        (
            _,
            "/account" | "/endpoints" | "/fans" | "/verify" | "/send" | "/chat" | "/requests"
            | "/pushes" | "/jssdk" | "/oauth" | "/revision" | "/glossary" | "/events" | "/frame" | "/tokens" | "/faults" | "/clock" | "/reset",
        ) => Err((StatusCode::METHOD_NOT_ALLOWED, format!("not by {method}"))),
        _ => Err((StatusCode::NOT_FOUND, "no such control".to_owned())),
    }
}

/// The delivery goes on when the caller hangs up, as a person's phone does not wait for the page.
async fn send(world: &Arc<World>, members: Map<String, Value>) -> Result<Value, Refused> {
    let closing = world.closing.clone();
    let delivery = push::send(world.clone(), members);
    let task = world
        .deliveries
        .spawn(async move { closing.run_until_cancelled(delivery).await });
    match task.await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err((
            StatusCode::SERVICE_UNAVAILABLE,
            "the simulator stops".to_owned(),
        )),
        Err(_) => Err((
            StatusCode::INTERNAL_SERVER_ERROR,
            "the delivery broke off".to_owned(),
        )),
    }
}

fn change_account(platform: &mut Platform, patch: &Map<String, Value>) -> Result<Value, Refused> {
    platform.account = platform.account.with(patch).map_err(bad)?;
    Ok(platform.account.to_json())
}

/// Adds a fan or changes one: an `openid` that is there already is the one that is meant.
fn put_fan(platform: &mut Platform, members: &Map<String, Value>) -> Result<Value, Refused> {
    let text = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(bad(format!("{name}: expected a text"))),
    };
    let known = [
        "openid",
        "unionid",
        "nickname",
        "headimgurl",
        "subscribe",
        "subscribe_time",
        "subscribe_scene",
        "remark",
        "snapshot",
    ];
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(bad(format!("{unknown}: no such member")));
    }
    let unionid = text("unionid")?.map(UnionId::parse).transpose();
    let unionid = unionid.map_err(|why| bad(format!("unionid: {why}")))?;
    let subscribe = match members.get("subscribe") {
        None => None,
        Some(Value::Bool(follows)) => Some(*follows),
        Some(Value::Number(number)) if number.as_u64().is_some_and(|number| number <= 1) => {
            Some(number.as_u64() == Some(1))
        }
        Some(_) => return Err(bad("subscribe: expected 0 or 1".to_owned())),
    };
    let number = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| bad(format!("{name}: expected a number"))),
    };
    let subscribe_time = number("subscribe_time")?;
    let snapshot = match members.get("snapshot") {
        None => None,
        Some(value) => {
            let wrong = || bad("snapshot: expected true or false".to_owned());
            Some(value.as_bool().ok_or_else(wrong)?)
        }
    };
    let (nickname, headimgurl) = (text("nickname")?, text("headimgurl")?);
    let (scene, remark) = (text("subscribe_scene")?, text("remark")?);
    let openid = match text("openid")? {
        Some(openid) => OpenId::parse(openid).map_err(|why| bad(format!("openid: {why}")))?,
        None => platform.new_openid(),
    };

    let now = platform.now();
    let fan = platform.meet(openid);
    if let Some(nickname) = nickname {
        nickname.clone_into(&mut fan.nickname);
    }
    if let Some(headimgurl) = headimgurl {
        headimgurl.clone_into(&mut fan.headimgurl);
    }
    if let Some(scene) = scene {
        scene.clone_into(&mut fan.subscribe_scene);
    }
    if let Some(remark) = remark {
        remark.clone_into(&mut fan.remark);
    }
    // A null is a word too: this fan has no unionid.
    if members.contains_key("unionid") {
        fan.unionid = unionid;
    }
    match subscribe {
        Some(true) if !fan.subscribed => fan.follow(now),
        Some(false) => fan.leave(),
        Some(true) | None => {}
    }
    if let Some(time) = subscribe_time {
        fan.subscribe_time = time;
    }
    if let Some(snapshot) = snapshot {
        fan.snapshot = snapshot;
    }
    Ok(fan.to_json())
}

fn chat(platform: &Platform, query: &Pairs) -> Result<Value, Refused> {
    let openid = query
        .get("openid")
        .ok_or_else(|| bad("openid: missing".to_owned()))?;
    let after = query.get("after").unwrap_or("0");
    let after = after
        .parse()
        .map_err(|_| bad("after: expected an id".to_owned()))?;
    Ok(json!({"messages": platform.chat.since(openid, after)}))
}

fn advance(platform: &mut Platform, members: &Map<String, Value>) -> Result<Value, Refused> {
    let seconds = members.get("advance_s").and_then(Value::as_i64);
    let seconds = seconds.ok_or_else(|| bad("advance_s: expected whole seconds".to_owned()))?;
    platform.clock.advance(seconds);
    Ok(platform.clock_json())
}

/// `limit=50`: no more than that many, the newest.
fn limit(query: &Pairs) -> Result<usize, Refused> {
    match query.get("limit") {
        None => Ok(usize::MAX),
        Some(limit) => limit
            .parse()
            .map_err(|_| bad("limit: expected a number".to_owned())),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|why| bad(format!("not a JSON object: {why}")))
}

fn bad(why: String) -> Refused {
    (StatusCode::BAD_REQUEST, why)
}
