//! Template messages, subscription notices, and the events that tell what became of them.

use offiaccount::simulator::Options;
use serde_json::{Value, json};

use super::world::{Callback, World};

const SEND: &str = "/cgi-bin/message/template/send";
const BIZSEND: &str = "/cgi-bin/message/subscribe/bizsend";

/// A template with a thing, a time and an amount.
async fn template(world: &World) -> Value {
    let names = json!(["商品名称", "支付时间", "支付金额"]);
    let added = json!({"template_id_short": "43216", "keyword_name_list": names});
    let added = world
        .must("/cgi-bin/template/api_add_template", &added)
        .await;
    added["template_id"].clone()
}

fn message(fan: &str, template_id: &Value) -> Value {
    json!({
        "touser": fan,
        "template_id": template_id,
        "url": "https://example.com/",
        "data": {
            "thing1": {"value": "苹果", "color": "#173177"},
            "time2": {"value": "2026年11月20日 15:01"},
            "amount3": {"value": "¥9.90"},
        },
    })
}

#[tokio::test]
async fn a_template_message_is_shown_and_its_end_is_told() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "safe").await;
    let fan = world.fan().await;
    let id = template(&world).await;
    let list = world
        .ask("/cgi-bin/template/get_all_private_template")
        .await;
    assert_eq!(list["template_list"][0]["template_id"], id);
    assert_eq!(
        list["template_list"][0]["content"],
        "商品名称：{{thing1.DATA}}\n支付时间：{{time2.DATA}}\n支付金额：{{amount3.DATA}}"
    );
    let sent = world.must(SEND, &message(&fan, &id)).await;
    assert_eq!(sent["errmsg"], "ok");
    let push = world.pushed("TEMPLATESENDJOBFINISH").await;
    assert_eq!(push["message"]["MsgID"], sent["msgid"]);
    assert_eq!(push["message"]["Status"], "success");
    assert_eq!(push["openid"], fan);
    assert_eq!(push["attempts"][0]["status"], 200);
    assert_eq!(callback.deliveries()[0].query("encrypt_type"), "aes");
    let chat = world.get(&format!("/_sim/chat?openid={fan}")).await;
    let messages = chat["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 1, "the event stands in no chat");
    let shown = messages[0]["shown"].as_str().unwrap();
    assert!(shown.contains("商品名称：苹果") && shown.contains("¥9.90"));

    let refuses = json!({"openid": fan, "refuses_templates": true});
    world.post("/_sim/fans", &refuses).await;
    world.must(SEND, &message(&fan, &id)).await;
    let after = push["id"].as_u64().unwrap();
    let path = format!("/_sim/pushes?after={after}&wait_s=20");
    let push = world.get(&path).await[0].clone();
    assert_eq!(push["message"]["Status"], "failed:user block");
    let outcome = json!({"template": "failed: system failed"});
    world.post("/_sim/outcomes", &outcome).await;
    world.must(SEND, &message(&fan, &id)).await;
    let path = format!("/_sim/pushes?after={}&wait_s=20", after + 1);
    let push = world.get(&path).await[0].clone();
    assert_eq!(push["message"]["Status"], "failed: system failed");
    assert_eq!(world.get("/_sim/outcomes").await["template"], Value::Null);
}

#[tokio::test]
async fn without_a_seed_the_end_is_told_when_its_time_has_come() {
    let callback = Callback::answering(["success"]).await;
    let world = World::serving(Options {
        callback_url: Some(callback.url.clone()),
        ..Options::default()
    })
    .await;
    let fan = world.fan().await;
    let id = template(&world).await;
    world.must(SEND, &message(&fan, &id)).await;
    assert_eq!(world.get("/_sim/pushes").await, json!([]));
    world.advance(2).await;
    world.pushed("TEMPLATESENDJOBFINISH").await;
}

#[tokio::test]
async fn a_reset_forgets_what_was_to_be_told() {
    let callback = Callback::answering(["success"]).await;
    let world = World::serving(Options {
        callback_url: Some(callback.url.clone()),
        ..Options::default()
    })
    .await;
    let id = template(&world).await;
    let fan = world.fan().await;
    world.must(SEND, &message(&fan, &id)).await;
    world.post("/_sim/reset", &json!({})).await;
    world.advance(60).await;
    let fan = world.fan().await;
    let hello = json!({"openid": fan, "MsgType": "text", "Content": "x"});
    world.post("/_sim/send", &hello).await;
    assert_eq!(callback.deliveries().len(), 1);
}

#[tokio::test]
async fn a_client_msg_id_sends_once_in_ten_minutes() {
    let world = World::start().await;
    let fan = world.fan().await;
    let id = template(&world).await;
    let mut once = message(&fan, &id);
    once["client_msg_id"] = json!("order-1");
    let first = world.must(SEND, &once).await;
    assert_eq!(world.must(SEND, &once).await, first);
    let chat = world.get(&format!("/_sim/chat?openid={fan}")).await;
    assert_eq!(chat["messages"].as_array().unwrap().len(), 1);
    world.advance(600).await;
    assert_ne!(world.must(SEND, &once).await, first);
}

#[tokio::test]
async fn an_event_without_a_callback_is_logged_with_the_reason() {
    let world = World::start().await;
    let id = template(&world).await;
    let fan = world.fan().await;
    world.must(SEND, &message(&fan, &id)).await;
    let push = world.pushed("TEMPLATESENDJOBFINISH").await;
    assert_eq!(push["attempts"], json!([]));
    assert!(push["failure"].as_str().unwrap().contains("callback_url"));
}

#[tokio::test]
async fn template_calls_refuse_as_the_platform_does() {
    let world = World::start().await;
    let fan = world.fan().await;
    let id = template(&world).await;
    let industry = json!({"industry_id1": "1", "industry_id2": "42"});
    let set = "/cgi-bin/template/api_set_industry";
    world.refuses(set, &industry, 40102).await;
    let unset = world.ask("/cgi-bin/template/get_industry").await;
    assert_eq!(unset["errcode"], 40102);
    let industry = json!({"industry_id1": "1", "industry_id2": "4"});
    world.must(set, &industry).await;
    world.refuses(set, &industry, 43100).await;
    let read = world.ask("/cgi-bin/template/get_industry").await;
    assert_eq!(read["primary_industry"]["first_class"], "IT科技");
    assert_eq!(read["secondary_industry"]["second_class"], "电子技术");

    let mut other = message(&fan, &id);
    for (name, value, errcode) in [
        ("touser", json!("oNobody"), 40003),
        ("template_id", json!(""), 40036),
        ("template_id", json!("x".repeat(65)), 40036),
        ("template_id", json!("none"), 40037),
        ("form_id", json!("f"), 41028),
    ] {
        let mut body = message(&fan, &id);
        body[name] = value;
        world.refuses(SEND, &body, errcode).await;
    }
    for (place, value) in [
        ("thing1", json!({"value": "长".repeat(21)})),
        ("thing1", json!({})),
        ("time2", json!({"value": "明天"})),
        ("amount3", json!({"value": "免费"})),
    ] {
        let mut body = message(&fan, &id);
        body["data"][place] = value;
        let refused = world.call(SEND, &body).await;
        assert_eq!(refused["errcode"], 47003);
        let words = format!("argument invalid! data.{place}.value invalid rid: ");
        let errmsg = refused["errmsg"].as_str().unwrap();
        assert!(errmsg.starts_with(&words), "{errmsg}");
    }
    world
        .post("/_sim/fans", &json!({"openid": fan, "blacklisted": true}))
        .await;
    world.refuses(SEND, &other, 43019).await;
    world
        .post(
            "/_sim/fans",
            &json!({"openid": fan, "blacklisted": false, "subscribe": 0}),
        )
        .await;
    world.refuses(SEND, &other, 43004).await;
    world
        .post("/_sim/fans", &json!({"openid": fan, "subscribe": 1}))
        .await;
    world.must(SEND, &other).await;

    let add = "/cgi-bin/template/api_add_template";
    world
        .refuses(add, &json!({"template_id_short": ""}), 40037)
        .await;
    for _ in 1..25 {
        world
            .must(add, &json!({"template_id_short": "TM00015"}))
            .await;
    }
    world
        .refuses(add, &json!({"template_id_short": "TM00015"}), 45026)
        .await;
    world
        .ask("/cgi-bin/template/get_all_private_template")
        .await;
    let delete = "/cgi-bin/template/del_private_template";
    world.must(delete, &json!({"template_id": id})).await;
    world
        .refuses(delete, &json!({"template_id": id}), 40037)
        .await;
    other["template_id"] = id;
    world.refuses(SEND, &other, 40037).await;

    let once = "/cgi-bin/message/template/subscribe";
    let body = json!({
        "touser": fan, "template_id": "one-time", "scene": "1000", "title": "取餐",
        "data": {"content": {"value": "请到 3 号窗口", "color": "#ff0000"}},
    });
    world.refuses(once, &body, 43101).await;
    let consent = json!({"openid": fan, "template_id": "one-time"});
    world.post("/_sim/subscribe_notice", &consent).await;
    for (name, value, errcode) in [
        ("touser", json!("oNobody"), 40003),
        ("template_id", json!(""), 40036),
        ("scene", json!(10_001), 47003),
        ("title", json!("长".repeat(16)), 47003),
        ("data", json!({}), 47003),
    ] {
        let mut body = body.clone();
        body[name] = value;
        world.refuses(once, &body, errcode).await;
    }
    world.must(once, &body).await;
    world.refuses(once, &body, 43101).await;
    let paths = ["/cgi-bin/template/", "/cgi-bin/message/template/"];
    world.has_shown_all(&paths, &[]).await;
}

#[tokio::test]
async fn a_notice_is_sent_once_for_each_consent() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let fan = world.fan().await;
    let categories = world.ask("/wxaapi/newtmpl/getcategory").await;
    let category = categories["data"][1]["id"].clone();
    let titles = format!("/wxaapi/newtmpl/getpubtemplatetitles?ids={category}&start=0&limit=30");
    let titles = world.ask(&titles).await;
    assert_eq!(titles["count"], 2);
    let tid = titles["data"][0]["tid"].clone();
    let keywords = world
        .ask(&format!("/wxaapi/newtmpl/getpubtemplatekeywords?tid={tid}"))
        .await;
    assert_eq!(keywords["data"][3]["rule"], "thing");
    let add = json!({"tid": tid.to_string(), "kidList": [4, 2], "sceneDesc": "付款后"});
    let id = world.must("/wxaapi/newtmpl/addtemplate", &add).await["priTmplId"].clone();
    let list = world.ask("/wxaapi/newtmpl/gettemplate").await;
    assert_eq!(list["data"][0]["priTmplId"], id);
    assert_eq!(list["data"][0]["type"], 2);
    assert_eq!(
        list["data"][0]["content"],
        "商品名称：{{thing4.DATA}}\n付款时间：{{time2.DATA}}"
    );

    let notice = json!({
        "touser": fan,
        "template_id": id,
        "page": "https://example.com/",
        "data": {"thing4": {"value": "苹果"}, "time2": {"value": "2026-11-20 15:01"}},
    });
    world.refuses(BIZSEND, &notice, 43101).await;
    let consent = json!({"openid": fan, "template_id": id, "accept": true});
    let agreed = world.post("/_sim/subscribe_notice", &consent).await;
    assert_eq!(agreed["consents"][0]["left"], 1);
    let body = &callback.deliveries()[0].body;
    assert!(body.contains("<Event><![CDATA[subscribe_msg_popup_event]]></Event>"));
    assert!(body.contains("<SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString>"));
    world.must(BIZSEND, &notice).await;
    let push = world.pushed("subscribe_msg_sent_event").await;
    let sent = &push["message"]["SubscribeMsgSentEvent"]["List"][0];
    assert_eq!((&sent["TemplateId"], &sent["ErrorCode"]), (&id, &json!(0)));
    world.refuses(BIZSEND, &notice, 43101).await;
    // It is no template of template messages, and those are none of notices.
    world.refuses(SEND, &message(&fan, &id), 40037).await;

    world
        .put("/_sim/account", &json!({"limits": "relaxed"}))
        .await;
    world.must(BIZSEND, &notice).await;
    world.put("/_sim/account", &json!({"limits": "real"})).await;
    world.post("/_sim/subscribe_notice", &consent).await;
    let withdrawn = json!({"openid": fan, "template_id": id, "accept": false, "in_settings": true});
    let withdrawn = world.post("/_sim/subscribe_notice", &withdrawn).await;
    assert_eq!(withdrawn["consents"], json!([]));
    assert_eq!(withdrawn["sent"][0]["Event"], "subscribe_msg_change_event");
    world.refuses(BIZSEND, &notice, 43101).await;
    let shown = world
        .get(&format!("/_sim/subscribe_notice?openid={fan}"))
        .await;
    assert_eq!(shown["consents"], json!([]));
}

#[tokio::test]
async fn a_long_term_notice_needs_one_consent() {
    let world = World::start().await;
    let fan = world.fan().await;
    let add = json!({"tid": 1001, "kidList": [1, 2]});
    let id = world.must("/wxaapi/newtmpl/addtemplate", &add).await["priTmplId"].clone();
    let consent = json!({"openid": fan, "template_ids": [id]});
    world.post("/_sim/subscribe_notice", &consent).await;
    let data = json!({"thing1": {"value": "1 路"}, "time2": {"value": "15:01"}});
    let notice = json!({"touser": fan, "template_id": id, "data": data});
    for _ in 0..3 {
        world.must(BIZSEND, &notice).await;
    }
}

#[tokio::test]
async fn notice_calls_refuse_as_the_platform_does() {
    let world = World::start().await;
    let fan = world.fan().await;
    for (path, errcode) in [
        ("getcategory", 0),
        ("getpubtemplatetitles?start=0&limit=30", 200_018),
        ("getpubtemplatetitles?ids=a&start=0&limit=30", 200_019),
        ("getpubtemplatetitles?ids=2&start=x&limit=30", 200_016),
        ("getpubtemplatetitles?ids=2&start=0&limit=31", 200_017),
        ("getpubtemplatetitles?ids=2&start=0&limit=30", 0),
        ("getpubtemplatekeywords?tid=1", 200_014),
        ("getpubtemplatekeywords?tid=99", 0),
        ("gettemplate", 0),
    ] {
        let answer = world.ask(&format!("/wxaapi/newtmpl/{path}")).await;
        assert_eq!(answer["errcode"], errcode, "{path}");
    }
    let add = "/wxaapi/newtmpl/addtemplate";
    for (body, errcode) in [
        (json!({"tid": 1, "kidList": [1, 2]}), 200_014),
        (json!({"tid": 99, "kidList": [1]}), 200_020),
        (json!({"tid": 99, "kidList": [1, 7]}), 200_020),
        (json!({"tid": 99, "kidList": [0, 1]}), 200_020),
        (
            json!({"tid": 99, "kidList": [1, 2], "sceneDesc": "长".repeat(16)}),
            200_021,
        ),
    ] {
        world.refuses(add, &body, errcode).await;
    }
    let good = json!({"tid": 99, "kidList": [1, 2]});
    let id = world.must(add, &good).await["priTmplId"].clone();
    for _ in 1..50 {
        world.must(add, &good).await;
    }
    world.refuses(add, &good, 200_012).await;
    let consent = json!({"openid": fan, "template_id": id});
    world.post("/_sim/subscribe_notice", &consent).await;
    let data = json!({"amount1": {"value": "9.90元"}, "time2": {"value": "15:01"}});
    let notice = json!({"touser": fan, "template_id": id, "data": data});
    for (name, value, errcode) in [
        ("touser", json!("oNobody"), 40003),
        ("template_id", json!("none"), 40037),
        ("page", json!("pages/index"), 41030),
        ("data", json!({}), 47003),
    ] {
        let mut body = notice.clone();
        body[name] = value;
        world.refuses(BIZSEND, &body, errcode).await;
    }
    world
        .post("/_sim/fans", &json!({"openid": fan, "blacklisted": true}))
        .await;
    world.refuses(BIZSEND, &notice, 43019).await;
    world
        .post("/_sim/fans", &json!({"openid": fan, "blacklisted": false}))
        .await;
    world.must(BIZSEND, &notice).await;
    world.refuses(BIZSEND, &notice, 43101).await;
    let delete = "/wxaapi/newtmpl/deltemplate";
    world.must(delete, &json!({"priTmplId": id})).await;
    world
        .refuses(delete, &json!({"priTmplId": id}), 40037)
        .await;
    for bad in [
        json!({"openid": fan}),
        json!({"openid": fan, "template_id": id, "accept": "yes"}),
    ] {
        let (status, _) = world.send("POST", "/_sim/subscribe_notice", &bad).await;
        assert_eq!(status, 400, "{bad}");
    }
    let paths = ["/wxaapi/newtmpl/", BIZSEND];
    world.has_shown_all(&paths, &[]).await;
    for (kind, path) in [("sandbox", add), ("subscription", SEND)] {
        world.put("/_sim/account", &json!({"kind": kind})).await;
        world.refuses(path, &good, 48001).await;
    }
}
