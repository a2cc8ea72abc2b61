//! `/_sim`: account, fans, faults, clock, requests, reset, and who may use it.

use std::time::{Duration, Instant};

use offiaccount::simulator::{Mode, Options, Simulator};
use serde_json::{Value, json};

use super::world::{AES_KEY, APPID, Callback, SECRET, TOKEN, World};

#[tokio::test]
async fn the_account_is_shown_and_changed_in_part() {
    let world = World::start().await;
    let account = world.get("/_sim/account").await;
    assert_eq!(account["appid"], APPID);
    assert_eq!(account["appsecret"], SECRET);
    assert_eq!(account["token"], TOKEN);
    assert_eq!(account["encoding_aes_key"], Value::Null);
    assert_eq!(account["mode"], "plain");
    assert_eq!(account["kind"], "service");
    assert_eq!(account["limits"], "real");

    let patch = json!({"mode": "safe", "encoding_aes_key": AES_KEY, "js_domains": ["a.test:8080"]});
    let changed = world.put("/_sim/account", &patch).await;
    assert_eq!(changed["mode"], "safe");
    assert_eq!(changed["appid"], APPID);
    assert_eq!(world.get("/_sim/account").await, changed);

    for bad in [
        json!({"encoding_aes_key": null}),
        json!({"mode": "loud"}),
        json!({"token": "no"}),
        json!({"callback_url": "ftp://x"}),
        json!({"tokn": "abc"}),
        json!({"oauth_domains": "x"}),
        json!({"ip_whitelist": ["example.com"]}),
    ] {
        let (status, answer) = world.send("PUT", "/_sim/account", &bad).await;
        assert_eq!(status, 400, "{bad}");
        assert!(answer["error"].is_string());
    }
    assert_eq!(world.get("/_sim/account").await, changed);
}

#[tokio::test]
async fn fans_have_openids_of_the_platforms_form_and_a_given_one_is_kept() {
    let world = World::start().await;
    for fan in world.get("/_sim/fans").await.as_array().unwrap() {
        let openid = fan["openid"].as_str().unwrap();
        assert!(openid.len() == 28 && openid.starts_with('o'), "{openid}");
        assert!(fan["nickname"].is_string() && fan["unionid"].is_string());
        let picture = world.client.get(fan["headimgurl"].as_str().unwrap());
        let picture = picture.send().await.unwrap();
        assert_eq!(picture.headers()["content-type"], "image/svg+xml");
    }
    let given = "oFan0000000000000000000000001";
    let fan = json!({"openid": given, "nickname": "<b>"});
    let fan = world.post("/_sim/fans", &fan).await;
    assert_eq!(
        (&fan["openid"], &fan["nickname"]),
        (&json!(given), &json!("<b>"))
    );
    let made = world.post("/_sim/fans", &json!({})).await;
    assert_eq!(made["openid"].as_str().unwrap().len(), 28);
    world
        .post("/_sim/fans", &json!({"openid": given, "remark": "vip"}))
        .await;
    let fans = world.get("/_sim/fans").await;
    assert_eq!(fans.as_array().unwrap().len(), 5);
    assert_eq!(fans[3]["remark"], "vip");
    assert_eq!(fans[3]["nickname"], "<b>");
    for bad in [json!({"openid": "a b"}), json!({"nick": "x"}), json!([])] {
        assert_eq!(world.send("POST", "/_sim/fans", &bad).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn every_api_call_is_in_the_log_newest_first() {
    let world = World::start().await;
    let token = world.token().await;
    let body = json!({"user_list": [{"openid": "oNobody"}]});
    world
        .post(
            &format!("/cgi-bin/user/info/batchget?access_token={token}"),
            &body,
        )
        .await;
    let log = world.get("/_sim/requests").await;
    let newest = &log[0];
    assert_eq!(newest["method"], "POST");
    assert_eq!(newest["path"], "/cgi-bin/user/info/batchget");
    assert_eq!(newest["query"], json!({"access_token": token}));
    assert_eq!(newest["request_body"], body.to_string());
    assert_eq!(newest["status"], 200);
    assert_eq!(newest["errcode"], 40003);
    assert!(
        newest["response_body"]
            .as_str()
            .unwrap()
            .contains("invalid openid")
    );
    assert!(newest["ms"].is_u64() && newest["at"].is_u64());
    assert_eq!(log[1]["path"], "/cgi-bin/token");
    assert_eq!(log[1]["errcode"], 0);
    assert_eq!(log.as_array().unwrap().len(), 2);
    let one = world.get("/_sim/requests?limit=1").await;
    assert_eq!(one.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn ordered_faults_come_in_turn_and_end() {
    let world = World::start().await;
    let path = "/cgi-bin/token";
    let call = format!("{path}?grant_type=client_credential&appid={APPID}&secret={SECRET}");
    for fault in [
        json!({"path": path, "errcode": -1}),
        json!({"path": path, "status": 503, "times": 1}),
        json!({"path": path, "body": "<html>"}),
        json!({"path": path, "delay_ms": 150}),
    ] {
        world.post("/_sim/faults", &fault).await;
    }
    assert_eq!(world.get("/_sim/faults").await.as_array().unwrap().len(), 4);
    assert!(world.stable_token(false).await["access_token"].is_string());

    assert_eq!(world.get(&call).await["errcode"], -1);
    let url = format!("{}{call}", world.url);
    let unavailable = world.client.get(&url).send().await.unwrap();
    assert_eq!(unavailable.status(), 503);
    let html = world.client.get(&url).send().await.unwrap();
    assert_eq!(html.text().await.unwrap(), "<html>");
    let began = Instant::now();
    assert!(world.get(&call).await["access_token"].is_string());
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert!(world.get("/_sim/requests").await[0]["ms"].as_u64().unwrap() >= 150);
    assert_eq!(world.get("/_sim/faults").await, json!([]));
    assert!(world.get(&call).await["access_token"].is_string());

    world
        .post(
            "/_sim/faults",
            &json!({"path": path, "errcode": 45009, "times": 9}),
        )
        .await;
    assert_eq!(world.get(&call).await["errcode"], 45009);
    assert_eq!(
        world.send("DELETE", "/_sim/faults", &Value::Null).await.0,
        200
    );
    assert!(world.get(&call).await["access_token"].is_string());
    assert_eq!(
        world
            .send("POST", "/_sim/faults", &json!({"path": path}))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn a_reset_makes_everything_as_at_the_start() {
    let world = World::start().await;
    let fans = world.get("/_sim/fans").await;
    let account = world.get("/_sim/account").await;
    let token = world.token().await;
    world
        .put(
            "/_sim/account",
            &json!({"mode": "plain", "token": "another"}),
        )
        .await;
    world.post("/_sim/fans", &json!({})).await;
    world
        .post("/_sim/faults", &json!({"path": "/x", "status": 500}))
        .await;
    world.advance(1000).await;

    assert_eq!(
        world.post("/_sim/reset", &Value::Null).await,
        json!({"ok": true})
    );
    assert_eq!(world.get("/_sim/account").await, account);
    assert_eq!(world.get("/_sim/faults").await, json!([]));
    assert_eq!(world.get("/_sim/requests").await, json!([]));
    assert_eq!(world.get("/_sim/clock").await["advanced_s"], 0);
    let openids = |fans: &Value| -> Vec<Value> {
        fans.as_array()
            .unwrap()
            .iter()
            .map(|fan| fan["openid"].clone())
            .collect()
    };
    assert_eq!(openids(&world.get("/_sim/fans").await), openids(&fans));
    let dead = world
        .get(&format!("/cgi-bin/user/get?access_token={token}"))
        .await;
    assert_eq!(dead["errcode"], 40001);
    // The seed begins anew: the first token is the first token again, but for its time.
    assert_eq!(world.token().await[3..], token[3..]);
}

#[tokio::test]
async fn two_simulators_with_one_seed_make_the_same_ids() {
    let seeded = |seed| Options {
        seed: Some(seed),
        ..Options::default()
    };
    let (one, two) = (World::with(seeded(7)).await, World::with(seeded(7)).await);
    assert_eq!(one.fan().await, two.fan().await);
    // The hour makes no difference to what is made up.
    two.advance(1).await;
    assert_eq!(one.token().await, two.token().await);
    assert_ne!(one.fan().await, World::with(seeded(8)).await.fan().await);
}

#[tokio::test]
async fn the_control_side_and_the_page_refuse_a_foreign_host_or_origin() {
    let world = World::start().await;
    let port = world.url.rsplit(':').next().unwrap();
    let status = async |path: &str, header: &str, value: &str| {
        let request = world.client.get(format!("{}{path}", world.url));
        request
            .header(header, value)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    for path in ["/", "/_sim/account"] {
        for host in ["evil.test", "127.0.0.1.evil.test", "192.0.2.1"] {
            assert_eq!(status(path, "host", host).await, 403, "{path} {host}");
        }
        for host in [format!("localhost:{port}"), format!("[::1]:{port}")] {
            assert_eq!(status(path, "host", &host).await, 200, "{path} {host}");
        }
        for origin in ["https://evil.test", "null"] {
            assert_eq!(status(path, "origin", origin).await, 403, "{path} {origin}");
        }
        assert_eq!(status(path, "origin", &world.url).await, 200);
    }
    // The platform's own paths have no such rule: the backend calls them by any name.
    assert_eq!(
        status("/cgi-bin/token", "host", "api.weixin.qq.com").await,
        200
    );
}

#[tokio::test]
async fn every_endpoint_is_listed_with_its_errors() {
    let world = World::start().await;
    let endpoints = world.get("/_sim/endpoints").await;
    let token = endpoints
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["path"] == "/cgi-bin/token");
    let token = token.unwrap();
    assert_eq!(
        (&token["method"], &token["needs_access_token"]),
        (&json!("GET"), &json!(false))
    );
    let errors = token["errors"].as_array().unwrap();
    assert!(errors.contains(&json!({"errcode": 40125, "errmsg": "invalid appsecret"})));
}

#[tokio::test]
async fn unknown_controls_and_methods_are_named_as_such() {
    let world = World::start().await;
    assert_eq!(world.send("GET", "/_sim/dance", &Value::Null).await.0, 404);
    assert_eq!(
        world.send("DELETE", "/_sim/account", &Value::Null).await.0,
        405
    );
    assert_eq!(
        world
            .send("POST", "/_sim/clock", &json!({"advance": 1}))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn the_consoles_check_wants_the_echostr_byte_for_byte() {
    for (answer, ok) in [
        ("ECHOSTR", true),
        ("ECHOSTR\n", false),
        ("\"ECHOSTR\"", false),
        ("", false),
    ] {
        let callback = Callback::answering([answer]).await;
        let world = World::delivering_to(&callback, "safe").await;
        let verdict = world.post("/_sim/verify", &Value::Null).await;
        assert_eq!(verdict["ok"], ok, "{answer:?}: {verdict}");
        let asked = &callback.deliveries()[0];
        assert_eq!(asked.method, "GET");
        assert_eq!(asked.query("kept"), "1");
        assert!(!asked.query.iter().any(|(name, _)| name == "encrypt_type"));
    }
    let nowhere = World::start().await;
    let verdict = nowhere.post("/_sim/verify", &Value::Null).await;
    assert_eq!(verdict["ok"], false);
    assert!(verdict["error"].as_str().unwrap().contains("callback_url"));
}

#[tokio::test]
async fn options_of_a_wrong_form_are_refused_before_anything_listens() {
    for options in [
        Options {
            token: String::from("x").into(),
            ..Options::default()
        },
        Options {
            appid: "wx sim".to_owned(),
            ..Options::default()
        },
        Options {
            mode: Mode::Safe,
            ..Options::default()
        },
        Options {
            listen: "nowhere".to_owned(),
            ..Options::default()
        },
    ] {
        let shown = format!("{options:?}");
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(Simulator::build(options).is_err(), "{shown}");
    }
}
