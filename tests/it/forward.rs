//! Forwarding to a real program on a real port: what it gets, what it may answer, what is an error, and
//! what comes later.

mod dead_letters;
pub(crate) mod downstream;
mod later;
mod mishaps;

use std::time::Duration;

use offiaccount::{Bot, Context, Message};
use poem::Response;
use poem::http::StatusCode;
use serde_json::{Value, json};

use crate::helpers::*;
use downstream::{Downstream, json_answer, says, verify};

pub(crate) const SECRET: &str = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXM=";
/// The bytes behind the base64 of [`SECRET`].
pub(crate) const SECRET_BYTES: &[u8] = b"secret of the tests, 32 bytes";
pub(crate) const FALLBACK: &str = "抱歉，暂时无法回答，请稍后再试。";

/// A backend that forwards to `url`.
pub(crate) fn forwarding(url: &str) -> Setup {
    let url = url.to_owned();
    Setup::new().settings(|settings| {
        settings.forward_url = Some(url);
        settings.forward_secret = Some(SECRET.into());
    })
}

/// What a fan is shown after saying this.
pub(crate) async fn hears(world: &World, text: &str) -> String {
    tells(world, json!({"MsgType": "text", "Content": text})).await
}

/// The same after doing anything.
pub(crate) async fn tells(world: &World, message: Value) -> String {
    let result = acts(world, message).await;
    result["shown_to_user"].as_str().unwrap().to_owned()
}

pub(crate) async fn acts(world: &World, mut message: Value) -> Value {
    message["openid"] = json!(world.fan().await);
    world.act(message).await
}

pub(crate) fn menu_tap(key: &str) -> Value {
    json!({"MsgType": "event", "Event": "CLICK", "EventKey": key})
}

/// The value of a metric; 0 while it is not there.
pub(crate) async fn metric(world: &World, name_and_labels: &str) -> f64 {
    let text = world.get("/metrics").await.text().await.unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name_and_labels));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// How many calls ended so.
pub(crate) async fn calls(world: &World, outcome: &str) -> f64 {
    let name = format!("offiaccount_forward_calls_total{{outcome=\"{outcome}\"}}");
    metric(world, &name).await
}

// What goes out.

#[tokio::test]
async fn a_message_goes_out_as_json_with_wechats_names_and_a_signature() {
    let downstream = Downstream::saying("好").await;
    let world = forwarding(&downstream.url).start().await;
    let xml = text_xml("查 <订单> & \"9\"");
    let answer = world.deliver(&xml).await.text().await.unwrap();
    assert!(
        answer.contains("<Content><![CDATA[好]]></Content>"),
        "{answer}"
    );

    let received = downstream.received();
    assert_eq!(received.len(), 1);
    let received = &received[0];
    assert_eq!((&*received.method, &*received.path), ("POST", "/bot"));
    assert_eq!(received.header("content-type"), "application/json");
    let message = Message::parse(xml.as_bytes()).unwrap();
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(
        body,
        json!({
            "ToUserName": ACCOUNT,
            "FromUserName": "oFan0000000000000000000000001",
            "CreateTime": message.create_time,
            "MsgType": "text",
            "Content": "查 <订单> & \"9\"",
            "MsgId": message.msg_id.unwrap().to_string(),
        })
    );
    let id = format!("msg_{}", hex::encode(message.ledger_key()));
    assert_eq!(received.header("webhook-id"), id);
    let sent: u64 = received.header("webhook-timestamp").parse().unwrap();
    assert!(now().abs_diff(sent) <= 5, "seconds: {sent}");
    verify(received, SECRET_BYTES);
    let link = received.header("offiaccount-reply-url");
    assert!(link.starts_with(&world.app.url), "{link}");
}

#[tokio::test]
async fn a_secret_of_any_text_signs_with_its_bytes() {
    let downstream = Downstream::saying("好").await;
    let setup = forwarding(&downstream.url);
    let setup = setup.settings(|settings| settings.forward_secret = Some("任何文字 any".into()));
    let world = setup.start().await;
    assert_eq!(hears(&world, "a").await, "好");
    verify(&downstream.received()[0], "任何文字 any".as_bytes());
}

#[tokio::test]
async fn events_and_messages_of_unknown_types_go_out_too() {
    let downstream = Downstream::saying("好").await;
    let world = forwarding(&downstream.url).start().await;
    assert_eq!(tells(&world, menu_tap("HELP")).await, "好");
    let unknown = text_xml("a").replace("[text]", "[hologram]");
    let answer = world.deliver(&unknown).await.text().await.unwrap();
    assert!(answer.contains("好"), "{answer}");
    let received = downstream.received();
    let bodies: Vec<Value> = received
        .iter()
        .map(|received| serde_json::from_slice(&received.body).unwrap())
        .collect();
    assert_eq!(bodies[0]["MsgType"], "event");
    assert_eq!(
        (&bodies[0]["Event"], &bodies[0]["EventKey"]),
        (&json!("CLICK"), &json!("HELP"))
    );
    assert_eq!(bodies[1]["MsgType"], "hologram");
    assert_eq!(bodies[1]["Content"], "a");
}

#[tokio::test]
async fn only_what_no_route_fits_goes_out() {
    let downstream = Downstream::saying("from outside").await;
    let bot = Bot::new()
        .on_keyword("here", async |_: Context| "from here")
        .on_event("CLICK", async |_: Context| ())
        .fallback(async |_: Context| "never reached");
    let world = forwarding(&downstream.url).bot(bot).start().await;
    assert_eq!(hears(&world, "here").await, "from here");
    assert_eq!(tells(&world, menu_tap("HELP")).await, "");
    assert_eq!(downstream.received().len(), 0);
    assert_eq!(hears(&world, "there").await, "from outside");
}

#[tokio::test]
async fn an_address_inside_a_message_is_never_fetched() {
    let downstream = Downstream::saying("好").await;
    let world = forwarding(&downstream.url).start().await;
    let trap = downstream.url.replace("/bot", "/trap");
    for fields in [
        format!("<PicUrl><![CDATA[{trap}]]></PicUrl><MediaId>m</MediaId>"),
        format!("<Title>t</Title><Description>d</Description><Url><![CDATA[{trap}]]></Url>"),
    ] {
        let msg_type = if fields.contains("PicUrl") {
            "image"
        } else {
            "link"
        };
        let xml = text_xml("a")
            .replace("[text]", &format!("[{msg_type}]"))
            .replace("<Content><![CDATA[a]]></Content>", &fields);
        let answer = world.deliver(&xml).await.text().await.unwrap();
        assert!(answer.contains("好"), "{answer}");
    }
    let paths: Vec<_> = downstream
        .received()
        .iter()
        .map(|r| r.path.clone())
        .collect();
    assert_eq!(paths, ["/bot", "/bot"]);
}

#[tokio::test]
async fn what_the_address_holds_is_sent_and_never_shown() {
    let downstream = Downstream::start(|_| async {
        let response = Response::builder().status(StatusCode::IM_A_TEAPOT);
        response.header("connection", "close").finish()
    })
    .await;
    let url = downstream.url.replace("http://", "http://canary:canary@") + "?key=canary";
    let sim = Setup::new().start().await;
    let env = [
        ("WECHAT_APPID", APPID),
        ("WECHAT_APPSECRET", "00000000000000000000000000000000"),
        ("WECHAT_TOKEN", TOKEN),
        ("WECHAT_API_URL", &sim.sim),
        ("LISTEN", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
        ("RUST_LOG", "trace,hyper=trace,reqwest=trace"),
        ("FORWARD_URL", &url),
        (
            "FORWARD_SECRET",
            "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5",
        ),
    ];
    let mut binary = crate::wire::Binary::start(&["serve"], &env);
    let backend = binary.url().await;
    let deliver = |content: &str| {
        let request = client().post(format!("{backend}/wechat?{}", signed_query()));
        request.body(text_xml(content)).send()
    };
    let answer = deliver("canary-content")
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(answer.contains(FALLBACK), "{answer}");
    let received = &downstream.received()[0];
    assert_eq!(received.query, "key=canary");
    // RFC 7617: base64 of canary:canary.
    let authorization = received.header("authorization");
    assert_eq!(authorization, "Basic Y2FuYXJ5OmNhbmFyeQ==");
    downstream.stop().await;
    let waiting = tokio::time::timeout(Duration::from_millis(600), deliver("canary-content")).await;
    assert!(waiting.is_err(), "it is tried again");
    let log = binary.output();
    assert!(log.contains("it answered 418"), "{log}");
    assert!(log.contains("trying again"), "{log}");
    for secret in ["canary", "Y2FuYXJ5"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

// What comes back.

#[tokio::test]
async fn every_kind_of_reply_is_said() {
    let downstream = Downstream::echoing().await;
    let world = forwarding(&downstream.url).start().await;
    for (reply, said) in [
        (
            json!({"MsgType": "text", "Content": "a]]>b"}),
            "<Content><![CDATA[a]]]]><![CDATA[>b]]></Content>",
        ),
        (
            json!({"MsgType": "image", "Image": {"MediaId": "m1"}}),
            "<Image><MediaId><![CDATA[m1]]></MediaId></Image>",
        ),
        (
            json!({"MsgType": "voice", "Voice": {"MediaId": "m2"}}),
            "<Voice><MediaId><![CDATA[m2]]></MediaId></Voice>",
        ),
        (
            json!({"MsgType": "video", "Video": {"MediaId": "m3", "Title": "t"}}),
            "<Video><MediaId><![CDATA[m3]]></MediaId><Title><![CDATA[t]]></Title></Video>",
        ),
        (
            json!({"MsgType": "music", "Music": {"Title": "t", "ThumbMediaId": "m4"}}),
            "<ThumbMediaId><![CDATA[m4]]></ThumbMediaId>",
        ),
        (
            json!({"MsgType": "news", "Articles": [
                {"Title": "t", "Description": "d", "PicUrl": "https://a.example/p", "Url": "https://a.example/"},
            ]}),
            "<ArticleCount>1</ArticleCount>",
        ),
        (
            json!({"MsgType": "transfer_customer_service", "TransInfo": {"KfAccount": "a@b"}}),
            "<KfAccount><![CDATA[a@b]]></KfAccount>",
        ),
    ] {
        let xml = text_xml(&reply.to_string().replace("]]>", "]]]]><![CDATA[>"));
        let answer = world.deliver(&xml).await.text().await.unwrap();
        assert!(answer.contains(said), "{reply}: {answer}");
    }
    assert!((calls(&world, "reply").await - 7.0).abs() < 0.5);
}

#[tokio::test]
async fn nothing_to_say_is_success_and_no_hello() {
    let downstream = Downstream::echoing().await;
    let world = forwarding(&downstream.url).start().await;
    for nothing in ["204", "{}", " ", r#"{"MsgType":"text","Content":""}"#] {
        for message in [json!({"MsgType": "text", "Content": nothing})] {
            let result = acts(&world, message).await;
            assert_eq!(
                result["attempts"][0]["body"], "success",
                "{nothing}: {result}"
            );
        }
    }
    assert!((calls(&world, "nothing").await - 4.0).abs() < 0.5);
    assert!(downstream.received().len() == 4);
}

#[tokio::test]
async fn in_safe_mode_the_answer_is_sealed_as_any_other() {
    let downstream = Downstream::saying("好").await;
    let mut setup = Setup::safe();
    setup.settings.forward_url = Some(downstream.url.clone());
    setup.settings.forward_secret = Some(SECRET.into());
    let world = setup.start().await;
    assert_eq!(hears(&world, "a").await, "好");
}

#[tokio::test]
async fn each_delivery_of_a_message_gets_the_one_answer() {
    let downstream = Downstream::numbering().await;
    let world = forwarding(&downstream.url).start().await;
    let xml = text_xml("a");
    let first = world.deliver(&xml).await.text().await.unwrap();
    let second = world.deliver(&xml).await.text().await.unwrap();
    assert!(first.contains("number 1"), "{first}");
    assert_eq!(first, second);
    assert_eq!(downstream.received().len(), 1);
    assert_eq!(hears(&world, "b").await, "number 2");
    let ids = downstream.ids();
    assert_ne!(ids[0], ids[1]);
}

/// As long as the platform takes to deliver twice.
#[tokio::test]
async fn a_call_is_never_made_again_while_it_runs() {
    let downstream = Downstream::start(|_| async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        says("at last")
    })
    .await;
    let world = forwarding(&downstream.url).start().await;
    let result = acts(&world, json!({"MsgType": "text", "Content": "a"})).await;
    assert_eq!(result["shown_to_user"], "at last", "{result}");
    assert_eq!(result["attempts"].as_array().unwrap().len(), 2, "{result}");
    assert_eq!(downstream.received().len(), 1);
}

/// An answer with a status and no body.
pub(crate) fn status(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap().into()
}

/// A reply, whatever its form.
pub(crate) fn reply(reply: &Value) -> Response {
    json_answer(reply.to_string())
}
