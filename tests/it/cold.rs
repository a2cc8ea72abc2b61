//! Cold callers: thousands ask several instances at once, and nobody has a token or a ticket. The platform
//! is asked once for each, whatever becomes of the instance that asks.
//!
//! Each round begins as after an outage of everything: the instances are new processes, the database has
//! no credential, the platform has given out none. All connections stand and are kept alive; then all
//! callers ask at the same time, each for the token, the ticket or a signed config.
//!
//! - `OFFIACCOUNT_TEST_ROUNDS=100` makes so many rounds for each number of instances, where by default it
//!   is two, and so many blows to holders, where by default it is one of each kind.
//! - `OFFIACCOUNT_TEST_CALLERS=10000` lets so many call in each round, where by default it is 600.
//! - `OFFIACCOUNT_TEST_SEED=N` repeats the choices of the run that has printed it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use offiaccount::Bot;
use offiaccount::wechat::signature;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::centre::{Answered, Call, Centre, Mode, TICKET, ask, ask_all};
use crate::helpers::{ADMIN_TOKEN, App, Setup, World, eventually};
use crate::kills::number;
use crate::mongod::Mongod;

/// After `kill -9` of the holder another instance has a credential within this time.
const RECOVERED: Duration = Duration::from_secs(8);

fn rounds() -> Option<u64> {
    number("OFFIACCOUNT_TEST_ROUNDS")
}

fn callers() -> usize {
    let callers = number("OFFIACCOUNT_TEST_CALLERS").unwrap_or(600);
    usize::try_from(callers).unwrap()
}

fn seed() -> u64 {
    let seed = number("OFFIACCOUNT_TEST_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("OFFIACCOUNT_TEST_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_callers_of_one_instance_share_one_fetch() {
    share_one_fetch(1, Mode::Stable, rounds().unwrap_or(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_callers_of_three_instances_share_one_fetch() {
    share_one_fetch(3, Mode::Stable, rounds().unwrap_or(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_callers_of_eight_instances_share_one_fetch() {
    share_one_fetch(8, Mode::Stable, rounds().unwrap_or(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_callers_share_one_fetch_in_classic_mode() {
    share_one_fetch(
        3,
        Mode::Classic,
        rounds().map_or(1, |rounds| rounds.div_ceil(5)),
    )
    .await;
}

async fn share_one_fetch(instances: usize, mode: Mode, rounds: u64) {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut centre = Centre::start(instances, mode).await;
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        if round > 1 {
            centre.make_cold().await;
        }
        let found = Found::by(&centre, callers(), &mut rng).await;
        let expected = Found {
            token_fetches: 1,
            ticket_fetches: 1,
            tokens: BTreeSet::from([newest(&centre, mode.name()).await]),
            tickets: BTreeSet::from([newest(&centre, "jsapi").await]),
            slowest: found.slowest,
            ..Found::default()
        };
        assert_eq!(found, expected, "round {round}");
        for addr in centre.addresses() {
            let reads = reads_of_credentials(&centre, addr).await;
            assert!((1..100).contains(&reads), "{reads} reads of the store");
        }
        slowest = slowest.max(found.slowest);
    }
    eprintln!(
        "{instances} instances, {} mode: {rounds} rounds of {} cold callers, one token fetch and one \
         ticket fetch each, the slowest caller after {slowest:.1?}",
        mode.name(),
        callers(),
    );
}

/// How often an instance has read a credential in the store: not once for each caller.
async fn reads_of_credentials(centre: &Centre, addr: std::net::SocketAddr) -> u64 {
    let answer = centre
        .http
        .get(format!("http://{addr}/metrics"))
        .send()
        .await;
    let metrics = answer.unwrap().text().await.unwrap();
    let reads = metrics.lines().filter(|line| {
        line.starts_with("offiaccount_store_seconds_count") && line.contains("\"credential\"")
    });
    reads
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// The judge can count: instances that share no store share no fetch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_share_nothing_are_seen_to_fetch_each_for_itself() {
    let centre = Centre::start_apart(3, Mode::Classic).await;
    let found = Found::by(&centre, 30, &mut StdRng::seed_from_u64(seed())).await;
    assert_eq!(found.token_fetches, 3, "{found:?}");
    // Not every instance is asked for its token.
    assert!(found.tokens.len() > 1, "{found:?}");
    assert_eq!(found.ticket_fetches, 3, "{found:?}");
}

/// The newest that the platform has given out of a kind.
async fn newest(centre: &Centre, kind: &str) -> String {
    let books = centre.sim("tokens", None).await;
    books[kind][0]["value"].as_str().unwrap().to_owned()
}

/// What the callers of one round were answered, and what the platform was asked.
#[derive(Debug, Default, PartialEq)]
struct Found {
    token_fetches: usize,
    ticket_fetches: usize,
    /// Other calls of the platform.
    others: Vec<Value>,
    tokens: BTreeSet<String>,
    tickets: BTreeSet<String>,
    /// Errors, and configs that are not signed with the ticket.
    bad: Vec<String>,
    slowest: Duration,
}

impl Found {
    /// All callers at once. The platform takes its time over some of the fetches.
    async fn by(centre: &Centre, callers: usize, rng: &mut StdRng) -> Self {
        assert_eq!(centre.sim("requests", None).await, json!([]), "not cold");
        for path in [centre.mode.path(), TICKET] {
            let ms = [0, 0, 20, 400, 1_200][rng.random_range(0..5)];
            centre.delay(path, Duration::from_millis(ms)).await;
        }
        let calls: Vec<Call> = (0..callers)
            .map(|_| Call::ALL[rng.random_range(0..3)])
            .collect();
        let requests = calls.iter().map(|call| call.request()).collect();
        let answers = ask_all(&centre.addresses(), requests).await;
        assert_eq!(answers.len(), callers);
        let mut found = Self::default();
        let ticket = newest(centre, "jsapi").await;
        for answer in answers {
            found.note(calls[answer.caller], answer, &ticket);
        }
        for request in centre.sim("requests", None).await.as_array().unwrap() {
            match request["path"].as_str().unwrap() {
                path if path == centre.mode.path() => found.token_fetches += 1,
                TICKET => found.ticket_fetches += 1,
                _ => found.others.push(request.clone()),
            }
        }
        found
    }

    fn note(&mut self, call: Call, answer: Answered, ticket: &str) {
        self.slowest = self.slowest.max(answer.took);
        let body = &answer.body;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        match (answer.status, call) {
            (200, Call::Token) => drop(self.tokens.insert(text("access_token"))),
            (200, Call::Ticket) => drop(self.tickets.insert(text("ticket"))),
            (200, Call::JsConfig) if is_signed_with(ticket, body) => {}
            // The first few tell enough.
            _ if self.bad.len() < 3 => self.bad.push(format!("{call:?}: {answer:?}")),
            _ => {}
        }
    }
}

fn is_signed_with(ticket: &str, config: &Value) -> bool {
    let timestamp = config["timestamp"].as_u64().unwrap_or_default();
    let nonce = config["nonceStr"].as_str().unwrap_or_default();
    let expected = signature::jssdk(ticket, nonce, timestamp, "http://127.0.0.1/");
    config["signature"] == expected.to_string()
}

/// What befalls the instance that is fetching.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    Kill,
    /// It stands still until another has taken over, and goes on as if nothing had happened.
    Freeze,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_holder_is_killed_another_has_a_credential_within_8_seconds() {
    for (call, mode) in [(Call::Token, Mode::Classic), (Call::Ticket, Mode::Stable)] {
        strike_holder(Blow::Kill, call, mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_stood_still_does_no_harm_in_stable_mode() {
    strike_holder(Blow::Freeze, Call::Token, Mode::Stable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_stood_still_writes_over_nothing_in_classic_mode() {
    strike_holder(Blow::Freeze, Call::Token, Mode::Classic).await;
}

/// One instance fetches, and while the platform takes its time, it is struck.
async fn strike_holder(blow: Blow, call: Call, mode: Mode) {
    let mut rng = StdRng::seed_from_u64(seed());
    let mut centre = Centre::start(3, mode).await;
    let path = match call {
        Call::Token => mode.path(),
        Call::Ticket | Call::JsConfig => TICKET,
    };
    for round in 1..=rounds().map_or(1, |rounds| rounds.div_ceil(10)) {
        if round > 1 {
            centre.make_cold().await;
        }
        let mut addresses = centre.addresses();
        let holder = rng.random_range(0..addresses.len());
        let of_holder = addresses.remove(holder);
        let delay = Duration::from_millis(rng.random_range(1_000..2_800));
        centre.delay(path, delay).await;
        let http = centre.http.clone();
        let caller = tokio::spawn(async move { ask(&http, of_holder, call).await });
        centre.asked(path, 1).await;
        let heirs = addresses.clone();
        let requests = vec![call.request(); 100];
        let waiting = tokio::spawn(async move { ask_all(&heirs, requests).await });
        // At any time of the fetch, and about when the answer comes.
        tokio::time::sleep(delay.mul_f64(rng.random_range(0.0..0.95))).await;
        let struck = Instant::now();
        match blow {
            Blow::Kill => centre.instances[holder].kill(),
            Blow::Freeze => centre.instances[holder].signal("STOP"),
        }
        let answers = waiting.await.unwrap();
        let took = struck.elapsed();
        assert!(took < RECOVERED, "{took:?}");
        let mut found = Found::default();
        for answer in answers {
            found.note(call, answer, "");
        }
        assert_eq!(found.bad, [""; 0]);
        let given: Vec<_> = found.tokens.into_iter().chain(found.tickets).collect();
        assert_eq!(given.len(), 1, "one for all: {given:?}");
        match blow {
            Blow::Kill => assert!(caller.await.unwrap().is_none(), "its caller is cut off"),
            Blow::Freeze => {
                centre.instances[holder].signal("CONT");
                let (status, answer) = caller.await.unwrap().unwrap();
                assert_eq!(status, 200, "{answer}");
                assert_eq!(answer["access_token"], given[0], "of the one who took over");
                // Long enough for each to look at the store again.
                tokio::time::sleep(Duration::from_millis(2_300)).await;
                for addr in centre.addresses() {
                    assert_eq!(centre.token_at(addr).await, given[0]);
                }
                assert_eq!(centre.generation().await, 1, "it was written once");
            }
        }
        assert_eq!(centre.calls(path).await, 2, "the one that was cut, and one");
        eprintln!("{blow:?} of the holder, {call:?} in {mode:?} mode: another after {took:.1?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reports_of_one_dead_token_are_one_fetch() {
    for mode in [Mode::Stable, Mode::Classic] {
        let centre = Centre::start(3, mode).await;
        let addresses = centre.addresses();
        let dead = centre.token_at(addresses[0]).await;
        // All know it.
        for addr in &addresses {
            assert_eq!(centre.token_at(*addr).await, dead);
        }
        centre.kill_token(None).await;
        let body = json!({"access_token": dead}).to_string();
        let report = format!(
            "POST /refreshTokens HTTP/1.1\r\nHost: it\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answers = ask_all(&addresses, vec![report; 1_000]).await;
        let mut found = Found::default();
        for answer in answers {
            found.note(Call::Token, answer, "");
        }
        assert_eq!(found.bad, [""; 0]);
        assert_eq!(found.tokens.len(), 1, "{found:?}");
        assert!(!found.tokens.contains(&dead));
        assert_eq!(
            centre.calls(mode.path()).await,
            3,
            "ours, the other program's, and one for all reports"
        );
    }
}

/// A MongoDB server whose changes can be made slow, and a backend on it.
struct Slow {
    world: World,
    admin: mongodb::Database,
    server: Mongod,
}

impl Slow {
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(|| {
            Mongod::start(&["--setParameter", "enableTestCommands=1"])
        });
        let server = server.await.unwrap();
        let first = Self::database_url(&server, "first");
        let setup = Setup::new().settings(|settings| settings.database_url = Some(first));
        let client = mongodb::Client::with_uri_str(format!("mongodb://{}/", server.host()));
        Self {
            world: setup.start().await,
            admin: client.await.unwrap().database("admin"),
            server,
        }
    }

    /// The server tells backends by such names.
    fn database_url(server: &Mongod, name: &str) -> String {
        format!("mongodb://{}/it?appName={name}", server.host())
    }

    /// Another backend.
    async fn second(&self) -> App {
        let mut settings = self.world.settings.clone();
        settings.database_url = Some(Self::database_url(&self.server, "second"));
        App::start(&settings, Bot::new(), CancellationToken::new()).await
    }

    /// From now on each change that this backend makes is long on the way.
    async fn slow_down(&self, name: &str) {
        let data = doc! {
            "failCommands": ["findAndModify"],
            "appName": name,
            "blockConnection": true,
            "blockTimeMS": 1_500,
        };
        let slow = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
        self.admin.run_command(slow).await.unwrap();
    }

    /// Waits until a change of a credential is on the way.
    async fn changes(&self, name: &str) {
        eventually(Duration::from_secs(10), async || {
            let asked = doc! {
                "currentOp": true,
                "appName": name,
                "command.findAndModify": "credentials",
            };
            let running = self.admin.run_command(asked).await.unwrap();
            !running.get_array("inprog").unwrap().is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_gets_the_lease_late_finds_what_was_published_meanwhile() {
    let slow = Slow::start().await;
    let (world, second) = (&slow.world, slow.second().await);
    // The second one reads that there is no token, and then its lease is long on the way.
    slow.slow_down("second").await;
    let (http, addr) = (world.http.clone(), second.addr);
    let late = tokio::spawn(async move { ask(&http, addr, Call::Token).await });
    slow.changes("second").await;
    let (_, first) = ask(&world.http, world.app.addr, Call::Token).await.unwrap();
    assert!(!late.is_finished(), "the lease came too early");
    let (_, late) = late.await.unwrap().unwrap();
    assert_eq!(late["access_token"], first["access_token"]);
    assert_eq!(world.calls(Mode::Stable.path()).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_goes_out_with_what_another_was_refused_with_before_the_store_knows() {
    let slow = Slow::start().await;
    let world = &slow.world;
    let (_, given) = ask(&world.http, world.app.addr, Call::Token).await.unwrap();
    world.advance(7_300).await;
    slow.slow_down("first").await;
    let url = format!("{}/getFollowers", world.app.url);
    let call = || world.http.get(&url).bearer_auth(ADMIN_TOKEN).send();
    let refused = tokio::spawn(call());
    // The store is being told that the token is dead.
    slow.changes("first").await;
    assert_eq!(call().await.unwrap().status(), 200);
    assert_eq!(refused.await.unwrap().unwrap().status(), 200);
    let requests = world.sim("requests", None).await;
    let requests = requests.as_array().unwrap().iter();
    let with_it = requests.filter(|it| it["query"]["access_token"] == given["access_token"]);
    assert_eq!(with_it.count(), 1, "the one that was refused");
}
