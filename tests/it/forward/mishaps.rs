//! Everything a program at `FORWARD_URL` can do wrong.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use poem::http::header;
use poem::{Body, Response};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::downstream::{Downstream, json_answer, says, verify};
use super::{FALLBACK, SECRET_BYTES, acts, calls, forwarding, hears, menu_tap, metric, status};
use crate::helpers::*;

fn of_type(content_type: &str, body: impl Into<Body>) -> Response {
    Response::builder().content_type(content_type).body(body)
}

/// What the program answers, and the cause under which it is counted.
type Mishap = (fn() -> Response, &'static str);

fn mishaps() -> Vec<Mishap> {
    vec![
        (|| of_type("text/html", "<html>Hello</html>"), "not_json"),
        (
            || of_type("text/html", r#"{"MsgType":"text","Content":"a"}"#),
            "not_json",
        ),
        (|| Response::builder().body("plain"), "not_json"),
        (|| json_answer("<html>"), "bad_json"),
        (|| json_answer(r#"{"MsgType":"text","Content""#), "bad_json"),
        (|| json_answer(r#"{"MsgType":"hologram"}"#), "bad_reply"),
        (|| json_answer(r#"{"MsgType":"text"}"#), "bad_reply"),
        (|| json_answer("[]"), "bad_reply"),
        (|| json_answer(r#""a""#), "bad_reply"),
        (|| json_answer(vec![b' '; (64 << 10) + 1]), "too_large"),
        (|| status(201), "status"),
        (|| status(400), "status"),
        (|| status(404), "status"),
        (|| status(429), "status"),
        (|| status(500), "status"),
        (|| status(508), "loop"),
    ]
}

#[tokio::test]
async fn a_mishap_is_counted_by_its_cause_and_the_user_gets_the_fallback() {
    let queue: Mutex<VecDeque<fn() -> Response>> = Mutex::default();
    let queue = std::sync::Arc::new(queue);
    let answers = std::sync::Arc::clone(&queue);
    let downstream = Downstream::start(move |_| {
        let answer = answers.lock().unwrap().pop_front().expect("called once")();
        async { answer }
    })
    .await;
    let world = forwarding(&downstream.url).start().await;
    for (number, (mishap, cause)) in mishaps().into_iter().enumerate() {
        let before = calls(&world, cause).await;
        queue.lock().unwrap().extend([mishap, mishap]);
        assert_eq!(hears(&world, "a").await, FALLBACK, "{number} {cause}");
        // Two of one key in one second are one event.
        let event = acts(&world, menu_tap(&number.to_string())).await;
        assert_eq!(event["attempts"][0]["body"], "success", "{number} {cause}");
        assert_eq!(
            event["attempts"].as_array().unwrap().len(),
            1,
            "{number} {cause}"
        );
        let counted = calls(&world, cause).await - before;
        assert!((counted - 2.0).abs() < 0.5, "{number} {cause}: {counted}");
        assert!(queue.lock().unwrap().is_empty());
    }
    let dead = metric(&world, "offiaccount_dead_letters_total{cause=\"status\"}").await;
    assert!((dead - 10.0).abs() < 0.5, "{dead}");
}

#[tokio::test]
async fn the_fallback_is_what_the_settings_say() {
    let downstream = Downstream::start(|_| async { status(500) }).await;
    let setup = forwarding(&downstream.url);
    let setup = setup.settings(|settings| settings.fallback_text = Some("稍后".into()));
    assert_eq!(hears(&setup.start().await, "a").await, "稍后");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let aim = Downstream::saying("followed").await;
    for code in [301, 302, 303, 307, 308] {
        let location = aim.url.clone();
        let downstream = Downstream::start(move |_| {
            let response = Response::builder().status(status(code).status());
            let response = response.header(header::LOCATION, &location).finish();
            async { response }
        })
        .await;
        let world = forwarding(&downstream.url).start().await;
        assert_eq!(hears(&world, "a").await, FALLBACK, "{code}");
        assert!(
            (calls(&world, "redirect").await - 1.0).abs() < 0.5,
            "{code}"
        );
        assert_eq!(downstream.received().len(), 1);
    }
    assert_eq!(aim.received().len(), 0);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let downstream = Downstream::start(|_| async {
        let chunks =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1024]));
        json_answer(Body::from_bytes_stream(chunks))
    })
    .await;
    let world = forwarding(&downstream.url).start().await;
    assert_eq!(hears(&world, "a").await, FALLBACK);
    assert!((calls(&world, "too_large").await - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_connection_that_breaks_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let accepted = tokio::spawn(async move {
        let mut accepted = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncReadExt as _;
            accepted += 1;
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            drop(stream);
            if accepted == 2 {
                break;
            }
        }
        accepted
    });
    let world = forwarding(&url).start().await;
    assert_eq!(hears(&world, "a").await, FALLBACK);
    assert_eq!(hears(&world, "b").await, FALLBACK);
    assert_eq!(accepted.await.unwrap(), 2, "one for each message");
    assert!((calls(&world, "broken").await - 2.0).abs() < 0.5);
}

#[tokio::test]
async fn what_is_not_up_is_asked_again_under_the_same_id() {
    let number = Mutex::new(0);
    let downstream = Downstream::start(move |_| {
        let mut number = number.lock().unwrap();
        *number += 1;
        let answer = match *number {
            1 => status(502),
            2 => status(503),
            3 => status(504),
            _ => says("up"),
        };
        async { answer }
    })
    .await;
    let world = forwarding(&downstream.url).start().await;
    assert_eq!(hears(&world, "a").await, "up");
    let received = downstream.received();
    assert_eq!(received.len(), 4);
    for again in &received {
        assert_eq!(again.header("webhook-id"), received[0].header("webhook-id"));
        assert_eq!(again.body, received[0].body);
        verify(again, SECRET_BYTES);
    }
    let retries = metric(
        &world,
        "offiaccount_forward_retries_total{cause=\"unavailable\"}",
    )
    .await;
    assert!((retries - 3.0).abs() < 0.5, "{retries}");
    assert!((calls(&world, "reply").await - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn what_refuses_connections_is_asked_until_it_is_up() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let world = forwarding(&format!("http://{addr}/bot")).start().await;
    let rising = async {
        let tried = async || {
            metric(
                &world,
                "offiaccount_forward_retries_total{cause=\"unreachable\"}",
            )
            .await
                > 1.5
        };
        eventually(Duration::from_secs(4), tried).await;
        let listener = TcpListener::bind(addr).await.unwrap();
        Downstream::start_on(listener, |_| async { says("up") })
    };
    let (heard, downstream) = tokio::join!(hears(&world, "a"), rising);
    assert_eq!(heard, "up");
    assert_eq!(downstream.received().len(), 1);
}

// Going in a circle.

#[tokio::test]
async fn a_message_that_comes_back_is_refused_as_a_loop_and_counted() {
    let other = World::start().await;
    let world = forwarding(&format!("{}/wechat", other.app.url))
        .start()
        .await;
    assert_eq!(hears(&world, "a").await, FALLBACK);
    assert!((calls(&world, "loop").await - 1.0).abs() < 0.5);
    let dead = metric(&world, "offiaccount_dead_letters_total{cause=\"loop\"}").await;
    assert!((dead - 1.0).abs() < 0.5, "{dead}");
}

#[tokio::test]
async fn every_route_refuses_what_was_forwarded() {
    let world = World::start().await;
    for path in [
        "/",
        "/wechat",
        "/replies",
        "/healthz",
        "/getTokens",
        "/wxAuthorize",
        "/no/such/route",
    ] {
        for method in [reqwest::Method::POST, reqwest::Method::GET] {
            let request = world
                .http
                .request(method, format!("{}{path}", world.app.url));
            let request = request.header("Offiaccount-Reply-Url", "");
            let problem: Value =
                expect_status(world.send(request).await, StatusCode::LOOP_DETECTED).await;
            assert_eq!(problem["code"], "forward_loop", "{path}");
            assert_eq!(problem["status"], 508, "{path}");
        }
        let plain = world.get(path).await.status();
        assert_ne!(plain, StatusCode::LOOP_DETECTED, "{path}");
    }
}

#[tokio::test]
async fn settings_that_lead_back_here_are_refused_at_the_start() {
    let env = [
        ("WECHAT_APPID", APPID),
        ("WECHAT_APPSECRET", "00000000000000000000000000000000"),
        ("WECHAT_TOKEN", TOKEN),
        ("FORWARD_URL", "http://localhost:3000/wechat?canary"),
    ];
    let (code, output) = crate::wire::Binary::run(&["serve"], &env).await;
    assert_eq!(code, 2, "{output}");
    for fault in ["FORWARD_URL: leads back here", "FORWARD_SECRET: is missing"] {
        assert!(output.contains(fault), "{output}");
    }
    assert!(!output.contains("canary"), "{output}");
}

#[tokio::test]
async fn the_third_delivery_says_to_wait_while_a_call_runs() {
    // The rest of the ladder is the ledger's.
    let downstream = Downstream::start(|_| std::future::pending()).await;
    let setup = forwarding(&downstream.url).settings(|settings| {
        settings.thinking_text = Some("想一想…".into());
        settings.slow_answers = Some("keep".into());
    });
    let world = setup.start().await;
    let result = acts(&world, json!({"MsgType": "text", "Content": "a"})).await;
    assert_eq!(result["shown_to_user"], "想一想…", "{result}");
    assert_eq!(downstream.received().len(), 1);
}
