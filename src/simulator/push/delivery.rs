//! A delivery with all its tries, and what the fan sees in the end.

use std::time::Instant;

use serde_json::{Value, json};

use super::attempt::{Route, deliver};
use super::message::Message;
use super::reply::{self, Failure, Verdict};
use crate::simulator::World;
use crate::simulator::platform::Platform;

/// Deliveries of one message in all.
const ATTEMPTS: usize = 3;
/// What the fan's phone shows when the account did not answer as it should.
const FAILURE_LINE: &str = "该公众号提供的服务出现故障，请稍后再试";

/// What all tries of one message came to.
pub(super) struct Delivered {
    run: Run,
    pub(super) attempts: Vec<Value>,
    /// From the beginning of the first try to the end of the last.
    took_ms: i64,
    pub(super) reply: Value,
    /// The XML of the reply, decrypted.
    pub(super) clear_reply: Option<String>,
    pub(super) shown: String,
    pub(super) failure: Option<Failure>,
}

impl Delivered {
    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({
            "attempts": self.attempts,
            "reply": self.reply,
            "shown_to_user": self.shown,
        });
        if let Some(failure) = &self.failure {
            json["failure"] = json!(failure.why);
        }
        json
    }

    /// From under way to over.
    pub(super) fn keep(self, platform: &mut Platform) {
        // A reset has taken everything away meanwhile.
        let Some(mut record) = self.run.end(platform) else {
            return;
        };
        if self.reply.is_object() {
            record["answered"] = json!({"delivery": self.attempts.len(), "after_ms": self.took_ms});
        }
        record["reply"] = self.reply;
        record["reply_xml"] = json!(self.clear_reply);
        record["shown_to_user"] = json!(self.shown);
        if let Some(failure) = self.failure {
            record["failure"] = json!(failure.why);
            record["failure_topic"] = json!(failure.topic);
        }
        platform.pushes.push(record);
    }
}

/// Up to three tries, and what the fan sees of the answer.
pub(super) async fn deliver_until_answered(
    world: &World,
    route: &Route,
    message: &Message,
) -> Delivered {
    let run = {
        let mut record = message.record();
        record["running"] = json!(true);
        Run::begin(&mut world.platform(), record)
    };
    let mut attempts = Vec::new();
    let began = Instant::now();
    let mut verdict = None;
    let mut last_topic = "";
    while verdict.is_none() && attempts.len() < ATTEMPTS {
        let attempt = deliver(world, route, message).await;
        let mut record = attempt.record();
        if attempt.status == 200 {
            let judged = reply::judge(
                &attempt.body,
                message,
                &route.account,
                route.cipher.as_ref(),
            );
            match &judged {
                Verdict::Reply { .. } => record["answer"] = json!("reply"),
                Verdict::Silence => record["answer"] = json!("nothing"),
                Verdict::Failure(failure) => record["topic"] = json!(failure.topic),
            }
            verdict = Some(judged);
        }
        last_topic = attempt.topic().unwrap_or_default();
        run.note(&mut world.platform(), record);
        attempts.push(attempt.to_json());
    }

    let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let no_answer = || {
        Verdict::Failure(Failure {
            topic: last_topic,
            why: "no delivery was answered with status 200".to_owned(),
        })
    };
    let mut clear_reply = None;
    let (reply, shown, failure) = match verdict.unwrap_or_else(no_answer) {
        Verdict::Silence => (Value::Null, String::new(), None),
        Verdict::Reply { json, shown, clear } => {
            clear_reply = Some(clear);
            // Without a chat in which it could stand the phone drops it.
            let is_shown = message.takes_reply();
            (json, if is_shown { shown } else { String::new() }, None)
        }
        Verdict::Failure(failure) if message.takes_reply() => {
            (Value::Null, FAILURE_LINE.to_owned(), Some(failure))
        }
        Verdict::Failure(failure) => (Value::Null, String::new(), Some(failure)),
    };
    Delivered {
        run,
        attempts,
        took_ms,
        reply,
        clear_reply,
        shown,
        failure,
    }
}

/// The place of a delivery among those under way.
struct Run {
    id: u64,
    resets: u64,
}

impl Run {
    fn begin(platform: &mut Platform, record: Value) -> Self {
        Self {
            id: platform.under_way.push(record),
            resets: platform.resets,
        }
    }

    fn note(&self, platform: &mut Platform, attempt: Value) {
        if self.resets == platform.resets {
            platform.under_way.update(self.id, |record| {
                if let Some(attempts) = record["attempts"].as_array_mut() {
                    attempts.push(attempt);
                }
            });
        }
    }

    fn end(&self, platform: &mut Platform) -> Option<Value> {
        let is_mine = self.resets == platform.resets;
        let mut record = is_mine.then(|| platform.under_way.take(self.id))??;
        record["running"] = json!(false);
        record["run"] = record["id"].take();
        Some(record)
    }
}
