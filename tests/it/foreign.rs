//! Against programs that other people wrote for the real WeChat: wechatpy in Python; wechat-crypto,
//! co-wechat, co-wechat-api and co-wechat-oauth in Node. The scripts that use them are in
//! `tests/foreign`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{ACCOUNT, AES_KEY, APPID, Setup, TOKEN, World};
use crate::parts::part;
use crate::program::Program;

/// Texts that go wrong where bytes, characters, markup or padding are mixed up.
const TEXTS: [&str; 5] = [
    "hi",
    "你好，世界 🎉",
    "a <b> & \"c\" 'd'",
    "一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一二",
    "1",
];

#[tokio::test(flavor = "multi_thread")]
async fn wechatpys_signatures_open_the_plain_webhook() {
    let Some(python) = Python::here() else { return };
    let world = World::start().await;
    let outcome = python
        .run("wechatpy_messages.py", messages_for(&world, None))
        .await;
    assert_eq!(outcome["handshake"]["good"], json!([200, "1234567890"]));
    assert_eq!(outcome["handshake"]["forged"], 403);
    assert_greeted(&outcome, "oFan0000000000000000000000001");
}

#[tokio::test(flavor = "multi_thread")]
async fn wechatpy_and_the_webhook_read_each_others_encryption() {
    let Some(python) = Python::here() else { return };
    let world = Setup::safe().start().await;
    let task = messages_for(&world, Some(AES_KEY));
    let outcome = python.run("wechatpy_messages.py", task).await;
    assert_eq!(outcome["handshake"]["good"], json!([200, "1234567890"]));
    assert_eq!(outcome["handshake"]["forged"], 403);
    assert_greeted(&outcome, "oFan0000000000000000000000001");
}

#[tokio::test(flavor = "multi_thread")]
async fn wechat_crypto_of_npm_and_the_webhook_read_each_others_encryption() {
    let Some(node) = Node::here() else { return };
    let world = Setup::safe().start().await;
    let task = messages_for(&world, Some(AES_KEY));
    let outcome = node.run("wechat_crypto.js", task).await;
    for said in outcome["said"].as_array().unwrap() {
        assert_eq!(said["is_signed"], true, "{said}");
        assert_eq!(said["appid"], APPID, "{said}");
    }
    assert_greeted(&outcome, "oFan0000000000000000000000002");
}

#[tokio::test(flavor = "multi_thread")]
async fn wechatpys_client_takes_the_simulator_for_the_platform() {
    let Some(python) = Python::here() else { return };
    let world = World::start().await;
    let fans = world.sim("fans", None).await;
    let mut task = client_of(&world, &fans[0]);
    let url = "http://127.0.0.1/page?from=1&name=%E4%BD%A0";
    let config = format!("{}/getJSConfig", world.app.url);
    let request = world.http.get(config).query(&[("url", url)]);
    let config: Value = world.send(request).await.json().await.unwrap();
    task["url"] = json!(url);
    task["config"] = config.clone();

    let outcome = python.run("wechatpy_client.py", task).await;
    assert_eq!(
        outcome["signature"], config["signature"],
        "what wechatpy would have signed"
    );
    assert_eq!(outcome["token"]["expires_in"], 7200);
    assert_eq!(outcome["valid"], true);
    assert_platform_was_understood(&outcome, &fans);
    assert_eq!(outcome["state"], "aState1");
}

#[tokio::test(flavor = "multi_thread")]
async fn co_wechats_clients_take_the_simulator_for_the_platform() {
    let Some(node) = Node::here() else { return };
    let world = World::start().await;
    let fans = world.sim("fans", None).await;
    let mut task = client_of(&world, &fans[0]);
    task["url"] = json!("http://127.0.0.1/page?from=1");

    let outcome = node.run("co_wechat_client.js", task).await;
    assert_eq!(outcome["config"]["errMsg"], "config:ok", "{outcome}");
    assert_eq!(outcome["repeated"], outcome["followers"]["total"]);
    assert_eq!(outcome["valid"]["errcode"], 0, "{outcome}");
    assert_platform_was_understood(&outcome, &fans);
    assert_eq!(outcome["state"], "aState2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_koa_app_with_co_wechat_answers_the_simulators_fans_in_plain_mode() {
    assert_koa_app_answers(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_koa_app_with_co_wechat_answers_the_simulators_fans_in_safe_mode() {
    assert_koa_app_answers(Some(AES_KEY)).await;
}

async fn assert_koa_app_answers(aes_key: Option<&str>) {
    let Some(node) = Node::here() else { return };
    let app = node.serve(
        "co_wechat_bot.js",
        &json!({"token": TOKEN, "aes_key": aes_key, "appid": APPID}),
    );
    let callback = format!("http://127.0.0.1:{}/wechat", app.port);
    let mut arguments = vec!["--callback", &callback, "--token", TOKEN, "--appid", APPID];
    if let Some(key) = aes_key {
        arguments.extend(["--encoding-aes-key", key, "--mode", "safe"]);
    }
    let platform = Program::simulate(&arguments).await;
    let verified = platform.control(Method::POST, "verify", json!({})).await;
    assert_eq!(verified["ok"], true, "{verified}");

    let fans = platform.sim("fans").await;
    let openid = &fans[0]["openid"];
    let act = async |mut message: Value| {
        message["openid"] = openid.clone();
        platform.control(Method::POST, "send", message).await
    };
    for text in TEXTS {
        let sent = act(json!({"MsgType": "text", "Content": text})).await;
        let expected = format!("Koa: {text} (string, {})", openid.as_str().unwrap());
        assert_eq!(sent["shown_to_user"], expected, "{sent}");
        assert_eq!(sent["reply"]["Content"], expected, "{sent}");
        assert_eq!(sent["attempts"].as_array().unwrap().len(), 1, "{sent}");
    }
    let sent = act(json!({"MsgType": "text", "Content": "news"})).await;
    let article = &sent["reply"]["Articles"][0];
    assert_eq!(article["Title"], "一篇文章", "{sent}");
    assert_eq!(article["Url"], "http://127.0.0.1/a", "{sent}");
    // Nothing to say, in the way that Koa says it.
    let sent = act(json!({"MsgType": "event", "Event": "CLICK", "EventKey": "k"})).await;
    assert_eq!(sent["reply"], Value::Null, "{sent}");
    assert_eq!(sent["attempts"].as_array().unwrap().len(), 1, "{sent}");
    platform.stop().await;
}

fn messages_for(world: &World, aes_key: Option<&str>) -> Value {
    json!({
        "url": format!("{}/wechat", world.app.url),
        "token": TOKEN,
        "aes_key": aes_key,
        "appid": APPID,
        "texts": TEXTS,
    })
}

fn client_of(world: &World, fan: &Value) -> Value {
    json!({
        "platform": world.sim,
        "appid": APPID,
        "appsecret": "0".repeat(32),
        "openid": fan["openid"],
        "redirect_uri": "http://127.0.0.1/landing?a=1&b=2",
    })
}

/// The backend said hello to each of the texts.
#[track_caller]
fn assert_greeted(outcome: &Value, fan: &str) {
    let said = outcome["said"].as_array().unwrap();
    assert_eq!(said.len(), TEXTS.len());
    for (said, text) in said.iter().zip(TEXTS) {
        let content_type = said["content_type"].as_str().unwrap();
        assert!(content_type.starts_with("application/xml"), "{said}");
        let reply = &said["reply"];
        assert_eq!(reply["Content"], format!("Hello {text}"), "{said}");
        assert_eq!(reply["MsgType"], "text", "{said}");
        assert_eq!(reply["ToUserName"], fan, "{said}");
        assert_eq!(reply["FromUserName"], ACCOUNT, "{said}");
    }
}

/// What both clients saw of the first fan, and what they were refused.
#[track_caller]
fn assert_platform_was_understood(outcome: &Value, fans: &Value) {
    let fan = &fans[0];
    let following: Vec<&Value> = fans
        .as_array()
        .unwrap()
        .iter()
        .filter(|fan| fan["subscribe"] == 1)
        .map(|fan| &fan["openid"])
        .collect();
    assert_eq!(outcome["followers"]["total"], following.len());
    assert_eq!(outcome["followers"]["data"]["openid"], json!(following));
    assert_eq!(outcome["batch"], json!(following));
    assert_eq!(outcome["user"]["openid"], fan["openid"]);
    assert_eq!(outcome["user"]["unionid"], fan["unionid"]);
    assert_eq!(outcome["profile"]["nickname"], fan["nickname"]);
    assert_eq!(outcome["profile"]["headimgurl"], fan["headimgurl"]);
    assert_eq!(outcome["granted"]["openid"], fan["openid"]);
    assert_eq!(outcome["granted"]["scope"], "snsapi_userinfo");
    assert_eq!(outcome["refreshed"]["openid"], fan["openid"]);
    assert_ne!(outcome["refreshed"]["access_token"], Value::Null);
    let expected = json!({"wrong_secret": 40125, "unknown_openid": 40003, "used_code": 40163});
    assert_eq!(outcome["refusals"], expected);
}

/// The Python that has wechatpy.
pub(crate) struct Python(PathBuf);

impl Python {
    pub(crate) fn here() -> Option<Self> {
        part("python-venv").map(Self)
    }

    pub(crate) fn command(&self) -> Command {
        Command::new(&self.0)
    }

    pub(crate) async fn run(&self, script: &str, task: Value) -> Value {
        run(self.command(), script, task).await
    }
}

/// Node with the folder of the packages.
pub(crate) struct Node(PathBuf);

impl Node {
    pub(crate) fn here() -> Option<Self> {
        part("node-modules").map(Self)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("node");
        command
            .env("NODE_PATH", &self.0)
            .env("NODE_NO_WARNINGS", "1");
        command
    }

    pub(crate) async fn run(&self, script: &str, task: Value) -> Value {
        run(self.command(), script, task).await
    }

    /// Starts a script that serves on a port which it prints.
    fn serve(&self, script: &str, task: &Value) -> Server {
        let mut child = self
            .command()
            .arg(path(script))
            .arg(task.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let printed: Value = serde_json::from_str(&line).unwrap();
        let port = printed["port"].as_u64().unwrap();
        Server { port, child }
    }
}

/// A script that serves. It ends when its input closes, so it never outlives the test.
struct Server {
    port: u64,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn path(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/foreign")
        .join(script)
}

/// Runs a script to its end: the JSON that it printed. The task is its argument.
async fn run(mut command: Command, script: &str, task: Value) -> Value {
    command.arg(path(script)).arg(task.to_string());
    // Not on a thread that the world under test needs.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{script}: {complaints}{printed}");
    serde_json::from_str(&printed).unwrap_or_else(|why| panic!("{script}: {why}: {printed}"))
}
