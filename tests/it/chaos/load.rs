//! The fans: many of them, who write at a steady rate, whatever happens to the instances.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::helpers::control;
use crate::instances::{Phones, unix_ms};

/// Messages of one fan that are being delivered at the same time.
const UNDER_WAY: usize = 3;

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) fans: usize,
    /// Messages per second.
    pub(crate) rate: f64,
    /// No fewer than this.
    pub(crate) messages: usize,
}

/// A message, and what the platform made of it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) fan: usize,
    pub(crate) tag: String,
    /// It counts in the fan's session.
    pub(crate) counts: bool,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    /// Status (0: none) and time of each delivery, in milliseconds.
    pub(crate) attempts: Vec<(u64, u64)>,
    /// What the fan's phone showed in answer to a delivery.
    pub(crate) shown: String,
    pub(crate) is_given_up: bool,
}

pub(crate) fn open_id(fan: usize) -> String {
    format!("oFan{fan:024}")
}

/// Has fans write until there are enough messages and `is_over`. Returns when all are delivered.
pub(crate) async fn write(
    phones: Phones,
    load: Load,
    seed: u64,
    is_over: CancellationToken,
) -> Vec<Sent> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut deliveries = JoinSet::new();
    let mut under_way: HashMap<usize, usize> = HashMap::new();
    let mut all = Vec::new();
    let mut take = |done: Sent, under_way: &mut HashMap<usize, usize>| {
        *under_way.entry(done.fan).or_default() -= 1;
        all.push(done);
    };
    let mut number = 0;
    let mut next = tokio::time::Instant::now();
    while number < load.messages || !is_over.is_cancelled() {
        // Steady on the whole: who was held up writes faster then.
        next += Duration::from_secs_f64(rng.random_range(0.0..2.0) / load.rate);
        tokio::time::sleep_until(next).await;
        while let Some(done) = deliveries.try_join_next() {
            take(done.unwrap(), &mut under_way);
        }
        let fan = rng.random_range(0..load.fans);
        let (kind, takes) = (rng.random_range(0..10), takes(&mut rng));
        let his = under_way.entry(fan).or_default();
        if *his >= UNDER_WAY {
            continue;
        }
        *his += 1;
        number += 1;
        let (tag, counts) = (format!("f{fan}m{number}"), (1..5).contains(&kind));
        let command = if counts { "count after" } else { "wait" };
        let command = format!("{command} {takes} #{tag}");
        let fan_id = open_id(fan);
        let message = if kind == 0 {
            json!({"openid": fan_id, "MsgType": "event", "Event": "CLICK", "EventKey": command})
        } else {
            json!({"openid": fan_id, "MsgType": "text", "Content": command})
        };
        let phones = phones.clone();
        deliveries.spawn(async move {
            let from_ms = unix_ms();
            let result = control(&phones.http, &phones.sim, "send", Some(message)).await;
            Sent::of(fan, tag, counts, from_ms, &result)
        });
    }
    while let Some(done) = deliveries.join_next().await {
        take(done.unwrap(), &mut under_way);
    }
    all
}

/// How long the handler takes, in milliseconds.
fn takes(rng: &mut StdRng) -> u64 {
    match rng.random_range(0..20) {
        0 => rng.random_range(4_000..7_000),
        1..4 => rng.random_range(1_000..4_000),
        4 => rng.random_range(300..1_000),
        _ => rng.random_range(0..300),
    }
}

impl Sent {
    fn of(fan: usize, tag: String, counts: bool, from_ms: u64, result: &Value) -> Self {
        let attempts = result["attempts"].as_array().unwrap().iter();
        let number = |value: &Value| value.as_u64().unwrap();
        Self {
            fan,
            tag,
            counts,
            from_ms,
            to_ms: unix_ms(),
            attempts: attempts
                .map(|attempt| (number(&attempt["status"]), number(&attempt["ms"])))
                .collect(),
            shown: result["shown_to_user"].as_str().unwrap().to_owned(),
            is_given_up: !result["failure"].is_null(),
        }
    }
}
