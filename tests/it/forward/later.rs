//! 202, and the reply that comes later to the reply link.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::downstream::Downstream;
use super::{acts, calls, forwarding, hears, reply, status};
use crate::helpers::*;

/// A program that answers 202 to each message.
async fn patient() -> Downstream {
    Downstream::start(|_| async { status(202) }).await
}

/// The link of the message that came last, once it has come.
async fn link(downstream: &Downstream, messages: usize) -> String {
    let came = async || downstream.received().len() >= messages;
    eventually(Duration::from_secs(4), came).await;
    let received = downstream.received();
    received[messages - 1]
        .header("offiaccount-reply-url")
        .to_owned()
}

async fn post(url: &str, body: impl Into<reqwest::Body>) -> Response {
    client().post(url).body(body).send().await.unwrap()
}

fn text(content: &str) -> String {
    json!({"MsgType": "text", "Content": content}).to_string()
}

async fn problem(response: Response, status: StatusCode, code: &str) {
    let problem: Value = expect_status(response, status).await;
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status.as_u16(), "{problem}");
}

#[tokio::test]
async fn the_delivery_that_waits_carries_the_reply_and_a_link_is_good_once() {
    let downstream = patient().await;
    let world = forwarding(&downstream.url).start().await;
    let answering = async {
        let link = link(&downstream, 1).await;
        let taken = post(&link, text("later")).await;
        assert_eq!(taken.status(), StatusCode::NO_CONTENT);
        assert_eq!(taken.text().await.unwrap(), "");
        link
    };
    let (heard, link) = tokio::join!(hears(&world, "a"), answering);
    assert_eq!(heard, "later");
    for body in [text("again"), text("later"), "{}".to_owned()] {
        problem(
            post(&link, body).await,
            StatusCode::CONFLICT,
            "already_answered",
        )
        .await;
    }
    assert_eq!(downstream.received().len(), 1);
    assert!((calls(&world, "later").await - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn what_is_no_reply_is_refused_and_leaves_the_link_good() {
    let downstream = patient().await;
    let world = forwarding(&downstream.url).start().await;
    let answering = async {
        let link = link(&downstream, 1).await;
        for (body, why) in [
            ("", "no valid JSON"),
            ("<html>", "no valid JSON"),
            ("[]", "expected a JSON object"),
            (r#"{"MsgType":"text"}"#, "missing member `Content`"),
            (
                r#"{"MsgType":"hologram"}"#,
                "`hologram` is no MsgType of a reply",
            ),
        ] {
            let response = post(&link, body).await;
            let problem: Value = expect_status(response, StatusCode::BAD_REQUEST).await;
            assert_eq!(problem["code"], "bad_reply", "{body}");
            assert!(
                problem["detail"].as_str().unwrap().contains(why),
                "{problem}"
            );
        }
        let large = post(&link, text(&"a".repeat(64 << 10))).await;
        problem(large, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
        let zipped = client().post(&link).header("content-encoding", "gzip");
        let zipped = zipped.body(text("a")).send().await.unwrap();
        problem(zipped, StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoded_body").await;
        let seen = client().get(&link).send().await.unwrap();
        assert_eq!(seen.headers()["allow"], "POST");
        problem(seen, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
        let taken = client()
            .post(&link)
            .json(&json!({"MsgType": "text", "Content": "good"}));
        assert_eq!(taken.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    };
    let (heard, ()) = tokio::join!(hears(&world, "a"), answering);
    assert_eq!(heard, "good");
}

#[tokio::test]
async fn a_token_that_is_not_ours_is_unknown() {
    let downstream = patient().await;
    let world = forwarding(&downstream.url).start().await;
    let answering = async {
        let link = link(&downstream, 1).await;
        let (address, token) = link.split_once('=').unwrap();
        let mut torn = token.as_bytes().to_vec();
        torn[40] = if torn[40] == b'A' { b'B' } else { b'A' };
        let torn = String::from_utf8(torn).unwrap();
        for bad in ["", "x", &torn, &token[1..], &format!("{token}A"), "%00"] {
            let response = post(&format!("{address}={bad}"), text("forged")).await;
            problem(response, StatusCode::NOT_FOUND, "unknown_reply").await;
        }
        let none = post(address.strip_suffix("?token").unwrap(), text("forged")).await;
        problem(none, StatusCode::NOT_FOUND, "unknown_reply").await;
        post(&link, text("true")).await
    };
    let (heard, taken) = tokio::join!(hears(&world, "a"), answering);
    assert_eq!((&*heard, taken.status()), ("true", StatusCode::NO_CONTENT));
}

#[tokio::test]
async fn nothing_may_be_the_reply_too() {
    let downstream = patient().await;
    let world = forwarding(&downstream.url).start().await;
    let answering = async {
        let link = link(&downstream, 1).await;
        assert_eq!(post(&link, "{}").await.status(), StatusCode::NO_CONTENT);
    };
    let asked = acts(&world, json!({"MsgType": "text", "Content": "a"}));
    let (result, ()) = tokio::join!(asked, answering);
    assert_eq!(result["attempts"][0]["body"], "success", "{result}");
}

#[tokio::test]
async fn any_instance_takes_the_reply() {
    let downstream = patient().await;
    let world = forwarding(&downstream.url).start().await;
    let second = App::start(&world.settings, offiaccount::Bot::new(), Default::default()).await;
    let answering = async {
        let link = link(&downstream, 1).await;
        let elsewhere = link.replace(&world.app.url, &second.url);
        assert_ne!(link, elsewhere);
        post(&elsewhere, text("from the other")).await.status()
    };
    let (heard, status) = tokio::join!(hears(&world, "a"), answering);
    assert_eq!(
        (&*heard, status),
        ("from the other", StatusCode::NO_CONTENT)
    );
    second.stop().await;
}

#[tokio::test]
async fn the_next_message_need_not_wait_and_brings_what_came_too_late() {
    let downstream = Downstream::start(|received| async move {
        match received.content().as_str() {
            "slow" => status(202),
            other => reply(&json!({"MsgType": "text", "Content": other})),
        }
    })
    .await;
    let setup = forwarding(&downstream.url);
    // Without holding, one delivery is all there is; it is answered in time.
    let setup = setup.settings(|settings| settings.slow_answers = Some("keep".into()));
    let world = setup.start().await;
    assert_eq!(hears(&world, "slow").await, "");
    let link = link(&downstream, 1).await;
    assert_eq!(hears(&world, "quick").await, "quick");
    assert_eq!(
        post(&link, text("late")).await.status(),
        StatusCode::NO_CONTENT
    );
    let kept = async || hears(&world, "more").await == "late\n\nmore";
    eventually(Duration::from_secs(25), kept).await;
    assert_eq!(hears(&world, "and").await, "and", "it is said once");
}

#[tokio::test]
async fn a_reply_link_is_in_no_log() {
    let downstream = patient().await;
    let platform = World::start().await;
    let env = [
        ("WECHAT_APPID", APPID),
        ("WECHAT_APPSECRET", "00000000000000000000000000000000"),
        ("WECHAT_TOKEN", TOKEN),
        ("WECHAT_API_URL", &platform.sim),
        ("LISTEN", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
        ("RUST_LOG", "trace,hyper=trace,reqwest=trace"),
        ("FORWARD_URL", &downstream.url),
        ("FORWARD_SECRET", super::SECRET),
    ];
    let mut binary = crate::wire::Binary::start(&["serve"], &env);
    let backend = binary.url().await;
    let request = client().post(format!("{backend}/wechat?{}", signed_query()));
    let asking = request.body(text_xml("a")).send();
    let answering = async {
        let link = link(&downstream, 1).await;
        for body in ["bad".to_owned(), text("canary"), "{}".to_owned()] {
            post(&link, body).await;
        }
        link
    };
    let (answer, link) = tokio::join!(asking, answering);
    assert!(answer.unwrap().text().await.unwrap().contains("canary"));
    let token = link.split_once('=').unwrap().1;
    let log = binary.output();
    assert!(log.contains("\"path\":\"/replies\""), "{log}");
    for secret in [token, "canary"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
