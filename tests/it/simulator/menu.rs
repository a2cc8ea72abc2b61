//! The menu: what is checked, who sees which, and what a tap sends.

use serde_json::{Value, json};

use super::world::{Callback, JPG, World};

fn click(name: &str, key: &str) -> Value {
    json!({"type": "click", "name": name, "key": key})
}

#[tokio::test]
async fn a_menu_is_kept_and_shown_in_both_forms() {
    let world = World::start().await;
    assert_eq!(world.ask("/cgi-bin/menu/get").await["errcode"], 46003);
    let console = world.ask("/cgi-bin/get_current_selfmenu_info").await;
    assert_eq!(console["is_menu_open"], 0);
    let menu = json!({"button": [
        click("今日歌曲", "V1"),
        {"name": "菜单", "sub_button": [
            {"type": "view", "name": "搜索", "url": "https://example.com/"},
            click("赞", "V2"),
        ]},
    ]});
    assert_eq!(
        world.must("/cgi-bin/menu/create", &menu).await,
        json!({"errcode": 0, "errmsg": "ok"})
    );
    let read = world.ask("/cgi-bin/menu/get").await;
    assert!(read["menu"]["menuid"].is_u64());
    assert_eq!(
        read["menu"]["button"],
        json!([
            {"type": "click", "name": "今日歌曲", "key": "V1", "sub_button": []},
            {"name": "菜单", "sub_button": [
                {"type": "view", "name": "搜索", "url": "https://example.com/", "sub_button": []},
                {"type": "click", "name": "赞", "key": "V2", "sub_button": []},
            ]},
        ])
    );
    assert!(read.get("conditionalmenu").is_none());
    let console = world.ask("/cgi-bin/get_current_selfmenu_info").await;
    assert_eq!(
        console,
        json!({"is_menu_open": 1, "selfmenu_info": {"button": [
            click("今日歌曲", "V1"),
            {"name": "菜单", "sub_button": {"list": [
                {"type": "view", "name": "搜索", "url": "https://example.com/"},
                click("赞", "V2"),
            ]}},
        ]}})
    );
    let deleted = world.ask("/cgi-bin/menu/delete").await;
    assert_eq!(deleted["errcode"], 0);
    assert_eq!(world.ask("/cgi-bin/menu/get").await["errcode"], 46003);
}

#[tokio::test]
async fn the_newest_menu_whose_rule_fits_wins() {
    let world = World::start().await;
    let fan = world.fan().await;
    let path = "/cgi-bin/menu/addconditional";
    let for_tag =
        |tag: Value| json!({"button": [click("贵宾", "VIP")], "matchrule": {"tag_id": tag}});
    world.refuses(path, &for_tag(json!("2")), 65303).await;
    let user = json!({"user_id": fan});
    world.refuses("/cgi-bin/menu/trymatch", &user, 46003).await;
    let default = json!({"button": [click("大家", "ALL")]});
    world.must("/cgi-bin/menu/create", &default).await;

    let tag = world
        .must("/cgi-bin/tags/create", &json!({"tag": {"name": "贵宾"}}))
        .await;
    let tag = tag["tag"]["id"].clone();
    let vip = world.must(path, &for_tag(json!(tag.to_string()))).await;
    let android = json!({
        "button": [click("安卓", "ANDROID")],
        "matchrule": {"client_platform_type": "2"},
    });
    world.must(path, &android).await;
    let seen = async || {
        let seen = world.must("/cgi-bin/menu/trymatch", &user).await;
        seen["button"][0]["key"].as_str().unwrap().to_owned()
    };
    assert_eq!(seen().await, "ALL");
    let tagging = json!({"openid_list": [fan], "tagid": tag});
    world
        .must("/cgi-bin/tags/members/batchtagging", &tagging)
        .await;
    assert_eq!(seen().await, "VIP");
    let phone = json!({"openid": fan, "client_platform_type": 2});
    world.post("/_sim/fans", &phone).await;
    assert_eq!(seen().await, "ANDROID");
    let on_phone = world.get(&format!("/_sim/menu?openid={fan}")).await;
    assert_eq!(on_phone["button"][0]["key"], "ANDROID");

    let read = world.ask("/cgi-bin/menu/get").await;
    assert_eq!(read["conditionalmenu"].as_array().unwrap().len(), 2);
    assert_eq!(
        read["conditionalmenu"][1]["menuid"].to_string(),
        vip["menuid"].as_str().unwrap()
    );
    world.must("/cgi-bin/menu/delconditional", &vip).await;
    world
        .refuses("/cgi-bin/menu/delconditional", &vip, 65301)
        .await;
    world.ask("/cgi-bin/menu/delete").await;
    world.refuses("/cgi-bin/menu/trymatch", &user, 46003).await;
}

#[tokio::test]
async fn every_fault_of_a_button_has_its_code() {
    let world = World::start().await;
    let top = |button: Value| json!({"button": [button]});
    let sub = |button: Value| json!({"button": [{"name": "菜单", "sub_button": [button]}]});
    let long_url = format!("https://example.com/{}", "x".repeat(1024));
    let view = |url: &str| json!({"type": "view", "name": "x", "url": url});
    let named = |name: &str| click(name, "k");
    let program = |members: Value| {
        let mut button = json!({"type": "miniprogram", "name": "x", "url": "http://a.cn/"});
        for (name, value) in members.as_object().unwrap() {
            button[name] = value.clone();
        }
        button
    };
    let faults = [
        (json!({}), 40016),
        (json!({"button": []}), 40016),
        (json!({"button": vec![click("x", "k"); 4]}), 40016),
        (
            json!({"button": [{"name": "x", "sub_button": vec![click("x", "k"); 6]}]}),
            40023,
        ),
        (
            sub(json!({"name": "x", "sub_button": [click("x", "k")]})),
            40022,
        ),
        (top(json!({"name": "x"})), 40017),
        (top(json!({"type": "dance", "name": "x"})), 40017),
        (sub(json!({"type": "dance", "name": "x"})), 40024),
        (top(named("")), 40018),
        (top(named("一二三四五六")), 40018),
        (sub(named("")), 40025),
        (sub(named(&"一".repeat(21))), 40025),
        (top(click("x", "")), 40019),
        (top(click("x", &"k".repeat(129))), 40019),
        (sub(click("x", "")), 40026),
        (top(view("")), 40020),
        (top(view(&long_url)), 40020),
        (sub(view(&long_url)), 40027),
        (top(view("example.com")), 40055),
        (sub(view("ftp://example.com/")), 40054),
        (
            top(json!({"type": "view_limited", "name": "x", "media_id": "m"})),
            40119,
        ),
        (
            sub(json!({"type": "view_limited", "name": "x", "media_id": "m"})),
            40120,
        ),
        (top(program(json!({"pagepath": "p"}))), 40013),
        (top(program(json!({"appid": "wxa"}))), 40019),
        (
            top(json!({"type": "media_id", "name": "x", "media_id": "none"})),
            40007,
        ),
        (
            top(json!({"type": "article_id", "name": "x", "article_id": "none"})),
            53600,
        ),
    ];
    for (menu, errcode) in &faults {
        world.refuses("/cgi-bin/menu/create", menu, *errcode).await;
    }
    let picture = world
        .upload(
            "/cgi-bin/material/add_material?type=image",
            "a.jpg",
            JPG,
            None,
        )
        .await;
    let good = json!({"button": [
        named("一二三四五"),
        {"name": "x", "sub_button": [
            program(json!({"appid": "wxa", "pagepath": "p"})),
            {"type": "location_select", "name": "x", "key": "k"},
            {"type": "pic_sysphoto", "name": "x", "key": "k"},
            {"type": "scancode_push", "name": &"一".repeat(20), "key": "k"},
            {"type": "media_id", "name": "x", "media_id": picture["media_id"]},
        ]},
    ]});
    world.must("/cgi-bin/menu/create", &good).await;
    // What a menu shows stays in the library.
    let used = json!({"media_id": picture["media_id"]});
    world
        .refuses("/cgi-bin/material/del_material", &used, 48005)
        .await;
    let escaped = world.with_token("/cgi-bin/menu/create").await;
    let conditional = world.with_token("/cgi-bin/menu/addconditional").await;
    for path in [&escaped, &conditional] {
        let body = r#"{"button":[{"type":"click","name":"\u4f60","key":"k"}]}"#;
        let answer = world.client.post(format!("{}{path}", world.url)).body(body);
        let answer: Value = answer.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["errcode"], 40033);
    }

    let path = "/cgi-bin/menu/addconditional";
    for (menu, errcode) in &faults {
        let mut menu = menu.clone();
        menu["matchrule"] = json!({"tag_id": 2});
        let is_empty = menu["button"].as_array().is_none_or(Vec::is_empty);
        let errcode = if is_empty { 65307 } else { *errcode };
        world.refuses(path, &menu, errcode).await;
    }
    let rule = |rule: Value| json!({"button": [click("x", "k")], "matchrule": rule});
    for (menu, errcode) in [
        (rule(json!({})), 65304),
        (rule(json!({"sex": "1", "tag_id": ""})), 65304),
        (rule(json!({"tag_id": "999"})), 45159),
        (rule(json!({"client_platform_type": "4"})), 40035),
    ] {
        world.refuses(path, &menu, errcode).await;
    }
    let menuid = world.must(path, &rule(json!({"tag_id": 2}))).await;
    world.must("/cgi-bin/menu/delconditional", &menuid).await;
    world
        .refuses("/cgi-bin/menu/delconditional", &json!({}), 65301)
        .await;
    let nobody = json!({"user_id": "oNobody"});
    world
        .refuses("/cgi-bin/menu/trymatch", &nobody, 65302)
        .await;
    let user = json!({"user_id": world.fan().await});
    world.must("/cgi-bin/menu/trymatch", &user).await;
    world.ask("/cgi-bin/menu/get").await;
    world.ask("/cgi-bin/menu/delete").await;
    world.ask("/cgi-bin/menu/get").await;
    world
        .refuses(path, &rule(json!({"tag_id": 2})), 65303)
        .await;
    world.refuses("/cgi-bin/menu/trymatch", &user, 46003).await;
    world.ask("/cgi-bin/get_current_selfmenu_info").await;
    let paths = ["/cgi-bin/menu/", "/cgi-bin/get_current_selfmenu_info"];
    world.has_shown_all(&paths, &[]).await;
}

#[tokio::test]
async fn a_tap_sends_what_the_phone_would_send() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let fan = world.fan().await;
    let picture = world
        .upload(
            "/cgi-bin/material/add_material?type=image",
            "a.jpg",
            JPG,
            None,
        )
        .await;
    let keyed = |kind: &str| json!({"type": kind, "name": kind[..8].to_owned(), "key": kind});
    let menu = json!({"button": [
        click("点我", "K1"),
        {"name": "更多", "sub_button": [
            {"type": "view", "name": "打开", "url": "https://example.com/a"},
            keyed("scancode_waitmsg"),
            keyed("pic_sysphoto"),
            keyed("location_select"),
            {"type": "media_id", "name": "图", "media_id": picture["media_id"]},
        ]},
        {"type": "miniprogram", "name": "小程序", "url": "http://a.cn/", "appid": "wxa", "pagepath": "p/q"},
    ]});
    world.must("/cgi-bin/menu/create", &menu).await;
    let tap = async |index: Value| {
        let members = json!({"openid": fan, "index": index});
        let answer = world.post("/_sim/click", &members).await;
        let sent = answer["sent"].as_array().unwrap().len();
        let deliveries = callback.deliveries();
        let bodies: Vec<_> = deliveries[deliveries.len() - sent..]
            .iter()
            .map(|delivery| delivery.body.clone())
            .collect();
        (answer, bodies)
    };
    let (_, bodies) = tap(json!(0)).await;
    assert!(bodies[0].contains("<Event><![CDATA[CLICK]]></Event>"));
    assert!(bodies[0].contains("<EventKey><![CDATA[K1]]></EventKey>"));
    let (answer, bodies) = tap(json!([1, 0])).await;
    assert_eq!(answer["opens"], "https://example.com/a");
    assert!(bodies[0].contains("<Event><![CDATA[VIEW]]></Event>"));
    assert!(bodies[0].contains("<EventKey><![CDATA[https://example.com/a]]></EventKey>"));
    assert!(bodies[0].contains("<MenuId>2"));
    let (_, bodies) = tap(json!([1, 1])).await;
    assert!(bodies[0].contains("<ScanCodeInfo><ScanResult>"));
    let (_, bodies) = tap(json!([1, 2])).await;
    assert_eq!(bodies.len(), 2);
    assert!(bodies[0].contains("<SendPicsInfo><Count>1</Count><PicList><item><PicMd5Sum>"));
    assert!(bodies[1].contains("<MsgType><![CDATA[image]]></MsgType>"));
    let pic_url = bodies[1].split("<PicUrl><![CDATA[").nth(1).unwrap();
    let pic_url = pic_url.split("]]>").next().unwrap();
    let taken = world.client.get(pic_url).send().await.unwrap();
    assert_eq!(taken.headers()["content-type"], "image/png");
    let (_, bodies) = tap(json!([1, 3])).await;
    assert!(bodies[0].contains("<SendLocationInfo>"));
    assert!(bodies[1].contains("<MsgType><![CDATA[location]]></MsgType>"));
    let (answer, bodies) = tap(json!([1, 4])).await;
    assert!(bodies.is_empty());
    assert!(
        answer["shown_to_user"]
            .as_str()
            .unwrap()
            .contains("media_id")
    );
    let (answer, bodies) = tap(json!(2)).await;
    assert_eq!(answer["opens"], "p/q");
    assert!(bodies[0].contains("<Event><![CDATA[view_miniprogram]]></Event>"));
    let by_key = json!({"openid": fan, "key": "K1"});
    let answer = world.post("/_sim/click", &by_key).await;
    assert_eq!(answer["sent"][0]["Event"], "CLICK");

    // Opening a sub-menu sends nothing.
    for (members, status) in [
        (json!({"openid": fan, "index": 1}), 404),
        (json!({"openid": fan, "index": 7}), 404),
        (json!({"openid": fan, "key": "none"}), 404),
        (json!({"openid": fan}), 400),
        (json!({"openid": "oNobody", "index": 0}), 404),
    ] {
        let (got, _) = world.send("POST", "/_sim/click", &members).await;
        assert_eq!(got, status, "{members}");
    }
    let left = json!({"openid": fan, "subscribe": 0});
    world.post("/_sim/fans", &left).await;
    assert_eq!(world.send("POST", "/_sim/click", &by_key).await.0, 409);
}

#[tokio::test]
async fn an_account_without_certification_has_no_menu() {
    let world = World::start().await;
    world
        .put("/_sim/account", &json!({"kind": "unverified"}))
        .await;
    let menu = json!({"button": [click("x", "k")]});
    world.refuses("/cgi-bin/menu/create", &menu, 48001).await;
}
