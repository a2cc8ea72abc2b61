//! `kill -9` of instances that are handling messages, at random moments, again and again: no message is
//! lost, and what is written with the ledger's entry is written once. The same for instances that stand
//! still until others have taken over, and for a store that is away for some seconds.
//!
//! - `OFFIACCOUNT_TEST_KILLS=100` kills so often on each kind of store, where by default it is a few
//!   times. A hundred take some three minutes.
//! - `OFFIACCOUNT_TEST_SEED=N` repeats the choices of the run that has printed it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use offiaccount::simulator::{Kind, Mode};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::instances::{Bubble, Cluster, Database, Journal, Phones, Plan};

/// Fans who write at the same time.
const FANS: usize = 10;
/// Messages of one fan that are not handled yet: fewer than may wait.
const UNDER_WAY: usize = 4;
/// After the last kill every answer is there within this time: deliveries, the leases of the dead, what
/// is overdue, and what was being sent.
const SETTLED: Duration = Duration::from_secs(60);

/// What befalls a cluster while something is being handled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    /// `kill -9` of the instance that does, and it is started again at once.
    Kill,
    /// It stands still for longer than its leases last, and goes on as if nothing had happened.
    Freeze,
    /// The store is away for some seconds.
    Outage,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_when_the_only_instance_is_killed_on_sqlite() {
    survive(Blow::Kill, Database::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_when_instances_are_killed_on_mongodb() {
    survive(Blow::Kill, Database::Mongodb, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stood_still_writes_over_nothing_on_sqlite() {
    survive(Blow::Freeze, Database::Sqlite, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stood_still_writes_over_nothing_on_mongodb() {
    survive(Blow::Freeze, Database::Mongodb, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_while_sqlite_is_locked() {
    survive(Blow::Outage, Database::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_while_mongodb_stands_still() {
    survive(Blow::Outage, Database::OwnMongodb, 3).await;
}

pub(crate) fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

async fn survive(blow: Blow, database: Database, instances: usize) {
    let kills = number("OFFIACCOUNT_TEST_KILLS").unwrap_or(5);
    let blows = match blow {
        Blow::Kill => kills,
        Blow::Freeze | Blow::Outage => kills.div_ceil(5),
    };
    let seed = number("OFFIACCOUNT_TEST_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("OFFIACCOUNT_TEST_SEED={seed}");
    let plan = Plan {
        database,
        instances,
        mode: Mode::Plain,
        kind: Kind::Service,
        settings: vec![],
        // With one instance what finds nobody waits for the next process, as behind a proxy that queues.
        is_patient: instances == 1,
    };
    let mut cluster = Cluster::start(plan).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for fan in 0..FANS {
        let writer = Writer {
            phones: cluster.phones.clone(),
            journal: cluster.journal.again(),
            fan,
            is_over: Arc::clone(&is_over),
        };
        let rng = StdRng::seed_from_u64(seed + 1 + fan as u64);
        writers.spawn(writer.write(rng));
    }
    strike(&mut cluster, blow, blows, StdRng::seed_from_u64(seed)).await;
    is_over.store(true, Ordering::Relaxed);
    let written: Vec<Written> = writers.join_all().await.into_iter().flatten().collect();
    let heard = hear_all(&cluster, &written).await;
    let figures = Figures::of(&cluster, &written, &heard);
    eprintln!("{database:?}, {blows} times {blow:?}: {figures:#?}");
    assert_eq!(figures.lost, [""; 0], "no message is lost");
    for fan in 0..FANS {
        let his = written.iter().filter(|message| message.fan == fan);
        let next = his.filter(|message| message.counts).count() + 1;
        let result = cluster
            .phones
            .write(&open_id(fan), "count after 0 #last")
            .await;
        let shown = result["shown_to_user"].as_str().unwrap();
        assert!(
            shown.contains(&format!("count {next} #last")),
            "{fan}: {next}, {result}"
        );
    }
    assert_eq!(figures.miscounted, [""; 0], "each counts once");
    let doubled = figures.doubled.len();
    if blow == Blow::Outage && instances > 1 {
        // While the store is away, each instance that a delivery reaches answers from its own memory, and
        // none hears which answers the others have given.
        let doubled = doubled + figures.doubled_counts.len();
        assert!(doubled <= 1 + written.len() / 20, "{figures:#?}");
        return;
    }
    assert_eq!(
        figures.doubled_counts, [""; 0],
        "what was written first is said once"
    );
    // What goes out before it is written, and what was sent and not noted, is said again by the heir of
    // who died in between: that is a matter of a few milliseconds.
    assert!(doubled as u64 <= 1 + blows / 10, "{:?}", figures.doubled);
}

/// Strikes instances that are handling something, one after the other.
async fn strike(cluster: &mut Cluster, blow: Blow, blows: u64, mut rng: StdRng) {
    for _ in 0..blows {
        let most = if rng.random() { 500 } else { 2_500 };
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..most))).await;
        let victim = loop {
            let handlings = cluster.journal.read();
            let busy: BTreeSet<u32> = handlings
                .values()
                .filter(|handling| handling.ended < handling.begun.len())
                .filter_map(|handling| handling.begun.last().copied())
                .collect();
            let is_busy = |at: &usize| {
                let pid = cluster.instances[*at].pid();
                pid.is_some_and(|pid| busy.contains(&pid))
            };
            let victims: Vec<usize> = (0..cluster.instances.len()).filter(is_busy).collect();
            if !victims.is_empty() {
                break victims[rng.random_range(0..victims.len())];
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let instance = &mut cluster.instances[victim];
        match blow {
            Blow::Kill => {
                instance.kill();
                instance.start();
                instance.listens().await;
            }
            Blow::Freeze => {
                instance.signal("STOP");
                tokio::time::sleep(Duration::from_millis(rng.random_range(4_200..6_500))).await;
                instance.signal("CONT");
            }
            Blow::Outage => {
                let duration = Duration::from_millis(rng.random_range(700..4_000));
                let _absence = cluster.store.take_away();
                tokio::time::sleep(duration).await;
            }
        }
    }
}

/// A message, and what the platform made of it.
struct Written {
    fan: usize,
    tag: String,
    counts: bool,
    result: Value,
}

fn open_id(fan: usize) -> String {
    format!("oFan{fan:024}")
}

/// A fan who writes and writes.
struct Writer {
    phones: Phones,
    journal: Journal,
    fan: usize,
    is_over: Arc<AtomicBool>,
}

impl Writer {
    async fn write(self, mut rng: StdRng) -> Vec<Written> {
        let mut messages = JoinSet::new();
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(rng.random_range(20..900))).await;
            if self.under_way(number) >= UNDER_WAY {
                continue;
            }
            number += 1;
            let takes = match rng.random_range(0..10) {
                0 => rng.random_range(1_500..3_000),
                1..3 => rng.random_range(400..1_500),
                _ => rng.random_range(50..400),
            };
            let counts = rng.random_bool(0.6);
            let command = if counts { "count after" } else { "wait" };
            let (fan, tag) = (self.fan, self.tag(number));
            let text = format!("{command} {takes} #{tag}");
            let phones = self.phones.clone();
            messages.spawn(async move {
                let result = phones.write(&open_id(fan), &text).await;
                Written {
                    fan,
                    tag,
                    counts,
                    result,
                }
            });
        }
        messages.join_all().await
    }

    fn tag(&self, number: usize) -> String {
        format!("f{}m{number}", self.fan)
    }

    /// How many of his first messages were not handled yet. The platform may have given them up.
    fn under_way(&self, number: usize) -> usize {
        let handlings = self.journal.read();
        let is_handled = |tag| {
            handlings
                .get(&tag)
                .is_some_and(|handling| handling.ended > 0)
        };
        let tags = (1..=number).map(|number| self.tag(number));
        tags.filter(|tag| !is_handled(tag.clone())).count()
    }
}

/// What each fan has heard in the end: late answers are waited for, and those that were kept are given
/// with one more message.
async fn hear_all(cluster: &Cluster, written: &[Written]) -> HashMap<usize, Vec<Bubble>> {
    let until = Instant::now() + SETTLED;
    let mut heard = HashMap::new();
    for round in 0.. {
        let mut is_whole = true;
        for fan in 0..FANS {
            let bubbles = cluster.phones.heard(&open_id(fan)).await;
            let tags: BTreeSet<&str> = bubbles.iter().flat_map(Bubble::tags).collect();
            let mut his = written.iter().filter(|message| message.fan == fan);
            if !his.all(|message| tags.contains(&*message.tag)) {
                is_whole = false;
                // Late answers come by themselves. What was kept instead comes with the next message.
                if round % 10 == 9 {
                    let text = format!("wait 0 #again{round}");
                    cluster.phones.write(&open_id(fan), &text).await;
                }
            }
            heard.insert(fan, bubbles);
        }
        if is_whole || Instant::now() > until {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // What would come a second time comes now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (fan, bubbles) in &mut heard {
        *bubbles = cluster.phones.heard(&open_id(*fan)).await;
    }
    heard
}

/// What became of all messages.
#[derive(Debug, Default)]
struct Figures {
    #[expect(dead_code, reason = "printed")]
    messages: usize,
    /// By the number of deliveries, how many were answered by the last of them.
    carried: BTreeMap<usize, usize>,
    /// Answers that came as customer-service messages, and with a next message.
    sent: usize,
    with_a_next: usize,
    /// Messages that the platform gave up: their senders saw that the account is out of order.
    given_up: usize,
    /// Messages whose handling was begun more than once, and ended more than once.
    begun_again: usize,
    ended_again: usize,
    lost: Vec<String>,
    /// Answers that came twice: of messages that changed the session, in a delivery at least once; and
    /// others.
    doubled_counts: Vec<String>,
    doubled: Vec<String>,
    /// Fans who were not told 1, 2, 3 and so on to the number of their messages.
    miscounted: Vec<String>,
}

impl Figures {
    fn of(cluster: &Cluster, written: &[Written], heard: &HashMap<usize, Vec<Bubble>>) -> Self {
        let mut figures = Self {
            messages: written.len(),
            ..Self::default()
        };
        let handlings = cluster.journal.read();
        for message in written {
            let handling = handlings.get(&message.tag).cloned().unwrap_or_default();
            figures.begun_again += usize::from(handling.begun.len() > 1);
            figures.ended_again += usize::from(handling.ended > 1);
            let has_tag = |bubble: &&Bubble| bubble.tags().any(|tag| tag == message.tag);
            let answers: Vec<&Bubble> = heard[&message.fan].iter().filter(has_tag).collect();
            let attempts = message.result["attempts"].as_array().unwrap().len();
            let is_carried = message.result["shown_to_user"]
                .as_str()
                .unwrap()
                .contains(&format!("#{}", message.tag));
            if !message.result["failure"].is_null() {
                figures.given_up += 1;
            }
            let told = || {
                format!(
                    "#{}: {answers:?}, {handling:?}, {}",
                    message.tag, message.result
                )
            };
            match answers.as_slice() {
                [] => figures.lost.push(told()),
                [bubble] if bubble.is_custom => figures.sent += 1,
                [_] if is_carried => *figures.carried.entry(attempts).or_default() += 1,
                [_] => figures.with_a_next += 1,
                // Of what was sent and not yet noted as sent nobody can know.
                _ if answers.iter().all(|bubble| bubble.is_custom) => figures.doubled.push(told()),
                _ if message.counts => figures.doubled_counts.push(told()),
                _ => figures.doubled.push(told()),
            }
        }
        for (fan, bubbles) in heard {
            let counted = written
                .iter()
                .filter(|message| message.fan == *fan && message.counts)
                .count();
            let texts = bubbles.iter().map(|bubble| bubble.shown.as_str());
            let mut counts: Vec<usize> = texts.flat_map(counts).collect();
            counts.sort_unstable();
            counts.dedup();
            if !counts.iter().copied().eq(1..=counted) {
                figures
                    .miscounted
                    .push(format!("{fan}: {counted} messages, {counts:?}"));
            }
        }
        figures
    }
}

/// The numbers of all `count N` in a text.
fn counts(text: &str) -> impl Iterator<Item = usize> {
    text.lines().filter_map(|line| {
        let count = line.strip_prefix("count ")?.split(' ').next()?;
        count.parse().ok()
    })
}
