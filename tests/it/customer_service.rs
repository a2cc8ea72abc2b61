//! Customer-service messages within the windows that users open: what is refused here, and what WeChat
//! teaches. The simulated platform is the referee.

use std::time::Duration;

use offiaccount::api::ApiError;
use offiaccount::customer_service::{CustomerService, Refusal, SendError};
use offiaccount::simulator::{Kind, Limits};
use offiaccount::store::Trigger;
use offiaccount::wechat::id::OpenId;
use offiaccount::{Bot, Context, Reply};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::helpers::{Setup, World, eventually};
use crate::stored::{Stored, USER_WROTE, When};

const SEND: &str = "/cgi-bin/message/custom/send";
/// Of whoever writes this the store has a record, in which a test can move the times.
const REMEMBER: &str = "记住我";

/// A world whose bot says nothing, one of its fans, and what its handlers send with.
struct Desk {
    world: World,
    fan: OpenId,
    service: CustomerService,
}

impl Desk {
    async fn open(setup: Setup) -> Self {
        let (lend, mut lent) = mpsc::unbounded_channel();
        let bot = Bot::new().fallback(move |ctx: Context| {
            // The first one was asked for.
            let _ = lend.send(ctx.customer_service().clone());
            if ctx.text() == Some(REMEMBER) {
                ctx.set_session(&true, Duration::from_secs(60)).unwrap();
            }
            async { Reply::None }
        });
        let world = setup.bot(bot).start().await;
        let fans = world.sim("fans", None).await;
        let openid = |n: usize| OpenId::parse(fans[n]["openid"].as_str().unwrap()).unwrap();
        // An event that opens no window brings the service into our hands.
        let event = json!({"openid": openid(1), "MsgType": "event", "Event": "LOCATION",
            "Latitude": 1, "Longitude": 1, "Precision": 1});
        world.act(event).await;
        let (fan, service) = (openid(0), lent.recv().await.unwrap());
        Self {
            world,
            fan,
            service,
        }
    }

    async fn writes(&self) {
        let message = json!({"openid": self.fan, "MsgType": "text", "Content": "在吗"});
        self.world.act(message).await;
    }

    async fn does(&self, event: &str, more: Value) {
        let mut message = json!({"openid": self.fan, "MsgType": "event", "Event": event});
        for (name, value) in more.as_object().unwrap() {
            message[name] = value.clone();
        }
        self.world.act(message).await;
    }

    async fn say(&self) -> Result<(), SendError> {
        self.service.send(&self.fan, &"好".into()).await
    }

    /// Why nothing is said.
    async fn refusal(&self) -> Refusal {
        match self.say().await {
            Err(SendError::Refused { refusal }) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The calls that the platform received.
    async fn calls(&self) -> usize {
        self.world.calls(SEND).await
    }

    /// What the account has said to the fan.
    async fn shown(&self) -> usize {
        let path = format!("chat?openid={}", self.fan);
        let chat = self.world.sim(&path, None).await;
        let bubbles = chat["messages"].as_array().unwrap().iter();
        bubbles.filter(|it| it["from"] == "account").count()
    }

    async fn metric(&self, outcome: &str) -> u64 {
        let family = "offiaccount_customer_service_messages_total";
        let line = format!("{family}{{outcome=\"{outcome}\"}} ");
        let text = self.world.get("/metrics").await.text().await.unwrap();
        let found = text.lines().find_map(|it| it.strip_prefix(&line));
        found.map_or(0, |count| count.parse().unwrap())
    }
}

#[tokio::test]
async fn the_sixth_message_after_a_users_own_is_refused_before_the_call() {
    let desk = Desk::open(Setup::new()).await;
    desk.writes().await;
    for _ in 0..5 {
        desk.say().await.unwrap();
    }
    let refusal = desk.refusal().await;
    assert!(
        matches!(
            refusal,
            Refusal::UsedUp {
                since: Trigger::Message,
                ..
            }
        ),
        "{refusal:?}"
    );
    assert_eq!(refusal.errcode(), 45047);
    assert_eq!((desk.calls().await, desk.shown().await), (5, 5));

    desk.writes().await;
    desk.say().await.unwrap();
    assert_eq!((desk.calls().await, desk.shown().await), (6, 6));
    assert_eq!(desk.metric("sent").await, 6);
    assert_eq!(desk.metric("refused_count").await, 1);
}

#[tokio::test]
async fn we_count_as_the_platform_counts() {
    let desk = Desk::open(Setup::new()).await;
    desk.does("subscribe", json!({})).await;
    desk.does("CLICK", json!({"EventKey": "k"})).await;
    desk.does("SCAN", json!({"EventKey": "1"})).await;
    desk.does("VIEW", json!({"EventKey": "https://shop.example.test/"}))
        .await;
    desk.writes().await;
    let mut sent = 0;
    let refusal = loop {
        match desk.say().await {
            Ok(()) => sent += 1,
            Err(SendError::Refused { refusal }) => break refusal,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(sent, 3 + 3 + 3 + 5);
    assert_eq!(desk.calls().await, sent, "{refusal}");
    // The platform would have said the same.
    let asked = desk.service.send_unchecked(&desk.fan, &"好".into()).await;
    assert_eq!(asked.unwrap_err().errcode(), Some(refusal.errcode()));
    assert_eq!(desk.calls().await, sent + 1);

    // A gesture begins its own window anew, and no other.
    desk.does("CLICK", json!({"EventKey": "another"})).await;
    for _ in 0..3 {
        desk.say().await.unwrap();
    }
    assert_eq!(desk.refusal().await.errcode(), 45047);
}

#[tokio::test]
async fn a_message_of_48_hours_ago_opens_nothing() {
    let desk = Desk::open(Setup::new()).await;
    let message = json!({"openid": desk.fan, "MsgType": "text", "Content": REMEMBER});
    desk.world.act(message).await;
    let stored = Stored::of(&desk.world.settings).await;
    let hours = |n: u64| Duration::from_secs(n * 3600);
    stored.set(USER_WROTE, When::Ago(hours(47))).await;
    desk.say().await.unwrap();
    stored.set(USER_WROTE, When::Ago(hours(50))).await;
    let refusal = desk.refusal().await;
    assert_eq!(
        refusal.to_string(),
        "he last wrote 50 h ago, and that lets the account write to him for 48 h alone"
    );
    assert_eq!(refusal.errcode(), 45015);
    assert_eq!(desk.calls().await, 1);
    assert_eq!(desk.metric("refused_window").await, 1);
}

#[tokio::test]
async fn whoever_never_wrote_or_has_left_is_not_written_to() {
    let desk = Desk::open(Setup::new()).await;
    assert_eq!(desk.refusal().await, Refusal::Unknown);
    desk.does("subscribe", json!({})).await;
    desk.say().await.unwrap();
    desk.does("unsubscribe", json!({})).await;
    assert_eq!(desk.refusal().await, Refusal::Unknown);
    assert_eq!(desk.calls().await, 1);
}

#[tokio::test]
async fn wechat_judges_alone_where_it_is_asked_to() {
    let desk = Desk::open(Setup::new()).await;
    let unchecked = async || desk.service.send_unchecked(&desk.fan, &"好".into()).await;
    let refused = unchecked().await.unwrap_err();
    assert_eq!(refused.errcode(), Some(45015));
    assert_eq!(desk.calls().await, 1);

    // He writes while the backend can't be reached.
    let account = async |patch: Value| {
        let url = format!("{}/_sim/account", desk.world.sim);
        let put = desk.world.http.put(url).json(&patch);
        assert!(desk.world.send(put).await.status().is_success());
    };
    account(json!({"callback_url": "http://127.0.0.1:9/wechat"})).await;
    desk.writes().await;
    assert_eq!(desk.refusal().await, Refusal::Unknown);
    assert_eq!(desk.calls().await, 1);
    unchecked().await.unwrap();
    assert_eq!(desk.shown().await, 1);
}

#[tokio::test]
async fn what_wechat_refuses_is_not_tried_again_until_the_user_does_something() {
    let desk = Desk::open(Setup::new()).await;
    desk.writes().await;
    // When his window opened is known as closely as the store answers quickly: a refusal soon after it
    // may count as one of before.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // His 48 hours are over by the platform's clock alone.
    desk.world.advance(48 * 3600).await;
    assert_eq!(desk.refusal().await, Refusal::Told { errcode: 45015 });
    // Two, if the first came with the token that the jump has ended.
    let calls = desk.calls().await;
    for _ in 0..2 {
        assert_eq!(desk.refusal().await, Refusal::Told { errcode: 45015 });
    }
    assert_eq!(desk.calls().await, calls);
    desk.writes().await;
    desk.say().await.unwrap();

    // Another program has sent the rest.
    desk.world.fault(SEND, json!({"errcode": 45047}), 1).await;
    for _ in 0..3 {
        let refusal = desk.refusal().await;
        assert_eq!(refusal, Refusal::Told { errcode: 45047 });
    }
    assert_eq!(desk.calls().await, calls + 2);
    desk.does("CLICK", json!({"EventKey": "k"})).await;
    desk.say().await.unwrap();
    assert_eq!(desk.shown().await, 2);
}

#[tokio::test]
async fn an_account_without_the_right_is_asked_once() {
    let mut setup = Setup::new();
    setup.simulator.kind = Kind::Unverified;
    setup.simulator.limits = Limits::Relaxed;
    let desk = Desk::open(setup).await;
    desk.writes().await;
    for _ in 0..3 {
        let refused = desk.say().await.unwrap_err();
        let SendError::NotAllowed { errcode: 48001 } = refused else {
            panic!("{refused:?}");
        };
        assert!(refused.to_string().contains("接口权限"), "{refused}");
    }
    assert_eq!(desk.calls().await, 1);
    assert_eq!(desk.metric("not_allowed").await, 3);

    // It has got the right: whoever insists finds out for all.
    let url = format!("{}/_sim/account", desk.world.sim);
    let put = desk.world.http.put(url).json(&json!({"kind": "service"}));
    assert!(desk.world.send(put).await.status().is_success());
    desk.say().await.unwrap_err();
    desk.service
        .send_unchecked(&desk.fan, &"好".into())
        .await
        .unwrap();
    desk.say().await.unwrap();
    assert_eq!(desk.shown().await, 2);
}

#[tokio::test]
async fn an_error_tells_whether_the_user_may_have_seen_the_message() {
    let desk = Desk::open(Setup::new()).await;
    desk.writes().await;
    let fault = async |fault| {
        desk.world.fault(SEND, fault, 1).await;
        desk.say().await.unwrap_err()
    };
    let refused = fault(json!({"errcode": 45009})).await;
    assert!(matches!(refused, SendError::Failed(_)), "{refused:?}");
    let torn = fault(json!({"body": "<html>"})).await;
    assert!(
        matches!(torn, SendError::Unclear(ApiError::Nonsense(_))),
        "{torn:?}"
    );
    let two = |n: &str| offiaccount::wechat::reply::Article {
        title: n.into(),
        ..Default::default()
    };
    let news = Reply::News(vec![two("1"), two("2")]);
    let unsendable = desk.service.send(&desk.fan, &news).await.unwrap_err();
    assert!(
        matches!(unsendable, SendError::Unsendable(_)),
        "{unsendable:?}"
    );
    assert_eq!(desk.calls().await, 2);
    for (outcome, count) in [
        ("failed", 1),
        ("unclear", 1),
        ("unsendable", 1),
        ("sent", 0),
    ] {
        assert_eq!(desk.metric(outcome).await, count, "{outcome}");
    }
    // None of them was counted.
    for _ in 0..5 {
        desk.say().await.unwrap();
    }
}

#[tokio::test]
async fn without_a_token_or_a_platform_nobody_has_seen_anything() {
    let setup = Setup::new().settings(|settings| {
        settings.wechat_api_url = Some("http://127.0.0.1:9".into());
    });
    let desk = Desk::open(setup).await;
    desk.writes().await;
    let failed = desk.say().await.unwrap_err();
    assert!(
        matches!(failed, SendError::Failed(ApiError::Unreachable(_))),
        "{failed:?}"
    );
}

#[tokio::test]
async fn while_the_store_is_away_wechat_judges() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}/away.db", folder.path().display());
    let setup = Setup::new().settings(|settings| {
        settings.database_url = Some(format!("sqlite://{path}"));
    });
    let desk = Desk::open(setup).await;
    desk.writes().await;
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("ALTER TABLE conversations RENAME TO away", [])
        .unwrap();
    for _ in 0..5 {
        desk.say().await.unwrap();
    }
    let refusal = desk.refusal().await;
    assert_eq!(refusal, Refusal::Told { errcode: 45047 });
    assert_eq!(desk.calls().await, 6);
}

/// A bot that takes longer over 慢 than the platform delivers.
fn slow() -> Bot {
    Bot::new().fallback(async |ctx: Context| {
        if ctx.text() == Some("慢") {
            tokio::time::sleep(Duration::from_secs(16)).await;
        }
        format!("你说“{}”", ctx.text().unwrap_or_default())
    })
}

/// What the account has said, to anybody.
async fn said(world: &World) -> Vec<String> {
    let chat = world.sim("chat?from=account", None).await;
    let bubbles = chat["messages"].as_array().unwrap().iter();
    let shown = bubbles.map(|it| it["shown"].as_str().unwrap().to_owned());
    shown.collect()
}

#[tokio::test]
async fn an_answer_that_no_delivery_carried_comes_by_itself_and_once() {
    let world = Setup::new().bot(slow()).start().await;
    let message = json!({"openid": world.fan().await, "MsgType": "text", "Content": "慢"});
    let result = world.act(message).await;
    assert_eq!(result["shown_to_user"], "", "{result}");
    eventually(Duration::from_secs(10), || async {
        !said(&world).await.is_empty()
    })
    .await;
    let push = &world.sim("pushes", None).await[0];
    assert_eq!(push["answered"], Value::Null, "{push}");
    let after = push["customer_service"].as_array().unwrap();
    assert_eq!(after.len(), 1, "{push}");
    assert_eq!(after[0]["errcode"], 0);
    assert!(after[0]["after_ms"].as_u64().unwrap() >= 16_000, "{push}");
    assert_eq!(said(&world).await, ["你说“慢”"]);
}

#[tokio::test]
async fn an_answer_that_wechat_refuses_is_given_with_the_next_and_once() {
    let mut setup = Setup::new().bot(slow());
    setup.simulator.kind = Kind::Unverified;
    let world = setup.start().await;
    let fan = world.fan().await;
    let write = async |text: &str| {
        let message = json!({"openid": fan, "MsgType": "text", "Content": text});
        world.act(message).await
    };
    write("慢").await;
    eventually(Duration::from_secs(10), || async {
        let pushes = world.sim("pushes", None).await;
        pushes[0]["customer_service"][0]["errcode"] == 48001
    })
    .await;
    assert!(said(&world).await.is_empty());
    let answered = write("快").await["shown_to_user"].clone();
    assert_eq!(said(&world).await, [answered.as_str().unwrap()]);
    for answer in ["你说“慢”", "你说“快”"] {
        let shown = answered.as_str().unwrap().matches(answer).count();
        assert_eq!(shown, 1, "{answer} in {answered}");
    }
    assert_eq!(world.calls(SEND).await, 1);
}
