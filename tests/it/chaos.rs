//! Chaos: real processes of the backend, a real replica set, a simulated platform as the judge, and
//! whatever may go wrong, one thing after the other, while fans write. Nothing is lost, nothing counts
//! twice, every answer is in time.
//!
//! `tests/chaos` makes long runs of it and prints their table; here are short ones.
//!
//! - `OFFIACCOUNT_CHAOS_SEED=N` repeats the choices of the run that has printed it.

mod balancer;
mod fault;
mod judge;
mod load;
mod metrics;
mod network;
mod replica_set;
mod site;
mod tokens;

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
    let seed = number("OFFIACCOUNT_CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("OFFIACCOUNT_CHAOS_SEED={seed}");
    seed
}

/// One run, and what is said of it.
async fn suffer(plan: Plan, load: Load, faults: &[Fault], seed: u64) -> (Table, String) {
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
    for fault in faults {
        tokio::time::sleep(CALM).await;
        strikes.push(site.strike(*fault, &tokens, &mut rng).await);
    }
    tokio::time::sleep(CALM).await;
    is_over.cancel();
    let sent = writing.await.unwrap();
    let took = began.elapsed();
    let fetches = tokens.fetches().await;
    stop.cancel();
    let books = Books::close(&site, seed, took, sent, strikes, fetches).await;
    let table = books.judge();
    let members = format!(
        "{} instances, 3 members of MongoDB, election time-out {} s",
        plan.instances,
        plan.election_timeout.as_secs()
    );
    let markdown = books.markdown(&table, &members);
    eprintln!("\n{markdown}");
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
    let (table, _) = suffer(SHORT, LIGHT, &faults, seed()).await;
    expect_no_defects(&table);
}

/// Not a test of its own: the long run of `tests/chaos`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes many minutes: run tests/chaos"]
async fn long_run() {
    let setting =
        |name: &str, default: u64| number(&format!("OFFIACCOUNT_CHAOS_{name}")).unwrap_or(default);
    let seed = seed();
    let sabotage = match std::env::var("OFFIACCOUNT_CHAOS_SABOTAGE").as_deref() {
        Ok("no-ledger") => Some(Sabotage::NoLedger),
        Ok("no-majority") => Some(Sabotage::NoMajority),
        Ok("") | Err(_) => None,
        Ok(other) => panic!("OFFIACCOUNT_CHAOS_SABOTAGE: no {other}"),
    };
    let plan = Plan {
        instances: usize::try_from(setting("INSTANCES", 3)).unwrap(),
        election_timeout: Duration::from_millis(setting("ELECTION_TIMEOUT_MS", 2_000)),
        sabotage,
    };
    let messages = usize::try_from(setting("MESSAGES", 20_000)).unwrap();
    let rate = f64::from(u32::try_from(setting("RATE", 40)).unwrap());
    let load = Load {
        fans: (messages / 120).max(40),
        rate,
        messages,
    };
    let many = usize::try_from(setting("FAULTS", 32)).unwrap();
    let faults = Fault::sequence(many, &mut StdRng::seed_from_u64(seed));
    let (table, markdown) = suffer(plan, load, &faults, seed).await;
    if let Some(path) = std::env::var_os("OFFIACCOUNT_CHAOS_REPORT") {
        std::fs::write(path, &markdown).unwrap();
    }
    expect_no_defects(&table);
}
