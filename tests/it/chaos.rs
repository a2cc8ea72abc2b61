//! Chaos: real processes of the backend, a real replica set, a simulated platform as the judge, and
//! whatever may go wrong, one thing after the other, while fans write. Nothing is lost, nothing counts
//! twice, every answer is in time.
//!
//! `tests/chaos` makes long runs of it and prints their table; here are short ones.
//!
//! - `OFFIACCOUNT_CHAOS_SEED=N` repeats the choices of the run that has printed it.
//! - `OFFIACCOUNT_CHAOS_KEEP=1` leaves journal and logs of every run, not only of those that fail.

mod balancer;
mod fault;
mod judge;
mod load;
mod metrics;
mod network;
mod outage;
mod replica_set;
mod site;
mod tokens;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use fault::Fault;
use judge::{Books, Table};
use load::Load;
use site::{Plan, Sabotage, Site};
use tokens::TokenUser;

/// Between two faults.
const CALM: Duration = Duration::from_secs(2);
/// Of the sets of these tests; MongoDB's own default is 10 s.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(2);

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

fn seed() -> u64 {
    static SEED: LazyLock<u64> = LazyLock::new(|| {
        let seed = number("OFFIACCOUNT_CHAOS_SEED");
        let seed = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        eprintln!("OFFIACCOUNT_CHAOS_SEED={seed}");
        seed
    });
    *SEED
}

/// What happens while fans write.
#[derive(Clone, Copy, Debug)]
enum Course<'a> {
    /// One fault after the other, each when all is well again.
    Faults(&'a [Fault]),
    /// One instance after the other is replaced by a new process, so many times, as fast as that goes.
    Restarts(usize),
    /// The answer to a write is lost, now and then, so many times.
    LostAnswers(usize),
}

/// One run, and what is said of it.
async fn suffer(plan: Plan, load: Load, course: Course<'_>, seed: u64) -> (Table, String) {
    let mut site = Site::start(plan).await;
    let stop = CancellationToken::new();
    let tokens = TokenUser::start(&site, &stop);
    while tokens.good_since().is_none() || site.counters.ready_since().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let began = Instant::now();
    let is_over = CancellationToken::new();
    let writing = load::write(site.phones.clone(), load, seed, is_over.clone());
    let writing = tokio::spawn(writing);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut strikes = Vec::new();
    match course {
        Course::Faults(faults) => {
            for fault in faults {
                tokio::time::sleep(CALM).await;
                strikes.push(site.strike(*fault, &tokens, &mut rng).await);
            }
        }
        Course::LostAnswers(times) => {
            for _ in 0..times {
                site.network.loses_answers(1);
                while site.network.has_answers_to_lose() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                tokio::time::sleep(CALM).await;
            }
        }
        Course::Restarts(times) => {
            for time in 0..times {
                strikes.push(site.restart_beside(time % plan.instances).await);
            }
        }
    }
    tokio::time::sleep(CALM).await;
    is_over.cancel();
    let sent = writing.await.unwrap();
    let took = began.elapsed();
    let fetches = tokens.fetches().await;
    stop.cancel();
    let books = Books::close(&site, seed, took, sent, strikes, fetches).await;
    let table = books.judge();
    let mut members = format!(
        "{} instances, 3 members of MongoDB, election time-out {} s",
        plan.instances,
        plan.election_timeout.as_secs()
    );
    if let Some(sabotage) = plan.sabotage {
        let _ = write!(members, ", broken on purpose: {sabotage:?}");
    }
    let markdown = books.markdown(&table, &members);
    eprintln!("\n{markdown}");
    for told in &table.said_twice_in_outage {
        eprintln!("answered twice: {told}");
    }
    let is_odd = plan.sabotage.is_none() && !table.defects().is_empty();
    if is_odd || std::env::var_os("OFFIACCOUNT_CHAOS_KEEP").is_some() {
        site.keep();
    }
    (table, markdown)
}

#[track_caller]
fn expect_no_defects(table: &Table) {
    let defects = table.defects();
    assert!(defects.is_empty(), "{}", defects.join("\n"));
}

const SHORT: Plan = Plan {
    instances: 3,
    election_timeout: ELECTION_TIMEOUT,
    sabotage: None,
};

const LIGHT: Load = Load {
    fans: 40,
    rate: 12.0,
    messages: 300,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_outlives_its_instances_and_its_primary() {
    let faults = [
        Fault::KillPrimary,
        Fault::KillInstance,
        Fault::FreezeInstance,
        Fault::StepDown,
    ];
    let (table, _) = suffer(SHORT, LIGHT, Course::Faults(&faults), seed()).await;
    expect_no_defects(&table);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_reset_when_instances_are_replaced_one_after_the_other() {
    let restarts = Course::Restarts(6);
    let (table, _) = suffer(SHORT, LIGHT, restarts, seed()).await;
    expect_no_defects(&table);
}

// The judge is not blind.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_instances_without_a_common_ledger() {
    let plan = Plan {
        sabotage: Some(Sabotage::NoLedger),
        ..SHORT
    };
    let (table, _) = suffer(plan, LIGHT, Course::Faults(&[]), seed()).await;
    assert!(!table.twice.is_empty(), "handled twice: {table:#?}");
    assert!(!table.miscounted.is_empty(), "counted wrongly: {table:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_notices_writes_that_no_majority_has() {
    let plan = Plan {
        sabotage: Some(Sabotage::NoMajority),
        ..SHORT
    };
    let faults = [Fault::IsolatePrimary; 2];
    let (table, _) = suffer(plan, LIGHT, Course::Faults(&faults), seed()).await;
    assert!(!table.miscounted.is_empty(), "counted wrongly: {table:#?}");
}

/// Not tests of their own: the long runs of `tests/chaos`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes many minutes: run tests/chaos"]
async fn long_run() {
    let faults = setting("FAULTS", 32);
    let faults = Fault::sequence(faults, &mut StdRng::seed_from_u64(seed()));
    run_long(Course::Faults(&faults), setting("MESSAGES", 20_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes many minutes: run tests/chaos"]
async fn long_run_of_restarts() {
    run_long(Course::Restarts(setting("RESTARTS", 100)), 1).await;
}

fn setting(name: &str, default: usize) -> usize {
    let set = number(&format!("OFFIACCOUNT_CHAOS_{name}"));
    set.map_or(default, |set| usize::try_from(set).unwrap())
}

/// Runs as the environment says, and adds the table to the report.
async fn run_long(course: Course<'_>, messages: usize) {
    let sabotage = match std::env::var("OFFIACCOUNT_CHAOS_SABOTAGE").as_deref() {
        Ok("no-ledger") => Some(Sabotage::NoLedger),
        Ok("no-majority") => Some(Sabotage::NoMajority),
        Ok("") | Err(_) => None,
        Ok(other) => panic!("OFFIACCOUNT_CHAOS_SABOTAGE: no {other}"),
    };
    let election_timeout = setting("ELECTION_TIMEOUT_MS", 2_000);
    let plan = Plan {
        instances: setting("INSTANCES", 3),
        election_timeout: Duration::from_millis(election_timeout.try_into().unwrap()),
        sabotage,
    };
    assert!((3..=8).contains(&plan.instances), "3 to 8 instances");
    let rate = setting("RATE", 40);
    let load = Load {
        // What a phone shows of its chat ends somewhere.
        fans: (messages / 120).max(rate * 3),
        rate: f64::from(u32::try_from(rate).unwrap()),
        messages,
    };
    let (table, markdown) = suffer(plan, load, course, seed()).await;
    if let Some(path) = std::env::var_os("OFFIACCOUNT_CHAOS_REPORT") {
        let mut report = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(report, "{markdown}").unwrap();
    }
    expect_no_defects(&table);
}
