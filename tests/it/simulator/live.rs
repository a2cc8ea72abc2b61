//! `/_sim/events`: what changed, as it happens, for as many pages as are open.

use std::time::Duration;

use offiaccount::simulator::{Options, Simulator};
use reqwest::Response;
use serde_json::{Value, json};

use super::world::{Answer, Callback, World};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// One reader of the stream.
struct Reader {
    response: Response,
    text: String,
}

impl Reader {
    async fn open(world: &World) -> Self {
        let request = world.client.get(format!("{}/_sim/events", world.url));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "text/event-stream; charset=utf-8"
        );
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event of the kind `revision`; none at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let event = data.map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk());
            let chunk = chunk.await.expect("an event in time").unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// Reads on until an event fits.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if fits(&event) {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn a_reader_is_told_where_things_are_and_then_of_each_change() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let mut reader = Reader::open(&world).await;
    let first = reader.next().await.unwrap();
    assert_eq!(first, world.get("/_sim/revision").await);

    world.say("x").await;
    let told = reader
        .until(|event| event["pushes"] == world_pushes(&first, 3))
        .await;
    assert_eq!(told["chat"], first["chat"].as_u64().unwrap() + 1);
    assert_eq!(told["requests"], first["requests"]);

    world.token().await;
    reader
        .until(|event| event["requests"] != first["requests"])
        .await;
    world.advance(60).await;
    reader
        .until(|event| event["settings"].as_u64() > told["settings"].as_u64())
        .await;
    world.post("/_sim/reset", &Value::Null).await;
    let after = reader.until(|event| event["resets"] == 1).await;
    assert_eq!(after["chat"], 0);
}

/// A delivery begins, has one answer and ends: three steps of `pushes`, and one for its place among
/// those that are over.
fn world_pushes(first: &Value, steps: u64) -> u64 {
    first["pushes"].as_u64().unwrap() + steps + 1
}

#[tokio::test]
async fn looking_changes_nothing() {
    let world = World::start().await;
    let before = world.get("/_sim/revision").await;
    for path in [
        "fans", "account", "pushes", "requests", "tokens", "clock", "oauth",
    ] {
        world.get(&format!("/_sim/{path}")).await;
    }
    assert_eq!(world.get("/_sim/revision").await, before);
}

#[tokio::test]
async fn a_delivery_is_seen_while_it_is_under_way() {
    let slow = Answer::after(Duration::from_millis(700), "success");
    let callback = Callback::answering([slow]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let mut reader = Reader::open(&world).await;
    let first = reader.next().await.unwrap();
    let fan = world.fan().await;
    let message = json!({"openid": fan, "MsgType": "text", "Content": "x"});
    let (_, under_way) = tokio::join!(world.post("/_sim/send", &message), async {
        reader
            .until(|event| event["pushes"] != first["pushes"])
            .await;
        world.get("/_sim/pushes?under_way=1").await
    });
    assert_eq!(under_way[0]["running"], true);
    assert_eq!(under_way[0]["message"]["Content"], "x");
    let over = world.get("/_sim/pushes?under_way=1").await;
    assert_eq!(over.as_array().unwrap().len(), 1);
    assert_eq!(over[0]["running"], false);
    assert_eq!(over[0]["run"], under_way[0]["id"]);
    assert_eq!(over[0]["attempts"][0]["status"], 200);
}

#[tokio::test]
async fn readers_that_read_nothing_hold_nobody_up() {
    let callback = Callback::answering(["success"]).await;
    let world = World::delivering_to(&callback, "plain").await;
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(Reader::open(&world).await);
    }
    let mut reader = Reader::open(&world).await;
    let say_much = async {
        for _ in 0..100 {
            world.say(&"x".repeat(1000)).await;
        }
    };
    tokio::time::timeout(PATIENCE, say_much)
        .await
        .expect("in time");
    reader.until(|event| event["chat"] == 100).await;
}

#[tokio::test]
async fn more_readers_than_there_are_places_are_refused_until_one_goes() {
    let world = World::start().await;
    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(Reader::open(&world).await);
    }
    let (status, answer) = world.send("GET", "/_sim/events", &Value::Null).await;
    assert_eq!(status, 503);
    assert!(answer["error"].as_str().unwrap().contains("too many"));
    // They ask instead.
    world.get("/_sim/revision").await;
    drop(readers);
    let freed = async {
        loop {
            // Who has gone is noticed when there is something to tell.
            world.advance(1).await;
            let request = world.client.get(format!("{}/_sim/events", world.url));
            if request.send().await.unwrap().status() == 200 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, freed)
        .await
        .expect("a place");
}

#[tokio::test]
async fn a_foreign_page_cannot_listen() {
    let world = World::start().await;
    let request = world.client.get(format!("{}/_sim/events", world.url));
    let request = request.header("origin", "https://evil.test");
    assert_eq!(request.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn an_open_stream_ends_when_the_simulator_stops() {
    let simulator = Simulator::build(Options {
        listen: "127.0.0.1:0".to_owned(),
        ..Options::default()
    })
    .unwrap();
    let url = format!("{}/_sim/events", simulator.url());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(simulator.run_until(async { drop(stopped.await) }));
    let mut response = reqwest::get(url).await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    stop.send(()).unwrap();
    // A proper end, not a connection that is cut.
    let end = tokio::time::timeout(PATIENCE, response.chunk())
        .await
        .unwrap();
    assert_eq!(end.unwrap(), None);
    running.await.unwrap().unwrap();
}
