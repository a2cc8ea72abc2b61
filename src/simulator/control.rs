//! `/_sim`: the control side, for tests in any language and for the page.
//!
//! JSON in and out. What a caller did wrong is `{"error": "a sentence"}` with a 4xx status. The table
//! of routes is what `/_sim/openapi.json` documents.

mod scene;
mod world;

use std::sync::Arc;
use std::time::Duration;

use poem::http::{Method, StatusCode, header};
use poem::{Request, Response};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;

use self::scene::Act;
use super::faults::Fault;
use super::http::{self, Pairs};
use super::live::Revision;
use super::platform::Platform;
use super::push::{self, Refused};
use super::sends;
use super::{World, api, framing, glossary, guard, openapi, picture};

/// One control, for the document.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// Below `/_sim`.
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    /// Parameters of the query; a `?` marks what may be left out.
    pub(crate) query: &'static [&'static str],
    /// Members of the body, in the same way.
    pub(crate) members: &'static [&'static str],
}

impl Route {
    /// As `/_sim/` lists it.
    fn to_json(&self) -> Value {
        json!({
            "method": self.method,
            "path": format!("/_sim{}", self.path),
            "summary": self.summary,
            "query": self.query,
            "members": self.members,
        })
    }
}

const fn route(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    members: &'static [&'static str],
) -> Route {
    Route {
        method,
        path,
        summary,
        query,
        members,
    }
}

/// Members of the account that can be set.
const ACCOUNT: &[&str] = &[
    "appid?",
    "appsecret?",
    "original_id?",
    "token?",
    "encoding_aes_key?",
    "callback_url?",
    "mode?",
    "kind?",
    "limits?",
    "oauth_domains?",
    "js_domains?",
    "ip_whitelist?",
];

/// Every control.
pub(crate) const ROUTES: &[Route] = &[
    route("GET", "/account", "The account's settings", &[], &[]),
    route(
        "PUT",
        "/account",
        "Change settings, in part or all",
        &[],
        ACCOUNT,
    ),
    route("GET", "/fans", "Everybody, followers or not", &[], &[]),
    route(
        "POST",
        "/fans",
        "Add a fan, or change the one with that openid",
        &[],
        world::FAN,
    ),
    route(
        "POST",
        "/verify",
        "提交: the echostr handshake with the callback",
        &[],
        &[],
    ),
    route(
        "POST",
        "/send",
        "A fan sends a message or an event, with WeChat's names for its elements",
        &[],
        &["openid", "MsgType", "Content?", "Event?", "EventKey?"],
    ),
    route(
        "POST",
        "/scan",
        "A fan scans a code: SCAN, or subscribe with qrscene_",
        &[],
        &["openid", "ticket?", "scene?"],
    ),
    route(
        "POST",
        "/click",
        "A fan taps a button of his menu, found by key, URL or place",
        &[],
        &[
            "openid",
            "key?",
            "index?",
            "scan_type?",
            "scan_result?",
            "count?",
            "latitude?",
            "longitude?",
            "label?",
            "poiname?",
        ],
    ),
    route(
        "GET",
        "/subscribe_notice",
        "What notices a fan agreed to",
        &["openid"],
        &[],
    ),
    route(
        "POST",
        "/subscribe_notice",
        "A fan agrees to notices, or refuses them",
        &[],
        &[
            "openid",
            "template_id?",
            "template_ids?",
            "accept?",
            "in_settings?",
        ],
    ),
    route("GET", "/menu", "The menu that a fan sees", &["openid"], &[]),
    route(
        "POST",
        "/media",
        "A file that a fan sends, or (from=jssdk) a page recorded; the body is the file",
        &["type", "from?"],
        &[],
    ),
    route("GET", "/agents", "Customer-service accounts", &[], &[]),
    route(
        "POST",
        "/agents",
        "An invitation is accepted, an agent comes or goes",
        &[],
        &["kf_account", "wx?", "online?"],
    ),
    route(
        "POST",
        "/comments",
        "A fan comments an article",
        &[],
        &["openid", "msg_data_id", "index?", "content"],
    ),
    route("GET", "/outcomes", "How the next jobs are to end", &[], &[]),
    route(
        "POST",
        "/outcomes",
        "Let the next template message, mass message or publication end badly",
        &[],
        &["template?", "mass?", "publish?"],
    ),
    route(
        "GET",
        "/chat",
        "What stands in a fan's chat, or in all of them, from an id on; with from=account what the account \
         has said and no more",
        &["openid?", "after?", "from?"],
        &[],
    ),
    route(
        "GET",
        "/requests",
        "Calls of the API, the newest first",
        &["limit?"],
        &[],
    ),
    route(
        "GET",
        "/pushes",
        "Deliveries that are over, the newest first, with the customer-service messages that came \
         after; waits up to wait_s for one after that id; with under_way=1 those under way come first",
        &["limit?", "after?", "event?", "wait_s?", "under_way?"],
        &[],
    ),
    route(
        "GET",
        "/jssdk",
        "JS-SDK checks and shares, the newest first",
        &["limit?"],
        &[],
    ),
    route(
        "GET",
        "/tokens",
        "Tokens and tickets, alive or dead",
        &[],
        &[],
    ),
    route(
        "GET",
        "/endpoints",
        "The calls of the API with their errors",
        &[],
        &[],
    ),
    route(
        "GET",
        "/oauth",
        "Visits to the consent page, the newest first",
        &["limit?"],
        &[],
    ),
    route("GET", "/qrcodes", "QR codes that can be scanned", &[], &[]),
    route(
        "GET",
        "/media",
        "A file by its media_id, as its sender has it; the answer is the file",
        &["media_id"],
        &[],
    ),
    route(
        "GET",
        "/frame",
        "Whether the phone's web view can show the page at url, and if not, why",
        &["url"],
        &[],
    ),
    route(
        "GET",
        "/glossary",
        "What errors mean and what to do, in Chinese and English",
        &[],
        &[],
    ),
    route("GET", "/revision", "How far every list has come", &[], &[]),
    route(
        "GET",
        "/events",
        "The same, again after each change, as server-sent events",
        &[],
        &[],
    ),
    route("GET", "/", "This list", &[], &[]),
    route("GET", "/openapi.json", "This document", &[], &[]),
    route("GET", "/faults", "Faults that are left", &[], &[]),
    route(
        "POST",
        "/faults",
        "The next calls of a path fail so",
        &[],
        &[
            "path",
            "errcode?",
            "status?",
            "delay_ms?",
            "body?",
            "times?",
        ],
    ),
    route("DELETE", "/faults", "No more faults", &[], &[]),
    route("GET", "/clock", "The platform's clock", &[], &[]),
    route("POST", "/clock", "Move the clock", &[], &["advance_s"]),
    route("POST", "/reset", "As at the start", &[], &[]),
];

/// The longest wait for a push.
const WAIT: Duration = Duration::from_secs(60);

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
    if path == "/_sim/media" && method == Method::GET {
        return media(&world.platform(), &query);
    }
    let outcome = match (method.as_str(), path.as_str()) {
        ("GET", "/_sim/frame") => frame(world, &query, ancestor).await,
        _ => act(world, &method, &path["/_sim".len()..], &query, &body).await,
    };
    if outcome.is_ok() && method != Method::GET {
        world.platform().settings += 1;
    }
    world.stir();
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

/// A file for the phone to show, whoever sent it.
fn media(platform: &Platform, query: &Pairs) -> Response {
    let media_id = query.get("media_id").unwrap_or_default();
    match platform.media.find(media_id, platform.now()) {
        Ok(media) => picture::file(media.format.content_type, media.bytes.clone()),
        Err(_) => refuse((StatusCode::NOT_FOUND, "media_id: no such file".to_owned())),
    }
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
        ("POST", "/fans") => world::put_fan(&mut world.platform(), &object(body)?),
        ("POST", "/verify") => Ok(push::verify(world).await),
        ("POST", "/send") => send(world, object(body)?).await,
        ("POST", "/scan") => {
            let act = scene::scan(&mut world.platform(), &object(body)?)?;
            perform(world, act).await
        }
        ("POST", "/click") => {
            let act = scene::click(&mut world.platform(), &object(body)?)?;
            perform(world, act).await
        }
        ("GET", "/subscribe_notice") => {
            let openid = needed(query, "openid")?;
            let consents = world.platform().templates.consents_json(openid);
            Ok(json!({"consents": consents}))
        }
        ("POST", "/subscribe_notice") => {
            let act = scene::subscribe_notice(&mut world.platform(), &object(body)?)?;
            perform(world, act).await
        }
        ("GET", "/menu") => menu(&world.platform(), query),
        ("POST", "/media") => world::put_media(&mut world.platform(), query, body),
        ("GET", "/agents") => {
            let platform = world.platform();
            Ok(platform.agents.to_json(platform.now()))
        }
        ("POST", "/agents") => world::put_agent(&mut world.platform(), &object(body)?),
        ("POST", "/comments") => world::put_comment(&mut world.platform(), &object(body)?),
        ("GET", "/outcomes") => Ok(world::outcomes(&world.platform())),
        ("POST", "/outcomes") => world::put_outcomes(&mut world.platform(), &object(body)?),
        ("GET", "/chat") => chat(&world.platform(), query),
        ("GET", "/requests") => Ok(world.platform().requests.to_json(limit(query)?)),
        ("GET", "/pushes") => pushes(world, query).await,
        ("GET", "/oauth") => Ok(world.platform().oauth.to_json(limit(query)?)),
        ("GET", "/qrcodes") => {
            let platform = world.platform();
            Ok(platform.qrcodes.to_json(platform.now()))
        }
        ("GET", "/revision") => Ok(Revision::of(&world.platform()).to_json()),
        ("GET", "/glossary") => Ok(glossary::to_json()),
        ("GET", "/jssdk") => Ok(world.platform().jssdk.to_json(limit(query)?)),
        ("GET", "/tokens") => {
            let platform = world.platform();
            Ok(platform.tokens.to_json(platform.now()))
        }
        ("GET", "/endpoints") => Ok(api::endpoints().map(api::Endpoint::to_json).collect()),
        ("GET", "/openapi.json") => Ok(openapi::document(&world.origin)),
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
        ("GET", "" | "/") => Ok(ROUTES.iter().map(Route::to_json).collect()),
        _ if ROUTES.iter().any(|route| route.path == path) => {
            Err((StatusCode::METHOD_NOT_ALLOWED, format!("not by {method}")))
        }
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

/// Sends the messages of an act one after the other. The answer is that of the first one, as
/// `/_sim/send` gives it, with all of them under `sent`.
async fn perform(world: &Arc<World>, act: Act) -> Result<Value, Refused> {
    let mut sent = Vec::new();
    for message in act.messages {
        let event = message.get("Event").cloned().unwrap_or_default();
        let msg_type = message.get("MsgType").cloned().unwrap_or_default();
        let mut result = send(world, message).await?;
        result["MsgType"] = msg_type;
        result["Event"] = event;
        sent.push(result);
    }
    let mut answer = sent.first().cloned().unwrap_or_else(|| json!({}));
    for (name, value) in act.answer {
        answer[name] = value;
    }
    answer["sent"] = json!(sent);
    Ok(answer)
}

fn change_account(platform: &mut Platform, patch: &Map<String, Value>) -> Result<Value, Refused> {
    platform.account = platform.account.with(patch).map_err(bad)?;
    Ok(platform.account.to_json())
}

fn menu(platform: &Platform, query: &Pairs) -> Result<Value, Refused> {
    let fan = platform.fans.get(needed(query, "openid")?);
    let fan = fan.ok_or_else(|| (StatusCode::NOT_FOUND, "openid: nobody has it".to_owned()))?;
    let buttons = platform.menu.of(fan).filter(|_| fan.subscribed);
    Ok(match buttons {
        Some(buttons) => json!({
            "menuid": buttons.menuid,
            "button": super::menu::shown(&buttons.list),
        }),
        None => json!({"menuid": null, "button": []}),
    })
}

fn chat(platform: &Platform, query: &Pairs) -> Result<Value, Refused> {
    let after = number(query, "after")?.unwrap_or(0);
    let mut messages = platform.chat.since(query.get("openid"), after);
    if let Some(from) = query.get("from") {
        messages.retain(|bubble| bubble["from"] == from);
    }
    Ok(json!({"messages": messages}))
}

/// Deliveries that are over. With `wait_s`, and none to tell of yet, the next one is waited for.
async fn pushes(world: &World, query: &Pairs) -> Result<Value, Refused> {
    let limit = limit(query)?;
    let after = number(query, "after")?.unwrap_or(0);
    let wait = Duration::from_secs(number(query, "wait_s")?.unwrap_or(0)).min(WAIT);
    let event = query.get("event");
    let with_under_way = query.get("under_way") == Some("1");
    let deadline = Instant::now() + wait;
    loop {
        let pushed = world.pushed.notified();
        tokio::pin!(pushed);
        pushed.as_mut().enable();
        {
            let platform = world.platform();
            let wanted = |push: &&Value| {
                push["id"].as_u64().is_some_and(|id| id > after)
                    && event.is_none_or(|event| push["event"] == event)
            };
            let mut found: Vec<Value> = Vec::new();
            if with_under_way {
                found.extend(platform.under_way.iter().cloned());
            }
            let pushes = platform.pushes.iter().filter(wanted).take(limit);
            found.extend(pushes.cloned());
            if !found.is_empty() {
                sends::follow(&platform, &mut found);
                return Ok(json!(found));
            }
        }
        tokio::select! {
            () = pushed => {}
            () = world.closing.cancelled() => return Ok(json!([])),
            () = tokio::time::sleep_until(deadline) => return Ok(json!([])),
        }
    }
}

fn advance(platform: &mut Platform, members: &Map<String, Value>) -> Result<Value, Refused> {
    let seconds = members.get("advance_s").and_then(Value::as_i64);
    let seconds = seconds.ok_or_else(|| bad("advance_s: expected whole seconds".to_owned()))?;
    platform.clock.advance(seconds);
    Ok(platform.clock_json())
}

/// `limit=50`: no more than that many, the newest.
fn limit(query: &Pairs) -> Result<usize, Refused> {
    let limit = number(query, "limit")?;
    Ok(limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    }))
}

fn needed<'a>(query: &'a Pairs, name: &str) -> Result<&'a str, Refused> {
    query
        .get(name)
        .ok_or_else(|| bad(format!("{name}: missing")))
}

fn number(query: &Pairs, name: &str) -> Result<Option<u64>, Refused> {
    let number = query.get(name).map(str::parse).transpose();
    number.map_err(|_| bad(format!("{name}: expected a number")))
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
