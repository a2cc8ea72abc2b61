//! No secret leaves: the real binary at its most talkative, with canaries for secrets, and none of them in
//! anything it writes or answers.

use offiaccount::secret::Secret;
use offiaccount::simulator::{Mode, Options, Simulator};
use offiaccount::wechat::signature::sign;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::helpers::{APPID, client, eventually, nonce, now};
use crate::wire::{Binary, sign_in};

const SECRET: &str = "canaryappsecret0123456789abcdef0";
const TOKEN: &str = "canarytoken2026";
const TOKEN_PREVIOUS: &str = "canarytoken2025";
const AES_KEY: &str = "canaryaeskeyabcdefghijklmnopqrstuvwxyz01234";
const AES_KEY_PREVIOUS: &str = "canaryaeskeybefore0123456789abcdefghijklmno";
const ADMIN_TOKEN: &str = "canary-admin-token";
const STORE_KEY: &str = "cafe0badcafe0badcafe0badcafe0badcafe0badcafe0badcafe0badcafe0bad";
const STORE_KEY_PREVIOUS: &str = "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbee0";
/// What a stranger tries as an admin token, and what an operator reports as dead.
const GUESS: &str = "canary-guess";
/// What a fan writes.
const CONTENT: &str = "canary-content";

/// A platform whose account has the canaries.
async fn platform() -> String {
    let simulator = Simulator::build(Options {
        listen: "127.0.0.1:0".into(),
        appsecret: Secret::new(SECRET),
        token: Secret::new(TOKEN),
        encoding_aes_key: Some(Secret::new(AES_KEY)),
        mode: Mode::Safe,
        ..Options::default()
    })
    .unwrap();
    let url = simulator.url().to_owned();
    tokio::spawn(simulator.run_until(std::future::pending()));
    url
}

fn settings(sim: &str) -> Vec<(&'static str, String)> {
    [
        ("WECHAT_APPID", APPID),
        ("WECHAT_APPSECRET", SECRET),
        ("WECHAT_TOKEN", TOKEN),
        ("WECHAT_TOKEN_PREVIOUS", TOKEN_PREVIOUS),
        ("WECHAT_ENCODING_AES_KEY", AES_KEY),
        ("WECHAT_ENCODING_AES_KEY_PREVIOUS", AES_KEY_PREVIOUS),
        ("ADMIN_TOKEN", ADMIN_TOKEN),
        ("STORE_KEY", STORE_KEY),
        ("STORE_KEY_PREVIOUS", STORE_KEY_PREVIOUS),
        ("WECHAT_API_URL", sim),
        ("WECHAT_OPEN_URL", sim),
        ("LISTEN", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

fn start(settings: &[(&'static str, String)], levels: &str) -> Binary {
    let mut env: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    env.push(("RUST_LOG", levels));
    Binary::start(&["serve"], &env)
}

/// Sends a request that needs no management, and keeps the answer: status, headers and body.
async fn ask(answers: &mut String, request: RequestBuilder) {
    let response = request.send().await.unwrap();
    answers.push_str(&format!("{} {:?}\n", response.status(), response.headers()));
    answers.push_str(&response.text().await.unwrap());
    answers.push('\n');
}

async fn sim(base: &str, path: &str, body: Value) -> Value {
    let request = client().post(format!("{base}/_sim/{path}")).json(&body);
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{path}");
    response.json().await.unwrap()
}

/// Everything secret that the platform gave out or was told: tokens, tickets and codes.
async fn secrets_seen(base: &str) -> Vec<String> {
    let log = client()
        .get(format!("{base}/_sim/requests"))
        .send()
        .await
        .unwrap();
    let log: Value = log.json().await.unwrap();
    // Bodies stand in it as texts of JSON, so with escaped quotes.
    let log = log.to_string().replace('\\', "");
    let mut secrets = Vec::new();
    for name in ["access_token", "refresh_token", "ticket", "code"] {
        let pattern = format!(r#"\b{name}(?:"\s*:\s*"|=)([A-Za-z0-9_-]{{16,}})"#);
        let pattern = regex::Regex::new(&pattern).unwrap();
        let found = pattern.captures_iter(&log).map(|found| found[1].to_owned());
        let before = secrets.len();
        secrets.extend(found);
        assert!(secrets.len() > before, "no {name} in {log}");
    }
    secrets.sort_unstable();
    secrets.dedup();
    secrets
}

#[tokio::test]
async fn no_secret_is_in_any_log_line_or_answer_of_a_walk_at_trace() {
    let sim_url = platform().await;
    let mut binary = start(&settings(&sim_url), "trace,hyper=trace,reqwest=trace");
    let url = binary.url().await;
    let put = client().put(format!("{sim_url}/_sim/account"));
    let put = put.json(&json!({"callback_url": format!("{url}/wechat")}));
    assert!(put.send().await.unwrap().status().is_success());
    let fans = client()
        .get(format!("{sim_url}/_sim/fans"))
        .send()
        .await
        .unwrap();
    let fans: Value = fans.json().await.unwrap();
    let fan = fans[0]["openid"].as_str().unwrap();
    let mut answers = String::new();
    let browser = client();
    let get = |path: &str| browser.get(format!("{url}{path}"));
    let manage = |path: &str| get(path).bearer_auth(ADMIN_TOKEN);

    // Messages.
    assert_eq!(sim(&sim_url, "verify", json!({})).await["ok"], true);
    let message = json!({"openid": fan, "MsgType": "text", "Content": CONTENT});
    let said = sim(&sim_url, "send", message).await;
    assert_eq!(said["shown_to_user"], format!("Hello {CONTENT}"));
    for (token, body) in [(TOKEN, "<xml>"), (TOKEN, ""), ("another1", "<xml/>")] {
        let (timestamp, nonce) = (now().to_string(), nonce());
        let signature = sign(token, &timestamp, &nonce);
        let query = format!("signature={signature}&timestamp={timestamp}&nonce={nonce}");
        ask(
            &mut answers,
            browser.post(format!("{url}/wechat?{query}")).body(body),
        )
        .await;
        ask(
            &mut answers,
            get(&format!("/wechat?{query}&echostr=<{GUESS}>")),
        )
        .await;
    }

    // A sign-in, the profile, the JS-SDK; each again while the platform fails.
    ask(&mut answers, get("/wxAuthorize")).await;
    sign_in(&browser, &url, &sim_url, fan).await;
    ask(&mut answers, get("/getUser")).await;
    ask(&mut answers, get(&format!("/getJSConfig?url={url}/"))).await;
    ask(&mut answers, get("/")).await;
    for fault in [
        json!({"path": "/sns/userinfo", "errcode": 40001}),
        json!({"path": "/sns/userinfo", "errcode": -1}),
        json!({"path": "/sns/userinfo", "status": 500}),
        json!({"path": "/sns/userinfo", "body": "<html>"}),
    ] {
        sim(&sim_url, "faults", fault).await;
        ask(&mut answers, get("/getUser")).await;
    }
    for fault in [
        json!({"path": "/sns/oauth2/access_token", "errcode": 40029}),
        json!({"path": "/sns/oauth2/access_token", "status": 502}),
    ] {
        sim(&sim_url, "faults", fault).await;
        let stranger = client();
        let page = stranger
            .get(format!("{url}/wxAuthorize"))
            .send()
            .await
            .unwrap();
        let state = page.headers()["location"].to_str().unwrap();
        let state = state
            .split("state=")
            .nth(1)
            .unwrap()
            .split(['&', '#'])
            .next()
            .unwrap();
        let callback = format!("{url}/wxCallback?code={GUESS}&state={state}");
        ask(&mut answers, stranger.get(callback)).await;
    }
    ask(
        &mut answers,
        get(&format!("/wxCallback?code={GUESS}&state={GUESS}")),
    )
    .await;

    // Management, in the right and in wrong ways. Its own answers may hold a token.
    ask(&mut answers, get("/getTokens")).await;
    ask(&mut answers, get("/getTokens").bearer_auth(GUESS)).await;
    for path in ["/getTokens", "/getFollowers"] {
        assert!(manage(path).send().await.unwrap().status().is_success());
    }
    for reported in [json!({"access_token": GUESS}), json!({}), json!([GUESS])] {
        let request = browser
            .post(format!("{url}/refreshTokens"))
            .bearer_auth(ADMIN_TOKEN);
        request.json(&reported).send().await.unwrap();
    }
    for fault in [
        json!({"path": "/cgi-bin/user/get", "errcode": 40001}),
        json!({"path": "/cgi-bin/user/get", "errcode": 48001}),
        json!({"path": "/cgi-bin/user/get", "status": 503}),
        json!({"path": "/cgi-bin/stable_token", "status": 503}),
    ] {
        sim(&sim_url, "faults", fault).await;
        manage("/getFollowers").send().await.unwrap();
    }

    // Odds and ends, and the end.
    for path in [
        "/healthz", "/readyz", "/metrics", "/nothing", "/app.css", "/.env",
    ] {
        ask(&mut answers, get(path)).await;
    }
    let left = json!({"openid": fan, "MsgType": "event", "Event": "unsubscribe"});
    sim(&sim_url, "send", left).await;
    ask(&mut answers, get("/getUser")).await;
    binary.signal("TERM");
    let (code, _) = binary.ended().await;
    assert_eq!(code, 0);

    let output = binary.output();
    for needed in [
        "\"level\":\"DEBUG\"",
        "\"level\":\"WARN\"",
        "API call failed",
        "refused a delivery",
    ] {
        assert!(
            output.contains(needed),
            "the walk is to be talkative: no {needed} in\n{output}"
        );
    }
    let mut secrets = secrets_seen(&sim_url).await;
    let ours = [
        SECRET,
        TOKEN,
        TOKEN_PREVIOUS,
        AES_KEY,
        AES_KEY_PREVIOUS,
        ADMIN_TOKEN,
        STORE_KEY,
        STORE_KEY_PREVIOUS,
        GUESS,
    ];
    secrets.extend(ours.map(str::to_owned));
    for secret in &secrets {
        let in_log = output.lines().find(|line| line.contains(secret));
        assert_eq!(in_log, None, "{secret} is in the log");
        let in_answer = answers.lines().find(|line| line.contains(secret));
        assert_eq!(in_answer, None, "{secret} is in an answer");
    }
    // The cookies are for the browser alone.
    let cookie = regex::Regex::new(r#""set-cookie": "[a-z_]+=([^;"]{16,})"#).unwrap();
    let cookies: Vec<_> = cookie
        .captures_iter(&answers)
        .map(|found| found[1].to_owned())
        .collect();
    assert!(!cookies.is_empty(), "{answers}");
    for cookie in cookies {
        assert!(!output.contains(&cookie), "a cookie is in the log");
    }
}

#[tokio::test]
async fn what_a_fan_writes_is_not_in_the_log_at_the_usual_level() {
    let sim_url = platform().await;
    let mut binary = start(&settings(&sim_url), "info");
    let url = binary.url().await;
    let put = client().put(format!("{sim_url}/_sim/account"));
    let put = put.json(&json!({"callback_url": format!("{url}/wechat")}));
    put.send().await.unwrap();
    let message = json!({"openid": "oFan0000000000000000000000001", "MsgType": "text", "Content": CONTENT.repeat(200)});
    let said = sim(&sim_url, "send", message).await;
    assert!(said["shown_to_user"].as_str().unwrap().contains(CONTENT));
    // It was too long, which is logged.
    eventually(std::time::Duration::from_secs(5), async || {
        binary.output().contains("over 2048")
    })
    .await;
    assert!(!binary.output().contains(CONTENT), "{}", binary.output());
}

#[tokio::test]
async fn a_password_of_the_database_is_in_no_error() {
    let sim_url = platform().await;
    // At the same time: each waits 3 s for a server.
    let runs = [
        ("mongodb://operator:canary-password@127.0.0.1:1/db", 1),
        (
            "mongodb://operator:canary-password@127.0.0.1:1/db?replicaSet=canary-set&w=canary",
            1,
        ),
        ("mongodb://operator:canary-pass@word@127.0.0.1:1/db", 2),
        ("mongodb+srv://operator:canary-password@127.0.0.1:1/db", 2),
        ("mysql://operator:canary-password@127.0.0.1/db", 2),
        ("canary-password", 2),
    ];
    let runs = runs.iter().flat_map(|run| [("serve", run), ("check", run)]);
    let runs = runs.map(|(command, (database_url, exit_code))| {
        let mut settings = settings(&sim_url);
        settings.push(("DATABASE_URL", (*database_url).to_owned()));
        settings.push(("RUST_LOG", "trace,mongodb=trace".to_owned()));
        async move {
            let env: Vec<_> = settings
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            let (code, output) = Binary::run(&[command], &env).await;
            assert!(!output.contains("canary-pass"), "{database_url}: {output}");
            assert!(output.contains("DATABASE_URL"), "{database_url}: {output}");
            assert_eq!(code, *exit_code, "{command} {database_url}: {output}");
        }
    });
    futures_util::future::join_all(runs).await;
}
