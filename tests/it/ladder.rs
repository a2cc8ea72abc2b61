//! Slow answers: each reaches the user exactly once, however long its handler takes.
//!
//! `OFFIACCOUNT_TEST_MESSAGES=2000` sends so many slow messages in all to each kind of store, where by
//! default it is a handful for each case. It takes no longer: they are under way at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use offiaccount::simulator::{Kind, Mode};

use crate::instances::{Bubble, Cluster, Database, Plan};

/// How long handlers take: within the first delivery, just so, within the second, within the third, and
/// longer than any.
const TAKES_MS: [u64; 5] = [100, 4_000, 7_000, 12_000, 30_000];
/// Modes and kinds of account. The last two may not send customer-service messages.
const ACCOUNTS: [(Mode, Kind); 4] = [
    (Mode::Plain, Kind::Service),
    (Mode::Safe, Kind::Service),
    (Mode::Plain, Kind::Unverified),
    (Mode::Safe, Kind::Unverified),
];
/// Messages set out one by one, so that the machine is not asked for all at the same moment.
const BETWEEN: Duration = Duration::from_millis(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_slow_answer_arrives_once_from_one_instance_on_sqlite() {
    slow_answers_arrive_once(Database::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_slow_answer_arrives_once_from_three_instances_on_mongodb() {
    slow_answers_arrive_once(Database::Mongodb, 3).await;
}

async fn slow_answers_arrive_once(database: Database, instances: usize) {
    let messages: usize = std::env::var("OFFIACCOUNT_TEST_MESSAGES")
        .map_or(80, |number| number.parse().expect("a number"));
    let fans = messages.div_ceil(ACCOUNTS.len() * TAKES_MS.len());
    let cases = ACCOUNTS.map(|(mode, kind)| async move {
        let plan = Plan {
            database,
            instances,
            mode,
            kind,
            settings: vec![],
            is_patient: false,
        };
        let cluster = Cluster::start(plan).await;
        let steps = answers_arrive_once(&cluster, fans, kind == Kind::Service).await;
        eprintln!("{database:?} {mode:?} {kind:?}: {fans} fans for each time; {steps:?}");
    });
    join_all(cases).await;
}

/// How many answers of handlers that take so long came by which step.
type Steps = BTreeMap<(u64, String), usize>;

async fn answers_arrive_once(cluster: &Cluster, fans: usize, may_send: bool) -> Steps {
    let writers = (0..fans * TAKES_MS.len()).map(|number| async move {
        let takes = TAKES_MS[number % TAKES_MS.len()];
        tokio::time::sleep(BETWEEN * u32::try_from(number).unwrap()).await;
        let step = is_answered_once(cluster, number, takes, may_send).await;
        (takes, step)
    });
    let mut steps = Steps::new();
    for taken in join_all(writers).await {
        *steps.entry(taken).or_default() += 1;
    }
    let handled = cluster.journal.read();
    for (tag, handling) in &handled {
        assert_eq!(handling.begun.len(), 1, "#{tag} was handled once");
    }
    steps
}

/// A fan writes to a slow handler. Returns by which step of the ladder the answer came.
async fn is_answered_once(cluster: &Cluster, number: usize, takes: u64, may_send: bool) -> String {
    let fan = format!("oFan{number:024}");
    let (tag, next, last) = (
        format!("t{number}"),
        format!("n{number}"),
        format!("l{number}"),
    );
    let result = cluster
        .phones
        .write(&fan, &format!("wait {takes} #{tag}"))
        .await;
    let attempts = result["attempts"].as_array().unwrap();
    let (final_one, before) = attempts.split_last().unwrap();
    assert_eq!(
        final_one["status"], 200,
        "#{tag} after {takes} ms: {result}"
    );
    for held in before {
        assert_eq!(held["status"], 0, "#{tag} after {takes} ms: {result}");
    }
    let is_late = result["reply"].is_null();
    if is_late {
        assert_eq!(attempts.len(), 3, "#{tag} after {takes} ms: {result}");
        let until = tokio::time::Instant::now() + Duration::from_secs(40);
        let is_there = async || match may_send {
            true => !cluster.phones.heard(&fan).await.is_empty(),
            false => cluster
                .journal
                .read()
                .get(&tag)
                .is_some_and(|handling| handling.ended > 0),
        };
        while !is_there().await {
            assert!(
                tokio::time::Instant::now() < until,
                "#{tag} after {takes} ms: no answer"
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // No delivery can come any more, and it is kept; where the account may not send, that was tried.
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    cluster.phones.write(&fan, &format!("wait 0 #{next}")).await;
    cluster.phones.write(&fan, &format!("wait 0 #{last}")).await;
    let heard = cluster.phones.heard(&fan).await;
    let tags: Vec<&str> = heard.iter().flat_map(Bubble::tags).collect();
    assert_eq!(tags, [&tag, &next, &last], "after {takes} ms: {heard:?}");
    let bubble = &heard[0];
    match (is_late, may_send) {
        (false, _) => format!("delivery {}", attempts.len()),
        (true, true) => {
            assert!(bubble.is_custom, "{heard:?}");
            "customer service".to_owned()
        }
        (true, false) => {
            assert_eq!(
                bubble.tags().collect::<Vec<_>>(),
                [&tag, &next],
                "{heard:?}"
            );
            "next message".to_owned()
        }
    }
}
