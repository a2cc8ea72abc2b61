//! All that a run needs: the platform, the balancer, the instances, and the replica set behind the network.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offiaccount::simulator::{Mode, Options, Simulator};
use tokio_util::sync::CancellationToken;

use super::balancer::Balancer;
use super::metrics::Counters;
use super::network::{Network, Party};
use super::replica_set::ReplicaSet;
use crate::helpers::{ADMIN_TOKEN, APPID, TOKEN, client};
use crate::instances::{Instance, JOURNAL, Journal, Phones, Stall, notice_stalls};

/// What is broken on purpose, to see that the judge notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Each instance has a database of its own.
    NoLedger,
    /// The primary alone acknowledges writes.
    NoMajority,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) instances: usize,
    pub(crate) election_timeout: Duration,
    pub(crate) sabotage: Option<Sabotage>,
}

pub(crate) struct Site {
    pub(crate) phones: Phones,
    pub(crate) instances: Vec<Instance>,
    pub(crate) journal: Journal,
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) set: ReplicaSet,
    pub(crate) network: Arc<Network>,
    pub(crate) counters: Arc<Counters>,
    /// Of this process: the platform, the balancer and the fans.
    stalls: Arc<Mutex<Vec<Stall>>>,
    /// Of instances that are no more.
    old_stalls: Vec<Stall>,
    plan: Plan,
    settings: Vec<(String, String)>,
    database: u64,
    folder: Option<tempfile::TempDir>,
    stop: CancellationToken,
}

impl Site {
    pub(crate) async fn start(plan: Plan) -> Self {
        let set = ReplicaSet::start(plan.election_timeout).await;
        let network = Arc::clone(&set.network);
        if plan.sabotage == Some(Sabotage::NoMajority) {
            network.weaken_majorities();
        }
        let folder = tempfile::tempdir().unwrap();
        let mut simulator = Simulator::build(Options {
            listen: "127.0.0.1:0".into(),
            mode: Mode::Plain,
            ..Options::default()
        })
        .unwrap();
        let sim = simulator.url().to_owned();
        let stop = CancellationToken::new();
        let stalls: Arc<Mutex<Vec<Stall>>> = Arc::default();
        let noted = Arc::clone(&stalls);
        let noticing = notice_stalls("the platform", move |stall| {
            noted.lock().unwrap().push(stall)
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(noticing));
        let (balancer, callback) = Balancer::start(&stop).await;
        simulator.set_callback_url(format!("http://{callback}/wechat"));
        tokio::spawn(simulator.run_until(stop.clone().cancelled_owned()));
        let journal = folder.path().join("journal");
        let settings = [
            (JOURNAL, journal.to_str().unwrap()),
            ("RUST_LOG", "info,offiaccount::ledger=debug"),
            ("WECHAT_APPID", APPID),
            ("WECHAT_APPSECRET", &"0".repeat(32)),
            ("WECHAT_TOKEN", TOKEN),
            ("WECHAT_API_URL", &sim),
            ("WECHAT_OPEN_URL", &sim),
            ("STORE_KEY", &"42".repeat(32)),
            ("ADMIN_TOKEN", ADMIN_TOKEN),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let counters = Counters::start(&stop);
        let mut site = Self {
            phones: Phones {
                http: client(),
                sim,
            },
            instances: vec![],
            journal: Journal::at(&journal),
            balancer,
            set,
            network,
            counters,
            stalls,
            old_stalls: vec![],
            plan,
            settings: settings.to_vec(),
            database: rand::random(),
            folder: Some(folder),
            stop,
        };
        for number in 0..plan.instances {
            let mut instance = site.instance(number);
            site.begin(number, &mut instance);
            instance.listens().await;
            site.balancer.has_in(instance.addr).await;
            site.instances.push(instance);
        }
        site
    }

    /// An instance of this number, not started yet.
    pub(crate) fn instance(&self, number: usize) -> Instance {
        let own = match self.plan.sabotage {
            Some(Sabotage::NoLedger) => format!("n{number}"),
            _ => String::new(),
        };
        let database = format!("chaos{:016x}{own}", self.database);
        let url = self.set.url(&database);
        let settings = self.settings.iter();
        let mut settings: Vec<(&str, &str)> =
            settings.map(|(name, value)| (&**name, &**value)).collect();
        settings.push(("DATABASE_URL", &url));
        let folder: &Path = self.folder.as_ref().unwrap().path();
        Instance::new(folder, &settings)
    }

    /// Starts an instance's process, and tells those who have to know.
    pub(crate) fn begin(&self, number: usize, instance: &mut Instance) {
        instance.start();
        let pid = instance.pid().unwrap();
        self.network.know(pid, Party::Instance(number));
        self.balancer.add(instance.addr, pid);
        self.counters.watch(number, instance.addr, pid);
    }

    /// Starts an instance again whose process is no more. Waits until it listens.
    pub(crate) async fn restart(&mut self, number: usize) {
        let mut instance = self.instance(number);
        self.begin(number, &mut instance);
        instance.listens().await;
        self.replace(number, instance);
    }

    /// Puts an instance in the place of one that is no more.
    pub(crate) fn replace(&mut self, number: usize, instance: Instance) {
        let old = std::mem::replace(&mut self.instances[number], instance);
        self.balancer.remove(old.addr);
        self.old_stalls.extend(old.stalls());
    }

    pub(crate) fn pid(&self, number: usize) -> u32 {
        self.instances[number].pid().unwrap()
    }

    /// When this process or an instance had no time.
    pub(crate) fn all_stalls(&self) -> Vec<Stall> {
        let mut stalls = self.stalls.lock().unwrap().clone();
        stalls.extend(self.instances.iter().flat_map(Instance::stalls));
        stalls.extend(&self.old_stalls);
        stalls
    }

    /// Leaves the journal and the logs for somebody to read.
    pub(crate) fn keep(&mut self) {
        if let Some(folder) = self.folder.take() {
            eprintln!("journal and logs are left in {}", folder.keep().display());
        }
    }

    /// By how much an answer may be late for want of a faster machine.
    pub(crate) fn longest_stall_ms(&self) -> u64 {
        self.all_stalls().iter().map(Stall::ms).max().unwrap_or(0)
    }
}

impl Stall {
    pub(crate) fn ms(&self) -> u64 {
        self.to_ms - self.from_ms
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
        if std::thread::panicking() {
            self.keep();
        }
    }
}
