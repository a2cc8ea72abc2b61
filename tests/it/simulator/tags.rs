//! Remarks, tags, the blacklist, moved followers, codes with a scene, and short keys.

use offiaccount::simulator::Options;
use serde_json::json;

use super::world::{Callback, World};

/// All openids, in order.
async fn fans(world: &World) -> Vec<String> {
    let fans = world.get("/_sim/fans").await;
    let fans = fans.as_array().unwrap().iter();
    fans.map(|fan| fan["openid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_written_on_a_follower_is_read_in_his_profile() {
    let world = World::start().await;
    let fans = fans(&world).await;
    let remark = json!({"openid": fans[0], "remark": "老客户"});
    world.must("/cgi-bin/user/info/updateremark", &remark).await;
    let tag = json!({"tag": {"name": "VIP"}});
    let tag = world.must("/cgi-bin/tags/create", &tag).await["tag"].clone();
    assert_eq!(tag["name"], "VIP");
    let both = json!({"openid_list": [fans[0], fans[1]], "tagid": tag["id"]});
    world
        .must("/cgi-bin/tags/members/batchtagging", &both)
        .await;
    // Again changes nothing.
    world
        .must("/cgi-bin/tags/members/batchtagging", &both)
        .await;

    let profile = world
        .ask(&format!("/cgi-bin/user/info?openid={}", fans[0]))
        .await;
    assert_eq!(profile["remark"], "老客户");
    assert_eq!(profile["tagid_list"], json!([tag["id"]]));
    assert_eq!(profile["groupid"], tag["id"]);
    let ids = json!({"openid": fans[1]});
    let ids = world.must("/cgi-bin/tags/getidlist", &ids).await;
    assert_eq!(ids["tagid_list"], json!([tag["id"]]));
    let tags = world.ask("/cgi-bin/tags/get").await;
    assert_eq!(
        tags["tags"],
        json!([
            {"id": 2, "name": "星标组", "count": 0},
            {"id": tag["id"], "name": "VIP", "count": 2},
        ])
    );
    let page = json!({"tagid": tag["id"], "next_openid": ""});
    let page = world.must("/cgi-bin/user/tag/get", &page).await;
    assert_eq!(page["count"], 2);
    assert_eq!(page["data"]["openid"], json!([fans[0], fans[1]]));
    assert_eq!(page["next_openid"], fans[1]);
    let rest = json!({"tagid": tag["id"], "next_openid": fans[1]});
    let rest = world.must("/cgi-bin/user/tag/get", &rest).await;
    assert_eq!(rest, json!({"count": 0, "next_openid": ""}));

    let one = json!({"openid_list": [fans[0]], "tagid": tag["id"]});
    world
        .must("/cgi-bin/tags/members/batchuntagging", &one)
        .await;
    let renamed = json!({"tag": {"id": tag["id"], "name": "贵宾"}});
    world.must("/cgi-bin/tags/update", &renamed).await;
    let tags = world.ask("/cgi-bin/tags/get").await;
    assert_eq!(tags["tags"][1]["name"], "贵宾");
    assert_eq!(tags["tags"][1]["count"], 1);
    // Who leaves carries nothing any more.
    let left = json!({"openid": fans[1], "subscribe": 0});
    world.post("/_sim/fans", &left).await;
    let tags = world.ask("/cgi-bin/tags/get").await;
    assert_eq!(tags["tags"][1]["count"], 0);
    let back = json!({"openid": fans[1], "subscribe": 1});
    world.post("/_sim/fans", &back).await;
    let ids = json!({"openid": fans[1]});
    let ids = world.must("/cgi-bin/tags/getidlist", &ids).await;
    assert_eq!(ids["tagid_list"], json!([]));
    let deleted = json!({"tag": {"id": tag["id"]}});
    world.must("/cgi-bin/tags/delete", &deleted).await;
    let tags = world.ask("/cgi-bin/tags/get").await;
    assert_eq!(tags["tags"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_blacklisted_fan_says_is_not_pushed_and_he_is_sent_nothing() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let fan = world.fan().await;
    world.say("先说一句").await;
    let list = json!({"openid_list": [fan]});
    world
        .must("/cgi-bin/tags/members/batchblacklist", &list)
        .await;
    let blocked = json!({"begin_openid": ""});
    let blocked = world
        .must("/cgi-bin/tags/members/getblacklist", &blocked)
        .await;
    assert_eq!(
        blocked,
        json!({"total": 1, "count": 1, "data": {"openid": [fan]}, "next_openid": fan})
    );
    let silent = world.say("有人吗").await;
    assert_eq!(silent["attempts"], json!([]));
    assert_eq!(callback.deliveries().len(), 1);
    let text = json!({"touser": fan, "msgtype": "text", "text": {"content": "您好"}});
    world
        .refuses("/cgi-bin/message/custom/send", &text, 43019)
        .await;
    world
        .must("/cgi-bin/tags/members/batchunblacklist", &list)
        .await;
    world.must("/cgi-bin/message/custom/send", &text).await;
    world.say("谢谢").await;
    assert_eq!(callback.deliveries().len(), 2);
}

#[tokio::test]
async fn a_follower_who_moved_here_is_found_by_his_former_openid() {
    let world = World::start().await;
    let fan = world.fan().await;
    let moved = json!({"openid": fan, "former_openid": "oFormer0000000000000000000001"});
    world.post("/_sim/fans", &moved).await;
    let list = json!({
        "from_appid": "wxaaaaaaaaaaaaaaaa",
        "openid_list": ["oFormer0000000000000000000001", "oStranger"],
    });
    let answer = world.must("/cgi-bin/changeopenid", &list).await;
    assert_eq!(
        answer["result_list"],
        json!([
            {"ori_openid": "oFormer0000000000000000000001", "new_openid": fan, "err_msg": "ok"},
            {"ori_openid": "oStranger", "err_msg": "ori_openid error"},
        ])
    );
}

#[tokio::test]
async fn calls_about_followers_refuse_as_the_platform_does() {
    let world = World::start().await;
    let fans = fans(&world).await;
    let left = json!({"openid": fans[2], "subscribe": 0});
    world.post("/_sim/fans", &left).await;
    let other = "oOther0000000000000000000001";
    let long = "长".repeat(30);
    for (path, body, errcode) in [
        (
            "user/info/updateremark",
            json!({"openid": "oNobody", "remark": "x"}),
            40003,
        ),
        (
            "user/info/updateremark",
            json!({"openid": fans[0], "remark": long}),
            40035,
        ),
        (
            "user/info/updateremark",
            json!({"openid": fans[0], "remark": ""}),
            0,
        ),
        ("user/info/batchget", json!({"user_list": []}), 40032),
        (
            "user/info/batchget",
            json!({"user_list": [{"openid": "oNobody"}]}),
            40003,
        ),
        (
            "user/info/batchget",
            json!({"user_list": [{"openid": fans[0]}]}),
            0,
        ),
        (
            "changeopenid",
            json!({"from_appid": "", "openid_list": ["o"]}),
            40013,
        ),
        (
            "changeopenid",
            json!({"from_appid": "wx0000000000000sim", "openid_list": ["o"]}),
            40013,
        ),
        (
            "changeopenid",
            json!({"from_appid": "wxa", "openid_list": []}),
            40032,
        ),
        (
            "changeopenid",
            json!({"from_appid": "wxa", "openid_list": ["o"]}),
            0,
        ),
        ("tags/create", json!({"tag": {"name": ""}}), 40035),
        (
            "tags/create",
            json!({"tag": {"name": format!("{long}长")}}),
            45158,
        ),
        ("tags/create", json!({"tag": {"name": "a"}}), 0),
        ("tags/create", json!({"tag": {"name": "a"}}), 45157),
        ("tags/create", json!({"tag": {"name": "b"}}), 0),
        (
            "tags/update",
            json!({"tag": {"id": 100, "name": "b"}}),
            45157,
        ),
        (
            "tags/update",
            json!({"tag": {"id": 100, "name": ""}}),
            40035,
        ),
        (
            "tags/update",
            json!({"tag": {"id": 100, "name": format!("{long}长")}}),
            45158,
        ),
        ("tags/update", json!({"tag": {"id": 2, "name": "c"}}), 45058),
        (
            "tags/update",
            json!({"tag": {"id": 999, "name": "c"}}),
            45159,
        ),
        ("tags/update", json!({"tag": {"id": 100, "name": "a"}}), 0),
        ("tags/delete", json!({"tag": {"id": 2}}), 45058),
        ("tags/delete", json!({"tag": {"id": 999}}), 45159),
        ("tags/delete", json!({"tag": {"id": 101}}), 0),
        ("user/tag/get", json!({"tagid": 999}), 45159),
        (
            "user/tag/get",
            json!({"tagid": 100, "next_openid": "oNobody"}),
            40003,
        ),
        ("user/tag/get", json!({"tagid": 100}), 0),
        (
            "tags/members/batchtagging",
            json!({"openid_list": [fans[0]], "tagid": 999}),
            45159,
        ),
        (
            "tags/members/batchtagging",
            json!({"openid_list": [], "tagid": 100}),
            40032,
        ),
        (
            "tags/members/batchtagging",
            json!({"openid_list": vec![&fans[0]; 51], "tagid": 100}),
            40032,
        ),
        (
            "tags/members/batchtagging",
            json!({"openid_list": ["x"], "tagid": 100}),
            40003,
        ),
        (
            "tags/members/batchtagging",
            json!({"openid_list": [fans[2]], "tagid": 100}),
            40003,
        ),
        (
            "tags/members/batchtagging",
            json!({"openid_list": [other], "tagid": 100}),
            49003,
        ),
        (
            "tags/members/batchuntagging",
            json!({"openid_list": [fans[0]], "tagid": 999}),
            45159,
        ),
        (
            "tags/members/batchuntagging",
            json!({"openid_list": [], "tagid": 100}),
            40032,
        ),
        (
            "tags/members/batchuntagging",
            json!({"openid_list": ["x"], "tagid": 100}),
            40003,
        ),
        (
            "tags/members/batchuntagging",
            json!({"openid_list": [other], "tagid": 100}),
            49003,
        ),
        (
            "tags/members/batchuntagging",
            json!({"openid_list": [fans[0]], "tagid": 100}),
            0,
        ),
        ("tags/getidlist", json!({"openid": "x"}), 40003),
        ("tags/getidlist", json!({"openid": other}), 49003),
        ("tags/getidlist", json!({"openid": fans[0]}), 0),
        (
            "tags/members/getblacklist",
            json!({"begin_openid": "x"}),
            40003,
        ),
        ("tags/members/getblacklist", json!({}), 0),
        (
            "tags/members/batchblacklist",
            json!({"openid_list": vec![&fans[0]; 21]}),
            40032,
        ),
        (
            "tags/members/batchblacklist",
            json!({"openid_list": ["x"]}),
            40003,
        ),
        (
            "tags/members/batchblacklist",
            json!({"openid_list": [other]}),
            49003,
        ),
        (
            "tags/members/batchblacklist",
            json!({"openid_list": [fans[0]]}),
            0,
        ),
        (
            "tags/members/batchunblacklist",
            json!({"openid_list": []}),
            40032,
        ),
        (
            "tags/members/batchunblacklist",
            json!({"openid_list": ["x"]}),
            40003,
        ),
        (
            "tags/members/batchunblacklist",
            json!({"openid_list": [other]}),
            49003,
        ),
        (
            "tags/members/batchunblacklist",
            json!({"openid_list": [fans[0]]}),
            0,
        ),
    ] {
        let path = format!("/cgi-bin/{path}");
        match errcode {
            0 => drop(world.must(&path, &body).await),
            errcode => world.refuses(&path, &body, errcode).await,
        }
    }
    // A fan carries 20 tags, an account has 100 of its own.
    for number in 1..100 {
        let tag = json!({"tag": {"name": format!("t{number}")}});
        let tag = world.must("/cgi-bin/tags/create", &tag).await["tag"]["id"].clone();
        if number > 21 {
            continue;
        }
        let tagging = json!({"openid_list": [fans[0]], "tagid": tag});
        let path = "/cgi-bin/tags/members/batchtagging";
        match number {
            21 => world.refuses(path, &tagging, 45059).await,
            _ => drop(world.must(path, &tagging).await),
        }
    }
    let more = json!({"tag": {"name": "one too many"}});
    world.refuses("/cgi-bin/tags/create", &more, 45056).await;
    for (path, errcode) in [
        ("/cgi-bin/user/get?next_openid=oNobody", 40003),
        ("/cgi-bin/user/get", 0),
        ("/cgi-bin/user/info", 41009),
        ("/cgi-bin/user/info?openid=oNobody", 40003),
        ("/cgi-bin/tags/get", 0),
    ] {
        let answer = world.ask(path).await;
        assert_eq!(answer["errcode"].as_i64().unwrap_or(0), errcode, "{path}");
    }
    world
        .ask(&format!("/cgi-bin/user/info?openid={}", fans[0]))
        .await;
    let paths = ["/cgi-bin/user/", "/cgi-bin/tags/", "/cgi-bin/changeopenid"];
    // A hundred thousand followers would have to carry it.
    let except = [("/cgi-bin/tags/delete", 45057)];
    world.has_shown_all(&paths, &except).await;
}

#[tokio::test]
async fn a_scan_follows_with_the_scene_or_tells_it() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let temporary = json!({
        "expire_seconds": 604_800,
        "action_name": "QR_SCENE",
        "action_info": {"scene": {"scene_id": 123}},
    });
    let code = world.must("/cgi-bin/qrcode/create", &temporary).await;
    assert_eq!(code["expire_seconds"], 604_800);
    let url = code["url"].as_str().unwrap();
    assert!(url.starts_with("http://weixin.qq.com/q/"), "{url}");
    let ticket = code["ticket"].as_str().unwrap();
    let encoded: String = url::form_urlencoded::byte_serialize(ticket.as_bytes()).collect();
    let picture = format!("{}/cgi-bin/showqrcode?ticket={encoded}", world.url);
    let response = world.client.get(&picture).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "image/svg+xml");
    let text = response.text().await.unwrap();
    assert!(text.starts_with("<svg") && text.contains("123"));

    let new_fan = json!({"openid": "oNewFan", "ticket": ticket});
    let followed = world.post("/_sim/scan", &new_fan).await;
    assert_eq!(followed["sent"][0]["Event"], "subscribe");
    world.post("/_sim/scan", &new_fan).await;
    let deliveries = callback.deliveries();
    assert_eq!(deliveries.len(), 2);
    let has = |body: &str, element: &str, text: &str| {
        body.contains(&format!("<{element}><![CDATA[{text}]]></{element}>"))
    };
    assert!(has(&deliveries[0].body, "Event", "subscribe"));
    assert!(has(&deliveries[0].body, "EventKey", "qrscene_123"));
    assert!(has(&deliveries[0].body, "Ticket", ticket));
    assert!(has(&deliveries[1].body, "Event", "SCAN"));
    assert!(has(&deliveries[1].body, "EventKey", "123"));
    let profile = world.ask("/cgi-bin/user/info?openid=oNewFan").await;
    assert_eq!(profile["subscribe_scene"], "ADD_SCENE_QR_CODE");
    assert_eq!(
        (&profile["qr_scene"], &profile["qr_scene_str"]),
        (&json!(123), &json!(""))
    );

    let lasting = json!({
        "action_name": "QR_LIMIT_STR_SCENE",
        "action_info": {"scene": {"scene_str": "门店 7"}},
    });
    let lasting_code = world.must("/cgi-bin/qrcode/create", &lasting).await;
    assert!(lasting_code.get("expire_seconds").is_none());
    assert_eq!(
        world.must("/cgi-bin/qrcode/create", &lasting).await,
        lasting_code
    );
    let by_scene = json!({"openid": "oThird", "scene": "门店 7"});
    world.post("/_sim/scan", &by_scene).await;
    let profile = world.ask("/cgi-bin/user/info?openid=oThird").await;
    assert_eq!(profile["qr_scene_str"], "门店 7");

    world.advance(604_800).await;
    assert_eq!(
        world.client.get(&picture).send().await.unwrap().status(),
        404
    );
    assert_eq!(world.send("POST", "/_sim/scan", &new_fan).await.0, 404);
    world.post("/_sim/scan", &by_scene).await;
    let nothing = json!({"openid": "oThird"});
    assert_eq!(world.send("POST", "/_sim/scan", &nothing).await.0, 400);
}

#[tokio::test]
async fn codes_and_short_keys_have_limits() {
    let world = World::start().await;
    let path = "/cgi-bin/qrcode/create";
    let code = |action: &str, scene: serde_json::Value| json!({"action_name": action, "action_info": {"scene": scene}});
    world
        .refuses(path, &code("QR_DANCE", json!({"scene_id": 1})), 40052)
        .await;
    for (action, scene) in [
        ("QR_SCENE", json!({"scene_id": 0})),
        ("QR_SCENE", json!({"scene_id": 4_294_967_296_i64})),
        ("QR_SCENE", json!({"scene_str": "x"})),
        ("QR_LIMIT_SCENE", json!({"scene_id": 100_001})),
        ("QR_STR_SCENE", json!({"scene_str": ""})),
        ("QR_STR_SCENE", json!({"scene_str": "x".repeat(65)})),
    ] {
        world.refuses(path, &code(action, scene), 40053).await;
    }
    let shortest = code("QR_STR_SCENE", json!({"scene_str": "x".repeat(64)}));
    assert_eq!(world.must(path, &shortest).await["expire_seconds"], 60);
    let mut longest = shortest;
    longest["expire_seconds"] = json!(9_999_999);
    let longest = world.must(path, &longest).await;
    assert_eq!(longest["expire_seconds"], 2_592_000);
    let shown = "/cgi-bin/showqrcode?ticket=";
    let ticket = longest["ticket"].as_str().unwrap();
    let encoded: String = url::form_urlencoded::byte_serialize(ticket.as_bytes()).collect();
    let picture = format!("{}{shown}{encoded}", world.url);
    assert_eq!(
        world.client.get(picture).send().await.unwrap().status(),
        200
    );

    let gen_ = "/cgi-bin/shorten/gen";
    let key = json!({"long_data": "loooong", "expire_seconds": 86_400});
    let key = world.must(gen_, &key).await;
    assert_eq!(key["errmsg"], "ok");
    assert_eq!(key["short_key"].as_str().unwrap().len(), 15);
    let key = json!({"short_key": key["short_key"]});
    world.advance(100).await;
    let fetched = world.must("/cgi-bin/shorten/fetch", &key).await;
    assert_eq!(fetched["long_data"], "loooong");
    let left = fetched["expire_seconds"].as_i64().unwrap();
    assert!((86_200..=86_300).contains(&left), "{left}");
    for (body, named) in [
        (json!({"long_data": ""}), "long_data"),
        (json!({"long_data": "x".repeat(4097)}), "long_data"),
        (
            json!({"long_data": "x", "expire_seconds": 2_592_001}),
            "expire_seconds",
        ),
    ] {
        let refused = world.call(gen_, &body).await;
        assert_eq!(refused["errcode"], 47003);
        assert!(refused["errmsg"].as_str().unwrap().contains(named));
    }
    world
        .refuses("/cgi-bin/shorten/fetch", &json!({}), 47003)
        .await;
    world.advance(86_400).await;
    world
        .refuses("/cgi-bin/shorten/fetch", &key, 9_410_010)
        .await;
    let stopped = json!({"action": "long2short", "long_url": "https://example.com/"});
    world.refuses("/cgi-bin/shorturl", &stopped, 45106).await;
    let paths = ["/cgi-bin/qrcode/", "/cgi-bin/showqrcode", "/cgi-bin/short"];
    // A hundred thousand codes would have to be there; what is stopped has no good case.
    let except = [("/cgi-bin/qrcode/create", 45029), ("/cgi-bin/shorturl", 0)];
    world.has_shown_all(&paths, &except).await;
}

#[tokio::test]
async fn the_same_seed_makes_the_same_codes_and_tags() {
    let make = async || {
        let world = World::with(Options {
            seed: Some(7),
            ..Options::default()
        })
        .await;
        let code = json!({"action_name": "QR_SCENE", "action_info": {"scene": {"scene_id": 1}}});
        let tag = json!({"tag": {"name": "x"}});
        (
            world.must("/cgi-bin/qrcode/create", &code).await,
            world.must("/cgi-bin/tags/create", &tag).await,
        )
    };
    assert_eq!(make().await, make().await);
}
