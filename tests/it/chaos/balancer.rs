//! A balancer as an operator would have it: it keeps connections, asks each instance for its health, and
//! gives each delivery of a message to another instance. It writes down what became of every one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poem::Response;
use poem::http::Uri;
use reqwest::Client;
use reqwest::header::CONNECTION;
use tokio_util::sync::CancellationToken;

use crate::helpers::client;
use crate::instances::{Balance, serve_balancer, unix_ms};

/// How often each instance is asked for its health, and how long it may take.
const ASK_EVERY: Duration = Duration::from_millis(200);
const HEALTHY_WITHIN: Duration = Duration::from_millis(500);
/// How long a delivery waits for an instance, where none is there.
const WAIT: Duration = Duration::from_secs(4);

/// An instance, as the balancer sees it.
#[derive(Clone, Copy, Debug)]
struct Target {
    addr: SocketAddr,
    pid: u32,
    is_in: bool,
}

/// How a delivery ended at an instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Passed {
    Status(u16),
    /// No connection: nothing was delivered, and another instance got it.
    Refused,
    /// The connection broke before the answer was there.
    Broken(String),
    /// The platform did not wait any longer.
    HungUp,
}

/// One delivery of a message at one instance.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) pid: u32,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    pub(crate) passed: Passed,
}

/// What the balancer wrote down of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passage {
    pub(crate) hops: Vec<Hop>,
    /// The instances that have it or had it.
    tried: Vec<u32>,
}

pub(crate) struct Balancer {
    targets: Mutex<Vec<Target>>,
    /// By the messages' tags.
    passages: Mutex<HashMap<String, Passage>>,
    turn: AtomicUsize,
    http: Client,
}

impl Balancer {
    /// Begins to listen; the address is for the platform.
    pub(crate) async fn start(stop: &CancellationToken) -> (Arc<Self>, SocketAddr) {
        let balancer = Arc::new(Self {
            targets: Mutex::default(),
            passages: Mutex::default(),
            turn: AtomicUsize::new(0),
            http: client(),
        });
        let addr = serve_balancer(Arc::clone(&balancer), stop.clone()).await;
        let asking = Arc::clone(&balancer).ask_for_health();
        tokio::spawn(stop.clone().run_until_cancelled_owned(asking));
        (balancer, addr)
    }

    /// From now on this instance takes part, as soon as it is healthy.
    pub(crate) fn add(&self, addr: SocketAddr, pid: u32) {
        let mut targets = self.targets.lock().unwrap();
        targets.retain(|target| target.addr != addr);
        targets.push(Target {
            addr,
            pid,
            is_in: false,
        });
    }

    /// It is no more.
    pub(crate) fn remove(&self, addr: SocketAddr) {
        self.targets
            .lock()
            .unwrap()
            .retain(|target| target.addr != addr);
    }

    /// Waits until an instance is asked for deliveries.
    pub(crate) async fn has_in(&self, addr: SocketAddr) {
        let is_in = || {
            let targets = self.targets.lock().unwrap();
            targets
                .iter()
                .any(|target| target.addr == addr && target.is_in)
        };
        while !is_in() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The instances that are asked for deliveries now.
    pub(crate) fn able(&self) -> Vec<SocketAddr> {
        let targets = self.targets.lock().unwrap();
        let able = targets.iter().filter(|target| target.is_in);
        able.map(|target| target.addr).collect()
    }

    /// What became of every message.
    pub(crate) fn passages(&self) -> HashMap<String, Passage> {
        self.passages.lock().unwrap().clone()
    }

    async fn ask_for_health(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let targets = self.targets.lock().unwrap().clone();
            let balancer = &self;
            let asking = targets.into_iter().map(|target| async move {
                let ask = balancer.http.get(format!("http://{}/healthz", target.addr));
                let answer = ask.timeout(HEALTHY_WITHIN).send().await;
                let is_well = answer.is_ok_and(|answer| answer.status() == 200);
                balancer.set(target.addr, is_well);
            });
            futures_util::future::join_all(asking).await;
        }
    }

    fn set(&self, addr: SocketAddr, is_in: bool) {
        let mut targets = self.targets.lock().unwrap();
        if let Some(target) = targets.iter_mut().find(|target| target.addr == addr) {
            target.is_in = is_in;
        }
    }

    /// An instance that takes part, and did not have this message, if there is one.
    fn choose(&self, tag: &str) -> Option<Target> {
        let targets = self.targets.lock().unwrap();
        let mut passages = self.passages.lock().unwrap();
        let tried = &mut passages.entry(tag.to_owned()).or_default().tried;
        let mut able: Vec<&Target> = targets.iter().filter(|target| target.is_in).collect();
        if able.iter().any(|target| !tried.contains(&target.pid)) {
            able.retain(|target| !tried.contains(&target.pid));
        } else if let Some(last) = tried.last()
            && able.len() > 1
        {
            able.retain(|target| target.pid != *last);
        }
        if able.is_empty() {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = *able[turn % able.len()];
        tried.push(chosen.pid);
        Some(chosen)
    }
}

/// Writes a delivery down when it ends, however it does.
struct UnderWay {
    balancer: Arc<Balancer>,
    tag: String,
    hop: Hop,
}

impl UnderWay {
    fn begin(balancer: &Arc<Balancer>, tag: &str, pid: u32) -> Self {
        Self {
            balancer: Arc::clone(balancer),
            tag: tag.to_owned(),
            hop: Hop {
                pid,
                from_ms: unix_ms(),
                to_ms: 0,
                passed: Passed::HungUp,
            },
        }
    }

    fn ends(&mut self, passed: Passed) {
        self.hop.passed = passed;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.hop.to_ms = unix_ms();
        let mut passages = self.balancer.passages.lock().unwrap();
        let passage = passages.entry(self.tag.clone()).or_default();
        passage.hops.push(self.hop.clone());
    }
}

impl Balance for Balancer {
    async fn forward(self: &Arc<Self>, uri: &Uri, body: Vec<u8>) -> Option<Response> {
        let tag = tag_in(&body).unwrap_or_default();
        let until = tokio::time::Instant::now() + WAIT;
        loop {
            let Some(target) = self.choose(&tag) else {
                if tokio::time::Instant::now() > until {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let mut under_way = UnderWay::begin(self, &tag, target.pid);
            let request = self.http.post(format!("http://{}{uri}", target.addr));
            let request = request.header("content-type", "text/xml");
            // When the platform hangs up, this future is dropped and the instance's connection closes.
            let error = match request.body(body.clone()).send().await {
                Ok(answer) => {
                    let status = answer.status();
                    let closes = answer.headers().get(CONNECTION);
                    if closes.is_some_and(|value| value == "close") {
                        self.set(target.addr, false);
                    }
                    match answer.bytes().await {
                        Ok(body) => {
                            under_way.ends(Passed::Status(status.as_u16()));
                            return Some(Response::builder().status(status).body(body));
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.set(target.addr, false);
            if error.is_connect() {
                under_way.ends(Passed::Refused);
            } else {
                under_way.ends(Passed::Broken(format!("{error:?}")));
                return None;
            }
        }
    }
}

/// The tag of a message, in its XML.
fn tag_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, from_tag) = text.split_once('#')?;
    let (tag, _) = from_tag.split_once("]]>")?;
    Some(tag.to_owned())
}
