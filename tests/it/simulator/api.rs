//! The server API: tokens, tickets, addresses, followers, messages, and how it says no.

use offiaccount::simulator::{Kind, Limits, Options};
use serde_json::json;

use super::world::{APPID, Callback, SECRET, World};

/// Whether `user/get` takes the token; else the code it answers.
async fn errcode(world: &World, token: &str) -> i64 {
    let answer = world
        .get(&format!("/cgi-bin/user/get?access_token={token}"))
        .await;
    answer["errcode"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn the_token_before_the_newest_lives_five_minutes_longer() {
    let world = World::start().await;
    let first = world.token().await;
    let second = world.token().await;
    assert_ne!(first, second);
    assert_eq!(errcode(&world, &first).await, 0);
    world.advance(301).await;
    assert_eq!(errcode(&world, &first).await, 40001);
    assert_eq!(errcode(&world, &second).await, 0);
    world.advance(7000).await;
    assert_eq!(errcode(&world, &second).await, 42001);
}

#[tokio::test]
async fn the_stable_token_is_one_until_it_is_forced_and_knows_nothing_of_the_classic() {
    let world = World::start().await;
    let first = world.stable_token(false).await;
    assert_eq!(first["expires_in"], 7200);
    let first = first["access_token"].as_str().unwrap().to_owned();
    world.token().await;
    world.token().await;
    assert_eq!(world.stable_token(false).await["access_token"], first);
    assert_eq!(errcode(&world, &first).await, 0);

    let forced = world.stable_token(true).await;
    assert_ne!(forced["access_token"], first);
    assert_eq!(errcode(&world, &first).await, 40001);
    // Within 30 s nothing is forced.
    assert_eq!(
        world.stable_token(true).await["access_token"],
        forced["access_token"]
    );
    world.advance(6901).await;
    let renewed = world.stable_token(false).await;
    assert_ne!(renewed["access_token"], forced["access_token"]);
    assert_eq!(renewed["expires_in"], 7200);
    let forced = forced["access_token"].as_str().unwrap();
    assert_eq!(errcode(&world, forced).await, 0);
}

#[tokio::test]
async fn wrong_credentials_have_the_platforms_codes_and_a_rid() {
    let world = World::start().await;
    let path = |grant: &str, appid: &str, secret: &str| {
        format!("/cgi-bin/token?grant_type={grant}&appid={appid}&secret={secret}")
    };
    let good = "client_credential";
    for (path, errcode, errmsg) in [
        (
            path("password", APPID, SECRET),
            40002,
            "invalid grant_type rid: ",
        ),
        (path(good, "wxother", SECRET), 40013, "invalid appid, rid: "),
        (path(good, APPID, "wrong"), 40125, "invalid appsecret rid: "),
        (path(good, "", SECRET), 41002, "appid missing rid: "),
        (path(good, APPID, ""), 41004, "appsecret missing rid: "),
        (
            "/cgi-bin/user/get".to_owned(),
            41001,
            "access_token missing rid: ",
        ),
    ] {
        let answer = world.get(&path).await;
        assert_eq!(answer["errcode"], errcode, "{path}");
        let rid = answer["errmsg"].as_str().unwrap().strip_prefix(errmsg);
        let rid = rid.unwrap_or_else(|| panic!("{answer}"));
        let groups: Vec<_> = rid.split('-').collect();
        let is_hex8 = |group: &&str| group.len() == 8 && u32::from_str_radix(group, 16).is_ok();
        assert!(groups.len() == 3 && groups.iter().all(is_hex8), "{rid}");
    }
}

#[tokio::test]
async fn methods_bodies_and_paths_that_do_not_fit_are_refused_as_the_platform_does() {
    let world = World::start().await;
    let token = world.token().await;
    let batchget = format!("/cgi-bin/user/info/batchget?access_token={token}");
    assert_eq!(world.get(&batchget).await["errcode"], 43002);
    let post_to_get = format!("/cgi-bin/user/get?access_token={token}");
    assert_eq!(world.post(&post_to_get, &json!({})).await["errcode"], 43001);
    assert_eq!(world.get("/cgi-bin/no/such").await["errcode"], 40066);
    for (body, errcode) in [
        ("{", 47001),
        ("[]", 47001),
        ("", 44002),
        ("\u{fffd}{", 47001),
    ] {
        let request = world.client.post(format!("{}{batchget}", world.url));
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(answer["errcode"], errcode, "{body:?}");
    }
}

#[tokio::test]
async fn the_daily_quota_refuses_unless_limits_are_relaxed() {
    let world = World::with(Options {
        kind: Kind::Sandbox,
        ..Options::default()
    })
    .await;
    let path = format!("/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={SECRET}");
    for _ in 0..200 {
        assert!(world.get(&path).await["access_token"].is_string());
    }
    assert_eq!(world.get(&path).await["errcode"], 45009);
    world
        .put("/_sim/account", &json!({"limits": "relaxed"}))
        .await;
    assert!(world.get(&path).await["access_token"].is_string());
    world.put("/_sim/account", &json!({"limits": "real"})).await;
    assert_eq!(world.get(&path).await["errcode"], 45009);
    world.advance(24 * 3600).await;
    assert!(world.get(&path).await["access_token"].is_string());
}

#[tokio::test]
async fn a_ticket_stays_the_same_and_its_life_shrinks() {
    let world = World::start().await;
    let token = world.token().await;
    let path = |kind: &str| format!("/cgi-bin/ticket/getticket?access_token={token}&type={kind}");
    let first = world.get(&path("jsapi")).await;
    assert_eq!(
        (&first["errcode"], &first["errmsg"]),
        (&json!(0), &json!("ok"))
    );
    assert_eq!(first["ticket"].as_str().unwrap().len(), 86);
    world.advance(100).await;
    let again = world.get(&path("jsapi")).await;
    assert_eq!(again["ticket"], first["ticket"]);
    assert!(again["expires_in"].as_i64().unwrap() <= 7100);
    assert_ne!(world.get(&path("wx_card")).await["ticket"], first["ticket"]);
    assert_eq!(world.get(&path("dance")).await["errcode"], 40097);
}

#[tokio::test]
async fn the_addresses_of_both_sides_are_told() {
    let callback = Callback::answering(["success"]).await;
    let world = World::start().await;
    let token = world.token().await;
    for path in ["getcallbackip", "get_api_domain_ip"] {
        let answer = world
            .get(&format!("/cgi-bin/{path}?access_token={token}"))
            .await;
        assert_eq!(answer["ip_list"], json!(["127.0.0.1"]));
    }
    let check = format!("/cgi-bin/callback/check?access_token={token}");
    let all = json!({"action": "all", "check_operator": "DEFAULT"});
    assert_eq!(world.post(&check, &all).await["errcode"], 40201);
    world
        .put("/_sim/account", &json!({"callback_url": callback.url}))
        .await;
    let answer = world.post(&check, &all).await;
    assert_eq!(answer["dns"][0]["ip"], "127.0.0.1");
    assert_eq!(answer["ping"][0]["package_loss"], "0%");
    let dance = json!({"action": "dance"});
    assert_eq!(world.post(&check, &dance).await["errcode"], 40202);
    let operator = json!({"action": "dns", "check_operator": "NOBODY"});
    assert_eq!(world.post(&check, &operator).await["errcode"], 40203);
}

#[tokio::test]
async fn followers_are_listed_and_described_as_the_platform_does_since_2021() {
    let world = World::start().await;
    let token = world.token().await;
    let fans = world.get("/_sim/fans").await;
    let openids: Vec<_> = fans
        .as_array()
        .unwrap()
        .iter()
        .map(|fan| fan["openid"].clone())
        .collect();
    let get = |next: &str| format!("/cgi-bin/user/get?access_token={token}&next_openid={next}");
    let page = world.get(&get("")).await;
    assert_eq!(page["total"], openids.len());
    assert_eq!(page["data"]["openid"], json!(openids));
    assert_eq!(page["next_openid"], openids[openids.len() - 1]);
    let last = openids[openids.len() - 1].as_str().unwrap();
    assert_eq!(
        world.get(&get(last)).await,
        json!({"total": openids.len(), "count": 0, "next_openid": ""})
    );
    assert_eq!(world.get(&get("oNobody")).await["errcode"], 40003);

    let info = |openid: &str| {
        format!("/cgi-bin/user/info?access_token={token}&openid={openid}&lang=zh_CN")
    };
    let first = openids[0].as_str().unwrap();
    let profile = world.get(&info(first)).await;
    assert_eq!(profile["subscribe"], 1);
    assert_eq!(profile["nickname"], "");
    assert_eq!(profile["unionid"], fans[0]["unionid"]);
    assert_eq!(world.get(&info("oNobody")).await["errcode"], 40003);
    assert_eq!(world.get(&info("")).await["errcode"], 41009);

    world
        .post(
            "/_sim/fans",
            &json!({"openid": first, "subscribe": 0, "unionid": null}),
        )
        .await;
    assert_eq!(
        world.get(&info(first)).await,
        json!({"subscribe": 0, "openid": first})
    );
    assert_eq!(world.get(&get("")).await["total"], openids.len() - 1);

    let batchget = format!("/cgi-bin/user/info/batchget?access_token={token}");
    let both = json!({"user_list": [{"openid": first, "lang": "zh_CN"}, {"openid": last}]});
    let both = world.post(&batchget, &both).await;
    assert_eq!(both["user_info_list"][0]["subscribe"], 0);
    assert_eq!(both["user_info_list"][1]["openid"], last);
    let one = json!({"openid": last});
    let many = json!({"user_list": vec![one; 101]});
    assert_eq!(world.post(&batchget, &many).await["errcode"], 40032);
    let stranger = json!({"user_list": [{"openid": "oNobody"}]});
    assert_eq!(world.post(&batchget, &stranger).await["errcode"], 40003);
}

#[tokio::test]
async fn more_than_a_page_of_followers_comes_in_pages() {
    let world = World::start().await;
    for number in 0..10_000 {
        let fan = json!({"openid": format!("oFan{number:024}")});
        world.post("/_sim/fans", &fan).await;
    }
    let token = world.token().await;
    let first = world
        .get(&format!("/cgi-bin/user/get?access_token={token}"))
        .await;
    assert_eq!(
        (&first["total"], &first["count"]),
        (&json!(10_003), &json!(10_000))
    );
    let next = first["next_openid"].as_str().unwrap();
    let second = world
        .get(&format!(
            "/cgi-bin/user/get?access_token={token}&next_openid={next}"
        ))
        .await;
    assert_eq!(second["count"], 3);
}

#[tokio::test]
async fn a_customer_service_message_needs_an_open_window() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let token = world.token().await;
    let fan = world.fan().await;
    let path = format!("/cgi-bin/message/custom/send?access_token={token}");
    let hello = json!({"touser": fan, "msgtype": "text", "text": {"content": "您好"}});
    assert_eq!(world.post(&path, &hello).await["errcode"], 45015);
    world.say("在吗").await;
    for _ in 0..5 {
        assert_eq!(
            world.post(&path, &hello).await,
            json!({"errcode": 0, "errmsg": "ok"})
        );
    }
    assert_eq!(world.post(&path, &hello).await["errcode"], 45047);
    world.say("再问").await;
    assert_eq!(world.post(&path, &hello).await["errcode"], 0);
    let chat = world.get(&format!("/_sim/chat?openid={fan}")).await;
    let last = chat["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["from"], &last["shown"]),
        (&json!("account"), &json!("您好"))
    );
    world.advance(48 * 3600).await;
    let token = world.token().await;
    let path = format!("/cgi-bin/message/custom/send?access_token={token}");
    assert_eq!(world.post(&path, &hello).await["errcode"], 45015);

    for (message, errcode) in [
        (
            json!({"touser": "oNobody", "msgtype": "text", "text": {"content": "x"}}),
            40003,
        ),
        (
            json!({"touser": fan, "msgtype": "dance", "dance": {}}),
            40008,
        ),
        (
            json!({"touser": fan, "msgtype": "text", "text": {"content": ""}}),
            44004,
        ),
        (
            json!({"touser": fan, "msgtype": "text", "text": {"content": "x".repeat(2049)}}),
            45002,
        ),
    ] {
        assert_eq!(
            world.post(&path, &message).await["errcode"],
            errcode,
            "{message}"
        );
    }
}

#[tokio::test]
async fn relaxed_limits_let_messages_pass_outside_of_windows() {
    let world = World::with(Options {
        limits: Limits::Relaxed,
        ..Options::default()
    })
    .await;
    let (token, fan) = (world.token().await, world.fan().await);
    let hello = json!({"touser": fan, "msgtype": "text", "text": {"content": "您好"}});
    let path = format!("/cgi-bin/message/custom/send?access_token={token}");
    assert_eq!(world.post(&path, &hello).await["errcode"], 0);
}

#[tokio::test]
async fn an_account_without_certification_lacks_rights() {
    let world = World::with(Options {
        kind: Kind::Unverified,
        ..Options::default()
    })
    .await;
    let token = world.token().await;
    assert_eq!(errcode(&world, &token).await, 48001);
    world
        .put("/_sim/account", &json!({"kind": "subscription"}))
        .await;
    assert_eq!(errcode(&world, &token).await, 0);
    let auth = world.get("/sns/auth?access_token=x&openid=y").await;
    assert_eq!(auth["errcode"], 48001);
}
