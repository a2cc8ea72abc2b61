//! Customer-service messages with their windows, and the people who send them.

use serde_json::{Value, json};

use super::world::{AMR, Callback, JPG, MP4, World};

const SEND: &str = "/cgi-bin/message/custom/send";
const TYPING: &str = "/cgi-bin/message/custom/typing";

fn text(fan: &str) -> Value {
    json!({"touser": fan, "msgtype": "text", "text": {"content": "您好"}})
}

/// How many messages pass until one is refused, and the code of the refusal.
async fn sent_until_refused(world: &World, fan: &str) -> (usize, Value) {
    for count in 0..10 {
        let answer = world.call(SEND, &text(fan)).await;
        if answer["errcode"] != 0 {
            return (count, answer["errcode"].clone());
        }
    }
    panic!("nothing is refused");
}

#[tokio::test]
async fn each_kind_of_act_opens_its_own_window() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let event = |fan: &str, event: &str| json!({"openid": fan, "MsgType": "event", "Event": event, "EventKey": "k"});
    let menu_tap = |fan: &str| json!({"openid": fan, "MsgType": "text", "Content": "满意", "bizmsgmenuid": 101});
    for (fan, act, most, seconds) in [
        (
            "oA",
            json!({"openid": "oA", "MsgType": "text", "Content": "x"}),
            5,
            48 * 3600,
        ),
        ("oB", event("oB", "CLICK"), 3, 60),
        ("oC", event("oC", "scancode_push"), 3, 60),
        ("oD", event("oD", "subscribe"), 3, 60),
        ("oE", event("oE", "SCAN"), 3, 60),
        ("oF", menu_tap("oF"), 3, 60),
    ] {
        world.post("/_sim/send", &act).await;
        assert_eq!(
            sent_until_refused(&world, fan).await,
            (most, json!(45047)),
            "{act}"
        );
        world.advance(seconds).await;
        world.refuses(SEND, &text(fan), 45015).await;
        world.post("/_sim/send", &act).await;
        world.must(SEND, &text(fan)).await;
    }
    for (fan, act) in [
        ("oG", event("oG", "VIEW")),
        ("oH", event("oH", "LOCATION")),
        ("oA", event("oA", "unsubscribe")),
    ] {
        world.post("/_sim/send", &act).await;
        world.refuses(SEND, &text(fan), 45015).await;
    }
    // A message and a tap have windows beside each other.
    let act = json!({"openid": "oI", "MsgType": "text", "Content": "x"});
    world.post("/_sim/send", &act).await;
    world.post("/_sim/send", &event("oI", "CLICK")).await;
    assert_eq!(sent_until_refused(&world, "oI").await, (8, json!(45047)));
}

#[tokio::test]
async fn every_kind_of_message_is_checked_and_stands_in_the_chat() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    world
        .put("/_sim/account", &json!({"limits": "relaxed"}))
        .await;
    let fan = world.fan().await;
    let upload = async |kind: &str, name: &str, bytes: &[u8]| {
        let path = format!("/cgi-bin/media/upload?type={kind}");
        let answer = world.upload(&path, name, bytes, None).await;
        let id = match kind {
            "thumb" => answer["thumb_media_id"].clone(),
            _ => answer["media_id"].clone(),
        };
        assert!(id.is_string(), "{answer}");
        id
    };
    let image = upload("image", "a.jpg", JPG).await;
    let voice = upload("voice", "a.amr", AMR).await;
    let video = upload("video", "a.mp4", MP4).await;
    let thumb = upload("thumb", "a.jpg", JPG).await;
    let permanent = world
        .upload(
            "/cgi-bin/material/add_material?type=image",
            "a.jpg",
            JPG,
            None,
        )
        .await["media_id"]
        .clone();
    let article = json!({"title": "新品", "content": "<p>x</p>", "thumb_media_id": permanent});
    let draft = world
        .must("/cgi-bin/draft/add", &json!({"articles": [article]}))
        .await;
    let other = world
        .must("/cgi-bin/draft/add", &json!({"articles": [article]}))
        .await;
    let published = world.must("/cgi-bin/freepublish/submit", &other).await;
    let published = world.must("/cgi-bin/freepublish/get", &published).await;
    let article_id = published["article_id"].clone();
    let menu = json!([{"id": "101", "content": "满意"}]);
    let good = [
        ("text", json!({"content": "您好"}), "您好"),
        ("image", json!({"media_id": image}), "[图片]"),
        ("image", json!({"media_id": permanent}), "[图片]"),
        ("voice", json!({"media_id": voice}), "[语音]"),
        (
            "video",
            json!({"media_id": video, "thumb_media_id": thumb, "title": "片"}),
            "[视频] 片",
        ),
        (
            "music",
            json!({"title": "歌", "musicurl": "http://a.cn/", "thumb_media_id": thumb}),
            "[音乐] 歌",
        ),
        (
            "news",
            json!({"articles": [{"title": "文", "url": "http://a.cn/"}]}),
            "[图文] 文",
        ),
        (
            "mpnews",
            json!({"media_id": draft["media_id"]}),
            "[图文] 新品",
        ),
        (
            "mpnewsarticle",
            json!({"article_id": article_id}),
            "[图文] 新品",
        ),
        (
            "msgmenu",
            json!({"head_content": "满意吗", "list": menu}),
            "[菜单] 满意吗",
        ),
        ("wxcard", json!({"card_id": "p1"}), "[卡券] p1"),
        (
            "miniprogrampage",
            json!({"title": "程", "appid": "wxa", "pagepath": "p", "thumb_media_id": thumb}),
            "[小程序] 程",
        ),
    ];
    for (msgtype, content, _) in &good {
        let message = json!({"touser": fan, "msgtype": msgtype, *msgtype: content});
        world.must(SEND, &message).await;
    }
    let chat = world.get(&format!("/_sim/chat?openid={fan}")).await;
    let chat = chat["messages"].as_array().unwrap();
    assert_eq!(chat.len(), good.len());
    for (bubble, (msgtype, content, shown)) in chat.iter().zip(&good) {
        assert_eq!(bubble["from"], "account");
        assert_eq!(bubble["shown"], *shown);
        assert_eq!(bubble["message"]["MsgType"], *msgtype);
        assert_eq!(bubble["message"]["custom"], *content);
    }

    let long = "x".repeat(2049);
    for (msgtype, content, errcode) in [
        ("dance", json!({}), 40008),
        ("text", json!({"content": ""}), 44004),
        ("text", json!({"content": long}), 45002),
        ("image", json!({"media_id": "none"}), 40007),
        ("image", json!({"media_id": voice}), 40007),
        ("voice", json!({}), 40007),
        (
            "video",
            json!({"media_id": video, "thumb_media_id": "none"}),
            40007,
        ),
        ("news", json!({"articles": []}), 45008),
        ("news", json!({"articles": [{}, {}]}), 45008),
        ("mpnews", json!({"media_id": image}), 40007),
        ("mpnewsarticle", json!({"article_id": "none"}), 53600),
        ("msgmenu", json!({"list": []}), 40035),
        ("wxcard", json!({}), 40035),
        ("miniprogrampage", json!({"pagepath": "p"}), 40013),
        ("miniprogrampage", json!({"appid": "wxa"}), 40035),
    ] {
        let message = json!({"touser": fan, "msgtype": msgtype, msgtype: content});
        world.refuses(SEND, &message, errcode).await;
    }
    world.refuses(SEND, &text("oNobody"), 40003).await;
    let mut by_nobody = text(&fan);
    by_nobody["customservice"] = json!({"kf_account": "none@sim"});
    world.refuses(SEND, &by_nobody, 65401).await;
    let blocked = json!({"openid": fan, "blacklisted": true});
    world.post("/_sim/fans", &blocked).await;
    world.refuses(SEND, &text(&fan), 43019).await;
    let blocked = json!({"openid": fan, "blacklisted": false});
    world.post("/_sim/fans", &blocked).await;
    world.put("/_sim/account", &json!({"limits": "real"})).await;
    world.refuses(SEND, &text(&fan), 45015).await;
    world.say("在吗").await;
    for _ in 0..5 {
        world.must(SEND, &text(&fan)).await;
    }
    world.refuses(SEND, &text(&fan), 45047).await;

    let typing = |command: &str| json!({"touser": fan, "command": command});
    world.refuses(TYPING, &typing("Dance"), 45072).await;
    let nobody = json!({"touser": "oNobody", "command": "Typing"});
    world.refuses(TYPING, &nobody, 40003).await;
    world.must(TYPING, &typing("Typing")).await;
    world.refuses(TYPING, &typing("Typing"), 45081).await;
    world.must(TYPING, &typing("CancelTyping")).await;
    world.must(TYPING, &typing("Typing")).await;
    world.advance(30).await;
    world.refuses(TYPING, &typing("Typing"), 45080).await;
    world
        .put("/_sim/account", &json!({"limits": "relaxed"}))
        .await;
    world.must(TYPING, &typing("Typing")).await;
    world
        .has_shown_all(&["/cgi-bin/message/custom/"], &[])
        .await;
}

#[tokio::test]
async fn an_agent_is_invited_takes_a_fan_and_lets_him_go() {
    let fan_reply = "<xml><ToUserName>FAN</ToUserName><FromUserName>gh_000000000sim</FromUserName>\
        <CreateTime>1700000000</CreateTime><MsgType>transfer_customer_service</MsgType></xml>";
    let world = World::start().await;
    let fan = world.fan().await;
    let callback =
        Callback::answering([fan_reply.replace("FAN", &fan), "success".to_owned()]).await;
    let delivers = json!({"callback_url": callback.url});
    world.put("/_sim/account", &delivers).await;

    let agent = "a_1@sim";
    let added = json!({"kf_account": agent, "nickname": "客服1"});
    world.must("/customservice/kfaccount/add", &added).await;
    let renamed = json!({"kf_account": agent, "nickname": "小客"});
    world
        .must("/customservice/kfaccount/update", &renamed)
        .await;
    let invited = json!({"kf_account": agent, "invite_wx": "worker1"});
    world
        .must("/customservice/kfaccount/inviteworker", &invited)
        .await;
    let head = format!("/customservice/kfaccount/uploadheadimg?kf_account={agent}");
    assert_eq!(world.upload(&head, "a.jpg", JPG, None).await["errcode"], 0);
    let list = world.ask("/cgi-bin/customservice/getkflist").await;
    let listed = &list["kf_list"][0];
    assert_eq!(
        (
            &listed["kf_nick"],
            &listed["kf_id"],
            &listed["invite_status"]
        ),
        (&json!("小客"), &json!("1001"), &json!("waiting"))
    );
    let head = world.client.get(listed["kf_headimgurl"].as_str().unwrap());
    assert_eq!(head.send().await.unwrap().bytes().await.unwrap(), JPG);
    let pair = json!({"kf_account": agent, "openid": fan});
    world
        .refuses("/customservice/kfsession/create", &pair, 65402)
        .await;
    let online = json!({"kf_account": agent, "online": true});
    let agents = world.post("/_sim/agents", &online).await;
    assert_eq!(agents[0]["kf_wx"], "worker1");

    // The backend hands the fan over: he waits.
    world.say("转人工").await;
    let waiting = world.ask("/customservice/kfsession/getwaitcase").await;
    assert_eq!(waiting["count"], 1);
    assert_eq!(waiting["waitcaselist"][0]["openid"], fan);
    world.must("/customservice/kfsession/create", &pair).await;
    assert_eq!(
        world.pushed("kf_create_session").await["message"]["KfAccount"],
        agent
    );
    let waiting = world.ask("/customservice/kfsession/getwaitcase").await;
    assert_eq!(waiting["count"], 0);
    let online = world.ask("/cgi-bin/customservice/getonlinekflist").await;
    assert_eq!(online["kf_online_list"][0]["accepted_case"], 1);
    let session = format!("/customservice/kfsession/getsession?openid={fan}");
    assert_eq!(world.ask(&session).await["kf_account"], agent);
    let sessions = format!("/customservice/kfsession/getsessionlist?kf_account={agent}");
    assert_eq!(world.ask(&sessions).await["sessionlist"][0]["openid"], fan);
    world.say("你好").await;
    let mut reply = text(&fan);
    reply["customservice"] = json!({"kf_account": agent});
    world.must(SEND, &reply).await;
    world.must("/customservice/kfsession/close", &pair).await;
    world.pushed("kf_close_session").await;
    assert_eq!(
        world.ask(&session).await,
        json!({"createtime": 0, "kf_account": ""})
    );

    let now = world.get("/_sim/clock").await["now"].as_i64().unwrap();
    let span = json!({"starttime": now - 3600, "endtime": now + 1, "msgid": 1, "number": 10_000});
    let record = world
        .must("/customservice/msgrecord/getmsglist", &span)
        .await;
    let lines: Vec<_> = record["recordlist"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (
                line["opercode"].as_i64().unwrap(),
                line["worker"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(lines, [(2003, ""), (2003, agent), (2002, agent)]);
    assert_eq!(
        (&record["number"], &record["msgid"]),
        (&json!(3), &json!(4))
    );
    let deleted = format!("/customservice/kfaccount/del?kf_account={agent}");
    assert_eq!(world.ask(&deleted).await["errcode"], 0);
    let list = world.ask("/cgi-bin/customservice/getkflist").await;
    assert_eq!(list, json!({"kf_list": []}));
}

#[tokio::test]
async fn a_fan_who_is_handed_to_an_agent_by_name_is_served_at_once() {
    let world = World::start().await;
    let fan = world.fan().await;
    let reply = format!(
        "<xml><ToUserName>{fan}</ToUserName><FromUserName>gh_000000000sim</FromUserName>\
         <CreateTime>1700000000</CreateTime><MsgType>transfer_customer_service</MsgType>\
         <TransInfo><KfAccount>a@sim</KfAccount></TransInfo></xml>"
    );
    let callback = Callback::answering([reply]).await;
    let delivers = json!({"callback_url": callback.url});
    world.put("/_sim/account", &delivers).await;
    let agent = json!({"kf_account": "a@sim", "nickname": "客"});
    world.must("/customservice/kfaccount/add", &agent).await;
    world.say("转人工").await;
    let waiting = "/customservice/kfsession/getwaitcase";
    assert_eq!(world.ask(waiting).await["count"], 1);
    let online = json!({"kf_account": "a@sim", "wx": "w", "online": true});
    world.post("/_sim/agents", &online).await;
    world.say("转人工").await;
    assert_eq!(world.ask(waiting).await["count"], 0);
    let push = world.pushed("kf_create_session").await;
    assert_eq!(
        (&push["openid"], &push["message"]["KfAccount"]),
        (&json!(fan), &json!("a@sim"))
    );
}

#[tokio::test]
async fn calls_about_agents_refuse_as_the_platform_does() {
    let world = World::start().await;
    let fan = world.fan().await;
    let add = "/customservice/kfaccount/add";
    let agent = |prefix: &str| json!({"kf_account": format!("{prefix}@sim"), "nickname": "客"});
    for (prefix, errcode) in [("a b", 65404), ("", 65404), ("elevenlong1", 65404)] {
        world.refuses(add, &agent(prefix), errcode).await;
    }
    let unnamed = json!({"kf_account": "a@sim", "nickname": "长".repeat(17)});
    world.refuses(add, &unnamed, 65403).await;
    for number in 0..100 {
        world.must(add, &agent(&format!("a{number}"))).await;
    }
    world.refuses(add, &agent("a0"), 65406).await;
    world.refuses(add, &agent("a100"), 65405).await;

    let on = |prefix: &str| json!({"kf_account": format!("{prefix}@sim"), "online": true});
    let asked =
        |prefix: &str, wx: &str| json!({"kf_account": format!("{prefix}@sim"), "invite_wx": wx});
    let pair =
        |prefix: &str, fan: &str| json!({"kf_account": format!("{prefix}@sim"), "openid": fan});
    for (path, body, errcode) in [
        (
            "kfaccount/update",
            json!({"kf_account": "x@sim", "nickname": "客"}),
            65401,
        ),
        ("kfaccount/update", json!({"kf_account": "a0@sim"}), 65403),
        ("kfaccount/update", agent("a0"), 0),
        ("kfaccount/inviteworker", asked("x", "w"), 65401),
        (
            "kfaccount/inviteworker",
            json!({"kf_account": "a0@sim"}),
            65409,
        ),
        ("kfaccount/inviteworker", asked("a0", "w0"), 0),
        ("kfaccount/inviteworker", asked("a0", "w1"), 65411),
        ("kfaccount/inviteworker", asked("a1", "w0"), 65408),
    ] {
        let path = format!("/customservice/{path}");
        match errcode {
            0 => drop(world.must(&path, &body).await),
            errcode => world.refuses(&path, &body, errcode).await,
        }
    }
    world.post("/_sim/agents", &on("a0")).await;
    let asked_again = asked("a0", "w9");
    world
        .refuses("/customservice/kfaccount/inviteworker", &asked_again, 65412)
        .await;
    let taken = asked("a1", "w0");
    world
        .refuses("/customservice/kfaccount/inviteworker", &taken, 65407)
        .await;
    let away = json!({"kf_account": "a1@sim", "wx": "w1"});
    world.post("/_sim/agents", &away).await;
    let create = "/customservice/kfsession/create";
    world.refuses(create, &pair("a0", "oNobody"), 40003).await;
    world.refuses(create, &pair("x", &fan), 65401).await;
    world.refuses(create, &pair("a2", &fan), 65402).await;
    world.refuses(create, &pair("a1", &fan), 65415).await;
    world.must(create, &pair("a0", &fan)).await;
    world.post("/_sim/agents", &on("a1")).await;
    world.refuses(create, &pair("a1", &fan), 65414).await;
    let close = "/customservice/kfsession/close";
    world.refuses(close, &pair("a0", "oNobody"), 40003).await;
    world.refuses(close, &pair("x", &fan), 65401).await;
    world.refuses(close, &pair("a1", &fan), 65414).await;
    world.must(close, &pair("a0", &fan)).await;
    world.refuses(close, &pair("a0", &fan), 65413).await;

    for (path, errcode) in [
        ("kfsession/getsession", 41009),
        ("kfsession/getsession?openid=oNobody", 40003),
        (&format!("kfsession/getsession?openid={fan}"), 0),
        ("kfsession/getsessionlist?kf_account=x@sim", 65401),
        ("kfsession/getsessionlist?kf_account=a0@sim", 0),
        ("kfsession/getwaitcase", 0),
        ("kfaccount/del?kf_account=x@sim", 65401),
    ] {
        let answer = world.ask(&format!("/customservice/{path}")).await;
        assert_eq!(answer["errcode"].as_i64().unwrap_or(0), errcode, "{path}");
    }
    let del = "/customservice/kfaccount/del";
    world.must(del, &json!({"kf_account": "a9@sim"})).await;
    let head = "/customservice/kfaccount/uploadheadimg";
    let large = [JPG, &vec![0; 10 << 20]].concat();
    for (path, name, bytes, errcode) in [
        ("?kf_account=x@sim", "a.jpg", JPG, 65401),
        ("?kf_account=a0@sim", "a.txt", JPG, 40005),
        ("?kf_account=a0@sim", "a.jpg", AMR, 40137),
        ("?kf_account=a0@sim", "a.jpg", b"", 44001),
        ("?kf_account=a0@sim", "a.jpg", &large, 40009),
        ("?kf_account=a0@sim", "a.jpg", JPG, 0),
    ] {
        let answer = world
            .upload(&format!("{head}{path}"), name, bytes, None)
            .await;
        assert_eq!(answer["errcode"], errcode, "{name}");
    }
    let no_file = world
        .call(&format!("{head}?kf_account=a0@sim"), &json!({}))
        .await;
    assert_eq!(no_file["errcode"], 41005);
    let list = "/customservice/msgrecord/getmsglist";
    let span = |end: i64, number: i64| json!({"starttime": 0, "endtime": end, "msgid": 1, "number": number});
    world.refuses(list, &span(86_401, 1), 65417).await;
    world.refuses(list, &span(-1, 1), 65416).await;
    world.refuses(list, &span(1, 10_001), 65416).await;
    world.must(list, &span(86_400, 1)).await;
    world.ask("/cgi-bin/customservice/getkflist").await;
    world.ask("/cgi-bin/customservice/getonlinekflist").await;
    let paths = ["/customservice/", "/cgi-bin/customservice/"];
    world.has_shown_all(&paths, &[]).await;
}
