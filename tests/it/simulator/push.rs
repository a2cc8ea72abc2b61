//! Deliveries: three modes, deadline and tries, and what the fan sees of the answer.

use offiaccount::simulator::{Options, Simulator};
use offiaccount::wechat::crypto::{Cipher, EncodingAesKey, encrypted_reply_xml, read_encrypt};
use offiaccount::wechat::id::AppId;
use offiaccount::wechat::signature::{sign, sign_encrypted};
use serde_json::json;

use super::world::{AES_KEY, APPID, Answer, Callback, Delivery, TOKEN, World};

const FAILURE_LINE: &str = "该公众号提供的服务出现故障，请稍后再试";

fn cipher() -> Cipher {
    Cipher::new(
        &EncodingAesKey::parse(AES_KEY).unwrap(),
        AppId::parse(APPID).unwrap(),
    )
}

fn text_reply(fan: &str, content: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[{fan}]]></ToUserName><FromUserName><![CDATA[gh_000000000sim]]>\
         </FromUserName><CreateTime>1700000000</CreateTime><MsgType><![CDATA[text]]></MsgType>\
         <Content><![CDATA[{content}]]></Content></xml>"
    )
}

fn encrypted(reply: &str, token: &str) -> String {
    let encrypt = cipher().encrypt(reply, [7; 16]);
    let signature = sign_encrypted(token, "1700000001", "n1", &encrypt);
    encrypted_reply_xml(&encrypt, &signature, 1_700_000_001, "n1")
}

#[track_caller]
fn check_signature(delivery: &Delivery) {
    let expected = sign(TOKEN, delivery.query("timestamp"), delivery.query("nonce"));
    assert_eq!(delivery.query("signature"), expected.as_str());
}

const FAN: &str = "oFan00000000000000000000001";

async fn say(world: &World, text: &str) -> serde_json::Value {
    let message = json!({"openid": FAN, "MsgType": "text", "Content": text});
    world.post("/_sim/send", &message).await
}

#[tokio::test]
async fn a_plain_message_is_signed_and_its_reply_is_shown() {
    let callback = Callback::answering([text_reply(FAN, "Hello 你好")]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let result = say(&world, "你好 ]]> <b>").await;
    assert_eq!(result["shown_to_user"], "Hello 你好");
    assert_eq!(result["reply"]["MsgType"], "text");
    assert_eq!(result["reply"]["Content"], "Hello 你好");
    assert_eq!(result["reply"]["ToUserName"], FAN);
    assert_eq!(result["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(result["attempts"][0]["status"], 200);
    assert!(result["attempts"][0]["ms"].is_u64());

    let deliveries = callback.deliveries();
    let delivery = &deliveries[0];
    check_signature(delivery);
    assert_eq!(delivery.method, "POST");
    assert_eq!(delivery.content_type, "text/xml");
    assert_eq!(delivery.query("openid"), FAN);
    assert_eq!(delivery.query("kept"), "1");
    assert_eq!(delivery.query.len(), 5);
    assert!(
        delivery
            .body
            .contains("<Content><![CDATA[你好 ]]]]><![CDATA[> <b>]]></Content>")
    );

    let chat = world.get(&format!("/_sim/chat?openid={FAN}")).await;
    let bubbles: Vec<_> = chat["messages"].as_array().unwrap().iter().collect();
    assert_eq!(bubbles.len(), 2);
    assert_eq!(
        (&bubbles[0]["from"], &bubbles[1]["from"]),
        (&json!("fan"), &json!("account"))
    );
    let after = world
        .get(&format!(
            "/_sim/chat?openid={FAN}&after={}",
            bubbles[0]["id"]
        ))
        .await;
    assert_eq!(after["messages"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/_sim/pushes").await[0]["xml"], delivery.body);
}

#[tokio::test]
async fn a_safe_message_is_ciphertext_and_so_is_its_reply() {
    let callback = Callback::answering([encrypted(&text_reply(FAN, "密"), TOKEN)]).await;
    let world = World::delivering_to(&callback, "safe").await;
    let result = say(&world, "机密").await;
    assert_eq!(result["shown_to_user"], "密", "{result}");
    let deliveries = callback.deliveries();
    let delivery = &deliveries[0];
    check_signature(delivery);
    assert_eq!(delivery.query("encrypt_type"), "aes");
    let encrypt = read_encrypt(delivery.body.as_bytes()).unwrap().unwrap();
    let signature = sign_encrypted(
        TOKEN,
        delivery.query("timestamp"),
        delivery.query("nonce"),
        &encrypt,
    );
    assert_eq!(delivery.query("msg_signature"), signature.as_str());
    assert!(!delivery.body.contains("机密") && !delivery.body.contains("FromUserName"));
    let clear = cipher().decrypt(&encrypt).unwrap();
    assert!(clear.contains("<Content><![CDATA[机密]]></Content>"));
    assert!(clear.contains("<MsgId>24300000000000001</MsgId>"));
}

#[tokio::test]
async fn a_compatible_message_is_both_and_takes_both_replies() {
    let clear = text_reply(FAN, "明");
    let callback = Callback::answering([clear.clone(), encrypted(&clear, TOKEN)]).await;
    let world = World::delivering_to(&callback, "compatible").await;
    assert_eq!(say(&world, "一").await["shown_to_user"], "明");
    assert_eq!(say(&world, "二").await["shown_to_user"], "明");
    let body = &callback.deliveries()[0].body;
    assert!(body.contains("<Content><![CDATA[一]]></Content>") && body.contains("<Encrypt>"));
}

#[tokio::test]
async fn an_answer_that_is_no_reply_fails_at_once() {
    let good = text_reply(FAN, "x");
    let safe = |reply: &str| encrypted(reply, TOKEN);
    let foreign_app = {
        let other = AppId::parse("wxother").unwrap();
        let cipher = Cipher::new(&EncodingAesKey::parse(AES_KEY).unwrap(), other);
        let encrypt = cipher.encrypt(&good, [7; 16]);
        let signature = sign_encrypted(TOKEN, "1700000001", "n1", &encrypt);
        encrypted_reply_xml(&encrypt, &signature, 1_700_000_001, "n1")
    };
    for (mode, answer) in [
        ("plain", "ok".to_owned()),
        ("plain", "{\"MsgType\":\"text\"}".to_owned()),
        ("plain", text_reply("oSomebody", "x")),
        ("plain", text_reply(FAN, "")),
        ("plain", good.replace("gh_000000000sim", APPID)),
        ("plain", safe(&good)),
        ("safe", good.clone()),
        ("safe", encrypted(&good, "othertoken")),
        ("safe", safe(&text_reply("oSomebody", "x"))),
        ("safe", foreign_app),
    ] {
        let callback = Callback::answering([answer.clone()]).await;
        let world = World::delivering_to(&callback, mode).await;
        let result = say(&world, "x").await;
        assert_eq!(result["shown_to_user"], FAILURE_LINE, "{mode} {answer}");
        assert_eq!(result["reply"], json!(null));
        assert!(result["failure"].is_string());
        assert_eq!(callback.deliveries().len(), 1, "{mode} {answer}");
    }
}

#[tokio::test]
async fn success_and_nothing_are_silence() {
    for answer in ["success", ""] {
        let callback = Callback::answering([answer]).await;
        let world = World::delivering_to(&callback, "safe").await;
        let result = say(&world, "x").await;
        assert_eq!(
            (&result["shown_to_user"], &result["reply"]),
            (&json!(""), &json!(null))
        );
        assert_eq!(result.get("failure"), None);
    }
}

#[tokio::test]
async fn other_statuses_are_tried_again_with_the_same_message_newly_signed() {
    let callback =
        Callback::answering([Answer::status(500), Answer::status(403), "success".into()]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let result = say(&world, "x").await;
    let statuses: Vec<_> = result["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["status"].clone())
        .collect();
    assert_eq!(statuses, [500, 403, 200]);
    let deliveries = callback.deliveries();
    for delivery in &deliveries {
        check_signature(delivery);
        assert_eq!(delivery.body, deliveries[0].body);
    }
    assert_ne!(deliveries[0].query("nonce"), deliveries[1].query("nonce"));
}

#[tokio::test]
async fn a_callback_that_is_not_there_is_tried_three_times() {
    let gone = Callback::answering(["success"]).await.url.clone();
    let world = World::start().await;
    world
        .put("/_sim/account", &json!({"callback_url": gone}))
        .await;
    let result = say(&world, "x").await;
    let attempts = result["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    for attempt in attempts {
        assert_eq!(attempt["status"], 0);
        let error = attempt["error"].as_str().unwrap();
        assert!(!error.is_empty() && !error.contains("signature"), "{error}");
    }
    assert_eq!(result["shown_to_user"], FAILURE_LINE);
}

#[tokio::test]
async fn a_late_answer_counts_as_none_after_five_seconds_three_times() {
    let callback = Callback::answering([Answer::late()]).await;
    let world = World::delivering_to(&callback, "safe").await;
    let result = say(&world, "x").await;
    let attempts = result["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    for attempt in attempts {
        assert_eq!(attempt["status"], 0);
        let ms = attempt["ms"].as_u64().unwrap();
        assert!((5000..5900).contains(&ms), "{ms}");
    }
    assert_eq!(result["shown_to_user"], FAILURE_LINE);
    let deliveries = callback.deliveries();
    let clear: Vec<_> = deliveries
        .iter()
        .map(|delivery| {
            let encrypt = read_encrypt(delivery.body.as_bytes()).unwrap().unwrap();
            cipher().decrypt(&encrypt).unwrap()
        })
        .collect();
    assert_eq!((&clear[0], &clear[0]), (&clear[1], &clear[2]));
    // The ciphertext is made anew each time.
    assert_ne!(deliveries[0].body, deliveries[1].body);
}

#[tokio::test]
async fn following_and_leaving_change_the_follower() {
    let callback = Callback::answering([text_reply(FAN, "欢迎")]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let event =
        |event: &str| json!({"openid": FAN, "MsgType": "event", "Event": event, "EventKey": ""});
    let result = world.post("/_sim/send", &event("subscribe")).await;
    assert_eq!(result["shown_to_user"], "欢迎");
    let subscribed = async || {
        let fans = world.get("/_sim/fans").await;
        let fan = fans
            .as_array()
            .unwrap()
            .iter()
            .find(|fan| fan["openid"] == FAN)
            .cloned();
        fan.unwrap()["subscribe"].clone()
    };
    assert_eq!(subscribed().await, 1);
    // After leaving there is no chat in which a reply could stand.
    let result = world.post("/_sim/send", &event("unsubscribe")).await;
    assert_eq!(
        (&result["shown_to_user"], &result["reply"]["Content"]),
        (&json!(""), &json!("欢迎"))
    );
    assert_eq!(subscribed().await, 0);
    let body = &callback.deliveries()[1].body;
    assert!(body.contains("<Event><![CDATA[unsubscribe]]></Event>") && !body.contains("MsgId"));
}

#[tokio::test]
async fn taking_consent_back_kills_the_web_tokens() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let tokens = super::oauth::tokens_of(&world, FAN).await;
    let token = tokens["access_token"].as_str().unwrap();
    let auth = format!("/sns/auth?access_token={token}&openid={FAN}");
    assert_eq!(world.get(&auth).await["errcode"], 0);
    let revoke = json!({
        "openid": FAN, "MsgType": "event", "Event": "user_authorization_revoke",
        "OpenID": FAN, "AppID": APPID, "RevokeInfo": "1",
    });
    world.post("/_sim/send", &revoke).await;
    assert_eq!(world.get(&auth).await["errcode"], 40001);
}

#[tokio::test]
async fn news_is_cut_to_one_card_for_a_message() {
    let item =
        "<item><Title>一</Title><Description>d</Description><PicUrl>p</PicUrl><Url>u</Url></item>";
    let news = text_reply(FAN, "").replace("[text]", "[news]").replace(
        "<Content><![CDATA[]]></Content>",
        &format!("<ArticleCount>2</ArticleCount><Articles>{item}{item}</Articles>"),
    );
    let callback = Callback::answering([news]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let result = say(&world, "新闻").await;
    assert_eq!(
        result["reply"]["Articles"],
        json!([{"Title": "一", "Description": "d", "PicUrl": "p", "Url": "u"}])
    );
    let click = json!({"openid": FAN, "MsgType": "event", "Event": "CLICK", "EventKey": "k"});
    let result = world.post("/_sim/send", &click).await;
    assert_eq!(result["reply"]["Articles"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_makes_no_message_is_refused_with_the_reason() {
    let world = World::start().await;
    let message = json!({"openid": FAN, "MsgType": "text", "Content": "x"});
    let (status, answer) = world.send("POST", "/_sim/send", &message).await;
    assert_eq!(status, 409);
    assert!(answer["error"].as_str().unwrap().contains("callback_url"));
    world
        .put(
            "/_sim/account",
            &json!({"callback_url": "http://127.0.0.1:1/"}),
        )
        .await;
    for bad in [
        json!({"openid": FAN}),
        json!({"MsgType": "text"}),
        json!({"openid": FAN, "MsgType": "event"}),
    ] {
        assert_eq!(world.send("POST", "/_sim/send", &bad).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn pushes_keep_the_machines_time_when_the_platforms_clock_moves() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    world.advance(10 * 24 * 3600).await;
    say(&world, "x").await;
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let delivery = callback.deliveries()[0].clone();
    let timestamp: u64 = delivery.query("timestamp").parse().unwrap();
    let create_time = delivery.body.split("<CreateTime>").nth(1).unwrap();
    let create_time: u64 = create_time.split('<').next().unwrap().parse().unwrap();
    assert!(now.abs_diff(timestamp) <= 5 && now.abs_diff(create_time) <= 5);
}

#[tokio::test]
async fn a_stop_cuts_a_running_delivery_off() {
    let callback = Callback::answering([Answer::late()]).await;
    let simulator = Simulator::build(Options {
        listen: "127.0.0.1:0".to_owned(),
        callback_url: Some(callback.url.clone()),
        ..Options::default()
    })
    .unwrap();
    let send = format!("{}/_sim/send", simulator.url());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(simulator.run_until(async {
        let _ = stopped.await;
    }));
    let message = json!({"openid": FAN, "MsgType": "text", "Content": "x"});
    let sent = tokio::spawn(
        reqwest::Client::new()
            .post(send)
            .body(message.to_string())
            .send(),
    );
    while callback.deliveries().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(4), served).await;
    ended.unwrap().unwrap().unwrap();
    assert_eq!(sent.await.unwrap().unwrap().status(), 503);
}
