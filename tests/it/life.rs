//! Thirty days of an account: three instances call the API all the time, tokens come to their end, another
//! program kills some, instances stand still or are started anew. Each token is fetched once, none is used
//! that is known to be dead, and no caller sees any of it.
//!
//! Days pass by moving the clock of whoever decides about a token's life. The platform's clock moves, and
//! the stored times move into the past by as much, as the database server's clock would have seen them. The
//! instances' own clocks cannot be moved: to them it is as if their machines had been suspended meanwhile,
//! which is the hard case, as what they remember of a token's life is wrong then. A life comes to its end
//! in one of three ways:
//!
//! - It *runs out*: near the end one instance is started anew, sees in the database how little is left, and
//!   fetches ahead, while the old token works on. No call is refused.
//! - It is *overslept*: time passes the end. Whoever uses the token next is refused (42001).
//! - It is *killed* by another program's fetch (40001).
//!
//! Lifetimes are counted by the test, which ends them: the first token is one fetch, and each token that
//! has run out, was overslept or was killed is one more. In stable mode the fetch after a kill brings the
//! other program's token; it is a fetch all the same.
//!
//! - `OFFIACCOUNT_TEST_DAYS=30` lives so many days, where by default it is one.
//! - `OFFIACCOUNT_TEST_SEED=N` repeats the choices of the run that has printed it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mongodb::bson::{Document, doc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::centre::{Centre, Mode};
use crate::helpers::{ADMIN_TOKEN, APPID, control};
use crate::kills::number;

const INSTANCES: usize = 3;
/// Callers of each instance.
const CALLERS: usize = 10;
/// A token's life, in seconds of the platform.
const LIFE: u64 = 7_200;
/// With as little left, an instance that reads the token fetches the next ahead, a quarter before its end.
const NEAR_THE_END: Duration = Duration::from_secs(3);
/// How long something that has to happen may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// When an instance that was refused does not take the refused token any more: the answer has come by then,
/// on a slow machine too.
const TOLD: Duration = Duration::from_millis(700);
/// An instance looks at the store when it has not for 2 s.
const LOOKS: Duration = Duration::from_millis(2_100);
/// What the platform says of a token that it does not take.
const DEAD: [i64; 3] = [40001, 40014, 42001];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_token_of_many_days_is_fetched_once_in_stable_mode() {
    live(Mode::Stable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_token_of_many_days_is_fetched_once_in_classic_mode() {
    live(Mode::Classic).await;
}

/// How a token comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    RunsOut,
    Overslept,
    Killed,
}

async fn live(mode: Mode) {
    let days = number("OFFIACCOUNT_TEST_DAYS").unwrap_or(1);
    let seed = number("OFFIACCOUNT_TEST_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("OFFIACCOUNT_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = Life::begin(mode).await;
    world.all_use_the_newest(1).await;
    let mut ends: BTreeMap<End, usize> = BTreeMap::new();
    let mut rested = 0;
    while world.passed < days * 24 * 3_600 {
        let middle = rng.random_range(600..LIFE - 600);
        world.pass(middle).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..200))).await;
        let end = match rng.random_range(0..10) {
            0..2 => End::RunsOut,
            2..7 => End::Overslept,
            _ => End::Killed,
        };
        *ends.entry(end).or_default() += 1;
        let lived = 1 + ends.values().sum::<usize>();
        let is_sudden = end != End::RunsOut;
        let paused = (is_sudden && rng.random_bool(0.3)).then(|| rng.random_range(0..INSTANCES));
        if let Some(paused) = paused {
            world.pause(paused);
        }
        let rests = is_sudden && paused.is_none() && rng.random_bool(0.2);
        let resting = rng.random_range(0..INSTANCES);
        let gate = Arc::clone(&world.gates[resting]);
        let rest = if rests {
            Some(gate.write().await)
        } else {
            None
        };
        let is_slow = is_sudden && rng.random_bool(0.4);
        let slowness = Duration::from_millis(rng.random_range(1_200..2_200));
        match end {
            End::RunsOut => {
                world
                    .run_out(LIFE - middle, rng.random_range(0..INSTANCES))
                    .await
            }
            End::Overslept => {
                if is_slow {
                    world.centre.delay(mode.path(), slowness).await;
                }
                world.pass(LIFE - middle + rng.random_range(0..7_200)).await;
            }
            End::Killed => {
                world.centre.kill_token(is_slow.then_some(slowness)).await;
                world.foreign += 1;
                world.passed += 301;
            }
        }
        if let Some(paused) = paused {
            tokio::time::sleep(Duration::from_millis(rng.random_range(50..2_400))).await;
            world.go_on(paused);
        }
        if rest.is_some() {
            world.is_used_by(lived, INSTANCES - 1).await;
            world.hears_of_it(resting).await;
        }
        drop(rest);
        rested += usize::from(rests);
        let refused = world.book().refused;
        world.all_use_the_newest(lived).await;
        if end == End::RunsOut {
            assert_eq!(world.book().refused, refused, "nobody was refused");
        }
        world.calls_end().await;
    }
    let calls = world.end().await;
    let lived = 1 + ends.values().sum::<usize>();
    let book = world.book();
    book.check(&calls, &world.pauses);
    let failed: Vec<_> = calls.iter().filter(|call| call.status != 200).collect();
    assert!(failed.is_empty(), "no caller sees an error: {failed:?}");
    let fetches = book.fetches - world.foreign;
    let [ran_out, overslept, killed] = [End::RunsOut, End::Overslept, End::Killed]
        .map(|end| ends.get(&end).copied().unwrap_or_default());
    eprintln!(
        "{} mode, {} days: {fetches} fetches for {lived} tokens (the first, {ran_out} that ran out, {overslept} \
         overslept, {killed} killed by another program), {} pauses of an instance, {rested} rests of one, {} calls \
         of the API, {} of them refused, none with a token known to be dead",
        mode.name(),
        world.passed / (24 * 3_600),
        world.pauses.len(),
        book.entries.len(),
        book.refused,
    );
    assert_eq!(fetches, lived, "lifetimes and kills");
}

/// Instances whose callers never rest.
struct Life {
    centre: Centre,
    book: Arc<Mutex<Book>>,
    callers: JoinSet<Vec<Called>>,
    /// Held while an instance is not to be called, by its place.
    gates: Vec<Arc<RwLock<()>>>,
    is_over: Arc<AtomicBool>,
    /// When each instance stood still, and was busy with what had come meanwhile.
    pauses: Vec<(usize, RangeInclusive<i64>)>,
    /// Seconds of the platform.
    passed: u64,
    /// Fetches of the other program.
    foreign: usize,
}

impl Life {
    async fn begin(mode: Mode) -> Self {
        let centre = Centre::start(INSTANCES, mode).await;
        let relaxed = json!({"limits": "relaxed"});
        let url = format!("{}/_sim/account", centre.sim);
        let set = centre.http.put(url).json(&relaxed).send().await.unwrap();
        assert!(set.status().is_success());
        let is_over = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        let gates: Vec<_> = (0..INSTANCES).map(|_| Arc::default()).collect();
        for (instance, addr) in centre.addresses().into_iter().enumerate() {
            for number in 0..CALLERS {
                let fan = open_id(instance, number);
                let follower = json!({"openid": fan, "nickname": "a fan"});
                centre.sim("fans", Some(follower)).await;
                let caller = Caller {
                    http: centre.http.clone(),
                    addr,
                    fan,
                    gate: Arc::clone(&gates[instance]),
                    is_over: Arc::clone(&is_over),
                };
                callers.spawn(caller.call());
            }
        }
        let book = Arc::new(Mutex::new(Book {
            path: mode.path(),
            ..Book::default()
        }));
        // The platform remembers 500 calls: they are read as they come.
        let (reader, http, sim) = (Arc::clone(&book), centre.http.clone(), centre.sim.clone());
        let over = Arc::clone(&is_over);
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                Book::read(&reader, &http, &sim).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self {
            centre,
            book,
            callers,
            gates,
            is_over,
            pauses: Vec::new(),
            passed: 0,
            foreign: 0,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    fn pause(&mut self, instance: usize) {
        self.centre.instances[instance].signal("STOP");
        self.pauses.push((instance, unix_ms()..=i64::MAX));
    }

    fn go_on(&mut self, instance: usize) {
        self.centre.instances[instance].signal("CONT");
        let (_, times) = self.pauses.last_mut().unwrap();
        *times = *times.start()..=unix_ms() + millis(TOLD);
    }

    /// Time passes, for the platform and for the stored token, if it is still the same then.
    async fn pass(&mut self, seconds: u64) {
        let generation = self.centre.generation().await;
        self.centre.advance(seconds).await;
        self.passed += seconds;
        let past = |at: &str| doc! { "$subtract": [at, millis(Duration::from_secs(seconds))] };
        let moved =
            doc! { "published_at": past("$published_at"), "expires_at": past("$expires_at") };
        self.change_stored(generation, moved).await;
    }

    /// Changes the stored token, if it is still of this generation.
    async fn change_stored(&self, generation: i64, changed: Document) {
        let credentials = self.centre.database.collection::<Document>("credentials");
        let id = format!("{APPID}/access_token");
        credentials
            .update_one(
                doc! { "_id": id, "generation": generation },
                vec![doc! { "$set": changed }],
            )
            .await
            .unwrap();
    }

    /// The token has `left` seconds, and they pass but for the last; an instance is started anew meanwhile.
    async fn run_out(&mut self, left: u64, instance: usize) {
        // The platform's token outlives what an instance counts: its 100 s are left to the next.
        let seconds = left - 100;
        self.centre.advance(seconds).await;
        self.passed += seconds;
        let gate = Arc::clone(&self.gates[instance]);
        let closed = gate.write().await;
        let instance = &mut self.centre.instances[instance];
        instance.kill();
        instance.start();
        instance.listens().await;
        let generation = self.centre.generation().await;
        let moved = doc! { "expires_at": { "$add": ["$$NOW", millis(NEAR_THE_END)] } };
        self.change_stored(generation, moved).await;
        drop(closed);
    }

    /// Waits until so many tokens have been fetched, and every instance has made a call with the newest.
    async fn all_use_the_newest(&self, fetched: usize) {
        self.is_used_by(fetched, INSTANCES).await;
    }

    async fn is_used_by(&self, fetched: usize, instances: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.book().fetches - self.foreign;
            assert!(found <= fetched, "{found} fetches for {fetched} tokens");
            if found == fetched {
                let newest = self.newest().await;
                let users = self.book().users_of(&newest);
                if users.len() == instances {
                    return;
                }
            }
            assert!(Instant::now() < until, "not all have come to the newest");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the calls under way are over: a call is repeated once, and must not meet two ends.
    async fn calls_end(&self) {
        for gate in &self.gates {
            drop(gate.write().await);
        }
    }

    /// An instance that nobody has called since the token was refused elsewhere learns that from the store,
    /// and gives out the newest.
    async fn hears_of_it(&self, instance: usize) {
        let newest = self.newest().await;
        // A look that is not answered at once is passed over, so that no caller waits for it.
        for looks_left in (0..3).rev() {
            tokio::time::sleep(LOOKS).await;
            let given = self
                .centre
                .token_at(self.centre.instances[instance].addr)
                .await;
            if given == newest {
                return;
            }
            assert!(
                looks_left > 0,
                "instance {instance} has not heard of the newest"
            );
        }
    }

    /// What the platform gave out last.
    async fn newest(&self) -> String {
        let books = self.centre.sim("tokens", None).await;
        let newest = &books[self.centre.mode.name()][0]["value"];
        newest.as_str().unwrap().to_owned()
    }

    /// All that was called.
    async fn end(&mut self) -> Vec<Called> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        while let Some(called) = self.callers.join_next().await {
            calls.extend(called.unwrap());
        }
        Book::read(&self.book, &self.centre.http, &self.centre.sim).await;
        calls
    }
}

/// A fan for each caller, so that the platform's books tell whose call it was.
fn open_id(instance: usize, caller: usize) -> String {
    format!("oCaller{caller:010}{instance:011}")
}

fn instance_of(fan: &str) -> usize {
    fan[17..].parse().unwrap()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}

fn unix_ms() -> i64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

/// Somebody who has an instance call the API again and again.
struct Caller {
    http: Client,
    addr: SocketAddr,
    fan: String,
    gate: Arc<RwLock<()>>,
    is_over: Arc<AtomicBool>,
}

/// A call of an instance, its times in milliseconds of Unix time.
#[derive(Debug)]
struct Called {
    fan: String,
    began: i64,
    ended: i64,
    /// 0: there was none.
    status: u16,
}

impl Caller {
    async fn call(self) -> Vec<Called> {
        let mut calls = Vec::new();
        let url = format!("http://{}/getFollowers?next_openid={}", self.addr, self.fan);
        while !self.is_over.load(Ordering::Relaxed) {
            let open = self.gate.read().await;
            let began = unix_ms();
            let request = self.http.get(&url).bearer_auth(ADMIN_TOKEN);
            let answer = request.timeout(PATIENCE).send().await;
            let status = answer.map_or(0, |answer| answer.status().as_u16());
            calls.push(Called {
                fan: self.fan.clone(),
                began,
                ended: unix_ms(),
                status,
            });
            drop(open);
            let pause = Duration::from_millis(rand::random_range(100..1_300));
            tokio::time::sleep(pause).await;
        }
        calls
    }
}

/// What the platform was asked with a token, in the order of its books.
struct Entry {
    at: i64,
    token: String,
    /// The caller behind it, where it is known.
    fan: Option<String>,
    is_refused: bool,
}

/// The platform's books, copied as they grow.
#[derive(Default)]
struct Book {
    /// Of the call that gives tokens.
    path: &'static str,
    entries: Vec<Entry>,
    fetches: usize,
    /// How many of the entries are refusals of a dead token.
    refused: usize,
    last_id: u64,
}

impl Book {
    /// Copies what is new.
    async fn read(book: &Mutex<Self>, http: &Client, sim: &str) {
        for limit in [100, 500] {
            let requests = control(http, sim, &format!("requests?limit={limit}"), None).await;
            let requests: Vec<Value> = serde_json::from_value(requests).unwrap();
            if book.lock().unwrap().copy(&requests) {
                return;
            }
        }
        panic!("the platform forgets too soon");
    }

    /// Copies those of the newest that are new, unless some are missing.
    fn copy(&mut self, newest: &[Value]) -> bool {
        let id = |request: &Value| request["id"].as_u64().unwrap();
        if newest.last().map_or(1, id) > self.last_id + 1 {
            return false;
        }
        for request in newest.iter().rev() {
            if id(request) <= self.last_id {
                continue;
            }
            self.last_id = id(request);
            if request["path"] == self.path {
                self.fetches += 1;
                continue;
            }
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let is_refused = DEAD.contains(&request["errcode"].as_i64().unwrap());
            self.refused += usize::from(is_refused);
            self.entries.push(Entry {
                at: request["at"].as_i64().unwrap(),
                token: text(&request["query"]["access_token"]).unwrap(),
                fan: text(&request["query"]["next_openid"]),
                is_refused,
            });
        }
        true
    }

    /// The instances whose calls were taken with this token.
    fn users_of(&self, token: &str) -> BTreeSet<usize> {
        let newest_first = self.entries.iter().rev().take(500);
        let taken = newest_first.filter(|entry| entry.token == token && !entry.is_refused);
        taken
            .filter_map(|entry| entry.fan.as_deref().map(instance_of))
            .collect()
    }

    /// No call that begins once an instance was told that a token is dead goes out with that token from
    /// that instance.
    fn check(&self, calls: &[Called], pauses: &[(usize, RangeInclusive<i64>)]) {
        let mut calls_of: BTreeMap<&str, Vec<&Called>> = BTreeMap::new();
        for call in calls {
            calls_of.entry(&call.fan).or_default().push(call);
        }
        let mut told_at: BTreeMap<(&str, usize), i64> = BTreeMap::new();
        for entry in &self.entries {
            let Some(fan) = entry.fan.as_deref() else {
                continue;
            };
            let instance = instance_of(fan);
            let mut his = calls_of[fan].iter();
            let call = his.find(|call| (call.began..=call.ended).contains(&entry.at));
            let call = call.unwrap();
            let token = entry.token.as_str();
            let stood_still = pauses.iter().any(|(paused, times)| {
                *paused == instance && *times.start() <= call.ended && call.began <= *times.end()
            });
            if let Some(told) = told_at.get(&(token, instance))
                && !stood_still
            {
                let after = call.began - told;
                assert!(
                    after <= millis(TOLD),
                    "{after} ms after it was told that a token is dead, instance {instance} called with it"
                );
            }
            if entry.is_refused {
                told_at.entry((token, instance)).or_insert(entry.at);
            }
        }
    }
}
