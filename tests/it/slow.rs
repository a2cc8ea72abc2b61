//! What becomes of slow answers, a step of the ladder and a rule at a time; and the order of one user's
//! messages. Figures over many of them are in `ladder`.
//!
//! Each case takes as long as the platform does, so those of a test run at the same time.

use std::time::Duration;

use futures_util::future::join_all;
use offiaccount::config::Settings;
use offiaccount::simulator::{Kind, Options};
use serde_json::{Value, json};

use crate::helpers::*;
use crate::instances::{Bubble, Journal, Phones, bot};

const FALLBACK: &str = "抱歉，暂时无法回答，请稍后再试。";
const CUSTOM: &str = "/cgi-bin/message/custom/send";
/// Longer than the three deliveries of a message.
const TOO_LONG_MS: u64 = 16_000;
const TOO_LONG: &str = "wait 16000 #a";

/// A backend with the bot of `instances`, and what it has handled.
struct Scene {
    world: World,
    journal: Journal,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// For an account that may send customer-service messages.
    async fn service() -> Self {
        Self::set(Kind::Service, |_| {}).await
    }

    /// For one that may not.
    async fn unverified() -> Self {
        Self::set(Kind::Unverified, |_| {}).await
    }

    async fn set(kind: Kind, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut setup = Setup::new().bot(bot(Journal::at(&path))).settings(change);
        setup.simulator = Options {
            kind,
            ..setup.simulator
        };
        Self {
            world: setup.start().await,
            journal: Journal::at(&path),
            _folder: folder,
        }
    }

    /// The first fan writes: what becomes of the deliveries.
    async fn write(&self, text: &str) -> Value {
        self.tell(json!({"MsgType": "text", "Content": text})).await
    }

    async fn tell(&self, mut message: Value) -> Value {
        message["openid"] = json!(self.world.fan().await);
        self.world.act(message).await
    }

    async fn happens(&self, event: &str) -> Value {
        let event = json!({"MsgType": "event", "Event": event, "EventKey": "key"});
        self.tell(event).await
    }

    /// What the account has said to the first fan.
    async fn heard(&self) -> Vec<Bubble> {
        let phones = Phones {
            http: self.world.http.clone(),
            sim: self.world.sim.clone(),
        };
        phones.heard(&self.world.fan().await).await
    }

    /// The texts of that.
    async fn shown(&self) -> Vec<String> {
        self.heard()
            .await
            .into_iter()
            .map(|bubble| bubble.shown)
            .collect()
    }

    /// Waits until so many things were said.
    #[track_caller]
    fn hears(&self, number: usize) -> impl Future<Output = Vec<String>> {
        let at = std::panic::Location::caller();
        async move {
            for _ in 0..1_500 {
                let shown = self.shown().await;
                if shown.len() >= number {
                    return shown;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{at}: {:?}", self.shown().await);
        }
    }

    async fn sent(&self) -> usize {
        self.world.calls(CUSTOM).await
    }
}

#[track_caller]
fn expect_attempts(result: &Value, statuses: &[u64]) {
    let attempts = result["attempts"].as_array().unwrap();
    let found: Vec<u64> = attempts
        .iter()
        .map(|attempt| attempt["status"].as_u64().unwrap())
        .collect();
    assert_eq!(found, statuses, "{result}");
    let last = attempts.last().unwrap();
    assert!(last["ms"].as_u64().unwrap() < 4_500, "{result}");
}

async fn after(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test]
async fn a_slow_answer_takes_the_first_step_that_it_can() {
    tokio::join!(
        what_the_third_delivery_can_t_carry_is_sent_and_it_says_thinking(),
        a_handler_that_fails_late_has_its_fallback_said(),
        without_hold_the_first_delivery_is_answered_and_the_answer_sent(),
        without_customer_service_nothing_is_sent_and_the_answer_kept(),
        without_keep_what_can_t_be_sent_is_dropped(),
        with_hold_alone_retries_carry_answers_and_later_ones_are_dropped(),
        with_none_what_is_not_ready_at_once_is_dropped(),
    );
}

async fn what_the_third_delivery_can_t_carry_is_sent_and_it_says_thinking() {
    let scene = Scene::set(Kind::Service, |settings| {
        settings.thinking_text = Some("想一想…".into());
    });
    let scene = scene.await;
    let result = scene.write(TOO_LONG).await;
    expect_attempts(&result, &[0, 0, 200]);
    assert_eq!(result["shown_to_user"], "想一想…", "{result}");
    let shown = scene.hears(2).await;
    assert_eq!(shown, ["想一想…", "waited 16000 #a"]);
    assert!(scene.heard().await[1].is_custom);
    assert_eq!(scene.sent().await, 1);
    for line in [
        "offiaccount_deliveries_total{answer=\"held\"} 2",
        "offiaccount_deliveries_total{answer=\"thinking\"} 1",
        "offiaccount_late_answers_total{step=\"customer_service\"} 1",
    ] {
        // The step is counted once it is written down, after the user has it.
        let is_counted = async || {
            let metrics = scene.world.get("/metrics").await.text().await.unwrap();
            metrics.contains(line)
        };
        eventually(Duration::from_secs(5), is_counted).await;
    }
}

async fn a_handler_that_fails_late_has_its_fallback_said() {
    let (second, later) = (Scene::service().await, Scene::service().await);
    let carried = async {
        let result = second.write("fail after 7000 #a").await;
        expect_attempts(&result, &[0, 200]);
        assert_eq!(result["shown_to_user"], FALLBACK, "{result}");
    };
    let sent = async {
        let result = later.write(&format!("fail after {TOO_LONG_MS} #a")).await;
        expect_attempts(&result, &[0, 0, 200]);
        assert_eq!(later.hears(1).await, [FALLBACK]);
        assert!(later.heard().await[0].is_custom);
    };
    tokio::join!(carried, sent);
}

async fn steps(kind: Kind, slow_answers: &str) -> Scene {
    Scene::set(kind, |settings| {
        settings.slow_answers = Some(slow_answers.to_owned());
    })
    .await
}

async fn without_hold_the_first_delivery_is_answered_and_the_answer_sent() {
    let scene = steps(Kind::Service, "customer_service,keep").await;
    let quick = scene.write("wait 3000 #a").await;
    expect_attempts(&quick, &[200]);
    assert_eq!(quick["shown_to_user"], "waited 3000 #a");
    let slow = scene.write("wait 6000 #b").await;
    expect_attempts(&slow, &[200]);
    assert_eq!(slow["shown_to_user"], "", "{slow}");
    assert_eq!(scene.hears(2).await[1], "waited 6000 #b");
    assert_eq!(scene.sent().await, 1);
}

async fn without_customer_service_nothing_is_sent_and_the_answer_kept() {
    let scene = steps(Kind::Service, "hold,keep").await;
    let result = scene.write(TOO_LONG).await;
    expect_attempts(&result, &[0, 0, 200]);
    after(4_000).await;
    assert_eq!(scene.sent().await, 0);
    scene.write("wait 0 #b").await;
    assert_eq!(scene.shown().await, ["waited 16000 #a\n\nwaited 0 #b"]);
}

async fn without_keep_what_can_t_be_sent_is_dropped() {
    let (may, may_not) = tokio::join!(
        steps(Kind::Service, "hold,customer_service"),
        steps(Kind::Unverified, "hold,customer_service"),
    );
    let slow = format!("wait {TOO_LONG_MS} #a");
    tokio::join!(may.write(&slow), may_not.write(&slow));
    assert_eq!(may.hears(1).await, ["waited 16000 #a"]);
    after(4_000).await;
    assert_eq!(may_not.sent().await, 1, "it was tried");
    for scene in [&may, &may_not] {
        scene.write("wait 0 #b").await;
    }
    assert_eq!(may.shown().await, ["waited 16000 #a", "waited 0 #b"]);
    assert_eq!(may_not.shown().await, ["waited 0 #b"]);
}

async fn with_hold_alone_retries_carry_answers_and_later_ones_are_dropped() {
    let scene = steps(Kind::Service, "hold").await;
    let carried = scene.write("wait 7000 #a").await;
    expect_attempts(&carried, &[0, 200]);
    assert_eq!(carried["shown_to_user"], "waited 7000 #a");
    scene.write(&format!("wait {TOO_LONG_MS} #b")).await;
    after(4_000).await;
    scene.write("wait 0 #c").await;
    assert_eq!(scene.shown().await, ["waited 7000 #a", "waited 0 #c"]);
    assert_eq!(scene.sent().await, 0);
}

async fn with_none_what_is_not_ready_at_once_is_dropped() {
    let scene = steps(Kind::Service, "none").await;
    let result = scene.write("wait 6000 #a").await;
    expect_attempts(&result, &[200]);
    after(4_000).await;
    scene.write("wait 0 #b").await;
    assert_eq!(scene.shown().await, ["waited 0 #b"]);
    assert_eq!(scene.sent().await, 0);
}

#[tokio::test]
async fn what_could_not_be_said_is_kept_for_the_next_message() {
    tokio::join!(
        kept_answers_come_first_in_their_order_and_once(),
        kept_answers_wait_for_a_gesture_that_is_answered(),
        a_long_text_is_said_in_parts_by_customer_service(),
        a_long_text_is_said_in_parts_with_the_next_messages(),
        after_unsubscribe_nothing_is_sent(),
        after_unsubscribe_no_retry_carries_an_answer(),
        after_unsubscribe_nothing_is_kept(),
    );
}

async fn kept_answers_come_first_in_their_order_and_once() {
    let scene = Scene::unverified().await;
    let first = scene.write(TOO_LONG);
    let second = async {
        after(200).await;
        scene.write("wait 100 #b").await
    };
    let (first, second) = tokio::join!(first, second);
    expect_attempts(&first, &[0, 0, 200]);
    expect_attempts(&second, &[0, 0, 200]);
    after(4_000).await;
    assert!(scene.heard().await.is_empty());
    scene.write("wait 0 #c").await;
    scene.write("wait 0 #d").await;
    let all = "waited 16000 #a\n\nwaited 100 #b\n\nwaited 0 #c";
    assert_eq!(scene.shown().await, [all, "waited 0 #d"]);
}

async fn kept_answers_wait_for_a_gesture_that_is_answered() {
    let scene = steps(Kind::Unverified, "keep").await;
    scene.write("wait 5000 #a").await;
    after(3_000).await;
    // Of a page that he opens he sees no answer.
    scene.happens("VIEW").await;
    scene.happens("LOCATION").await;
    assert!(scene.heard().await.is_empty());
    let tapped = scene.happens("CLICK").await;
    assert_eq!(tapped["shown_to_user"], "waited 5000 #a", "{tapped}");
    // Another one: the same in the same second would be a retry.
    after(1_100).await;
    scene.happens("CLICK").await;
    assert_eq!(scene.shown().await, ["waited 5000 #a"]);
}

fn expect_whole(parts: &[String], characters: usize) {
    assert!(parts.iter().all(|part| part.len() <= 2_048), "{parts:?}");
    assert_eq!(parts.concat(), format!("{} #a", "长".repeat(characters)));
}

async fn a_long_text_is_said_in_parts_by_customer_service() {
    let scene = Scene::service().await;
    scene.write("long 1500 #a").await;
    let parts = scene.hears(3).await;
    expect_whole(&parts, 1_500);
    let heard = scene.heard().await;
    let sent: Vec<bool> = heard.iter().map(|bubble| bubble.is_custom).collect();
    assert_eq!(sent, [false, true, true]);
    scene.write("wait 0 #b").await;
    assert_eq!(scene.shown().await[3], "waited 0 #b");
}

async fn a_long_text_is_said_in_parts_with_the_next_messages() {
    let scene = Scene::unverified().await;
    scene.write("long 1500 #a").await;
    after(3_000).await;
    for tag in ["#b", "#c", "#d"] {
        scene.write(&format!("wait 0 {tag}")).await;
    }
    let mut parts = scene.shown().await;
    assert_eq!(parts.len(), 4, "{parts:?}");
    assert_eq!(parts.pop().unwrap(), "waited 0 #d");
    // Two parts were kept. The second holds little, so what came after it fits.
    let last = parts[2]
        .strip_suffix("\n\nwaited 0 #b\n\nwaited 0 #c")
        .unwrap();
    parts[2] = last.to_owned();
    expect_whole(&parts, 1_500);
}

async fn after_unsubscribe_nothing_is_sent() {
    let scene = Scene::service().await;
    let farewell = async {
        after(1_000).await;
        scene.happens("unsubscribe").await
    };
    tokio::join!(scene.write(TOO_LONG), farewell);
    after(6_000).await;
    assert_eq!(scene.journal.read()["a"].ended, 1);
    assert!(scene.heard().await.is_empty(), "{:?}", scene.heard().await);
    assert_eq!(scene.sent().await, 0);
}

async fn after_unsubscribe_no_retry_carries_an_answer() {
    let scene = Scene::service().await;
    let farewell = async {
        after(1_000).await;
        scene.happens("unsubscribe").await
    };
    tokio::join!(scene.write("wait 7000 #a"), farewell);
    after(1_000).await;
    assert!(scene.heard().await.is_empty(), "{:?}", scene.heard().await);
    assert_eq!(scene.sent().await, 0);
}

async fn after_unsubscribe_nothing_is_kept() {
    let scene = steps(Kind::Unverified, "keep").await;
    scene.write("wait 5000 #a").await;
    after(3_000).await;
    scene.happens("unsubscribe").await;
    scene.happens("subscribe").await;
    scene.write("wait 0 #b").await;
    assert_eq!(scene.shown().await, ["waited 0 #b"]);
}

#[tokio::test]
async fn messages_of_a_user_are_handled_in_order() {
    tokio::join!(
        those_behind_a_slow_one_are_answered_in_order_on_their_own_ladders(),
        those_behind_a_very_slow_one_are_sent_in_order(),
        more_than_twenty_that_wait_are_shed(),
        a_handler_that_panics_holds_up_nothing(),
    );
}

const TAGS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The fan writes five messages quickly. The first takes so long.
async fn five(scene: &Scene, first_takes: u64) -> Vec<Value> {
    let writing = (0..).zip(TAGS).map(|(place, tag)| async move {
        after(100 * place).await;
        let takes = if place == 0 { first_takes } else { 0 };
        scene.write(&format!("wait {takes} #{tag}")).await
    });
    let others = async {
        for n in 0..5 {
            after(500).await;
            let fan = format!("oOther{n:022}");
            let message = json!({"openid": fan, "MsgType": "text", "Content": "wait 0 #x"});
            let result = scene.world.act(message).await;
            expect_attempts(&result, &[200]);
            assert!(
                result["attempts"][0]["ms"].as_u64().unwrap() < 1_000,
                "{result}"
            );
        }
    };
    tokio::join!(join_all(writing), others).0
}

fn order(scene: &Scene) -> Vec<String> {
    let mut order = scene.journal.order();
    order.retain(|tag| tag != "x");
    order
}

fn tags(heard: &[Bubble]) -> Vec<&str> {
    heard.iter().flat_map(Bubble::tags).collect()
}

async fn those_behind_a_slow_one_are_answered_in_order_on_their_own_ladders() {
    let scene = Scene::service().await;
    for result in five(&scene, 7_000).await {
        expect_attempts(&result, &[0, 200]);
    }
    assert_eq!(order(&scene), TAGS);
    assert_eq!(tags(&scene.heard().await), TAGS);
}

async fn those_behind_a_very_slow_one_are_sent_in_order() {
    let scene = Scene::service().await;
    for result in five(&scene, TOO_LONG_MS).await {
        expect_attempts(&result, &[0, 0, 200]);
    }
    scene.hears(5).await;
    assert_eq!(order(&scene), TAGS);
    let heard = scene.heard().await;
    assert_eq!(tags(&heard), TAGS, "{heard:?}");
}

async fn more_than_twenty_that_wait_are_shed() {
    let scene = Scene::service().await;
    let all = 26;
    let writing = (0..all).map(|place| {
        let scene = &scene;
        async move {
            after(40 * place).await;
            let takes = if place == 0 { 7_000 } else { 0 };
            scene.write(&format!("wait {takes} #{place}")).await
        }
    });
    let results = join_all(writing).await;
    let (taken, shed) = results.split_at(21);
    for result in taken {
        expect_attempts(result, &[0, 200]);
    }
    for result in shed {
        expect_attempts(result, &[503, 503, 503]);
    }
    let in_order: Vec<String> = (0..21).map(|place: usize| place.to_string()).collect();
    assert_eq!(order(&scene), in_order);
    assert_eq!(tags(&scene.heard().await), in_order);
    // Nothing of it was noted: written again it is answered.
    let again = scene.write("wait 0 #again").await;
    assert_eq!(again["shown_to_user"], "waited 0 #again");
}

async fn a_handler_that_panics_holds_up_nothing() {
    let scene = Scene::service().await;
    let writing = (0..)
        .zip(["wait 1000 #a", "panic #b", "wait 0 #c"])
        .map(|(place, text)| {
            let scene = &scene;
            async move {
                after(100 * place).await;
                scene.write(text).await
            }
        });
    for result in join_all(writing).await {
        expect_attempts(&result, &[200]);
    }
    assert_eq!(scene.shown().await, ["waited 1000 #a", "waited 0 #c"]);
    after(5_000).await;
    assert_eq!(order(&scene), ["a", "b", "c"], "nothing is handled again");
}
