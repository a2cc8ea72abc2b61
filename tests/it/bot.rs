//! The bot of a user's own: the onion, the router, and what becomes of handlers that fail, panic or
//! take long.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offiaccount::wechat::{Article, Kind};
use offiaccount::{Application, Bot, BotError, BotResult, Config, Context, Next, Reply};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use crate::helpers::*;
use crate::wire::connect;

const FALLBACK: &str = "抱歉，暂时无法回答，请稍后再试。";

/// What a fan is shown after saying this.
async fn hears(world: &World, text: &str) -> String {
    tells(world, json!({"MsgType": "text", "Content": text})).await
}

/// The same after doing anything.
async fn tells(world: &World, message: Value) -> String {
    let result = acts(world, message).await;
    result["shown_to_user"].as_str().unwrap().to_owned()
}

async fn acts(world: &World, mut message: Value) -> Value {
    message["openid"] = json!(world.fan().await);
    world.act(message).await
}

fn event(name: &str, key: &str) -> Value {
    json!({"MsgType": "event", "Event": name, "EventKey": key})
}

/// The value of a metric; 0 while it is not there.
async fn metric(world: &World, name_and_labels: &str) -> f64 {
    let text = world.get("/metrics").await.text().await.unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name_and_labels));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

// The onion.

#[tokio::test]
async fn layers_run_from_the_outside_in_and_back_out() {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let layer = |name: &'static str| {
        let steps = Arc::clone(&steps);
        move |ctx: Context, next: Next| {
            let steps = Arc::clone(&steps);
            async move {
                steps.lock().unwrap().push(format!("{name} in"));
                let reply = next.run(ctx).await;
                steps.lock().unwrap().push(format!("{name} out"));
                reply
            }
        }
    };
    let at_the_centre = Arc::clone(&steps);
    let bot = Bot::new()
        .with(layer("outer"))
        .with(layer("inner"))
        .fallback(move |_: Context| {
            at_the_centre.lock().unwrap().push("handler".to_owned());
            async { "said" }
        });
    let world = Setup::new().bot(bot).start().await;
    assert_eq!(hears(&world, "a").await, "said");
    assert_eq!(
        *steps.lock().unwrap(),
        ["outer in", "inner in", "handler", "inner out", "outer out"]
    );
}

#[tokio::test]
async fn a_layer_may_answer_by_itself_and_change_what_comes_out() {
    let reached = Arc::new(AtomicUsize::new(0));
    let inner = Arc::clone(&reached);
    let bot = Bot::new()
        .with(
            async |ctx: Context, next: Next| match next.run(ctx).await? {
                Reply::Text(text) => Ok(Reply::Text(format!("«{text}»"))),
                other => Ok(other),
            },
        )
        .with(async |ctx: Context, next: Next| {
            if ctx.text() == Some("stop") {
                return Ok("stopped".into());
            }
            next.run(ctx).await
        })
        .fallback(move |_: Context| {
            inner.fetch_add(1, Ordering::SeqCst);
            async { "reached" }
        });
    let world = Setup::new().bot(bot).start().await;
    assert_eq!(hears(&world, "stop").await, "«stopped»");
    assert_eq!(reached.load(Ordering::SeqCst), 0);
    assert_eq!(hears(&world, "go").await, "«reached»");
    assert_eq!(reached.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_error_travels_outward_and_can_be_caught() {
    let bot = Bot::new()
        .with(async |ctx: Context, next: Next| -> BotResult {
            match next.run(ctx).await {
                Err(error) => Ok(Reply::Text(format!("caught: {error}"))),
                reply => reply,
            }
        })
        .with(async |ctx: Context, next: Next| -> BotResult {
            let reply = next.run(ctx).await?;
            panic!("{reply:?} came out of a handler that failed");
        })
        .fallback(async |_: Context| -> Result<String, BotError> {
            let number: u32 = "seven".parse()?;
            Ok(number.to_string())
        });
    let world = Setup::new().bot(bot).start().await;
    assert_eq!(
        hears(&world, "a").await,
        "caught: invalid digit found in string"
    );
    assert!(metric(&world, "offiaccount_handler_panics_total").await < 0.5);
}

#[tokio::test]
async fn what_a_layer_leaves_is_found_further_in_by_its_type() {
    struct Account(u32);
    let bot = Bot::new()
        .with(async |ctx: Context, next: Next| {
            ctx.set(Account(7));
            ctx.set(String::from("first"));
            ctx.set(String::from("second"));
            next.run(ctx).await
        })
        .fallback(async |ctx: Context| {
            assert!(ctx.get::<u64>().is_none());
            let account = ctx.get::<Account>().unwrap();
            format!("{} {}", account.0, ctx.get::<String>().unwrap())
        });
    let world = Setup::new().bot(bot).start().await;
    assert_eq!(hears(&world, "a").await, "7 second");
}

#[tokio::test]
async fn the_context_gives_the_message_the_sender_the_api_and_the_store() {
    let bot = Bot::new().fallback(async |ctx: Context| -> Result<String, BotError> {
        let Kind::Text(text) = &ctx.message().kind else {
            return Err("no text".into());
        };
        let followers = ctx.api().followers(None).await?;
        ctx.store().ping().await?;
        let known = followers
            .user_info_list
            .iter()
            .any(|user| user["openid"] == ctx.sender().as_str());
        Ok(format!("{} {} {known}", text.content, ctx.store().name()))
    });
    let world = Setup::new().bot(bot).start().await;
    let store = expect_status(world.get("/readyz").await, reqwest::StatusCode::OK).await;
    let store = store["store"].as_str().unwrap();
    assert_eq!(hears(&world, "hi").await, format!("hi {store} true"));
}

// The router.

#[tokio::test]
async fn the_first_route_that_fits_answers() {
    let bot = Bot::new()
        .on_keyword("帮助", async |_: Context| "keyword")
        .on_pattern(r"^订单\s*(\d+)(-\w+)?$", async |ctx: Context| {
            format!(
                "order {} of {:?} {:?}",
                ctx.capture(1),
                ctx.capture(0),
                ctx.capture(2)
            )
        })
        .on_pattern("帮助", async |_: Context| "pattern")
        .on_type("text", async |ctx: Context| {
            format!("text {:?}", ctx.capture(1))
        })
        .on_keyword("late", async |_: Context| "never reached")
        .on_type("image", async |_: Context| "image")
        .fallback(async |ctx: Context| format!("fallback for {}", ctx.message().msg_type()));
    let world = Setup::new().bot(bot).start().await;
    for (said, answer) in [
        ("帮助", "keyword"),
        ("  帮助\n", "keyword"),
        ("求帮助", "pattern"),
        ("订单 42", "order 42 of \"订单 42\" \"\""),
        ("订单42-a", "order 42 of \"订单42-a\" \"-a\""),
        ("订单", "text \"\""),
        ("late", "text \"\""),
    ] {
        assert_eq!(hears(&world, said).await, answer, "{said:?}");
    }
    let image = json!({"MsgType": "image", "PicUrl": "http://a/", "MediaId": "m"});
    assert_eq!(tells(&world, image).await, "image");
    let link = json!({"MsgType": "link", "Title": "t", "Url": "http://a/"});
    assert_eq!(tells(&world, link).await, "fallback for link");
    let click = event("CLICK", "k");
    assert_eq!(tells(&world, click).await, "fallback for event");
}

#[tokio::test]
async fn events_are_routed_by_name_key_and_scene() {
    let bot = Bot::new()
        .on_event_key("CLICK", "today", async |_: Context| "today's")
        .on_event("CLICK", async |ctx: Context| {
            format!("key {:?}", ctx.event_key())
        })
        .on_event_key("subscribe", "42", async |ctx: Context| {
            format!("scene {:?} by subscribe", ctx.message().scene())
        })
        .on_event("subscribe", async |_: Context| "welcome")
        .on_event_key("SCAN", "42", async |_: Context| "scene by SCAN")
        .on_event("SCAN", async |_: Context| "another scene");
    let world = Setup::new().bot(bot).start().await;
    let scanned = |name: &str, key: &str| json!({"MsgType": "event", "Event": name, "EventKey": key, "Ticket": "t"});
    for (message, answer) in [
        (event("CLICK", "today"), "today's"),
        (event("CLICK", "Today"), "key Some(\"Today\")"),
        (event("CLICK", ""), "key None"),
        (event("subscribe", ""), "welcome"),
        (
            scanned("subscribe", "qrscene_42"),
            "scene Some(\"42\") by subscribe",
        ),
        (scanned("subscribe", "qrscene_43"), "welcome"),
        (scanned("SCAN", "42"), "scene by SCAN"),
        (scanned("SCAN", "qrscene_42"), "another scene"),
        (event("click", "today"), ""),
    ] {
        assert_eq!(tells(&world, message.clone()).await, answer, "{message}");
    }
}

#[tokio::test]
async fn a_handler_returns_a_text_a_reply_nothing_or_an_error() {
    let article = || Article {
        title: "一".into(),
        ..Article::default()
    };
    let bot = Bot::new()
        .on_keyword("str", async |_: Context| "str")
        .on_keyword("string", async |_: Context| String::from("string"))
        .on_keyword("nothing", async |_: Context| {})
        .on_keyword("none", async |_: Context| None::<String>)
        .on_keyword("some", async |_: Context| Some("some"))
        .on_keyword("empty", async |_: Context| "")
        .on_keyword("ok", async |_: Context| Ok::<_, BotError>("ok"))
        .on_keyword("image", async |_: Context| Reply::Image {
            media_id: "m1".into(),
        })
        .on_keyword("news", move |_: Context| async move {
            Reply::News(vec![article(), article()])
        });
    let world = Setup::new().bot(bot).start().await;
    for (said, answer) in [
        ("str", "str"),
        ("string", "string"),
        ("nothing", ""),
        ("none", ""),
        ("some", "some"),
        ("empty", ""),
        ("ok", "ok"),
    ] {
        let result = acts(&world, json!({"MsgType": "text", "Content": said})).await;
        assert_eq!(result["shown_to_user"], answer, "{said}: {result}");
        if answer.is_empty() {
            assert_eq!(result["attempts"][0]["body"], "success");
        }
    }
    let result = acts(&world, json!({"MsgType": "text", "Content": "image"})).await;
    assert_eq!(result["reply"]["Image"]["MediaId"], "m1");
    let result = acts(&world, json!({"MsgType": "text", "Content": "news"})).await;
    let body = result["attempts"][0]["body"].as_str().unwrap();
    assert!(
        body.contains("<ArticleCount>1</ArticleCount>"),
        "a message takes one card: {body}"
    );
}

#[tokio::test]
async fn without_routes_only_a_text_is_answered() {
    let world = World::start().await;
    assert_eq!(hears(&world, "mission").await, "Hello mission");
    assert_eq!(tells(&world, event("subscribe", "")).await, "");
    let voice = json!({"MsgType": "voice", "MediaId": "m", "Format": "amr", "Recognition": "喂"});
    assert_eq!(tells(&world, voice).await, "");
}

#[tokio::test]
async fn a_pattern_that_is_no_regular_expression_fails_at_the_start() {
    let bot = || {
        Bot::new()
            .on_pattern("(", async |_: Context| "a")
            .on_pattern("[", async |_: Context| "b")
    };
    assert!(bot().check().unwrap_err().contains("`(`"));
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Setup::new().settings;
    settings.database_url = Some(format!("sqlite://{}/a.db", folder.path().display()));
    let config = Config::from_settings(&settings).unwrap();
    let error = Application::build(config, bot())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("`(`") && error.contains("`[`"), "{error}");
}

// Failures.

fn failing() -> Bot {
    Bot::new().with(async |ctx: Context, next: Next| {
        if ctx.text() == Some("fine") {
            return next.run(ctx).await;
        }
        Err(BotError::from("the canary in the error"))
    })
}

#[tokio::test]
async fn a_message_whose_handler_fails_gets_the_fallback_text_and_an_event_nothing() {
    let world = Setup::new().bot(failing()).start().await;
    assert_eq!(hears(&world, "a").await, FALLBACK);
    let image = json!({"MsgType": "image", "PicUrl": "http://a/", "MediaId": "m"});
    assert_eq!(tells(&world, image).await, FALLBACK);
    let result = acts(&world, event("CLICK", "k")).await;
    assert_eq!(result["attempts"][0]["body"], "success");
    assert_eq!(hears(&world, "fine").await, "Hello fine");
    assert!(
        metric(
            &world,
            "offiaccount_messages_total{kind=\"text\",outcome=\"failed\"}"
        )
        .await
            > 0.5
    );
}

#[tokio::test]
async fn the_fallback_text_is_a_setting() {
    let setup = Setup::new().bot(failing());
    let world = setup
        .settings(|settings| settings.fallback_text = Some("oops".into()))
        .start()
        .await;
    assert_eq!(hears(&world, "a").await, "oops");
    // A text that is over the platform's limit would be an error line.
    let setup = Setup::new().bot(failing());
    let world = setup
        .settings(|settings| settings.fallback_text = Some("长".repeat(1000)))
        .start()
        .await;
    assert_eq!(hears(&world, "a").await, "长".repeat(682));
}

#[tokio::test]
async fn a_panic_is_success_for_its_message_and_nothing_for_the_others() {
    let bot = Bot::new()
        .with(async |ctx: Context, next: Next| {
            assert_ne!(ctx.text(), Some("way in"), "on purpose");
            let text = ctx.text().map(str::to_owned);
            let reply = next.run(ctx).await;
            assert_ne!(text.as_deref(), Some("way out"), "on purpose");
            reply
        })
        .on_keyword("handler", async |_: Context| -> String {
            panic!("on purpose")
        })
        .on_keyword("sync", |_: Context| -> std::future::Ready<String> {
            panic!("on purpose")
        });
    let world = Setup::new().bot(bot).start().await;
    for text in ["way in", "way out", "handler", "sync"] {
        let result = acts(&world, json!({"MsgType": "text", "Content": text})).await;
        assert_eq!(result["attempts"][0]["body"], "success", "{text}: {result}");
        assert_eq!(result["attempts"].as_array().unwrap().len(), 1);
        assert_eq!(hears(&world, "fine").await, "Hello fine");
    }
    assert!((metric(&world, "offiaccount_handler_panics_total").await - 4.0).abs() < 0.5);
}

// Time.

/// A bot whose handler waits at a gate, and says what it is the how-manieth call.
struct Gated {
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Gated {
    fn new() -> (Self, Bot) {
        let this = Self {
            gate: Arc::new(Semaphore::new(0)),
            begun: Arc::default(),
            ended: Arc::default(),
        };
        let (gate, begun, ended) = (
            Arc::clone(&this.gate),
            Arc::clone(&this.begun),
            Arc::clone(&this.ended),
        );
        let bot = Bot::new().with(move |_: Context, _: Next| {
            let (gate, begun, ended) = (Arc::clone(&gate), Arc::clone(&begun), Arc::clone(&ended));
            async move {
                let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await?.forget();
                ended.store(true, Ordering::SeqCst);
                Ok(Reply::Text(format!("number {number}")))
            }
        });
        (this, bot)
    }

    fn open(&self) {
        self.gate.add_permits(1000);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_the_handler() {
    let (gated, bot) = Gated::new();
    let world = Setup::new().bot(bot).start().await;
    let message = text_xml("a");
    let mut stream = connect(&world.app.url).await;
    let request = format!(
        "POST /wechat?{} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{message}",
        signed_query(),
        message.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually(Duration::from_secs(3), async || {
        gated.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    drop(stream);
    // The server has seen it once its connection is gone; ours of the metrics is left.
    let gone = async || metric(&world, "offiaccount_http_connections").await < 1.5;
    eventually(Duration::from_secs(3), gone).await;
    gated.open();
    eventually(Duration::from_secs(3), async || {
        gated.ended.load(Ordering::SeqCst)
    })
    .await;
    let reply = world.deliver(&message).await.text().await.unwrap();
    assert!(reply.contains("number 1"), "{reply}");
    assert_eq!(gated.begun.load(Ordering::SeqCst), 1);
}

/// In one test, so that they wait at the same time: each takes as long as the platform does.
#[tokio::test]
async fn slow_handlers_have_three_deliveries_of_time() {
    tokio::join!(
        the_retry_carries_the_reply_of_a_handler_that_takes_six_seconds(),
        the_third_delivery_is_always_answered(Some("想一想…"), text("a"), "想一想…"),
        the_third_delivery_is_always_answered(None, text("a"), ""),
        the_third_delivery_is_always_answered(Some("想一想…"), event("unsubscribe", ""), ""),
        a_reply_within_four_seconds_is_given_at_once(),
    );
}

fn text(content: &str) -> Value {
    json!({"MsgType": "text", "Content": content})
}

async fn the_retry_carries_the_reply_of_a_handler_that_takes_six_seconds() {
    let (gated, bot) = Gated::new();
    let world = Setup::new().bot(bot).start().await;
    let opening = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        gated.open();
    };
    let (result, ()) = tokio::join!(acts(&world, text("a")), opening);
    assert_eq!(result["shown_to_user"], "number 1", "{result}");
    let attempts = result["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{result}");
    assert_eq!(
        attempts[0]["status"], 0,
        "the first is left unanswered: {result}"
    );
    assert!(attempts[0]["ms"].as_u64().unwrap() >= 4_990, "{result}");
    assert!(
        attempts[1]["ms"].as_u64().unwrap() < 2_500,
        "as soon as it is there: {result}"
    );
    assert_eq!(gated.begun.load(Ordering::SeqCst), 1);
}

async fn a_reply_within_four_seconds_is_given_at_once() {
    let (gated, bot) = Gated::new();
    let world = Setup::new().bot(bot).start().await;
    let opening = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        gated.open();
    };
    let (result, ()) = tokio::join!(acts(&world, text("a")), opening);
    assert_eq!(result["shown_to_user"], "number 1", "{result}");
    assert_eq!(result["attempts"].as_array().unwrap().len(), 1, "{result}");
}

async fn the_third_delivery_is_always_answered(
    thinking: Option<&str>,
    message: Value,
    shown: &str,
) {
    let (gated, bot) = Gated::new();
    let setup = Setup::new().bot(bot);
    let world = setup
        .settings(|settings| settings.thinking_text = thinking.map(Into::into))
        .start()
        .await;
    let result = acts(&world, message).await;
    let attempts = result["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3, "{result}");
    for unanswered in &attempts[..2] {
        assert_eq!(unanswered["status"], 0, "{result}");
    }
    assert_eq!(attempts[2]["status"], 200, "{result}");
    let took = attempts[2]["ms"].as_u64().unwrap();
    assert!((4_000..4_500).contains(&took), "{result}");
    assert_eq!(result["shown_to_user"], shown, "{result}");
    if shown.is_empty() {
        assert_eq!(attempts[2]["body"], "success", "{result}");
    }
    assert_eq!(gated.begun.load(Ordering::SeqCst), 1);
    gated.open();
}

#[tokio::test]
async fn messages_under_way_are_seen_in_the_metrics() {
    let (gated, bot) = Gated::new();
    let world = Setup::new().bot(bot).start().await;
    let in_progress = async |state| {
        let name = format!("offiaccount_messages_in_progress{{state=\"{state}\"}}");
        metric(&world, &name).await
    };
    let stands = async |handled: f64, waiting: f64| {
        in_progress("handled").await == handled && in_progress("waiting").await == waiting
    };
    assert!(stands(0.0, 0.0).await);
    let watching = async {
        // One user's messages, one after the other.
        eventually(Duration::from_secs(4), || stands(1.0, 2.0)).await;
        gated.open();
    };
    let ((), _, _, _) = tokio::join!(
        watching,
        acts(&world, text("a")),
        acts(&world, text("b")),
        acts(&world, text("c")),
    );
    eventually(Duration::from_secs(4), || stands(0.0, 0.0)).await;
}
