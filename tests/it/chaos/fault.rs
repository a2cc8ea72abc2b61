//! What befalls a cluster, and how long it takes until all is well again.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use super::network::{Link, Party, Rule, Side};
use super::site::Site;
use super::tokens::TokenUser;
use crate::helpers::{APPID, advance, control};
use crate::instances::unix_ms;

/// All is well again within this time after a fault was taken away.
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);
/// All is well when it stays so for this long.
const STAYS_WELL: Duration = Duration::from_millis(1_500);
const TOKEN_CALL: &str = "/cgi-bin/stable_token";

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillInstance,
    FreezeInstance,
    StopInstance,
    KillPrimary,
    FreezePrimary,
    StepDown,
    IsolatePrimary,
    CutOffPrimary,
    CutOffInstance,
    BreakConnections,
    SlowStore,
    SlowPlatform,
    FailingPlatform,
    GarbagePlatform,
    KillToken,
    JumpClock,
}

impl Fault {
    pub(crate) const ALL: [Self; 16] = [
        Self::KillInstance,
        Self::FreezeInstance,
        Self::StopInstance,
        Self::KillPrimary,
        Self::FreezePrimary,
        Self::StepDown,
        Self::IsolatePrimary,
        Self::CutOffPrimary,
        Self::CutOffInstance,
        Self::BreakConnections,
        Self::SlowStore,
        Self::SlowPlatform,
        Self::FailingPlatform,
        Self::GarbagePlatform,
        Self::KillToken,
        Self::JumpClock,
    ];

    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillInstance => "instance killed (`kill -9`)",
            Self::FreezeInstance => "instance frozen (`SIGSTOP`, 5 to 8 s)",
            Self::StopInstance => "instance replaced (`SIGTERM`)",
            Self::KillPrimary => "primary killed (`kill -9`)",
            Self::FreezePrimary => "primary frozen (`SIGSTOP`, 5 to 8 s)",
            Self::StepDown => "primary steps down",
            Self::IsolatePrimary => "primary cut off from the other members",
            Self::CutOffPrimary => "primary cut off from everybody",
            Self::CutOffInstance => "instance cut off from the store",
            Self::BreakConnections => "all connections to the store broken for 1 s",
            Self::SlowStore => "store slow (0.2 to 0.8 s for each piece)",
            Self::SlowPlatform => "token dead, platform slow",
            Self::FailingPlatform => "token dead, platform answers 503",
            Self::GarbagePlatform => "token dead, platform answers HTML",
            Self::KillToken => "token killed by another program",
            Self::JumpClock => "platform's clock jumps past the token's life",
        }
    }

    /// So many, each kind as often as the others, in an order of chance.
    pub(crate) fn sequence(many: usize, rng: &mut StdRng) -> Vec<Self> {
        let mut sequence = Vec::new();
        while sequence.len() < many {
            let mut round = Self::ALL;
            round.shuffle(rng);
            sequence.extend(round);
        }
        sequence.truncate(many);
        sequence
    }

    /// While it lasts, instances may be without their store.
    pub(crate) fn is_of_store(self) -> bool {
        matches!(
            self,
            Self::KillPrimary
                | Self::FreezePrimary
                | Self::StepDown
                | Self::IsolatePrimary
                | Self::CutOffPrimary
                | Self::CutOffInstance
                | Self::BreakConnections
                | Self::SlowStore
        )
    }

    /// After it the account's token has to be fetched anew.
    pub(crate) fn is_of_token(self) -> bool {
        matches!(
            self,
            Self::SlowPlatform
                | Self::FailingPlatform
                | Self::GarbagePlatform
                | Self::KillToken
                | Self::JumpClock
        )
    }
}

/// A fault that was.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) fault: Fault,
    pub(crate) from_ms: u64,
    /// All was well again.
    pub(crate) to_ms: u64,
    /// From its beginning until all instances were ready, and tokens good; zero where nobody noticed.
    pub(crate) recovery: Duration,
    /// The process that it befell.
    pub(crate) pid: Option<u32>,
    /// A token died of it.
    pub(crate) killed_token: bool,
}

impl Site {
    /// Strikes, and waits until all is well again.
    pub(crate) async fn strike(
        &mut self,
        fault: Fault,
        tokens: &TokenUser,
        rng: &mut StdRng,
    ) -> Strike {
        let (began, from_ms) = (Instant::now(), unix_ms());
        eprintln!("{from_ms}: {fault:?}");
        let mut killed_token = false;
        let pid = match fault {
            Fault::KillInstance | Fault::FreezeInstance | Fault::StopInstance => {
                Some(self.strike_instance(fault, rng).await)
            }
            Fault::CutOffInstance => {
                let number = rng.random_range(0..self.instances.len());
                let party = Side::Only(Party::Instance(number));
                let link = [Link::Silent, Link::Cut, Link::Lost][rng.random_range(0..3)];
                self.cut_off(party, Side::Members, link, rng).await;
                Some(self.pid(number))
            }
            fault if fault.is_of_token() => {
                killed_token = self.strike_token(fault, tokens).await;
                None
            }
            fault => {
                self.strike_store(fault, rng).await;
                None
            }
        };
        let healed = Instant::now();
        self.set.is_whole().await;
        loop {
            let since = self.counters.ready_since().zip(tokens.good_since());
            if since
                .is_some_and(|(ready, good)| ready.max(good).max(healed).elapsed() >= STAYS_WELL)
            {
                break;
            }
            assert!(
                healed.elapsed() < RECOVERS_WITHIN,
                "{fault:?}: not well again, ready since {:?}, tokens good since {:?}",
                self.counters.ready_since(),
                tokens.good_since(),
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let well_since = self.counters.ready_since().max(tokens.good_since());
        let recovery = well_since.map_or(Duration::ZERO, |at| at.saturating_duration_since(began));
        let to_ms = unix_ms();
        eprintln!("{to_ms}: well again, after {recovery:?}");
        Strike {
            fault,
            from_ms,
            to_ms,
            recovery,
            pid,
            killed_token,
        }
    }

    async fn strike_instance(&mut self, fault: Fault, rng: &mut StdRng) -> u32 {
        let number = rng.random_range(0..self.instances.len());
        let pid = self.pid(number);
        match fault {
            Fault::KillInstance => {
                self.instances[number].kill();
                self.restart(number).await;
            }
            Fault::FreezeInstance => {
                self.instances[number].signal("STOP");
                freeze(rng).await;
                self.instances[number].signal("CONT");
            }
            _ => self.roll(number).await,
        }
        pid
    }

    /// Replaces an instance, waiting for nothing more than its end.
    pub(crate) async fn restart_beside(&mut self, number: usize) -> Strike {
        let (began, from_ms, pid) = (Instant::now(), unix_ms(), self.pid(number));
        self.roll(number).await;
        Strike {
            fault: Fault::StopInstance,
            from_ms,
            to_ms: unix_ms(),
            recovery: began.elapsed(),
            pid: Some(pid),
            killed_token: false,
        }
    }

    /// A new process beside the old one, which is then told to end, and has to do so well and in time.
    async fn roll(&mut self, number: usize) {
        let mut new = self.instance(number);
        self.begin(number, &mut new);
        new.listens().await;
        self.balancer.has_in(new.addr).await;
        self.instances[number].signal("TERM");
        let told = Instant::now();
        assert!(self.instances[number].ends().await, "it ends well");
        let took = told.elapsed();
        assert!(
            took < Duration::from_millis(4_500),
            "it ends in time: {took:?}"
        );
        self.replace(number, new);
    }

    async fn strike_store(&mut self, fault: Fault, rng: &mut StdRng) {
        let primary = self.set.primary().await;
        let one = Side::Only(Party::Member(primary));
        match fault {
            Fault::KillPrimary => {
                self.set.signal(primary, "KILL");
                tokio::time::sleep(Duration::from_millis(rng.random_range(3_000..6_000))).await;
                self.set.restart(primary).await;
            }
            Fault::FreezePrimary => {
                self.set.signal(primary, "STOP");
                freeze(rng).await;
                self.set.signal(primary, "CONT");
            }
            Fault::StepDown => self.set.step_down(primary).await,
            Fault::IsolatePrimary => self.cut_off(one, Side::Members, Link::Silent, rng).await,
            Fault::CutOffPrimary => {
                let rules = [Side::Members, Side::Instances].map(|others| Rule {
                    between: (one, others),
                    link: Link::Silent,
                });
                self.network.becomes(rules.to_vec());
                freeze(rng).await;
                self.network.heals();
            }
            Fault::BreakConnections => {
                let rule = Rule {
                    between: (Side::Instances, Side::Members),
                    link: Link::Cut,
                };
                self.network.becomes(vec![rule]);
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.network.heals();
            }
            _ => {
                let slow = Duration::from_millis(rng.random_range(200..800));
                self.cut_off(Side::Instances, Side::Members, Link::Slow(slow), rng)
                    .await;
            }
        }
    }

    async fn cut_off(&self, one: Side, others: Side, link: Link, rng: &mut StdRng) {
        self.network.becomes(vec![Rule {
            between: (one, others),
            link,
        }]);
        freeze(rng).await;
        self.network.heals();
    }

    /// Returns whether a token died of it.
    async fn strike_token(&self, fault: Fault, tokens: &TokenUser) -> bool {
        let how = match fault {
            Fault::SlowPlatform => Some((json!({"delay_ms": 2_500}), 2)),
            Fault::FailingPlatform => Some((json!({"status": 503}), 3)),
            Fault::GarbagePlatform => Some((json!({"body": "<html>busy</html>"}), 3)),
            _ => None,
        };
        let killed = if fault == Fault::KillToken {
            self.fetch_by_force(tokens).await
        } else {
            advance(&self.phones.http, &self.phones.sim, 7_300).await;
            true
        };
        if let Some((mut members, times)) = how {
            members["path"] = json!(TOKEN_CALL);
            members["times"] = json!(times);
            control(&self.phones.http, &self.phones.sim, "faults", Some(members)).await;
        }
        // Until somebody has noticed, and helped himself.
        if killed {
            let since = Instant::now();
            let is_noticed = || tokens.bad_at().is_some_and(|at| at >= since);
            while !(is_noticed() && tokens.good_since().is_some())
                && since.elapsed() < RECOVERS_WITHIN
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let faults = format!("{}/_sim/faults", self.phones.sim);
        self.phones.http.delete(faults).send().await.unwrap();
        killed
    }

    /// Another program with the account's secret has a new token made, which kills the one before. The
    /// platform allows that every 30 s. Returns whether it did.
    async fn fetch_by_force(&self, tokens: &TokenUser) -> bool {
        let body = json!({
            "grant_type": "client_credential",
            "appid": APPID,
            "secret": "0".repeat(32),
            "force_refresh": true,
        });
        let before = tokens.last();
        let url = format!("{}{TOKEN_CALL}?by=another", self.phones.sim);
        let answer = self.phones.http.post(url).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["access_token"].as_str() != before.as_deref()
    }
}

async fn freeze(rng: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(5_000..8_000))).await;
}
