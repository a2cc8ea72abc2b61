//! Dead letters: on the list, and sent again by the real binary.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offiaccount::store::{self, DeadLetter, Store};
use offiaccount::telemetry::metrics::StoreMetrics;
use offiaccount::wechat::id::OpenId;
use serde_json::{Value, json};

use super::downstream::{Downstream, says, verify};
use super::{FALLBACK, SECRET, SECRET_BYTES, acts, forwarding, hears, menu_tap, reply, status};
use crate::helpers::*;
use crate::wire::Binary;

const SEND: &str = "/cgi-bin/message/custom/send";

/// A program that answers 500 at first, and something else from a certain moment on.
struct Mended {
    downstream: Downstream,
    answer: Arc<Mutex<Option<Answer>>>,
}

type Answer = fn() -> poem::Response;

impl Mended {
    async fn start() -> Self {
        let answer: Arc<Mutex<Option<Answer>>> = Arc::default();
        let answers = Arc::clone(&answer);
        let downstream = Downstream::start(move |_| {
            let answer = answers
                .lock()
                .unwrap()
                .map_or_else(|| status(500), |now| now());
            async { answer }
        })
        .await;
        Self { downstream, answer }
    }

    fn mend(&self, answer: Answer) {
        *self.answer.lock().unwrap() = Some(answer);
    }
}

/// Runs `offiaccount forward …` on the world's store.
async fn run(world: &World, args: &[&str]) -> (i32, String) {
    run_with(world, args, |_, _| true).await
}

/// The same with some of the settings alone.
async fn run_with(world: &World, args: &[&str], keep: fn(&str, &str) -> bool) -> (i32, String) {
    let settings = &world.settings;
    let env = [
        ("WECHAT_APPID", &settings.wechat_appid),
        ("WECHAT_APPSECRET", &settings.wechat_appsecret),
        ("WECHAT_TOKEN", &settings.wechat_token),
        ("WECHAT_API_URL", &settings.wechat_api_url),
        ("DATABASE_URL", &settings.database_url),
        ("STORE_KEY", &settings.store_key),
        ("FORWARD_URL", &settings.forward_url),
        ("FORWARD_SECRET", &settings.forward_secret),
    ];
    let env: Vec<(&str, &str)> = env
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
        .filter(|(name, value)| keep(name, value))
        .collect();
    let args: Vec<&str> = ["forward"].iter().chain(args).copied().collect();
    Binary::run(&args, &env).await
}

/// The ids on the list.
async fn listed(world: &World) -> Vec<String> {
    let (code, output) = run(world, &["list"]).await;
    assert_eq!(code, 0, "{output}");
    let ids = output
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let ids = ids.filter(|word| word.starts_with("msg_"));
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_was_forwarded_in_vain_is_listed_with_its_reason() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    assert_eq!(
        run(&world, &["list"]).await,
        (0, "no dead letters\n".into())
    );
    assert_eq!(hears(&world, "canary").await, FALLBACK);
    acts(&world, menu_tap("HELP")).await;
    let (code, output) = run(&world, &["list"]).await;
    assert_eq!(code, 0, "{output}");
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 2, "{output}");
    let ids = mended.downstream.ids();
    let fan = world.fan().await;
    for (number, kind) in ["text", "CLICK"].into_iter().enumerate() {
        let words: Vec<_> = lines[number].split_whitespace().collect();
        assert_eq!((words[0], words[2]), (&*ids[number], "s"), "{output}");
        assert_eq!((words[3], words[4]), (&*fan, kind), "{output}");
        assert!(
            lines[number].ends_with("it answered 500; expected 200, 202 or 204"),
            "{output}"
        );
    }
    assert!(!output.contains("canary"), "{output}");
    let (_, output) = run(&world, &["list", "--bodies"]).await;
    let body = output.lines().nth(1).unwrap();
    let body: Value = serde_json::from_str(body.trim()).unwrap();
    assert_eq!(
        (&body["Content"], &body["FromUserName"]),
        (&json!("canary"), &json!(fan))
    );
    // The list needs no program to send to.
    let without = |name: &str, _: &str| !name.starts_with("FORWARD");
    let (code, output) = run_with(&world, &["list"], without).await;
    assert_eq!((code, output.lines().count()), (0, 2), "{output}");
}

#[tokio::test]
async fn a_replay_goes_out_under_the_same_id_and_what_is_taken_goes_off_the_list() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    hears(&world, "a").await;
    hears(&world, "b").await;
    let ids = mended.downstream.ids();
    assert_eq!(listed(&world).await, ids);
    mended.mend(|| says("canary"));
    let (code, output) = run(&world, &["replay", &ids[1]]).await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains(&format!("ok    {}  taken; its text was not said", ids[1])),
        "{output}"
    );
    assert!(output.ends_with("1 off the list, 0 failed\n"), "{output}");
    assert!(!output.contains("canary"), "{output}");
    let received = mended.downstream.received();
    assert_eq!(received.len(), 3);
    let (before, again) = (&received[1], &received[2]);
    assert_eq!(again.header("webhook-id"), before.header("webhook-id"));
    assert_eq!(again.body, before.body);
    verify(again, SECRET_BYTES);
    let sent: u64 = again.header("webhook-timestamp").parse().unwrap();
    assert!(now().abs_diff(sent) <= 5, "signed anew: {sent}");
    assert!(before.headers.contains_key("offiaccount-reply-url"));
    assert!(!again.headers.contains_key("offiaccount-reply-url"));
    assert_eq!(listed(&world).await, ids[..1]);
    let (code, output) = run(&world, &["replay", "--all", "--bodies"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains(r#"{"MsgType":"text","Content":"canary"}"#),
        "{output}"
    );
    assert_eq!(listed(&world).await, [""; 0]);
    assert_eq!(world.calls(SEND).await, 0, "the user is told nothing");
}

#[tokio::test]
async fn only_with_answer_is_the_user_told() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    hears(&world, "a").await;
    mended.mend(|| says("迟到的回答"));
    let (code, output) = run(&world, &["replay", "--all", "--answer"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("taken; its text was said"), "{output}");
    let requests = world.sim("requests", None).await;
    let sent = requests
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["path"] == SEND);
    let body: Value =
        serde_json::from_str(sent.unwrap()["request_body"].as_str().unwrap()).unwrap();
    assert_eq!(body["touser"], json!(world.fan().await));
    assert_eq!(body["text"]["content"], "迟到的回答");
    assert_eq!(listed(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_long_answer_is_said_in_parts() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    hears(&world, "a").await;
    mended.mend(|| says(&"长".repeat(1000)));
    let (code, output) = run(&world, &["replay", "--all", "--answer"]).await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(world.calls(SEND).await, 2);
}

#[tokio::test]
async fn an_answer_that_can_not_be_said_keeps_the_letter_on_the_list() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    hears(&world, "a").await;
    let ids = listed(&world).await;
    mended.mend(|| says("好"));
    world.fault(SEND, json!({"errcode": 45015}), 1).await;
    let (code, output) = run(&world, &["replay", "--all", "--answer"]).await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains(&format!("FAIL  {}  taken, but not said: ", ids[0])),
        "{output}"
    );
    assert!(output.contains("45015"), "{output}");
    mended.mend(|| reply(&json!({"MsgType": "transfer_customer_service"})));
    let (code, output) = run(&world, &["replay", "--all", "--answer"]).await;
    assert_eq!(code, 1, "{output}");
    assert_eq!(listed(&world).await, ids);
    // Without the answer there is nothing in its way.
    let (code, output) = run(&world, &["replay", "--all"]).await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(listed(&world).await, [""; 0]);
}

#[tokio::test]
async fn nothing_to_say_and_202_are_taken_too() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    for (answer, said) in [
        ((|| status(204)) as Answer, "taken; nothing to say"),
        (|| status(202), "taken; a later answer has nowhere to go"),
    ] {
        *mended.answer.lock().unwrap() = None;
        hears(&world, "a").await;
        mended.mend(answer);
        let (code, output) = run(&world, &["replay", "--all", "--answer"]).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains(said), "{output}");
    }
    assert_eq!(world.calls(SEND).await, 0);
    assert_eq!(listed(&world).await, [""; 0]);
}

#[tokio::test]
async fn what_fails_again_stays_and_ends_with_1() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    hears(&world, "a").await;
    let ids = listed(&world).await;
    let none = format!("msg_{}", "0".repeat(64));
    for (args, why) in [
        (&["replay", "--all"][..], "it answered 500"),
        (&["replay", &ids[0]], "it answered 500"),
        (&["replay", &none], "is not on the list"),
        (&["replay", &ids[0], &none], "0 off the list, 2 failed"),
    ] {
        let (code, output) = run(&world, args).await;
        assert_eq!(code, 1, "{args:?}: {output}");
        assert!(
            output.contains("FAIL") && output.contains(why),
            "{args:?}: {output}"
        );
    }
    assert_eq!(listed(&world).await, ids);
    // One call for each: an operator sees at once that it is not up.
    let before = mended.downstream.received().len();
    mended.mend(|| status(503));
    let (code, output) = run(&world, &["replay", "--all"]).await;
    assert_eq!(code, 1, "{output}");
    assert_eq!(mended.downstream.received().len(), before + 1);
}

#[tokio::test]
async fn a_replay_needs_ids_or_all_and_the_program_to_send_to() {
    let world = forwarding("http://127.0.0.1:1/").start().await;
    for args in [
        &["replay"][..],
        &["replay", "msg_1", "--all"],
        &[],
        &["novel"],
    ] {
        let (code, output) = run(&world, args).await;
        assert_eq!(code, 2, "{args:?}: {output}");
    }
    let without = |name: &str, _: &str| !name.starts_with("FORWARD");
    let (code, output) = run_with(&world, &["replay", "--all"], without).await;
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("FORWARD_URL: is missing"), "{output}");
    let without = |name: &str, _: &str| name != "WECHAT_TOKEN";
    let (code, output) = run_with(&world, &["list"], without).await;
    assert_eq!(code, 2, "{output}");
    let (code, output) = run(&world, &["--help"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("list") && output.contains("replay"),
        "{output}"
    );
}

/// The store of a world, beside its backend.
async fn store_of(world: &World) -> Arc<dyn Store> {
    let metrics = StoreMetrics::register(&prometheus::Registry::new()).unwrap();
    let url = world.settings.database_url.as_deref().unwrap();
    store::open(url, metrics).await.unwrap()
}

#[tokio::test]
async fn of_a_user_who_leaves_the_farewell_alone_stays_on_the_list() {
    let mended = Mended::start().await;
    let world = forwarding(&mended.downstream.url).start().await;
    hears(&world, "a").await;
    hears(&world, "b").await;
    assert_eq!(listed(&world).await.len(), 2);
    let farewell = json!({"MsgType": "event", "Event": "unsubscribe"});
    acts(&world, farewell).await;
    // The other program has to hear of it yet, and forget him too.
    let [_, _, farewell] = &mended.downstream.ids()[..] else {
        panic!("three were forwarded");
    };
    assert_eq!(listed(&world).await, std::slice::from_ref(farewell));
}

#[tokio::test]
async fn a_long_list_is_sent_once_through_in_its_order() {
    let count = AtomicUsize::new(0);
    let downstream = Downstream::start(move |_| {
        // Some fail, so that pages begin behind what stays and behind what went.
        let fails = count.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        async move { if fails { status(500) } else { status(204) } }
    })
    .await;
    let world = forwarding(&downstream.url).start().await;
    let store = store_of(&world).await;
    let (mut ids, hour) = (Vec::new(), Duration::from_secs(3600));
    for number in 0..250 {
        let xml = text_xml(&number.to_string());
        let message = offiaccount::Message::parse(xml.as_bytes()).unwrap();
        let letter = DeadLetter {
            id: offiaccount::forward::WebhookId::of(&message).to_string(),
            open_id: OpenId::parse(message.from.as_str()).unwrap(),
            message: xml,
            reason: "on purpose".into(),
            age: Duration::ZERO,
        };
        store.add_dead_letter(&letter, hour, 1_000).await.unwrap();
        ids.push(letter.id);
    }
    assert_eq!(listed(&world).await, ids);
    let (code, output) = run(&world, &["replay", "--all"]).await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.ends_with("166 off the list, 84 failed\n"),
        "{output}"
    );
    assert_eq!(downstream.ids(), ids);
    let stay: Vec<_> = ids.iter().step_by(3).cloned().collect();
    assert_eq!(listed(&world).await, stay);
    store.close().await;
}

#[tokio::test]
async fn a_secret_is_in_no_output_of_the_commands() {
    let mended = Mended::start().await;
    let url = mended
        .downstream
        .url
        .replace("http://", "http://canary:canary@");
    let world = forwarding(&url).start().await;
    hears(&world, "a").await;
    mended.downstream.stop().await;
    drop(mended);
    for args in [&["list"][..], &["replay", "--all"]] {
        let (_, output) = run(&world, args).await;
        assert!(output.contains("msg_"), "{output}");
        for secret in ["canary", SECRET, TOKEN] {
            assert!(!output.contains(secret), "{output}");
        }
    }
}

#[tokio::test]
async fn while_the_store_is_away_a_dead_letter_is_remembered() {
    let mended = Mended::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("away.db");
    let url = format!("sqlite://{}", file.display());
    let setup = forwarding(&mended.downstream.url);
    let setup = setup.settings(|settings| settings.database_url = Some(url));
    let world = setup.start().await;
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(hears(&world, "a").await, FALLBACK);
    other.execute_batch("ROLLBACK").unwrap();
    let written = async || listed(&world).await == mended.downstream.ids();
    eventually(Duration::from_secs(10), written).await;
}
