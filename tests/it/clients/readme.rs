//! The backends that stand in the README, run as they stand there.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::foreign::{Node, Python};
use crate::helpers::eventually;
use crate::program::Program;

const ENGLISH: &str = include_str!("../../../README.md");
const CHINESE: &str = include_str!("../../../README.zh-CN.md");

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_koa_backend_answers_the_simulators_fans() {
    let Some(node) = Node::here() else { return };
    assert_answers(node.command(), "bot.js", "```js\nconst Koa").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_flask_backend_answers_the_simulators_fans() {
    let Some(python) = Python::here() else { return };
    assert_answers(python.command(), "bot.py", "```python\nimport requests").await;
}

/// The code block of a README that begins so.
fn block(readme: &'static str, begins: &str) -> &'static str {
    let code = &readme[readme.find(begins).unwrap()..];
    let (_, code) = code.split_once('\n').unwrap();
    code.split_once("```").unwrap().0
}

async fn assert_answers(mut command: Command, file: &str, begins: &str) {
    let code = block(ENGLISH, begins);
    assert_eq!(code, block(CHINESE, begins), "both READMEs have one code");

    let port = free_port().to_string();
    let callback = format!("http://127.0.0.1:{port}/wechat");
    let platform = Program::simulate(&["--callback", &callback]).await;
    let code = replaced(code, "http://127.0.0.1:4000", &platform.simulator);
    let code = replaced(&code, "3000", &port);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    std::fs::write(&path, code).unwrap();
    let command = command
        .arg(path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let backend = Running(command.spawn().unwrap());

    eventually(Duration::from_secs(20), async || {
        let verified = platform.control(Method::POST, "verify", json!({})).await;
        verified["ok"] == true
    })
    .await;
    let openid = "oFan0000000000000000000000001";
    let text = json!({"openid": openid, "MsgType": "text", "Content": "你好"});
    let sent = platform.control(Method::POST, "send", text).await;
    assert_eq!(sent["shown_to_user"], "你好 × 4", "{sent}");
    let click = json!({"openid": openid, "MsgType": "event", "Event": "CLICK", "EventKey": "HELP"});
    let sent = platform.control(Method::POST, "send", click).await;
    assert_eq!(sent["shown_to_user"], "", "{sent}");
    assert_eq!(sent["attempts"][0]["status"], 200, "{sent}");
    drop(backend);
    platform.stop().await;
}

/// A port for a program that is told which, below those that the system picks for other tests.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::random_range(10_000..32_000));
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).unwrap()
}

/// The one place where a text has this is replaced.
#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to)
}

/// A backend that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
