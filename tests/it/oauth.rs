//! Web OAuth as people and browsers live it: sign-in, sessions, profiles, and all that goes wrong.

use std::time::Duration;

use futures_util::future::join_all;
use offiaccount::Bot;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::helpers::{ACCOUNT, APPID, App, Setup, World, expect_status, now};
use crate::stored::{SESSION_EXPIRES, SIGN_IN_EXPIRES, Stored, WEB_TOKEN_EXPIRES, When};
use crate::visitor::{BROWSER, SESSION, Visitor, cookie, expect_page, location};

const EXCHANGE: &str = "/sns/oauth2/access_token";
const REFRESH: &str = "/sns/oauth2/refresh_token";
const USERINFO: &str = "/sns/userinfo";
const PROFILE: &str = "scope=snsapi_userinfo";
const BASE: &str = "scope=snsapi_base";
/// The life of a web access_token.
const LIFE_S: u64 = 7200;
const MONTH_S: u64 = 30 * 24 * 3600;

impl World {
    /// All the platform answered to calls of `path`, newest first.
    async fn answers(&self, path: &str) -> Vec<Value> {
        let requests = self.sim("requests", None).await;
        let requests = requests.as_array().unwrap().iter();
        requests
            .filter(|it| it["path"] == path)
            .map(|it| serde_json::from_str(it["response_body"].as_str().unwrap()).unwrap())
            .collect()
    }

    async fn another_fan(&self) -> String {
        let fans = self.sim("fans", None).await;
        fans[1]["openid"].as_str().unwrap().to_owned()
    }

    /// What the platform gives for the code of a callback, asked by the test itself.
    async fn exchange(&self, callback: &str) -> Value {
        let code = parameter(callback, "code").unwrap();
        let query = format!(
            "appid={APPID}&secret={}&code={code}&grant_type=authorization_code",
            "0".repeat(32)
        );
        let request = self.http.get(format!("{}{EXCHANGE}?{query}", self.sim));
        expect_status(self.send(request).await, StatusCode::OK).await
    }
}

fn parameter(address: &str, name: &str) -> Option<String> {
    let url = Url::parse(address).unwrap();
    let mut pairs = url.query_pairs().filter(|(key, _)| key == name);
    pairs.next().map(|(_, value)| value.into_owned())
}

async fn user(visitor: &Visitor, status: StatusCode) -> Value {
    expect_status(visitor.open("/getUser").await, status).await
}

#[tokio::test]
async fn a_user_signs_in_by_the_consent_page_and_the_page_gets_his_profile() {
    let world = World::start().await;
    let (visitor, fan) = (Visitor::of(&world), world.fan().await);
    let answer = visitor.sign_in(PROFILE, &fan).await;
    assert_eq!(location(&answer), format!("/?openid={fan}"));
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");

    let fans = world.sim("fans", None).await;
    let profile = user(&visitor, StatusCode::OK).await;
    assert_eq!(profile["openid"], fan.as_str());
    assert_eq!(profile["nickname"], fans[0]["nickname"]);
    assert_eq!(profile["headimgurl"], fans[0]["headimgurl"]);
    assert_eq!(profile["unionid"], fans[0]["unionid"]);
    for name in [
        "sex",
        "language",
        "city",
        "province",
        "country",
        "privilege",
    ] {
        assert!(profile.get(name).is_some(), "{name}");
    }
    // Asked of the platform each time.
    let renamed = json!({"openid": fan, "nickname": "改名"});
    world.sim("fans", Some(renamed)).await;
    let answer = visitor.open(&format!("/getUser?openid={fan}")).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let profile = expect_status(answer, StatusCode::OK).await;
    assert_eq!(profile["nickname"], "改名");
    assert_eq!(world.calls(USERINFO).await, 2);
    assert_eq!(world.calls(EXCHANGE).await, 1);
    assert_eq!(world.calls(REFRESH).await, 0);
}

#[tokio::test]
async fn the_authorize_url_has_wechats_order_and_ending() {
    let world = World::start().await;
    let callback: String =
        url::form_urlencoded::byte_serialize(format!("{}/wxCallback", world.app.url).as_bytes())
            .collect();
    let mut states = std::collections::HashSet::new();
    for (query, scope) in [
        ("", "snsapi_userinfo"),
        ("scope=", "snsapi_userinfo"),
        (PROFILE, "snsapi_userinfo"),
        (BASE, "snsapi_base"),
    ] {
        let visitor = Visitor::of(&world);
        let answer = visitor.open(&format!("/wxAuthorize?{query}")).await;
        let url = location(&answer);
        let start = format!(
            "{}/connect/oauth2/authorize?appid={APPID}&redirect_uri={callback}\
             &response_type=code&scope={scope}&state=",
            world.sim
        );
        let rest = url.strip_prefix(&start).unwrap_or_else(|| panic!("{url}"));
        let state = rest
            .strip_suffix("&connect_redirect=1#wechat_redirect")
            .unwrap_or_else(|| panic!("{url}"));
        // 128 bits and more, in the characters that are documented.
        assert!((22..=128).contains(&state.len()), "{state}");
        assert!(state.bytes().all(|b| b.is_ascii_alphanumeric()), "{state}");
        assert!(states.insert(state.to_owned()), "a state twice");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    }
    for query in [
        "scope=snsapi_login",
        "scope=snsapi_base&scope=snsapi_base",
        "scope=snsapi_base%20snsapi_userinfo",
    ] {
        let answer = Visitor::of(&world)
            .open(&format!("/wxAuthorize?{query}"))
            .await;
        expect_page(answer, StatusCode::BAD_REQUEST).await;
    }
}

#[tokio::test]
async fn the_callers_id_comes_back_as_state() {
    let world = World::start().await;
    let fan = world.fan().await;
    for (query, expected) in [
        ("id=42", format!("/?openid={fan}&state=42")),
        (
            "id=a%20b%26c%23d%2F%E4%B8%AD",
            format!("/?openid={fan}&state=a+b%26c%23d%2F%E4%B8%AD"),
        ),
        ("id=7&next=/shop", "/shop?state=7".to_owned()),
        (
            "id=7&next=/shop%3Fitem%3D1%23top",
            "/shop?item=1&state=7#top".to_owned(),
        ),
        ("next=/shop%3Fitem%3D1", "/shop?item=1".to_owned()),
        ("next=/%E5%95%86%E5%BA%97", "/%E5%95%86%E5%BA%97".to_owned()),
        (
            "next=/a%3Fto%3Dhttps://x.example//y",
            "/a?to=https://x.example//y".to_owned(),
        ),
    ] {
        let visitor = Visitor::of(&world);
        let answer = visitor.sign_in(query, &fan).await;
        assert_eq!(location(&answer), expected, "{query}");
    }
    let answer = Visitor::of(&world)
        .open(&format!("/wxAuthorize?id={}", "x".repeat(5000)))
        .await;
    expect_page(answer, StatusCode::BAD_REQUEST).await;
}

#[tokio::test]
async fn a_next_that_could_lead_off_this_site_is_refused() {
    let world = World::start().await;
    for next in [
        "https://evil.example",
        "http:evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/%2Fevil.example",
        "/%2fevil.example",
        "/%5Cevil.example",
        "%2F%2Fevil.example",
        "/\t/evil.example",
        "/%09/evil.example",
        "/\n/evil.example",
        "/%0A/evil.example",
        "/a\r\nSet-Cookie: x=1",
        "/a%0d%0aSet-Cookie:%20x=1",
        "/a%00b",
        "/a\u{0}b",
        "/a\\b",
        "/a%5cb",
        "/a\u{7f}",
        "/a\u{85}b",
        "/a?q=\r\nSet-Cookie: x=1",
        " /a",
        "\t//evil.example",
        "a",
        "?q",
        "#a",
        ".//evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
    ] {
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let answer = Visitor::of(&world)
            .open(&format!("/wxAuthorize?next={next}"))
            .await;
        assert!(cookie(&answer, BROWSER).is_none());
        let page = expect_page(answer, StatusCode::BAD_REQUEST).await;
        assert!(!page.contains("evil"), "{next} is reflected");
    }
    let twice = Visitor::of(&world)
        .open("/wxAuthorize?next=/a&next=/b")
        .await;
    expect_page(twice, StatusCode::BAD_REQUEST).await;
    let long = format!("/wxAuthorize?next=/{}", "x".repeat(4000));
    expect_page(
        Visitor::of(&world).open(&long).await,
        StatusCode::BAD_REQUEST,
    )
    .await;
}

#[tokio::test]
async fn a_callback_without_this_browsers_own_state_exchanges_nothing() {
    let world = World::start().await;
    let fan = world.fan().await;
    let visitor = Visitor::of(&world);
    let begun = visitor.open("/wxAuthorize").await;
    let consent = Url::parse(location(&begun)).unwrap();
    let callback = visitor.decide(&consent, &fan, "allow").await;
    let code = parameter(&callback, "code").unwrap();
    let state = parameter(&callback, "state").unwrap();
    let stranger = Visitor::of(&world);
    stranger.begin(PROFILE).await;
    let nobody = Visitor::of(&world);
    let unknown = "0".repeat(32);
    let with = |query: String| format!("/wxCallback?{query}");
    for (who, path) in [
        (&nobody, callback.clone()),
        (&stranger, callback.clone()),
        (&visitor, with(format!("code={code}"))),
        (&visitor, with(format!("code={code}&state="))),
        (&visitor, with(format!("code={code}&state={unknown}"))),
        (&visitor, with(format!("code={code}&state={state}x"))),
        (
            &visitor,
            with(format!("code={code}&state={unknown}&state={state}")),
        ),
        (
            &visitor,
            with(format!("code={code}&code={code}&state={state}")),
        ),
        (&visitor, with(String::new())),
        (&visitor, "/wxCallback".to_owned()),
    ] {
        let answer = who.open(&path).await;
        assert!(cookie(&answer, SESSION).is_none(), "{path}");
        let page = expect_page(answer, StatusCode::FORBIDDEN).await;
        assert!(page.contains("重新登录"));
        assert!(!page.contains(&code) && !page.contains(&state));
    }
    // The browser's own name, but not under our signature.
    let browser = cookie(&begun, BROWSER).unwrap();
    let value = browser.split(['=', ';']).nth(1).unwrap();
    let (name, signature) = value.split_once('.').unwrap();
    for forged in [
        name.to_owned(),
        format!("{name}."),
        format!("{name}.{}", "0".repeat(signature.len())),
        format!("{name}.{}", &signature[2..]),
        format!("0{name}.{signature}"),
    ] {
        let request = world.http.get(&callback);
        let request = request.header("cookie", format!("{BROWSER}={forged}"));
        expect_page(world.send(request).await, StatusCode::FORBIDDEN).await;
    }
    assert_eq!(world.calls(EXCHANGE).await, 0);
    // None of that has used the state up.
    let answer = visitor.open(&callback).await;
    assert_eq!(location(&answer), format!("/?openid={fan}"));
}

#[tokio::test]
async fn a_state_is_over_after_ten_minutes() {
    let world = World::start().await;
    let visitor = Visitor::of(&world);
    let callback = visitor.consent(PROFILE, &world.fan().await).await;
    let stored = Stored::of(&world.settings).await;
    let over = When::Ago(Duration::from_millis(1));
    stored.set(SIGN_IN_EXPIRES, over).await;
    expect_page(visitor.open(&callback).await, StatusCode::FORBIDDEN).await;
    assert_eq!(world.calls(EXCHANGE).await, 0);
}

#[tokio::test]
async fn several_sign_ins_of_one_browser_run_at_once() {
    let world = World::start().await;
    let (visitor, fan) = (Visitor::of(&world), world.fan().await);
    let first = visitor.begin("next=/first").await;
    let second = visitor.begin("next=/second").await;
    for (consent, path) in [(second, "/second"), (first, "/first")] {
        let callback = visitor.decide(&consent, &fan, "allow").await;
        assert_eq!(location(&visitor.open(&callback).await), path);
    }
}

#[tokio::test]
async fn a_doubled_callback_ends_as_the_first_one_did() {
    let world = World::start().await;
    let other = App::start(&world.settings, Bot::new(), CancellationToken::new()).await;
    let fan = world.fan().await;
    let visitor = Visitor::of(&world);
    let there = visitor.elsewhere(&other.url);
    let callback = visitor.consent("next=/shop&id=1", &fan).await;
    // So slow that all of them are under way at once, at both instances.
    world.fault(EXCHANGE, json!({"delay_ms": 400}), 1).await;
    let at_other = callback.replace(&world.app.url, &other.url);
    let calls = (0..8).flat_map(|_| [(&visitor, &callback), (&there, &at_other)]);
    let mut answers = join_all(calls.map(|(who, url)| who.open(url))).await;
    answers.push(visitor.open(&callback).await);
    answers.push(there.open(&at_other).await);
    let sessions: std::collections::HashSet<_> = answers
        .iter()
        .map(|answer| {
            assert_eq!(location(answer), "/shop?state=1");
            cookie(answer, SESSION).unwrap()
        })
        .collect();
    assert_eq!(sessions.len(), 1);
    assert_eq!(world.calls(EXCHANGE).await, 1);
    user(&visitor, StatusCode::OK).await;
    user(&there, StatusCode::OK).await;
}

#[tokio::test]
async fn a_state_is_good_for_one_code() {
    let world = World::start().await;
    let fan = world.fan().await;
    let visitor = Visitor::of(&world);
    let consent = visitor.begin(PROFILE).await;
    let first = visitor.decide(&consent, &fan, "allow").await;
    // The same state with a fresh code, which the platform would take.
    let second = visitor.decide(&consent, &fan, "allow").await;
    assert_ne!(first, second);
    location(&visitor.open(&first).await);
    let answer = visitor.open(&second).await;
    assert!(cookie(&answer, SESSION).is_none());
    let page = expect_page(answer, StatusCode::FORBIDDEN).await;
    assert!(page.contains("重新登录"));
    assert_eq!(world.calls(EXCHANGE).await, 1);
    // The first stays good.
    location(&visitor.open(&first).await);
    user(&visitor, StatusCode::OK).await;
}

#[tokio::test]
async fn a_user_who_refuses_sees_a_page_that_says_so() {
    let world = World::start().await;
    let visitor = Visitor::of(&world);
    let consent = visitor.begin("scope=snsapi_userinfo&next=/shop&id=1").await;
    let callback = visitor.decide(&consent, &world.fan().await, "deny").await;
    assert_eq!(parameter(&callback, "code"), None);
    let answer = visitor.open(&callback).await;
    assert!(cookie(&answer, SESSION).is_none());
    let page = expect_page(answer, StatusCode::OK).await;
    assert!(page.contains("拒绝") && page.contains("重新登录"), "{page}");
    // To the same end as before.
    assert!(
        page.contains("next=%2Fshop") && page.contains("id=1"),
        "{page}"
    );
    user(&visitor, StatusCode::UNAUTHORIZED).await;
    assert_eq!(world.calls(EXCHANGE).await, 0);
}

#[tokio::test]
async fn of_a_snapshot_nothing_is_stored() {
    let world = World::start().await;
    let fan = world.fan().await;
    let snapshot = |on: bool| json!({"openid": fan, "snapshot": on});
    world.sim("fans", Some(snapshot(true))).await;
    let visitor = Visitor::of(&world);
    let callback = visitor
        .consent("scope=snsapi_userinfo&next=/shop", &fan)
        .await;
    for _ in 0..2 {
        let answer = visitor.open(&callback).await;
        assert!(cookie(&answer, SESSION).is_none());
        let page = expect_page(answer, StatusCode::OK).await;
        assert!(page.contains("使用完整服务"), "{page}");
    }
    let granted = &world.answers(EXCHANGE).await[0];
    assert_eq!(granted["is_snapshotuser"], 1);
    let virtual_openid = granted["openid"].as_str().unwrap();
    let stored = Stored::of(&world.settings).await;
    assert_eq!(stored.records_about(virtual_openid).await, 0);
    assert!(!stored.holds(virtual_openid).await);
    user(&visitor, StatusCode::UNAUTHORIZED).await;
    assert_eq!(world.calls(EXCHANGE).await, 1);
    assert_eq!(world.calls(USERINFO).await, 0);

    // 使用完整服务: from the beginning, and now as himself.
    world.sim("fans", Some(snapshot(false))).await;
    let visitor = visitor.signed_in(PROFILE, &fan).await;
    assert_eq!(user(&visitor, StatusCode::OK).await["openid"], fan.as_str());
}

#[tokio::test]
async fn a_code_that_wechat_refuses_is_a_page_with_the_way_back() {
    let world = World::start().await;
    let fan = world.fan().await;
    for errcode in [40163, 40029, -1] {
        let visitor = Visitor::of(&world);
        let callback = visitor.consent("next=/shop&id=1", &fan).await;
        match errcode {
            40163 => drop(world.exchange(&callback).await),
            40029 => world.advance(301).await,
            _ => world.fault(EXCHANGE, json!({"errcode": errcode}), 9).await,
        }
        let before = world.calls(EXCHANGE).await;
        for _ in 0..2 {
            let answer = visitor.open(&callback).await;
            assert!(cookie(&answer, SESSION).is_none());
            let page = expect_page(answer, StatusCode::BAD_GATEWAY).await;
            assert!(page.contains(&format!("errcode {errcode}")), "{page}");
            assert!(page.contains("重新登录") && page.contains("next=%2Fshop"));
        }
        let tries = world.calls(EXCHANGE).await - before;
        assert_eq!(tries, 1, "a code is tried once");
        user(&visitor, StatusCode::UNAUTHORIZED).await;
    }
}

#[tokio::test]
async fn what_only_the_operator_can_mend_is_not_explained_to_a_user() {
    let setup = Setup::new().settings(|it| it.wechat_appsecret = Some("f".repeat(32)));
    let world = setup.start().await;
    let answer = Visitor::of(&world)
        .sign_in(PROFILE, &world.fan().await)
        .await;
    let page = expect_page(answer, StatusCode::BAD_GATEWAY).await;
    assert!(page.contains("errcode 40125") && page.contains("重新登录"));
    assert!(!page.contains("WECHAT_") && !page.contains("ffff"));
}

#[tokio::test]
async fn nonsense_for_a_code_is_a_page_too() {
    let world = World::start().await;
    let fan = world.fan().await;
    for fault in [
        json!({"status": 503}),
        json!({"body": "<html>"}),
        json!({"body": "{\"access_token\":\"t\"}"}),
        json!({"body": "{\"access_token\":\"t\",\"expires_in\":7200,\"refresh_token\":\"r\",\
                \"openid\":\"$ne\",\"scope\":\"snsapi_base\"}"}),
    ] {
        world.fault(EXCHANGE, fault, 1).await;
        let answer = Visitor::of(&world).sign_in(PROFILE, &fan).await;
        assert!(cookie(&answer, SESSION).is_none());
        let page = expect_page(answer, StatusCode::BAD_GATEWAY).await;
        assert!(page.contains("重新登录"));
    }
}

#[tokio::test]
async fn a_platform_that_does_not_answer_is_a_page_after_five_seconds() {
    let world = World::start().await;
    let visitor = Visitor::of(&world);
    let callback = visitor.consent(PROFILE, &world.fan().await).await;
    world.fault(EXCHANGE, json!({"delay_ms": 20_000}), 9).await;
    for _ in 0..2 {
        let page = expect_page(visitor.open(&callback).await, StatusCode::GATEWAY_TIMEOUT).await;
        assert!(page.contains("重新登录"));
    }
    // Whether the platform has taken the code is not known: it is not sent again.
    assert_eq!(world.calls(EXCHANGE).await, 1);
}

#[tokio::test]
async fn the_cookies_are_for_this_site_alone() {
    let world = World::start().await;
    let (visitor, fan) = (Visitor::of(&world), world.fan().await);
    let begun = visitor.open("/wxAuthorize").await;
    let browser = cookie(&begun, BROWSER).unwrap();
    let first = cookie(&visitor.sign_in(PROFILE, &fan).await, SESSION).unwrap();
    let second = cookie(&visitor.sign_in(PROFILE, &fan).await, SESSION).unwrap();
    assert_ne!(first, second, "a session is new at every login");
    for cookie in [&browser, &first] {
        let attributes: Vec<_> = cookie.split("; ").skip(1).collect();
        for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(attributes.contains(&attribute), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "{cookie}");
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
    assert!(first.contains(&format!("Max-Age={MONTH_S}")), "{first}");
    // 128 bits at least, and nothing of the user's.
    let value = first.split(['=', ';']).nth(1).unwrap();
    assert!(value.len() >= 32 && !value.contains(&fan));
}

#[tokio::test]
async fn behind_https_the_cookies_are_secure() {
    let mut setup = Setup::new()
        .settings(|settings| settings.public_url = Some("https://wx.example.com".into()));
    setup.simulator.oauth_domains = vec!["wx.example.com".into()];
    let world = setup.start().await;
    let fan = world.fan().await;
    let site = format!("http://{}", world.app.addr);
    let visitor = Visitor::at(&site);
    let begun = visitor.open("/wxAuthorize").await;
    let browser = cookie(&begun, BROWSER).unwrap();
    assert!(browser.split("; ").any(|it| it == "Secure"), "{browser}");
    let consent = Url::parse(location(&begun)).unwrap();
    let callback = visitor.decide(&consent, &fan, "allow").await;
    assert!(callback.starts_with("https://wx.example.com/wxCallback?"));
    // The browser would send a secure cookie to https alone.
    let request = world
        .http
        .get(callback.replace("https://wx.example.com", &site));
    let pair = browser.split(';').next().unwrap();
    let answer = world.send(request.header("cookie", pair)).await;
    let session = cookie(&answer, SESSION).unwrap();
    assert!(session.split("; ").any(|it| it == "Secure"), "{session}");
    let problem = user(&visitor, StatusCode::UNAUTHORIZED).await;
    let authorize_url = problem["authorize_url"].as_str().unwrap();
    assert!(authorize_url.starts_with("https://wx.example.com/wxAuthorize"));
}

#[tokio::test]
async fn nobody_is_told_where_to_sign_in() {
    let world = World::start().await;
    let fan = world.fan().await;
    for path in ["/getUser".to_owned(), format!("/getUser?openid={fan}")] {
        for session in [None, Some(""), Some("0"), Some(&*"0".repeat(64))] {
            let mut request = world.http.get(format!("{}{path}", world.app.url));
            if let Some(session) = session {
                request = request.header("cookie", format!("{SESSION}={session}"));
            }
            let answer = world.send(request).await;
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            let problem = expect_status(answer, StatusCode::UNAUTHORIZED).await;
            assert_eq!(problem["code"], "not_signed_in");
            assert_eq!(problem["status"], 401);
            let authorize_url = problem["authorize_url"].as_str().unwrap();
            let expected = format!("{}/wxAuthorize?", world.app.url);
            assert!(authorize_url.starts_with(&expected), "{authorize_url}");
        }
    }
    // And that is a way in.
    let visitor = Visitor::of(&world);
    let problem = user(&visitor, StatusCode::UNAUTHORIZED).await;
    let answer = visitor
        .open(problem["authorize_url"].as_str().unwrap())
        .await;
    let consent = Url::parse(location(&answer)).unwrap();
    let callback = visitor.decide(&consent, &fan, "allow").await;
    location(&visitor.open(&callback).await);
    user(&visitor, StatusCode::OK).await;
}

#[tokio::test]
async fn a_session_ends_after_its_time() {
    let world = World::start().await;
    let visitor = Visitor::of(&world)
        .signed_in(PROFILE, &world.fan().await)
        .await;
    user(&visitor, StatusCode::OK).await;
    let stored = Stored::of(&world.settings).await;
    let over = When::Ago(Duration::from_millis(1));
    stored.set(SESSION_EXPIRES, over).await;
    let problem = user(&visitor, StatusCode::UNAUTHORIZED).await;
    assert_eq!(problem["code"], "not_signed_in");
}

#[tokio::test]
async fn a_foreign_openid_and_an_unknown_one_look_the_same() {
    let world = World::start().await;
    let foreign = world.another_fan().await;
    Visitor::of(&world).signed_in(PROFILE, &foreign).await;
    let visitor = Visitor::of(&world)
        .signed_in(PROFILE, &world.fan().await)
        .await;
    let mut seen = Vec::new();
    for openid in [
        foreign.as_str(),
        "oNobodyHasThisOpenid00000000",
        "%24ne",
        "x%00",
    ] {
        let answer = visitor.open(&format!("/getUser?openid={openid}")).await;
        let problem = expect_status(answer, StatusCode::FORBIDDEN).await;
        assert_eq!(problem["code"], "foreign_openid");
        seen.push(problem);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(world.calls(USERINFO).await, 0);
    let fan = world.fan().await;
    let twice = format!("/getUser?openid={fan}&openid={foreign}");
    expect_status(visitor.open(&twice).await, StatusCode::BAD_REQUEST).await;
}

#[tokio::test]
async fn a_web_token_whose_life_is_over_is_refreshed_first_and_once() {
    let world = World::start().await;
    let visitor = Visitor::of(&world)
        .signed_in(PROFILE, &world.fan().await)
        .await;
    let stored = Stored::of(&world.settings).await;
    let over = When::Ago(Duration::from_millis(1));
    stored.set(WEB_TOKEN_EXPIRES, over).await;
    // The platform takes the old one no more either: were it tried, it would be refused.
    world.advance(LIFE_S + 1).await;
    for answer in join_all((0..10).map(|_| visitor.open("/getUser"))).await {
        expect_status(answer, StatusCode::OK).await;
    }
    assert_eq!(world.calls(REFRESH).await, 1);
    assert_eq!(
        world.calls(USERINFO).await,
        10,
        "one for each, none refused"
    );
}

#[tokio::test]
async fn a_web_token_that_is_refused_is_refreshed_once() {
    for errcode in [40001, 40014, 42001] {
        let world = World::start().await;
        let visitor = Visitor::of(&world)
            .signed_in(PROFILE, &world.fan().await)
            .await;
        world.fault(USERINFO, json!({"errcode": errcode}), 1).await;
        user(&visitor, StatusCode::OK).await;
        assert_eq!(world.calls(REFRESH).await, 1, "{errcode}");
        assert_eq!(world.calls(USERINFO).await, 2, "{errcode}");
        // The new one is kept.
        user(&visitor, StatusCode::OK).await;
        assert_eq!(world.calls(REFRESH).await, 1, "{errcode}");

        world.fault(USERINFO, json!({"errcode": errcode}), 9).await;
        let problem = user(&visitor, StatusCode::BAD_GATEWAY).await;
        assert_eq!(problem["errcode"], errcode);
        assert_eq!(world.calls(REFRESH).await, 2, "{errcode}: once a call");
    }
}

#[tokio::test]
async fn many_calls_with_a_refused_web_token_share_one_refresh() {
    let world = World::start().await;
    let visitor = Visitor::of(&world)
        .signed_in(PROFILE, &world.fan().await)
        .await;
    world.advance(LIFE_S + 1).await;
    for answer in join_all((0..10).map(|_| visitor.open("/getUser"))).await {
        expect_status(answer, StatusCode::OK).await;
    }
    assert_eq!(world.calls(REFRESH).await, 1);
}

#[tokio::test]
async fn a_dead_refresh_token_sends_the_user_to_sign_in_again() {
    for errcode in [42002, 40030, 42007] {
        let world = World::start().await;
        let fan = world.fan().await;
        let visitor = Visitor::of(&world).signed_in(PROFILE, &fan).await;
        world.advance(LIFE_S + 1).await;
        world.fault(REFRESH, json!({"errcode": errcode}), 1).await;
        let problem = user(&visitor, StatusCode::UNAUTHORIZED).await;
        assert_eq!(problem["code"], "authorization_expired", "{errcode}");
        assert_eq!(problem["status"], 401);
        let again = problem["authorize_url"].as_str().unwrap();
        let answer = visitor.open(again).await;
        let consent = Url::parse(location(&answer)).unwrap();
        assert_eq!(
            parameter(consent.as_str(), "scope").unwrap(),
            "snsapi_userinfo"
        );
        let callback = visitor.decide(&consent, &fan, "allow").await;
        location(&visitor.open(&callback).await);
        user(&visitor, StatusCode::OK).await;
    }
    // As it really comes about.
    let world = World::start().await;
    let visitor = Visitor::of(&world)
        .signed_in(PROFILE, &world.fan().await)
        .await;
    world.advance(MONTH_S + 1).await;
    let problem = user(&visitor, StatusCode::UNAUTHORIZED).await;
    assert_eq!(problem["code"], "authorization_expired");
}

#[tokio::test]
async fn a_platform_in_trouble_takes_no_session_away() {
    let world = World::start().await;
    let visitor = Visitor::of(&world)
        .signed_in(PROFILE, &world.fan().await)
        .await;
    for (path, fault) in [
        (USERINFO, json!({"errcode": -1})),
        (USERINFO, json!({"status": 502})),
        (USERINFO, json!({"body": "<html>"})),
        (USERINFO, json!({"body": "{\"nickname\":\"x\"}"})),
        (REFRESH, json!({"errcode": -1})),
        (REFRESH, json!({"status": 502})),
    ] {
        if path == REFRESH {
            world.advance(LIFE_S + 1).await;
        }
        world.fault(path, fault.clone(), 1).await;
        let problem = user(&visitor, StatusCode::BAD_GATEWAY).await;
        assert_eq!(problem["errcode"].as_i64(), fault["errcode"].as_i64());
        user(&visitor, StatusCode::OK).await;
    }
}

#[tokio::test]
async fn after_a_silent_sign_in_the_store_alone_answers() {
    let world = World::start().await;
    let fan = world.fan().await;
    let visitor = Visitor::of(&world).signed_in(BASE, &fan).await;
    let expected = json!({"openid": fan, "scope": "snsapi_base"});
    assert_eq!(user(&visitor, StatusCode::OK).await, expected);
    assert_eq!(world.calls(USERINFO).await, 0);
    assert_eq!(world.calls(REFRESH).await, 0);

    // Once the unionid is known, it is told; and the profile stays with who asked for it.
    let asked = Visitor::of(&world).signed_in(PROFILE, &fan).await;
    let unionid = world.sim("fans", None).await[0]["unionid"].clone();
    let answer = user(&visitor, StatusCode::OK).await;
    assert_eq!(answer["unionid"], unionid);
    Visitor::of(&world).signed_in(BASE, &fan).await;
    let profile = user(&asked, StatusCode::OK).await;
    assert_eq!(profile["openid"], fan.as_str());
    assert!(profile["nickname"].is_string());
}

#[tokio::test]
async fn a_profile_of_another_openid_is_not_given_out() {
    let world = World::start().await;
    let visitor = Visitor::of(&world)
        .signed_in(PROFILE, &world.fan().await)
        .await;
    let other = world.another_fan().await;
    let body = json!({"openid": other, "nickname": "别人"}).to_string();
    world.fault(USERINFO, json!({"body": body}), 1).await;
    let problem = user(&visitor, StatusCode::BAD_GATEWAY).await;
    assert!(!problem.to_string().contains("别人"));
    assert!(!problem.to_string().contains(&other));
    // Nor is another's token taken for his.
    world.advance(LIFE_S + 1).await;
    let body = json!({"access_token": "t", "expires_in": 7200, "refresh_token": "r",
        "openid": other, "scope": "snsapi_userinfo"});
    world
        .fault(REFRESH, json!({"body": body.to_string()}), 1)
        .await;
    user(&visitor, StatusCode::BAD_GATEWAY).await;
    let profile = user(&visitor, StatusCode::OK).await;
    assert_eq!(profile["openid"], world.fan().await.as_str());
}

#[tokio::test]
async fn what_the_platform_demands_to_be_forgotten_is_removed() {
    // Of an authorization the subject stands in OpenID, in either spelling; the sender may be another.
    let other_sender = "oAnotherSender00000000000000";
    for (event, sender, openid_element) in [
        ("unsubscribe", None, None),
        ("user_authorization_revoke", None, Some("OpenID")),
        (
            "user_authorization_revoke",
            Some(other_sender),
            Some("OpenID"),
        ),
        (
            "user_authorization_cancellation",
            Some(other_sender),
            Some("OpenID"),
        ),
        (
            "user_authorization_cancellation",
            Some(other_sender),
            Some("openid"),
        ),
    ] {
        let world = World::start().await;
        let (fan, other) = (world.fan().await, world.another_fan().await);
        let visitor = Visitor::of(&world).signed_in(PROFILE, &fan).await;
        let second = Visitor::of(&world).signed_in(BASE, &fan).await;
        let bystander = Visitor::of(&world).signed_in(PROFILE, &other).await;
        user(&visitor, StatusCode::OK).await;
        let stored = Stored::of(&world.settings).await;
        assert_eq!(stored.records_about(&fan).await, 3, "himself, two sessions");

        let sender = sender.unwrap_or(&fan);
        let subject = openid_element.map_or(String::new(), |name| {
            format!("<{name}><![CDATA[{fan}]]></{name}>")
        });
        let xml = format!(
            "<xml><ToUserName><![CDATA[{ACCOUNT}]]></ToUserName>\
             <FromUserName><![CDATA[{sender}]]></FromUserName>\
             <CreateTime>{}</CreateTime><MsgType><![CDATA[event]]></MsgType>\
             <Event><![CDATA[{event}]]></Event>{subject}\
             <RevokeInfo><![CDATA[1]]></RevokeInfo></xml>",
            now()
        );
        let answer = world.deliver(&xml).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.text().await.unwrap(), "success");
        for gone in [&visitor, &second] {
            let problem = user(gone, StatusCode::UNAUTHORIZED).await;
            assert_eq!(problem["code"], "not_signed_in", "{event}");
        }
        assert_eq!(stored.records_about(&fan).await, 0, "{event}");
        user(&bystander, StatusCode::OK).await;
    }
}

#[tokio::test]
async fn no_token_and_no_secret_stands_in_an_answer_or_lies_open_in_the_store() {
    let world = World::start().await;
    let (visitor, fan) = (Visitor::of(&world), world.fan().await);
    let callback = visitor.consent(PROFILE, &fan).await;
    let session = cookie(&visitor.open(&callback).await, SESSION).unwrap();
    let session = session.split(['=', ';']).nth(1).unwrap().to_owned();
    user(&visitor, StatusCode::OK).await;
    world.advance(LIFE_S + 1).await;
    let mut answers = vec![callback.clone()];
    for path in ["/getUser", "/", "/wxCallback", "/metrics", "/healthz"] {
        let answer = visitor.open(path).await;
        answers.push(format!("{:?}", answer.headers()));
        answers.push(answer.text().await.unwrap());
    }
    world.fault(USERINFO, json!({"status": 500}), 1).await;
    answers.push(user(&visitor, StatusCode::BAD_GATEWAY).await.to_string());

    let mut secrets = vec!["0".repeat(32)];
    for path in [EXCHANGE, REFRESH] {
        let granted = &world.answers(path).await[0];
        for name in ["access_token", "refresh_token"] {
            secrets.push(granted[name].as_str().unwrap().to_owned());
        }
    }
    for secret in &secrets {
        assert!(!answers.iter().any(|answer| answer.contains(secret)));
    }
    secrets.push(session);
    secrets.push(parameter(&callback, "code").unwrap());
    secrets.push(parameter(&callback, "state").unwrap());
    let stored = Stored::of(&world.settings).await;
    for secret in &secrets {
        assert!(!stored.holds(secret).await);
    }
    assert!(stored.holds(&fan).await, "this is not the store");
}

#[tokio::test]
async fn without_the_key_that_sealed_them_tokens_are_asked_for_again() {
    let world = World::start().await;
    let fan = world.fan().await;
    let visitor = Visitor::of(&world).signed_in(PROFILE, &fan).await;
    let mut settings = world.settings.clone();
    settings.store_key_previous = settings.store_key.replace("43".repeat(32));
    let rotated = App::start(&settings, Bot::new(), CancellationToken::new()).await;
    let there = visitor.elsewhere(&rotated.url);
    user(&there, StatusCode::OK).await;
    // A sign-in begun before the change ends after it.
    let callback = visitor.consent("next=/shop", &fan).await;
    let callback = callback.replace(&world.app.url, &rotated.url);
    assert_eq!(location(&there.open(&callback).await), "/shop");

    settings.store_key = Some("44".repeat(32));
    settings.store_key_previous = None;
    let forgetful = App::start(&settings, Bot::new(), CancellationToken::new()).await;
    let there = visitor.elsewhere(&forgetful.url);
    let problem = user(&there, StatusCode::UNAUTHORIZED).await;
    assert_eq!(problem["code"], "authorization_expired");
    let there = there.signed_in(PROFILE, &fan).await;
    user(&there, StatusCode::OK).await;
}
