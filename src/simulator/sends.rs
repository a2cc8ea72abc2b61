//! Customer-service messages as the backend asked for them, sent or refused, and the deliveries that
//! they came after.
//!
//! A message names its receiver and not the one that it answers. So it stands with every delivery of his
//! that was still open when it came: with the last one, and with those before it that had nothing yet.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use super::platform::Platform;

/// Messages kept for one fan.
const REMEMBERED: usize = 100;

/// One call.
#[derive(Debug)]
struct Send {
    /// In the machine's milliseconds, like a delivery's.
    at: i64,
    shown: String,
    /// None where an ordered fault answered with none.
    errcode: Option<i64>,
}

/// All calls, by the fan.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    by_fan: HashMap<String, VecDeque<Send>>,
    revision: u64,
}

impl Sends {
    /// Notes a call, however it ended.
    pub(crate) fn note(&mut self, at: i64, to: &str, shown: String, errcode: Option<i64>) {
        let sends = self.by_fan.entry(to.to_owned()).or_default();
        if sends.len() >= REMEMBERED {
            sends.pop_front();
        }
        sends.push_back(Send { at, shown, errcode });
        self.revision += 1;
    }

    /// Grows with each call.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }
}

/// A delivery, as far as it matters here.
struct Step {
    began_at: i64,
    /// Its place among those of the same millisecond.
    run: u64,
    /// When it had its reply, if it had one.
    replied_at: Option<i64>,
    /// It has all it is to have: a reply, or at once the word that there is none.
    is_settled: bool,
}

impl Step {
    fn of(push: &Value) -> Self {
        let attempts = push["attempts"].as_array().map_or(&[][..], Vec::as_slice);
        let number = |value: &Value| value.as_i64().unwrap_or_default();
        let ended = attempts
            .last()
            .map(|last| number(&last["at"]) + number(&last["ms"]));
        let has_reply = push["reply"].is_object();
        let is_over = push["running"] == false;
        Self {
            began_at: number(&push["at"]),
            run: push["run"].as_u64().or(push["id"].as_u64()).unwrap_or(0),
            replied_at: ended.filter(|_| has_reply),
            is_settled: has_reply || (is_over && attempts.len() == 1 && push["failure"].is_null()),
        }
    }
}

/// Gives each of the deliveries the messages that came after it, as `customer_service`.
pub(crate) fn follow(platform: &Platform, pushes: &mut [Value]) {
    let mut steps: HashMap<&str, Vec<Step>> = HashMap::new();
    let all = platform.under_way.iter().chain(platform.pushes.iter());
    for push in all {
        if let Some(fan) = push["openid"].as_str()
            && platform.sends.by_fan.contains_key(fan)
        {
            steps.entry(fan).or_default().push(Step::of(push));
        }
    }
    for steps in steps.values_mut() {
        steps.sort_by_key(|step| (step.began_at, step.run));
    }
    for push in pushes {
        let fan = push["openid"].as_str().unwrap_or_default();
        let sends = platform.sends.by_fan.get(fan);
        let steps = steps.get(fan).map_or(&[][..], Vec::as_slice);
        let after = sends.map_or_else(Vec::new, |sends| after(&Step::of(push), steps, sends));
        push["customer_service"] = json!(after);
    }
}

/// The messages that came while a delivery was open.
fn after(push: &Step, steps: &[Step], sends: &VecDeque<Send>) -> Vec<Value> {
    let place = (push.began_at, push.run);
    let later = steps
        .iter()
        .filter(|step| (step.began_at, step.run) > place);
    let closes = later.filter_map(|step| {
        let mut before = sends.iter().filter(|send| send.at < step.began_at);
        let has_got = before.any(|send| push.began_at <= send.at && send.errcode == Some(0));
        if push.is_settled || has_got {
            return Some(step.began_at);
        }
        // An answer that was kept may stand in this one.
        step.replied_at
    });
    let until = closes.min().unwrap_or(i64::MAX);
    let open = sends
        .iter()
        .filter(|send| push.began_at <= send.at && send.at < until);
    open.map(|send| {
        json!({
            "at": send.at,
            "after_ms": send.at - push.began_at,
            "shown": send.shown,
            "errcode": send.errcode,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A delivery of so many attempts that began at `at` and was over at `ended`.
    fn push(at: i64, attempts: i64, ended: i64, reply: Option<&str>) -> Step {
        let attempt = |n| json!({"at": at + n, "ms": ended - at - n});
        Step::of(&json!({
            "at": at, "run": at, "running": false,
            "attempts": (0..attempts).map(attempt).collect::<Vec<_>>(),
            "reply": reply.map(|text| json!({"MsgType": "text", "Content": text})),
        }))
    }

    fn sends(calls: &[(i64, i64)]) -> VecDeque<Send> {
        let send = |(at, errcode): &(i64, i64)| Send {
            at: *at,
            shown: at.to_string(),
            errcode: Some(*errcode),
        };
        calls.iter().map(send).collect()
    }

    /// What stands with each of the deliveries.
    #[track_caller]
    fn check(steps: &[Step], calls: &[(i64, i64)], expected: &[&[i64]]) {
        let calls = sends(calls);
        for (step, expected) in steps.iter().zip(expected) {
            let after = after(step, steps, &calls);
            let found: Vec<_> = after
                .iter()
                .map(|send| send["at"].as_i64().unwrap())
                .collect();
            assert_eq!(found, *expected, "after the delivery at {}", step.began_at);
        }
    }

    #[test]
    fn a_message_stands_with_the_delivery_that_it_came_after() {
        let slow = |at| push(at, 3, at + 15_000, None);
        check(&[slow(1_000)], &[(500, 0), (31_000, 0)], &[&[31_000]]);
        // Refused and tried again, twice.
        let calls = [(31_000, 40001), (31_010, 0), (32_000, 0)];
        check(&[slow(1_000)], &calls, &[&[31_000, 31_010, 32_000]]);
        // The first has its message when the second begins.
        let steps = [slow(1_000), slow(60_000)];
        check(&steps, &[(31_000, 0), (90_000, 0)], &[&[31_000], &[90_000]]);
    }

    #[test]
    fn a_message_that_two_deliveries_wait_for_stands_with_both() {
        let steps = [push(1_000, 3, 16_000, None), push(5_000, 3, 20_000, None)];
        let both: &[i64] = &[31_000, 32_000];
        check(&steps, &[(31_000, 0), (32_000, 0)], &[both, both]);
    }

    #[test]
    fn a_later_reply_closes_what_waited_before_it() {
        let steps = [
            push(1_000, 3, 16_000, None),
            push(20_000, 1, 20_100, Some("kept, and new")),
            push(40_000, 3, 55_000, None),
        ];
        check(
            &steps,
            &[(17_000, 48001), (60_000, 0)],
            &[&[17_000], &[], &[60_000]],
        );
    }

    #[test]
    fn a_delivery_that_was_answered_has_what_came_until_the_next() {
        let thinking = push(1_000, 3, 15_000, Some("稍等"));
        let silent = push(50_000, 1, 50_010, None);
        let steps = [thinking, silent, push(60_000, 3, 75_000, None)];
        check(
            &steps,
            &[(31_000, 0), (80_000, 0)],
            &[&[31_000], &[], &[80_000]],
        );
    }
}
