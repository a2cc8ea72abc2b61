//! Mass messages: to a tag, to a list, previews, and the event at the end.

use offiaccount::simulator::{Kind, Options};
use serde_json::{Value, json};

use super::world::{AMR, Callback, JPG, MP4, World};

const SENDALL: &str = "/cgi-bin/message/mass/sendall";
const SEND: &str = "/cgi-bin/message/mass/send";
const PREVIEW: &str = "/cgi-bin/message/mass/preview";

fn to_all(content: &str) -> Value {
    json!({"filter": {"is_to_all": true}, "msgtype": "text", "text": {"content": content}})
}

async fn openids(world: &World) -> Vec<Value> {
    let fans = world.get("/_sim/fans").await;
    let fans = fans.as_array().unwrap().iter();
    fans.map(|fan| fan["openid"].clone()).collect()
}

#[tokio::test]
async fn articles_to_a_tag_reach_those_who_carry_it() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let fans = openids(&world).await;
    let tagging = json!({"openid_list": [fans[0], fans[1]], "tagid": 2});
    world
        .must("/cgi-bin/tags/members/batchtagging", &tagging)
        .await;
    let blocked = json!({"openid": fans[1], "blacklisted": true});
    world.post("/_sim/fans", &blocked).await;
    let thumb = world
        .upload("/cgi-bin/media/upload?type=thumb", "a.jpg", JPG, None)
        .await;
    let article =
        json!({"title": "新品", "content": "x", "thumb_media_id": thumb["thumb_media_id"]});
    let news = json!({"articles": [article, article]});
    let news = world.must("/cgi-bin/media/uploadnews", &news).await;
    assert_eq!(news["type"], "news");
    let message = json!({
        "filter": {"is_to_all": false, "tag_id": 2},
        "msgtype": "mpnews",
        "mpnews": {"media_id": news["media_id"]},
    });
    let sent = world.must(SENDALL, &message).await;
    assert_eq!(sent["errmsg"], "send job submission success");
    assert!(sent["msg_data_id"].is_u64());
    let push = world.pushed("MASSSENDJOBFINISH").await;
    let told = &push["message"];
    assert_eq!(told["MsgID"], sent["msg_id"]);
    assert_eq!(told["Status"], "send success");
    assert_eq!(
        json!([
            told["TotalCount"],
            told["FilterCount"],
            told["SentCount"],
            told["ErrorCount"]
        ]),
        json!([2, 2, 1, 1])
    );
    assert_eq!(told["ArticleUrlResult"]["Count"], 2);
    let items = told["ArticleUrlResult"]["ResultList"]["item"].as_array();
    assert_eq!(items.unwrap().len(), 2);
    assert!(!fans.contains(&push["openid"]), "it is about no fan");
    let status = json!({"msg_id": sent["msg_id"].to_string()});
    let status = world.must("/cgi-bin/message/mass/get", &status).await;
    assert_eq!(
        status,
        json!({"msg_id": sent["msg_id"], "msg_status": "SEND_SUCCESS"})
    );
    for (fan, bubbles) in [(&fans[0], 1), (&fans[1], 0), (&fans[2], 0)] {
        let fan = fan.as_str().unwrap();
        let chat = world.get(&format!("/_sim/chat?openid={fan}")).await;
        assert_eq!(chat["messages"].as_array().unwrap().len(), bubbles);
    }
    world
        .must(
            "/cgi-bin/message/mass/delete",
            &json!({"msg_id": sent["msg_id"]}),
        )
        .await;
    let status = json!({"msg_id": sent["msg_id"]});
    let status = world.must("/cgi-bin/message/mass/get", &status).await;
    assert_eq!(status["msg_status"], "DELETE");
}

#[tokio::test]
async fn a_job_runs_until_its_time_is_over_and_may_fail() {
    let world = World::serving(Options::default()).await;
    let sent = world.must(SENDALL, &to_all("早上好")).await;
    let asked = json!({"msg_id": sent["msg_id"]});
    let get = "/cgi-bin/message/mass/get";
    assert_eq!(world.must(get, &asked).await["msg_status"], "SENDING");
    world.advance(5).await;
    assert_eq!(world.must(get, &asked).await["msg_status"], "SEND_SUCCESS");
    world
        .post("/_sim/outcomes", &json!({"mass": "err(20001)"}))
        .await;
    let sent = world.must(SENDALL, &to_all("坏消息")).await;
    world.advance(5).await;
    let asked = json!({"msg_id": sent["msg_id"]});
    assert_eq!(world.must(get, &asked).await["msg_status"], "SEND_FAIL");
    let pushes = world
        .get("/_sim/pushes?event=MASSSENDJOBFINISH&after=1&wait_s=20")
        .await;
    assert_eq!(pushes[0]["message"]["Status"], "err(20001)");
    assert_eq!(pushes[0]["message"]["SentCount"], 0);
}

#[tokio::test]
async fn a_clientmsgid_stands_for_one_job() {
    let world = World::start().await;
    let mut message = to_all("x");
    message["clientmsgid"] = json!("job-1");
    let sent = world.must(SENDALL, &message).await;
    for (seconds, errcode) in [(0, 45066), (60, 45065)] {
        world.advance(seconds).await;
        let again = world.call(SENDALL, &message).await;
        assert_eq!(again["errcode"], errcode);
        assert_eq!(again["msg_id"], sent["msg_id"]);
    }
    world.advance(24 * 3600).await;
    world.must(SENDALL, &message).await;
}

#[tokio::test]
async fn a_fan_of_a_service_account_gets_four_a_month() {
    let world = World::start().await;
    let fans = openids(&world).await;
    for _ in 0..4 {
        world.must(SENDALL, &to_all("x")).await;
    }
    world.refuses(SENDALL, &to_all("x"), 45028).await;
    world
        .put("/_sim/account", &json!({"limits": "relaxed"}))
        .await;
    world.must(SENDALL, &to_all("x")).await;
    world.put("/_sim/account", &json!({"limits": "real"})).await;
    world.refuses(SENDALL, &to_all("x"), 45028).await;
    // A new follower has his own count; the others are filtered.
    world
        .post("/_sim/fans", &json!({"openid": "oNewFan"}))
        .await;
    world.must(SENDALL, &to_all("x")).await;
    let chat = world.get("/_sim/chat?openid=oNewFan").await;
    assert_eq!(chat["messages"].as_array().unwrap().len(), 1);
    let first = fans[0].as_str().unwrap();
    let chat = world.get(&format!("/_sim/chat?openid={first}")).await;
    assert_eq!(chat["messages"].as_array().unwrap().len(), 5);
    world.advance(31 * 24 * 3600).await;
    world.must(SENDALL, &to_all("x")).await;
    let chat = world.get(&format!("/_sim/chat?openid={first}")).await;
    assert_eq!(chat["messages"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn a_subscription_account_sends_one_a_day_and_to_no_list() {
    let world = World::with(Options {
        kind: Kind::Subscription,
        ..Options::default()
    })
    .await;
    let fans = openids(&world).await;
    world.must(SENDALL, &to_all("x")).await;
    world.refuses(SENDALL, &to_all("x"), 45028).await;
    world.advance(24 * 3600).await;
    world.must(SENDALL, &to_all("x")).await;
    let list = json!({"touser": fans, "msgtype": "text", "text": {"content": "x"}});
    world.refuses(SEND, &list, 48001).await;
    world
        .put("/_sim/account", &json!({"kind": "sandbox"}))
        .await;
    world.refuses(SENDALL, &to_all("x"), 48001).await;
}

#[tokio::test]
async fn every_kind_of_content_is_checked() {
    let world = World::start().await;
    world
        .put("/_sim/account", &json!({"limits": "relaxed"}))
        .await;
    let fans = openids(&world).await;
    let upload = async |kind: &str, name: &str, bytes: &[u8]| {
        let path = format!("/cgi-bin/media/upload?type={kind}");
        let answer = world.upload(&path, name, bytes, None).await;
        answer["media_id"].clone()
    };
    let image = upload("image", "a.jpg", JPG).await;
    let voice = upload("voice", "a.amr", AMR).await;
    let video = upload("video", "a.mp4", MP4).await;
    let video = json!({"media_id": video, "title": "t", "description": "d"});
    let video = world.must("/cgi-bin/media/uploadvideo", &video).await["media_id"].clone();
    let long = "x".repeat(2049);
    let cases = [
        ("text", json!({"content": "x"}), 0),
        ("text", json!({"content": ""}), 44004),
        ("text", json!({"content": long}), 45002),
        ("image", json!({"media_id": image}), 0),
        ("image", json!({"media_id": voice}), 40007),
        ("voice", json!({"media_id": voice}), 0),
        ("mpvideo", json!({"media_id": video}), 0),
        ("mpnews", json!({"media_id": image}), 40007),
        ("wxcard", json!({"card_id": "p1"}), 0),
        ("wxcard", json!({}), 40035),
        ("dance", json!({}), 40008),
    ];
    let send = async |path: &str, body: Value, errcode: i64| match errcode {
        0 => drop(world.must(path, &body).await),
        _ => world.refuses(path, &body, errcode).await,
    };
    for (msgtype, content, errcode) in &cases {
        let all = json!({"filter": {"is_to_all": true}, "msgtype": msgtype, *msgtype: content});
        send(SENDALL, all, *errcode).await;
        let list = json!({"touser": fans, "msgtype": msgtype, *msgtype: content});
        send(SEND, list, *errcode).await;
        let one = json!({"touser": fans[0], "msgtype": msgtype, *msgtype: content});
        send(PREVIEW, one, *errcode).await;
    }
    let images = json!({"media_ids": [image, image]});
    let images = json!({"filter": {"is_to_all": true}, "msgtype": "image", "images": images});
    world.must(SENDALL, &images).await;

    let text = |members: Value| {
        let mut body = json!({"msgtype": "text", "text": {"content": "x"}});
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let untagged = text(json!({"filter": {"is_to_all": false, "tag_id": 999}}));
    world.refuses(SENDALL, &untagged, 45159).await;
    let grouped = text(json!({"filter": {"is_to_all": false, "group_id": 2}}));
    world.must(SENDALL, &grouped).await;
    let too_few = text(json!({"touser": [fans[0]]}));
    world.refuses(SEND, &too_few, 40032).await;
    for path in [SENDALL, SEND] {
        let with = |id: &str| {
            text(json!({"filter": {"is_to_all": true}, "touser": fans, "clientmsgid": id}))
        };
        let id = format!("{path}-1");
        world.refuses(path, &with(&"x".repeat(65)), 45067).await;
        world.must(path, &with(&id)).await;
        world.refuses(path, &with(&id), 45066).await;
        world.advance(60).await;
        world.refuses(path, &with(&id), 45065).await;
        world.put("/_sim/account", &json!({"limits": "real"})).await;
        world.refuses(path, &with("another"), 45028).await;
        world
            .put("/_sim/account", &json!({"limits": "relaxed"}))
            .await;
    }
    let nobody = text(json!({"touser": "oNobody"}));
    world.refuses(PREVIEW, &nobody, 40003).await;
    let nobody = text(json!({"towxname": "nobody"}));
    world.refuses(PREVIEW, &nobody, 40132).await;
    let alice = world
        .must(PREVIEW, &text(json!({"towxname": "Alice"})))
        .await;
    assert_eq!(alice["errmsg"], "preview success");
    let one = text(json!({"touser": fans[0]}));
    world
        .post(
            "/_sim/fans",
            &json!({"openid": fans[0], "blacklisted": true}),
        )
        .await;
    world.refuses(PREVIEW, &one, 43019).await;
    world
        .post("/_sim/fans", &json!({"openid": fans[0], "subscribe": 0}))
        .await;
    world.refuses(PREVIEW, &one, 43004).await;

    let mass = |name: &str| format!("/cgi-bin/message/mass/{name}");
    for name in ["get", "delete"] {
        world
            .refuses(&mass(name), &json!({"msg_id": 1}), 40059)
            .await;
        world
            .must(&mass(name), &json!({"msg_id": 1_000_000_001}))
            .await;
    }
    assert_eq!(
        world.must(&mass("speed/get"), &json!({})).await["realspeed"],
        80
    );
    world.refuses(&mass("speed/set"), &json!({}), 45084).await;
    world
        .refuses(&mass("speed/set"), &json!({"speed": 5}), 45083)
        .await;
    world.must(&mass("speed/set"), &json!({"speed": 3})).await;
    assert_eq!(
        world.must(&mass("speed/get"), &json!({})).await,
        json!({"speed": 3, "realspeed": 30})
    );
    world.has_shown_all(&["/cgi-bin/message/mass/"], &[]).await;
}
