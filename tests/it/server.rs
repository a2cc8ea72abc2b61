//! The server's limits, its headers, its end, and what it tells an operator.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use offiaccount::{Bot, Context};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::helpers::*;
use crate::wire::{Binary, closed_after, connect, raw};

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

// Slow and large requests.

/// In one test, so that they wait at the same time.
#[tokio::test]
async fn slow_senders_are_closed_in_five_seconds_and_idle_clients_are_not() {
    let world = World::start().await;
    let drops = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: {}",
        "a".repeat(99)
    );
    tokio::join!(
        a_sender_is_closed(&world, b"", Duration::ZERO),
        a_sender_is_closed(&world, b"GET /heal", Duration::ZERO),
        a_sender_is_closed(
            &world,
            b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n",
            Duration::ZERO
        ),
        a_sender_is_closed(&world, drops.as_bytes(), Duration::from_millis(700)),
        a_sender_of_half_a_second_request_is_closed(&world),
        an_idle_client_is_served_again_after_eight_seconds(&world),
    );
}

/// Sends the bytes and no more, or one after another at this pace.
async fn a_sender_is_closed(world: &World, bytes: &[u8], pace: Duration) {
    let mut stream = connect(&world.app.url).await;
    let began = Instant::now();
    if pace.is_zero() {
        stream.write_all(bytes).await.unwrap();
        closed_after(&mut stream, Duration::from_secs(8)).await;
    } else {
        let (mut read, mut write) = stream.into_split();
        let dripping = async {
            for byte in bytes {
                tokio::time::sleep(pace).await;
                if write.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        };
        let mut rest = Vec::new();
        tokio::select! {
            () = dripping => panic!("it took all the drops"),
            _ = read.read_to_end(&mut rest) => {}
        }
    }
    let took = began.elapsed();
    assert!(
        (4_500..7_000).contains(&took.as_millis()),
        "{took:?} for {bytes:?}"
    );
}

async fn a_sender_of_half_a_second_request_is_closed(world: &World) {
    let mut stream = connect(&world.app.url).await;
    exchange(&mut stream).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stream.write_all(&REQUEST[..10]).await.unwrap();
    let took = closed_after(&mut stream, Duration::from_secs(8)).await;
    assert!((4_500..7_000).contains(&took.as_millis()), "{took:?}");
}

async fn an_idle_client_is_served_again_after_eight_seconds(world: &World) {
    let mut stream = connect(&world.app.url).await;
    exchange(&mut stream).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    exchange(&mut stream).await;
}

/// A machine that is suspended, or a process that gets no time: what arrived meanwhile is not late.
#[tokio::test]
async fn requests_that_arrive_while_the_process_stands_still_are_answered() {
    let world = World::start().await;
    let (binary, url) = serve(&world).await;
    let mut waiting = Vec::new();
    for sent in [0, 10, REQUEST.len() - 1] {
        for _ in 0..10 {
            let mut stream = connect(&url).await;
            stream.write_all(&REQUEST[..sent]).await.unwrap();
            waiting.push((stream, sent));
        }
    }
    // Until it has read them.
    exchange(&mut connect(&url).await).await;
    binary.signal("STOP");
    for (stream, sent) in &mut waiting {
        stream.write_all(&REQUEST[*sent..]).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    binary.signal("CONT");
    for (stream, _) in &mut waiting {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}

/// One request and its answer on a connection that stays open.
async fn exchange(stream: &mut TcpStream) {
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed");
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let world = World::start().await;
    let one = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    let many = (0..70).map(|n| format!("X-{n}: a\r\n")).collect::<String>();
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    let endless = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Large: {}",
        "a".repeat(100_000)
    );
    for head in [one, many, endless] {
        let answer = raw(&world.app.url, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let large = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Large: {}\r\n\r\n",
        "a".repeat(16_000)
    );
    let answer = raw(&world.app.url, large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn an_address_that_is_too_long_is_414() {
    let world = World::start().await;
    for path in ["/", "/getJSConfig?url=", "/wechat?signature="] {
        let response = world.get(&format!("{path}{}", "a".repeat(8_200))).await;
        is_problem(response, StatusCode::URI_TOO_LONG, "uri_too_long").await;
    }
    let page = format!("{}/{}", world.app.url, "a".repeat(4_000));
    let response = world
        .http
        .get(format!("{}/getJSConfig", world.app.url))
        .query(&[("url", page)]);
    assert_eq!(world.send(response).await.status(), StatusCode::OK);
}

// Answers.

#[track_caller]
fn is_problem(response: Response, status: StatusCode, code: &str) -> impl Future<Output = Value> {
    let at = std::panic::Location::caller();
    let code = code.to_owned();
    async move {
        assert_eq!(response.status(), status, "{at}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{at}"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status.as_u16(), "{at}");
        assert_eq!(problem["code"], code, "{at}: {problem}");
        for text in ["title", "detail"] {
            assert!(
                problem[text].as_str().is_some_and(|text| !text.is_empty()),
                "{at}: {problem}"
            );
        }
        problem
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_404_problem() {
    let world = World::start().await;
    for path in [
        "/nothing",
        "/wechat/",
        "/wechat/more",
        "/WECHAT",
        "/../Cargo.toml",
        "/.env",
        "/static/app.css",
        "/%2e%2e/x",
        "/a%00b",
        "/%ff",
    ] {
        is_problem(world.get(path).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    for line in ["OPTIONS *", "CONNECT a:443"] {
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw(&world.app.url, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let post = world.http.post(format!("{}/nothing", world.app.url));
    is_problem(world.send(post).await, StatusCode::NOT_FOUND, "not_found").await;
}

#[tokio::test]
async fn a_wrong_method_is_a_405_problem_with_what_is_allowed() {
    let world = World::start().await;
    for (path, allow) in [
        ("/", "GET, HEAD"),
        ("/wechat", "GET, HEAD, POST"),
        ("/wxAuthorize", "GET, HEAD"),
        ("/wxCallback", "GET, HEAD"),
        ("/getUser", "GET, HEAD"),
        ("/getJSConfig", "GET, HEAD, POST"),
        ("/getJsConfig", "GET, HEAD, POST"),
        ("/getTokens", "GET, HEAD"),
        ("/refreshTokens", "POST"),
        ("/getFollowers", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ] {
        let mut methods = vec![Method::PUT, Method::DELETE, Method::PATCH];
        methods.extend((!allow.contains("POST")).then_some(Method::POST));
        methods.extend((!allow.contains("GET")).then_some(Method::GET));
        for method in methods {
            let response = world
                .send(
                    world
                        .http
                        .request(method, format!("{}{path}", world.app.url)),
                )
                .await;
            assert_eq!(
                response
                    .headers()
                    .get("allow")
                    .map(|allow| allow.to_str().unwrap()),
                Some(allow),
                "{path}"
            );
            is_problem(
                response,
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
            )
            .await;
        }
    }
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let world = World::start().await;
    for path in [
        "/",
        "/app.css",
        "/healthz",
        "/readyz",
        "/nothing",
        "/getTokens",
        "/wxAuthorize",
    ] {
        let url = format!("{}{path}", world.app.url);
        let (get, head) = (
            world.send(world.http.get(&url)).await,
            world.send(world.http.head(&url)).await,
        );
        assert_eq!(get.status(), head.status(), "{path}");
        let content_type = |response: &Response| response.headers().get("content-type").cloned();
        assert_eq!(content_type(&get), content_type(&head), "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn every_answer_forbids_sniffing_and_referrers_and_has_an_id_of_its_own() {
    let world = World::start().await;
    let mut ids = HashSet::new();
    for path in [
        "/",
        "/app.css",
        "/nothing",
        "/healthz",
        "/metrics",
        "/wechat",
        "/getTokens",
        "/getUser",
        "/wxAuthorize",
        "/wxAuthorize?next=//evil",
        "/wxCallback?code=c&state=s",
        "/getJSConfig",
    ] {
        let request = world
            .http
            .get(format!("{}{path}", world.app.url))
            .header("x-request-id", "evil");
        let response = world.send(request).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert!(ids.insert(header("x-request-id")), "{path}");
    }
    assert!(!ids.contains("evil"));
}

#[tokio::test]
async fn pages_may_load_from_here_and_from_wechats_script_alone() {
    let setup = Setup::new().settings(|settings| {
        settings.wechat_jssdk_url = Some("https://res.wx.qq.com/open/js/jweixin-1.6.0.js".into());
        settings.wechat_open_url = Some("https://open.weixin.qq.com".into());
    });
    let (simulated, real) = (World::start().await, setup.start().await);
    for path in [
        "/",
        "/wxAuthorize?next=//evil",
        "/wxCallback?code=c&state=s",
    ] {
        let policy = policy(&simulated, path).await;
        let sim = &*simulated.sim;
        assert_eq!(policy["frame-ancestors"], ["'self'", sim], "{path}");
        assert_eq!(policy["script-src"], ["'self'", sim], "{path}");
    }
    let policy = policy(&real, "/").await;
    let scripts = ["'self'", "https://res.wx.qq.com", "https://res2.wx.qq.com"];
    assert_eq!(policy["script-src"], scripts);
    assert_eq!(policy["connect-src"], scripts);
    assert_eq!(policy["img-src"], ["'self'", "http:", "https:", "data:"]);
    assert_eq!(policy["frame-src"], ["'self'", "weixin:", "weixinping:"]);
    assert_eq!(policy["frame-ancestors"], ["'self'"]);
    assert_eq!(policy["default-src"], ["'self'"]);
    let page = real.get("/").await.text().await.unwrap();
    assert!(
        !page.contains(ADMIN_TOKEN),
        "outside of the demo no page holds the admin token"
    );
}

async fn policy(world: &World, path: &str) -> BTreeMap<String, Vec<String>> {
    let response = world.get(path).await;
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(!policy.contains("unsafe"), "{policy}");
    let directive = |directive: &str| {
        let mut words = directive.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.collect()))
    };
    policy.split(';').filter_map(directive).collect()
}

#[tokio::test]
async fn addresses_follow_public_url_and_no_header_of_a_request() {
    let setup = Setup::new()
        .settings(|settings| settings.public_url = Some("https://wx.example.com".into()));
    let world = setup.start().await;
    let url = format!("http://{}", world.app.addr);
    let forged = "GET /wxAuthorize HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\
                  X-Forwarded-Proto: http\r\nForwarded: host=evil.example\r\nConnection: close\r\n\r\n";
    let answer = raw(&url, forged.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    assert!(
        answer.contains("redirect_uri=https%3A%2F%2Fwx.example.com%2FwxCallback"),
        "{answer}"
    );
    assert!(!answer.contains("evil"), "{answer}");
    assert!(answer.contains("; Secure"), "{answer}");
}

// Health and metrics.

#[tokio::test]
async fn an_instance_is_ready_when_store_and_token_are_usable() {
    let world = World::start().await;
    expect_status(world.get("/readyz").await, StatusCode::OK).await;
    expect_status(world.get("/healthz").await, StatusCode::OK).await;

    let setup = Setup::new().settings(|settings| settings.wechat_appsecret = Some("1".repeat(32)));
    let world = setup.start().await;
    let problem = is_problem(
        world.get("/readyz").await,
        StatusCode::SERVICE_UNAVAILABLE,
        "wechat_refused",
    )
    .await;
    assert_eq!(problem["errcode"], 40125);
    // It can answer messages all the same.
    expect_status(world.get("/healthz").await, StatusCode::OK).await;
    assert!(
        world
            .deliver(&text_xml("a"))
            .await
            .text()
            .await
            .unwrap()
            .contains("Hello a")
    );
}

#[tokio::test]
async fn a_platform_that_does_not_answer_is_told_within_two_seconds() {
    let world = World::start().await;
    world
        .fault("/cgi-bin/stable_token", json!({"delay_ms": 20_000}), 5)
        .await;
    let began = Instant::now();
    let response = world.get("/readyz").await;
    is_problem(response, StatusCode::SERVICE_UNAVAILABLE, "no_token_yet").await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

/// The samples of Prometheus text, by name and labels as written. Panics where it is not of the
/// format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let name = regex::Regex::new(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$").unwrap();
    let sample = regex::Regex::new(
        r#"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (\S+)$"#,
    )
    .unwrap();
    assert!(text.ends_with('\n'));
    let (mut types, mut helps, mut samples) = (BTreeMap::new(), HashSet::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (family, text) = help.split_once(' ').unwrap();
            assert!(
                name.is_match(family) && !text.is_empty() && helps.insert(family),
                "{line}"
            );
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (family, kind) = kind.split_once(' ').unwrap();
            assert!(
                helps.contains(family) && ["counter", "gauge", "histogram"].contains(&kind),
                "{line}"
            );
            assert_eq!(types.insert(family, kind), None, "{line}");
        } else {
            let parts = sample.captures(line).unwrap_or_else(|| panic!("{line}"));
            let of_histogram = |suffix: &str| {
                parts[1]
                    .strip_suffix(suffix)
                    .is_some_and(|family| types.get(family) == Some(&"histogram"))
            };
            let is_known = types.contains_key(&parts[1])
                || ["_bucket", "_sum", "_count"].into_iter().any(of_histogram);
            assert!(is_known, "{line}");
            let series = line.rsplit_once(' ').unwrap().0.to_owned();
            let value = parts[3].parse().unwrap();
            assert_eq!(samples.insert(series, value), None, "{line}");
        }
    }
    for (series, count) in &samples {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        if let Some(family) = name.strip_suffix("_count") {
            let labels = labels.trim_end_matches('}');
            let comma = if labels.is_empty() { "" } else { "," };
            let all = format!("{family}_bucket{{{labels}{comma}le=\"+Inf\"}}");
            assert_eq!(samples.get(&all), Some(count), "{all}");
        }
    }
    samples
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_count_what_happens() {
    let bot = Bot::new().on_keyword("fail", async |_: Context| {
        Err::<String, _>("on purpose".into())
    });
    let world = Setup::new().bot(bot).start().await;
    let openid = world.fan().await;
    for content in ["a", "b", "fail"] {
        world
            .act(json!({"openid": openid, "MsgType": "text", "Content": content}))
            .await;
    }
    let message = text_xml("twice");
    world.deliver(&message).await;
    world.deliver(&message).await;
    world
        .act(json!({"openid": openid, "MsgType": "event", "Event": "subscribe"}))
        .await;
    // What a sender makes up is no label.
    world
        .act(json!({"openid": openid, "MsgType": "event", "Event": "made up \" by a sender"}))
        .await;
    world
        .act(json!({"openid": openid, "MsgType": "hologram"}))
        .await;
    world.post("signature=1", "").await;
    expect_status(world.manage("/getTokens").await, StatusCode::OK).await;
    world
        .fault("/cgi-bin/user/get", json!({"errcode": 48001}), 1)
        .await;
    expect_status(world.manage("/getFollowers").await, StatusCode::BAD_GATEWAY).await;
    world.get("/made/up/by/a/client").await;

    let response = world.get("/metrics").await;
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    assert!(
        !text.contains("made up") && !text.contains("made/up") && !text.contains("hologram"),
        "{text}"
    );
    let samples = samples(&text);
    let value = |series: &str| {
        *samples
            .get(series)
            .unwrap_or_else(|| panic!("no {series} in\n{text}"))
    };
    let is = |series: &str, expected: f64| {
        let value = value(series);
        assert!((value - expected).abs() < 1e-9, "{series} {value}");
    };
    is(
        "offiaccount_messages_total{kind=\"text\",outcome=\"answered\"}",
        3.0,
    );
    is(
        "offiaccount_messages_total{kind=\"text\",outcome=\"failed\"}",
        1.0,
    );
    is(
        "offiaccount_messages_total{kind=\"subscribe\",outcome=\"silent\"}",
        1.0,
    );
    is(
        "offiaccount_messages_total{kind=\"unknown\",outcome=\"silent\"}",
        2.0,
    );
    is("offiaccount_message_seconds_count{kind=\"text\"}", 4.0);
    is("offiaccount_deliveries_refused_total{cause=\"query\"}", 1.0);
    // The second of two finds the reply in the store, or on its way there.
    let repeated = ["kept", "joined"].map(|found| {
        let series = format!("offiaccount_deliveries_repeated_total{{found=\"{found}\"}}");
        samples.get(&series).copied().unwrap_or_default()
    });
    assert!((repeated.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{text}");
    is(
        "offiaccount_credential_refreshes_total{credential=\"access_token\",outcome=\"ok\"}",
        1.0,
    );
    is(
        "offiaccount_api_calls_total{errcode=\"0\",path=\"/cgi-bin/stable_token\"}",
        1.0,
    );
    is(
        "offiaccount_api_calls_total{errcode=\"48001\",path=\"/cgi-bin/user/get\"}",
        1.0,
    );
    is(
        "offiaccount_http_requests_total{route=\"/*\",status=\"404\"}",
        1.0,
    );
    let left = value("offiaccount_credential_expires_in_seconds{credential=\"access_token\"}");
    assert!((7_000.0..=7_200.0).contains(&left), "{left}");
    assert!(value("offiaccount_credential_age_seconds{credential=\"access_token\"}") < 60.0);
    assert!(
        samples
            .keys()
            .any(|series| series.starts_with("offiaccount_store_seconds_count"))
    );
    assert!(value("offiaccount_http_connections") >= 1.0);
}

// The end.

/// Waits until the store knows a message and its handler runs.
async fn handling_begins(world: &World) {
    let is_handling = async || {
        let text = world.get("/metrics").await.text().await.unwrap();
        text.contains("\noffiaccount_messages_in_progress{state=\"handled\"} 1\n")
    };
    eventually(Duration::from_secs(3), is_handling).await;
}

#[tokio::test]
async fn what_a_stopping_instance_can_not_finish_another_one_takes_over_at_once() {
    let bot = Bot::new().fallback(async |_: Context| std::future::pending::<String>().await);
    let mut world = Setup::new().bot(bot).start().await;
    let other = App::start(&world.settings, Bot::new(), Default::default()).await;
    let message = text_xml("a");
    let url = format!("{}/wechat?{}", world.app.url, signed_query());
    let hanging = tokio::spawn(world.http.post(url).body(message.clone()).send());
    handling_begins(&world).await;

    let began = Instant::now();
    world.app.stop.cancel();
    world.app.stopped().await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(4_500), "{took:?}");
    // No answer of the bot's, and no reset: the platform delivers again.
    let answer = hanging.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let began = Instant::now();
    let again = world
        .http
        .post(format!("{}/wechat?{}", other.url, signed_query()));
    let reply = world.send(again.body(message)).await.text().await.unwrap();
    assert!(reply.contains("Hello a"), "{reply}");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    other.stop().await;
}

#[tokio::test]
async fn a_last_delivery_is_answered_though_the_instance_stops() {
    let bot = Bot::new().fallback(async |_: Context| std::future::pending::<String>().await);
    let mut world = Setup::new().bot(bot).start().await;
    // By its time this is the third delivery: nobody would deliver it again.
    let made_at = format!("<CreateTime>{}</CreateTime>", now() - 12);
    let old = regex::Regex::new("<CreateTime>[0-9]+</CreateTime>").unwrap();
    let message = old.replace(&text_xml("a"), made_at).into_owned();
    let url = format!("{}/wechat?{}", world.app.url, signed_query());
    let hanging = tokio::spawn(world.http.post(url).body(message).send());
    handling_begins(&world).await;
    world.app.stop.cancel();
    let answer = hanging.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.unwrap(), "success");
    world.app.stopped().await;
}

/// A real process, which serves against the world's platform.
async fn serve(world: &World) -> (Binary, String) {
    let mut binary = Binary::start(
        &["serve"],
        &[
            ("WECHAT_APPID", APPID),
            ("WECHAT_APPSECRET", &"0".repeat(32)),
            ("WECHAT_TOKEN", TOKEN),
            ("WECHAT_API_URL", &world.sim),
            ("WECHAT_OPEN_URL", &world.sim),
            ("ADMIN_TOKEN", ADMIN_TOKEN),
            ("LISTEN", "127.0.0.1:0"),
            ("LOG_FORMAT", "json"),
        ],
    );
    let url = binary.url().await;
    (binary, url)
}

#[tokio::test]
async fn on_sigterm_an_instance_drains_and_ends_well() {
    let world = World::start().await;
    let (mut binary, url) = serve(&world).await;
    let ask = async |path: &str| {
        // A connection of its own, as a balancer's probe has.
        client()
            .get(format!("{url}{path}"))
            .bearer_auth(ADMIN_TOKEN)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(ask("/healthz").await.status(), StatusCode::OK);
    let mut idle = connect(&url).await;
    exchange(&mut idle).await;
    let mut busy = connect(&url).await;
    exchange(&mut busy).await;

    world
        .fault("/cgi-bin/stable_token", json!({"delay_ms": 2_000}), 1)
        .await;
    let signalling = async {
        eventually(Duration::from_secs(5), async || {
            binary_has_asked(&url).await
        })
        .await;
        binary.signal("TERM");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        let health = ask("/healthz").await;
        assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.headers()["connection"], "close");
        // A message that still comes is still answered.
        let message = client()
            .post(format!("{url}/wechat?{}", signed_query()))
            .body(text_xml("late"));
        assert!(
            message
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
                .contains("Hello late")
        );
        // On a connection that was open before, too, which then ends.
        busy.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        busy.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"),
            "{answer}"
        );
        began
    };
    let (in_flight, signalled) = tokio::join!(ask("/getTokens"), signalling);
    assert_eq!(
        in_flight.status(),
        StatusCode::OK,
        "it was under way at the signal"
    );
    assert_eq!(in_flight.headers()["connection"], "close");
    closed_after(&mut idle, Duration::from_secs(4)).await;
    let (code, _) = binary.ended().await;
    assert_eq!(code, 0, "{}", binary.output());
    let took = signalled.elapsed() + Duration::from_millis(200);
    assert!(took < Duration::from_millis(4_500), "{took:?}");
    assert!(binary.output().contains("stopped"), "{}", binary.output());
}

#[tokio::test]
async fn an_instance_ends_in_time_though_the_platform_hangs() {
    let world = World::start().await;
    world
        .fault("/cgi-bin/stable_token", json!({"delay_ms": 60_000}), 9)
        .await;
    let (mut binary, url) = serve(&world).await;
    let hanging = client()
        .get(format!("{url}/getTokens"))
        .bearer_auth(ADMIN_TOKEN)
        .send();
    let hanging = tokio::spawn(hanging);
    let asked = async || binary_has_asked(&url).await;
    eventually(Duration::from_secs(5), asked).await;
    let began = Instant::now();
    binary.signal("TERM");
    let (code, _) = binary.ended().await;
    assert_eq!(code, 0, "{}", binary.output());
    assert!(
        began.elapsed() < Duration::from_millis(4_500),
        "{:?}",
        began.elapsed()
    );
    drop(hanging);
}

/// Whether a request for the token is under way: its lease is taken.
async fn binary_has_asked(url: &str) -> bool {
    let metrics = client().get(format!("{url}/metrics")).send().await.unwrap();
    metrics
        .text()
        .await
        .unwrap()
        .contains("operation=\"lease_credential\"")
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let world = World::start().await;
    world
        .fault("/cgi-bin/stable_token", json!({"delay_ms": 60_000}), 9)
        .await;
    let (mut binary, url) = serve(&world).await;
    let hanging = tokio::spawn(
        client()
            .get(format!("{url}/getTokens"))
            .bearer_auth(ADMIN_TOKEN)
            .send(),
    );
    eventually(Duration::from_secs(5), async || {
        binary_has_asked(&url).await
    })
    .await;
    binary.signal("TERM");
    binary.says("(shutting down)").await;
    let began = Instant::now();
    binary.signal("INT");
    let (code, _) = binary.ended().await;
    assert_ne!(code, 0);
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn ctrl_c_ends_it_as_sigterm_does() {
    let world = World::start().await;
    let (mut binary, _) = serve(&world).await;
    binary.signal("INT");
    let (code, took) = binary.ended().await;
    assert_eq!(code, 0);
    assert!(
        took < Duration::from_secs(3),
        "with nothing to do: {took:?}"
    );
}

#[tokio::test]
async fn a_connection_made_in_the_last_moment_of_a_drain_is_still_answered() {
    let mut world = World::start().await;
    world.app.stop.cancel();
    let mut last = connect(&world.app.url).await;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while let Ok(stream) = TcpStream::connect(world.app.addr).await {
        last = stream;
        pace.tick().await;
    }
    // The door is closed, and its request only sets out.
    last.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // One that says nothing holds nobody up.
    let began = Instant::now();
    world.app.stopped().await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_request_that_hangs_while_draining_is_answered_503() {
    let mut world = World::start().await;
    world
        .fault("/cgi-bin/user/get", json!({"delay_ms": 20_000}), 1)
        .await;
    let request = world.http.get(format!("{}/getFollowers", world.app.url));
    let hanging = tokio::spawn(request.bearer_auth(ADMIN_TOKEN).send());
    eventually(Duration::from_secs(5), async || {
        let metrics = world.get("/metrics").await.text().await.unwrap();
        metrics
            .contains(r#"offiaccount_api_calls_total{errcode="0",path="/cgi-bin/stable_token"} 1"#)
    })
    .await;
    world.app.stop.cancel();
    let answer = hanging.await.unwrap().expect("an answer, no reset");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["connection"], "close");
    world.app.stopped().await;
}
