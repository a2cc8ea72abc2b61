//! Slow answers as the inspector and a judge see them: which delivery carried one, what came after all of
//! them, and how often anything was shown, however many deliveries are under way.

use std::collections::HashMap;
use std::time::Duration;

use offiaccount::simulator::{Kind, Options};
use serde_json::{Value, json};

use super::world::{Answer, Callback, World};

const SEND: &str = "/cgi-bin/message/custom/send";
const FAN: &str = "oFan00000000000000000000001";

fn reply_to(fan: &str, content: &str) -> String {
    format!(
        "<xml><ToUserName>{fan}</ToUserName><FromUserName>gh_000000000sim</FromUserName>\
         <CreateTime>1700000000</CreateTime><MsgType>text</MsgType><Content>{content}</Content></xml>"
    )
}

async fn say(world: &World, text: &str) -> Value {
    let message = json!({"openid": FAN, "MsgType": "text", "Content": text});
    world.post("/_sim/send", &message).await
}

fn custom(text: &str) -> Value {
    json!({"touser": FAN, "msgtype": "text", "text": {"content": text}})
}

/// What came after each delivery, the newest first.
async fn after(world: &World) -> Vec<Vec<(String, Value)>> {
    let pushes = world.get("/_sim/pushes").await;
    let pushes = pushes.as_array().unwrap().iter();
    let messages = |push: &Value| -> Vec<_> {
        let messages = push["customer_service"].as_array().unwrap().iter();
        messages
            .map(|it| {
                assert!(it["after_ms"].as_i64().unwrap() >= 0);
                assert!(it["at"].as_i64() >= push["at"].as_i64());
                (
                    it["shown"].as_str().unwrap().to_owned(),
                    it["errcode"].clone(),
                )
            })
            .collect()
    };
    pushes.map(messages).collect()
}

#[tokio::test]
async fn which_delivery_carried_the_answer_is_told() {
    let reply = reply_to(FAN, "好");
    let callback = Callback::answering([
        Answer::status(500),
        Answer::after(Duration::from_millis(300), &reply),
        Answer::from("success"),
        Answer::status(500),
    ])
    .await;
    let world = World::delivering_to(&callback, "plain").await;
    for text in ["一", "二", "三"] {
        say(&world, text).await;
    }
    let pushes = world.get("/_sim/pushes").await;
    let [failed, silent, answered] = [&pushes[0], &pushes[1], &pushes[2]];
    assert_eq!(answered["answered"]["delivery"], 2);
    let took = answered["answered"]["after_ms"].as_u64().unwrap();
    assert!((300..5_000).contains(&took), "{took}");
    let attempts = &answered["attempts"];
    assert_eq!(
        (&attempts[0]["answer"], &attempts[1]["answer"]),
        (&Value::Null, &json!("reply"))
    );
    assert_eq!(silent["answered"], Value::Null);
    assert_eq!(silent["attempts"][0]["answer"], "nothing");
    assert_eq!(failed["answered"], Value::Null);
    assert_eq!(failed["attempts"].as_array().unwrap().len(), 3);
    for push in [failed, silent, answered] {
        assert_eq!(push["takes_reply"], true);
        assert_eq!(push["customer_service"], json!([]));
    }
}

#[tokio::test]
async fn what_came_after_the_deliveries_stands_with_them() {
    let callback = Callback::answering([
        Answer::status(500),
        Answer::status(500),
        Answer::from("success"),
        Answer::from(&*reply_to(FAN, "第二个答案")),
        Answer::from("success"),
    ])
    .await;
    let world = World::delivering_to(&callback, "plain").await;
    say(&world, "慢").await;
    let before = world.get("/_sim/revision").await;
    let other = json!({"openid": "oOther", "MsgType": "text", "Content": "x"});
    for _ in 0..2 {
        world.must(SEND, &custom("答案")).await;
    }
    world
        .refuses(
            SEND,
            &json!({"touser": FAN, "msgtype": "dance", "dance": {}}),
            40008,
        )
        .await;
    let told = world.get("/_sim/revision").await;
    assert!(told["pushes"].as_u64() > before["pushes"].as_u64());
    let first = vec![
        ("答案".to_owned(), json!(0)),
        ("答案".to_owned(), json!(0)),
        ("[dance]".to_owned(), json!(40008)),
    ];
    assert_eq!(after(&world).await, std::slice::from_ref(&first));
    // A later delivery closes it, another fan's does not.
    world.post("/_sim/send", &other).await;
    assert_eq!(after(&world).await, [vec![], first.clone()]);
    say(&world, "快").await;
    world.must(SEND, &custom("还有")).await;
    let second = vec![("还有".to_owned(), json!(0))];
    let expected = [second.clone(), vec![], first];
    assert_eq!(after(&world).await, expected);

    world.post("/_sim/reset", &Value::Null).await;
    say(&world, "新").await;
    assert_eq!(after(&world).await, [vec![]]);
}

#[tokio::test]
async fn a_refusal_is_seen_whoever_gives_it() {
    let callback = Callback::answering(["success"]).await;
    let world = World::with(Options {
        callback_url: Some(callback.url.clone()),
        kind: Kind::Unverified,
        ..Options::default()
    })
    .await;
    say(&world, "慢").await;
    world.refuses(SEND, &custom("一"), 48001).await;
    let fault = json!({"path": SEND, "errcode": 45009, "times": 1});
    world.post("/_sim/faults", &fault).await;
    world.refuses(SEND, &custom("二"), 45009).await;
    let fault = json!({"path": SEND, "status": 502, "body": "", "times": 1});
    world.post("/_sim/faults", &fault).await;
    world.send("POST", SEND, &custom("三")).await;
    let expected = vec![
        ("一".to_owned(), json!(48001)),
        ("二".to_owned(), json!(45009)),
        ("三".to_owned(), Value::Null),
    ];
    assert_eq!(after(&world).await, [expected]);
}

#[tokio::test]
async fn all_that_was_shown_can_be_counted_in_one_look() {
    let callback = Callback::answering([
        Answer::from(&*reply_to(FAN, "答案一")),
        Answer::from("no reply"),
    ])
    .await;
    let world = World::delivering_to(&callback, "plain").await;
    say(&world, "一").await;
    world.must(SEND, &custom("答案二")).await;
    say(&world, "二").await;
    let other = world.fan().await;
    let message = json!({"openid": other, "MsgType": "text", "Content": "三"});
    world.post("/_sim/send", &message).await;
    let text = json!({"touser": other, "msgtype": "text", "text": {"content": "答案三"}});
    world.must(SEND, &text).await;

    let shown = async |query: &str| -> Vec<(String, String)> {
        let chat = world.get(&format!("/_sim/chat{query}")).await;
        let bubbles = chat["messages"].as_array().unwrap().iter();
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        bubbles
            .map(|it| (text(&it["openid"]), text(&it["shown"])))
            .collect()
    };
    let said = |fan: &str, text: &str| (fan.to_owned(), text.to_owned());
    assert_eq!(
        shown("?from=account").await,
        [
            said(FAN, "答案一"),
            said(FAN, "答案二"),
            said(&other, "答案三")
        ]
    );
    assert_eq!(
        shown(&format!("?from=fan&openid={other}")).await,
        [said(&other, "三")]
    );
    let all = shown("").await;
    assert_eq!(
        all.len(),
        3 + 3 + 2,
        "and a line where a reply failed: {all:?}"
    );
    assert_eq!(shown("?after=1").await, all[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_delivery_is_forgotten_while_many_are_under_way() {
    const MANY: usize = 800;
    // They are held until all are there.
    let held = Answer::after(Duration::from_millis(1_500), "success");
    let callback = Callback::answering([held]).await;
    let world = World::delivering_to(&callback, "safe").await;
    let sends = (0..MANY).map(|n| {
        let message =
            json!({"openid": format!("oFan{n}"), "MsgType": "text", "Content": n.to_string()});
        let request = world.client.post(format!("{}/_sim/send", world.url));
        let request = request.body(message.to_string());
        async move {
            let result: Value = request.send().await.unwrap().json().await.unwrap();
            assert_eq!(result["attempts"].as_array().unwrap().len(), 1, "{result}");
        }
    });
    futures_util::future::join_all(sends).await;
    assert_eq!(callback.deliveries().len(), MANY);
    let pushes = world.get("/_sim/pushes?under_way=1").await;
    let mut seen = HashMap::new();
    for push in pushes.as_array().unwrap() {
        assert_eq!(push["running"], false);
        assert_eq!(push["attempts"][0]["status"], 200, "{push}");
        *seen.entry(push["openid"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), MANY);
    assert!(seen.values().all(|times| *times == 1));
}
