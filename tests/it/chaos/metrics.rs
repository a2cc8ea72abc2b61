//! What the instances say of themselves, all the time: whether they are ready, and their own counts. What
//! a process counted up to shortly before it was killed stays known.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio_util::sync::CancellationToken;

use crate::helpers::client;

const ASK_EVERY: Duration = Duration::from_millis(200);
/// `/readyz` answers within 2 s, whatever is away.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Counts are read every so many rounds.
const COUNT_EVERY: u32 = 5;

#[derive(Clone, Copy)]
struct Watched {
    addr: SocketAddr,
    pid: u32,
    /// Since when it is ready without a break.
    ready_since: Option<Instant>,
}

/// A watch over all instances.
pub(crate) struct Counters {
    http: Client,
    watched: Mutex<BTreeMap<usize, Watched>>,
    /// Each process's last counts.
    counts: Mutex<HashMap<(u32, String), f64>>,
}

impl Counters {
    pub(crate) fn start(stop: &CancellationToken) -> Arc<Self> {
        let counters = Arc::new(Self {
            http: client(),
            watched: Mutex::default(),
            counts: Mutex::default(),
        });
        let watching = Arc::clone(&counters).keep_watch();
        tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
        counters
    }

    /// From now on this process is the instance of that number.
    pub(crate) fn watch(&self, number: usize, addr: SocketAddr, pid: u32) {
        let watched = Watched {
            addr,
            pid,
            ready_since: None,
        };
        self.watched.lock().unwrap().insert(number, watched);
    }

    /// Since when all instances are ready, if they are.
    pub(crate) fn ready_since(&self) -> Option<Instant> {
        let watched = self.watched.lock().unwrap();
        let since: Option<Vec<Instant>> = watched.values().map(|it| it.ready_since).collect();
        since?.into_iter().max()
    }

    /// A count over all processes that ever ran: all samples whose name begins so.
    pub(crate) fn total(&self, sample: &str) -> u64 {
        let counts = self.counts.lock().unwrap();
        let those = counts
            .iter()
            .filter(|((_, name), _)| name.starts_with(sample));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        let total = those.map(|(_, count)| count).sum::<f64>() as u64;
        total
    }

    async fn keep_watch(self: Arc<Self>) {
        for round in 0_u32.. {
            let asking = {
                let watched = self.watched.lock().unwrap();
                let ask = |(number, it): (&usize, &Watched)| {
                    Arc::clone(&self).ask(*number, *it, round.is_multiple_of(COUNT_EVERY))
                };
                watched
                    .iter()
                    .map(ask)
                    .map(tokio::spawn)
                    .collect::<Vec<_>>()
            };
            tokio::time::sleep(ASK_EVERY).await;
            futures_util::future::join_all(asking).await;
        }
    }

    async fn ask(self: Arc<Self>, number: usize, it: Watched, counts: bool) {
        let get = |path: &str| {
            let request = self.http.get(format!("http://{}{path}", it.addr));
            request.timeout(ANSWERS_WITHIN).send()
        };
        let is_ready = get("/readyz")
            .await
            .is_ok_and(|answer| answer.status() == 200);
        let now = Instant::now();
        if let Some(watched) = self.watched.lock().unwrap().get_mut(&number)
            && watched.pid == it.pid
        {
            if is_ready {
                watched.ready_since.get_or_insert(now);
            } else {
                watched.ready_since = None;
            }
        }
        if counts
            && let Ok(answer) = get("/metrics").await
            && let Ok(text) = answer.text().await
        {
            let mut counts = self.counts.lock().unwrap();
            for line in text.lines().filter(|line| line.starts_with("offiaccount_")) {
                if let Some((name, count)) = line.rsplit_once(' ')
                    && let Ok(count) = count.parse()
                {
                    counts.insert((it.pid, name.to_owned()), count);
                }
            }
        }
    }
}
