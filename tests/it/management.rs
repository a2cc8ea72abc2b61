//! The management routes: who may use them, the followers, and the one shape of errors.

use std::collections::HashSet;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::helpers::{ADMIN_TOKEN, Setup, World, expect_status};

const ROUTES: [(Method, &str); 4] = [
    (Method::GET, "/getTokens"),
    (Method::POST, "/refreshTokens"),
    (Method::GET, "/getTickets?type=jsapi"),
    (Method::GET, "/getFollowers"),
];
const USER_GET: &str = "/cgi-bin/user/get";
const BATCHGET: &str = "/cgi-bin/user/info/batchget";

/// RFC 9457, with a stable code.
async fn expect_problem(answer: Response, status: StatusCode, code: &str) -> Value {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let problem = expect_status(answer, status).await;
    assert_eq!(problem["status"], status.as_u16());
    assert_eq!(problem["code"], code);
    for member in ["title", "detail"] {
        assert!(!problem[member].as_str().unwrap().is_empty(), "{problem}");
    }
    problem
}

impl World {
    /// Adds followers until there are so many.
    async fn fill(&self, total: usize) {
        let there = self.sim("fans", None).await.as_array().unwrap().len();
        for _ in there..total {
            self.sim("fans", Some(json!({}))).await;
        }
    }
}

#[tokio::test]
async fn without_an_admin_token_the_routes_are_off_and_say_how_to_turn_them_on() {
    let setup = Setup::new().settings(|settings| settings.admin_token = None);
    let world = setup.start().await;
    for (method, path) in ROUTES {
        for token in [None, Some(""), Some(ADMIN_TOKEN)] {
            let url = format!("{}{path}", world.app.url);
            let mut request = world.http.request(method.clone(), url);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = world.send(request).await;
            let problem = expect_problem(answer, StatusCode::FORBIDDEN, "management_off").await;
            assert!(problem["detail"].as_str().unwrap().contains("ADMIN_TOKEN"));
        }
    }
}

#[tokio::test]
async fn without_the_right_token_nothing_is_told_and_nothing_done() {
    let world = World::start().await;
    for (method, path) in ROUTES {
        let request = || {
            let url = format!("{}{path}", world.app.url);
            world.http.request(method.clone(), url)
        };
        let body = json!({"access_token": "x"});
        for wrong in [
            request(),
            request().bearer_auth(""),
            request().bearer_auth("wrong"),
            request().bearer_auth(&ADMIN_TOKEN[1..]),
            request().bearer_auth(format!("{ADMIN_TOKEN}x")),
            request().bearer_auth(ADMIN_TOKEN.to_uppercase()),
            request().basic_auth("admin", Some(ADMIN_TOKEN)),
            request().header("authorization", ADMIN_TOKEN),
            request().header("authorization", "Bearer"),
            request().header("x-admin-token", ADMIN_TOKEN),
            request().header("cookie", format!("ADMIN_TOKEN={ADMIN_TOKEN}")),
            request().query(&[("access_token", ADMIN_TOKEN)]),
        ] {
            let answer = world.send(wrong.json(&body)).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            let problem = expect_problem(answer, StatusCode::UNAUTHORIZED, "unauthorized").await;
            assert!(!problem.to_string().contains(ADMIN_TOKEN));
        }
        // The scheme's case is free (RFC 9110, section 11.1).
        let right = request().header("authorization", format!("bearer {ADMIN_TOKEN}"));
        let answer = world.send(right.json(&body)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    // Had one of the wrong ones been let in, the platform would have been asked more often.
    assert_eq!(world.calls(USER_GET).await, 1);
    assert_eq!(world.calls("/cgi-bin/stable_token").await, 1);
}

#[tokio::test]
async fn followers_come_with_their_records_in_hundreds() {
    let world = World::start().await;
    world.fill(250).await;
    // One who left is no follower.
    let fans = world.sim("fans", None).await;
    let gone = fans[7]["openid"].as_str().unwrap();
    let leave = json!({"openid": gone, "subscribe": 0});
    world.sim("fans", Some(leave)).await;

    let answer = world.manage("/getFollowers").await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let page = expect_status(answer, StatusCode::OK).await;
    assert_eq!(page["total"], 249);
    assert_eq!(page["count"], 249);
    let list = page["user_info_list"].as_array().unwrap();
    let everybody = fans.as_array().unwrap().iter().map(|fan| &fan["openid"]);
    let expected = everybody.filter(|openid| *openid != gone);
    assert!(
        list.iter().map(|user| &user["openid"]).eq(expected),
        "in order"
    );
    assert_eq!(page["next_openid"], list[248]["openid"]);
    assert!(list.iter().all(|user| user["subscribe"] == 1));
    assert!(list[0]["subscribe_time"].is_u64());
    assert_eq!(world.calls(USER_GET).await, 1);
    assert_eq!(world.calls(BATCHGET).await, 3);
    let requests = world.sim("requests", None).await;
    for request in requests.as_array().unwrap() {
        if request["path"] == BATCHGET {
            let body: Value =
                serde_json::from_str(request["request_body"].as_str().unwrap()).unwrap();
            let asked = body["user_list"].as_array().unwrap();
            assert!(asked.len() <= 100);
            assert!(asked.iter().all(|user| user["lang"] == "zh_CN"));
        }
    }
}

#[tokio::test]
async fn next_openid_leads_from_page_to_page() {
    let world = World::start().await;
    world.fill(12).await;
    let fans = world.sim("fans", None).await;
    let fans = fans.as_array().unwrap().iter();
    let openids: Vec<_> = fans.map(|fan| fan["openid"].as_str().unwrap()).collect();
    // The platform's pages hold 10,000; these are smaller.
    let first = json!({"total": 12, "count": 5, "data": {"openid": openids[..5]},
        "next_openid": openids[4]});
    world
        .fault(USER_GET, json!({"body": first.to_string()}), 1)
        .await;
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = world
            .manage(&format!("/getFollowers?next_openid={next}"))
            .await;
        let page = expect_status(page, StatusCode::OK).await;
        assert_eq!(page["total"], 12);
        let list = page["user_info_list"].as_array().unwrap();
        assert_eq!(page["count"].as_u64().unwrap(), list.len() as u64);
        seen.extend(
            list.iter()
                .map(|user| user["openid"].as_str().unwrap().to_owned()),
        );
        next = page["next_openid"].as_str().unwrap().to_owned();
        if list.is_empty() {
            break;
        }
    }
    assert_eq!(next, "");
    assert_eq!(seen, openids);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 12);
    // After the last one: nothing, and no call for nobody's records.
    assert_eq!(world.calls(BATCHGET).await, 2);
}

#[tokio::test]
async fn a_next_openid_of_a_wrong_form_is_refused_here_and_an_unknown_one_there() {
    let world = World::start().await;
    for wrong in [
        "a%20b",
        "%24ne",
        "x%00",
        "a/b",
        &"o".repeat(65),
        "%E4%B8%AD",
    ] {
        let answer = world
            .manage(&format!("/getFollowers?next_openid={wrong}"))
            .await;
        expect_problem(answer, StatusCode::BAD_REQUEST, "bad_next_openid").await;
    }
    let answer = world
        .manage("/getFollowers?next_openid=oA&next_openid=oB")
        .await;
    expect_problem(answer, StatusCode::BAD_REQUEST, "duplicate_parameter").await;
    assert_eq!(world.calls(USER_GET).await, 0);
    let answer = world.manage("/getFollowers?next_openid=oNobody").await;
    let problem = expect_problem(answer, StatusCode::BAD_GATEWAY, "wechat_refused").await;
    assert_eq!(problem["errcode"], 40003);
}

#[tokio::test]
async fn what_the_platform_says_is_passed_on() {
    let world = World::start().await;
    for (path, fault, code) in [
        (USER_GET, json!({"errcode": 45009}), "wechat_refused"),
        (USER_GET, json!({"errcode": 48001}), "wechat_refused"),
        (BATCHGET, json!({"errcode": 40032}), "wechat_refused"),
        (USER_GET, json!({"status": 500}), "wechat_nonsense"),
        (USER_GET, json!({"body": "<html>"}), "wechat_nonsense"),
        (BATCHGET, json!({"body": "{}"}), "wechat_nonsense"),
    ] {
        world.fault(path, fault.clone(), 3).await;
        let answer = world.manage("/getFollowers").await;
        let problem = expect_problem(answer, StatusCode::BAD_GATEWAY, code).await;
        assert_eq!(problem["errcode"].as_i64(), fault["errcode"].as_i64());
        let says = problem["errmsg"]
            .as_str()
            .map(|errmsg| errmsg.contains("rid"));
        assert_eq!(says, fault.get("errcode").map(|_| true), "{problem}");
        let request = world.http.delete(format!("{}/_sim/faults", world.sim));
        world.send(request).await;
    }
}

#[tokio::test]
async fn a_read_is_repeated_when_the_platform_is_busy() {
    let world = World::start().await;
    world.fault(USER_GET, json!({"errcode": -1}), 2).await;
    world.fault(BATCHGET, json!({"status": 502}), 1).await;
    expect_status(world.manage("/getFollowers").await, StatusCode::OK).await;
    assert_eq!(world.calls(USER_GET).await, 3);
    assert_eq!(world.calls(BATCHGET).await, 2);
    // A quota is not.
    world.fault(USER_GET, json!({"errcode": 45009}), 2).await;
    let answer = world.manage("/getFollowers").await;
    expect_status(answer, StatusCode::BAD_GATEWAY).await;
    assert_eq!(world.calls(USER_GET).await, 4);
    // Nor is a fetch of the token, which was tried twice already.
    let world = World::start().await;
    let token = "/cgi-bin/stable_token";
    world.fault(token, json!({"errcode": -1}), 9).await;
    let answer = world.manage("/getFollowers").await;
    expect_status(answer, StatusCode::BAD_GATEWAY).await;
    assert_eq!(world.calls(token).await, 2);
}

#[tokio::test]
async fn every_route_answers_its_own_methods_and_no_others() {
    let world = World::start().await;
    for (path, allow) in [
        ("/getTokens", "GET, HEAD"),
        ("/refreshTokens", "POST"),
        ("/getTickets", "GET, HEAD"),
        ("/getFollowers", "GET, HEAD"),
        ("/getUser", "GET, HEAD"),
        ("/wxAuthorize", "GET, HEAD"),
        ("/getJSConfig", "GET, HEAD, POST"),
        ("/getJsConfig", "GET, HEAD, POST"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            if allow.contains(method.as_str()) {
                continue;
            }
            let url = format!("{}{path}", world.app.url);
            let request = world.http.request(method, url).bearer_auth(ADMIN_TOKEN);
            let answer = world.send(request).await;
            assert_eq!(answer.headers()["allow"], allow, "{path}");
            let status = StatusCode::METHOD_NOT_ALLOWED;
            expect_problem(answer, status, "method_not_allowed").await;
        }
    }
    for path in [
        "/nothing",
        "/gettokens",
        "/getTokens/x",
        "/MP_verify_x.txt",
        "/.env",
    ] {
        let answer = world.get(path).await;
        expect_problem(answer, StatusCode::NOT_FOUND, "not_found").await;
    }
}

#[tokio::test]
async fn a_body_has_its_limits() {
    let world = World::start().await;
    let post = |path: &str| {
        let request = world.http.post(format!("{}{path}", world.app.url));
        request.bearer_auth(ADMIN_TOKEN)
    };
    for path in ["/refreshTokens", "/getJSConfig"] {
        let large = format!("{{\"access_token\":\"{}\"}}", "x".repeat(70_000));
        let answer = world.send(post(path).body(large)).await;
        expect_problem(answer, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
        let encoded = post(path).header("content-encoding", "gzip").body("x");
        let answer = world.send(encoded).await;
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        expect_problem(answer, status, "encoded_body").await;
    }
}

#[tokio::test]
async fn a_silent_platform_is_given_up_within_one_deadline() {
    let world = World::start().await;
    world
        .fault("/cgi-bin/user/get", json!({"delay_ms": 20_000}), 3)
        .await;
    let began = std::time::Instant::now();
    expect_status(
        world.manage("/getFollowers").await,
        StatusCode::GATEWAY_TIMEOUT,
    )
    .await;
    // Three tries of 5 s would be 15.
    assert!(
        began.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}
