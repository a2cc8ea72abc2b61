//! Quotas, the log by `rid`, the IP whitelist, statistics.

use offiaccount::simulator::{Kind, Options};
use serde_json::{Value, json};

use super::world::{APPID, SECRET, World};

fn token_path() -> String {
    format!("/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={SECRET}")
}

#[tokio::test]
async fn counts_are_told_and_set_back_ten_times_a_month() {
    let world = World::with(Options {
        kind: Kind::Sandbox,
        ..Options::default()
    })
    .await;
    let get = "/cgi-bin/openapi/quota/get";
    let users = json!({"cgi_path": "/cgi-bin/user/get"});
    for _ in 0..100 {
        assert!(world.ask("/cgi-bin/user/get").await["total"].is_u64());
    }
    assert_eq!(world.ask("/cgi-bin/user/get").await["errcode"], 45009);
    let quota = world.must(get, &users).await;
    assert_eq!(
        quota["quota"],
        json!({"daily_limit": 100, "used": 100, "remain": 0})
    );
    assert_eq!(quota["rate_limit"]["call_count"], 0);
    world.must("/cgi-bin/openapi/quota/clear", &users).await;
    assert_eq!(world.must(get, &users).await["quota"]["remain"], 100);

    let own = json!({"appid": APPID});
    for _ in 0..8 {
        world.must("/cgi-bin/clear_quota", &own).await;
    }
    // The third way draws from the same ten.
    let secret = json!({"appid": APPID, "appsecret": SECRET});
    assert_eq!(
        world.post("/cgi-bin/clear_quota/v2", &secret).await["errcode"],
        0
    );
    for (path, body) in [
        ("/cgi-bin/clear_quota", &own),
        ("/cgi-bin/clear_quota/v2", &secret),
        ("/cgi-bin/openapi/quota/clear", &users),
    ] {
        world.refuses(path, body, 48006).await;
    }
    world
        .put("/_sim/account", &json!({"limits": "relaxed"}))
        .await;
    world.must("/cgi-bin/clear_quota", &own).await;
    world.put("/_sim/account", &json!({"limits": "real"})).await;
    world.advance(31 * 24 * 3600).await;
    world.must("/cgi-bin/clear_quota", &own).await;

    let unknown = json!({"cgi_path": "/cgi-bin/none"});
    world.refuses(get, &unknown, 76021).await;
    world
        .refuses("/cgi-bin/openapi/quota/clear", &unknown, 76021)
        .await;
    for (body, errcode) in [(json!({}), 41002), (json!({"appid": "wxother"}), 40013)] {
        world.refuses("/cgi-bin/clear_quota", &body, errcode).await;
    }
    for (body, errcode) in [
        (json!({}), 41002),
        (json!({"appid": "wxother", "appsecret": "x"}), 40013),
        (json!({"appid": APPID}), 41004),
        (json!({"appid": APPID, "appsecret": "x"}), 40125),
    ] {
        let answer = world.post("/cgi-bin/clear_quota/v2", &body).await;
        assert_eq!(answer["errcode"], errcode, "{body}");
    }
    let paths = ["/cgi-bin/clear_quota", "/cgi-bin/openapi/quota/"];
    world.has_shown_all(&paths, &[]).await;
}

#[tokio::test]
async fn a_refused_call_is_found_by_its_rid_for_a_week() {
    let world = World::start().await;
    let get = "/cgi-bin/openapi/rid/get";
    let wrong = json!({"touser": "oNobody", "msgtype": "text", "text": {"content": "x"}});
    let refused = world.call("/cgi-bin/message/custom/send", &wrong).await;
    let errmsg = refused["errmsg"].as_str().unwrap();
    let rid = errmsg.split("rid: ").nth(1).unwrap().to_owned();
    let found = world.must(get, &json!({"rid": rid})).await;
    let request = &found["request"];
    assert_eq!(request["request_body"], wrong.to_string());
    assert_eq!(request["client_ip"], "127.0.0.1");
    assert_eq!(
        request["request_url"],
        "/cgi-bin/message/custom/send?access_token=***"
    );
    let response: Value = serde_json::from_str(request["response_body"].as_str().unwrap()).unwrap();
    assert_eq!(response, refused);
    assert!(request["invoke_time"].is_i64() && request["cost_in_ms"].is_u64());
    world.refuses(get, &json!({}), 76002).await;
    world.refuses(get, &json!({"rid": "x-y-z"}), 76002).await;
    let unknown = format!("{}-00000000-00000000", &rid[..8]);
    world.refuses(get, &json!({"rid": unknown}), 76001).await;
    world.advance(7 * 24 * 3600 + 1).await;
    world.refuses(get, &json!({"rid": rid}), 76004).await;
    world.has_shown_all(&[get], &[]).await;
}

#[tokio::test]
async fn tokens_are_given_to_listed_addresses_only() {
    let world = World::start().await;
    world
        .put("/_sim/account", &json!({"ip_whitelist": ["192.0.2.1"]}))
        .await;
    let words = "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: ";
    for answer in [
        world.get(&token_path()).await,
        world.stable_token(false).await,
    ] {
        assert_eq!(answer["errcode"], 40164);
        assert!(
            answer["errmsg"].as_str().unwrap().starts_with(words),
            "{answer}"
        );
    }
    for account in [
        json!({"ip_whitelist": ["192.0.2.1", "127.0.0.1"]}),
        json!({"ip_whitelist": []}),
        json!({"ip_whitelist": ["192.0.2.1"], "kind": "sandbox"}),
    ] {
        world.put("/_sim/account", &account).await;
        assert!(world.get(&token_path()).await["access_token"].is_string());
    }
}

#[tokio::test]
async fn statistics_have_a_row_for_each_day_that_is_over() {
    let world = World::start().await;
    // The fans came in the first week of the platform's November.
    world.advance(10 * 24 * 3600).await;
    let now = world.get("/_sim/clock").await["now"].as_i64().unwrap();
    let day = |back: i64| {
        let days = (now + 8 * 3600).div_euclid(24 * 3600) - back;
        let (mut year, mut left) = (1970, days);
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        while left >= 365 + i64::from(is_leap(year)) {
            left -= 365 + i64::from(is_leap(year));
            year += 1;
        }
        let february = 28 + i64::from(is_leap(year));
        let mut month = 1;
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if left < days {
                break;
            }
            left -= days;
            month += 1;
        }
        format!("{year:04}-{month:02}-{:02}", left + 1)
    };
    let span = |begin: i64, end: i64| json!({"begin_date": day(begin), "end_date": day(end)});
    let cumulate = world.must("/datacube/getusercumulate", &span(11, 5)).await;
    let list = cumulate["list"].as_array().unwrap();
    assert_eq!(list.len(), 7);
    assert_eq!(
        list[0],
        json!({"ref_date": day(11), "user_source": 0, "cumulate_user": 0})
    );
    assert_eq!(list[6]["cumulate_user"], 3);
    let summary = world.must("/datacube/getusersummary", &span(11, 5)).await;
    let came: i64 = summary["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["new_user"].as_i64().unwrap())
        .sum();
    assert_eq!(came, 3);

    let endpoints = world.get("/_sim/endpoints").await;
    let mut calls = 0;
    for endpoint in endpoints.as_array().unwrap() {
        let path = endpoint["path"].as_str().unwrap();
        if !path.starts_with("/datacube/") {
            continue;
        }
        calls += 1;
        assert!(world.must(path, &span(1, 1)).await["list"].is_array());
        world
            .refuses(path, &json!({"begin_date": day(1)}), 61500)
            .await;
        let bad = json!({"begin_date": "2026-02-30", "end_date": day(1)});
        world.refuses(path, &bad, 61500).await;
        for bad in [span(1, 0), span(1, 2), span(32, 1)] {
            world.refuses(path, &bad, 61501).await;
        }
    }
    assert_eq!(calls, 17);
    let longest = world
        .must("/datacube/getinterfacesummary", &span(30, 1))
        .await;
    assert_eq!(longest["list"].as_array().unwrap().len(), 30);
    world.has_shown_all(&["/datacube/"], &[]).await;
}

#[tokio::test]
async fn the_consoles_own_replies_are_off() {
    let world = World::start().await;
    let info = world.ask("/cgi-bin/get_current_autoreply_info").await;
    assert_eq!(info["is_autoreply_open"], 0);
}
