//! Three real members of a replica set, which can be killed, frozen, stepped down and cut off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

use super::network::{ANY_ONE, Network, Party};
use crate::mongod::{self, Mongod};

const MEMBERS: usize = 3;
/// How long the set may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a member may take to answer who it is.
const ANSWERS_WITHIN: Duration = Duration::from_millis(700);

/// Three members behind their proxies.
pub(crate) struct ReplicaSet {
    members: Vec<Option<Mongod>>,
    /// Past the proxy.
    admins: Vec<Client>,
    pub(crate) network: Arc<Network>,
}

impl ReplicaSet {
    pub(crate) async fn start(election_timeout: Duration) -> Self {
        let starting = (0..MEMBERS).map(|_| {
            let options = ["--replSet", "chaos", "--oplogSize", "64"];
            tokio::task::spawn_blocking(move || Mongod::start(&options))
        });
        let starting: Vec<_> = starting.collect();
        let mut members = Vec::new();
        for member in starting {
            members.push(member.await.unwrap());
        }
        let addresses: Vec<SocketAddr> =
            members.iter().map(|m| m.host().parse().unwrap()).collect();
        let mut admins = Vec::new();
        for address in &addresses {
            admins.push(admin_of(*address).await);
        }
        let network = Network::before(addresses).await;
        for (number, member) in members.iter().enumerate() {
            network.know(member.pid(), Party::Member(number));
        }
        let configured: Vec<Bson> = (0..)
            .zip(&network.addresses)
            .map(|(id, host)| {
                let host = host.to_string();
                doc! { "_id": id, "host": host, "tags": { "any": "one" } }.into()
            })
            .collect();
        let timeout = i64::try_from(election_timeout.as_millis()).unwrap();
        let configuration = doc! {
            "_id": "chaos",
            "members": configured,
            "settings": {
                "electionTimeoutMillis": timeout,
                "getLastErrorModes": { ANY_ONE: { "any": 1 } },
            },
        };
        mongod::initiate(&members[0].host(), configuration).await;
        Self {
            members: members.into_iter().map(Some).collect(),
            admins,
            network,
        }
    }

    /// Its URL for an instance, with the database's name.
    pub(crate) fn url(&self, database: &str) -> String {
        let hosts: Vec<String> = self
            .network
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        format!("mongodb://{}/{database}?replicaSet=chaos", hosts.join(","))
    }

    fn member(&self, number: usize) -> &Mongod {
        self.members[number].as_ref().unwrap()
    }

    /// Sends a member a signal.
    pub(crate) fn signal(&self, number: usize, name: &str) {
        self.member(number).signal(name);
    }

    /// Starts a member again that was killed.
    pub(crate) async fn restart(&mut self, number: usize) {
        let mut member = self.members[number].take().unwrap();
        let restarting = tokio::task::spawn_blocking(move || {
            member.restart();
            member
        });
        let member = restarting.await.unwrap();
        self.network.know(member.pid(), Party::Member(number));
        self.members[number] = Some(member);
    }

    /// Asks a member to step down. It may take its time, or break the connection.
    pub(crate) async fn step_down(&self, number: usize) {
        let ask = doc! { "replSetStepDown": 20, "secondaryCatchUpPeriodSecs": 5 };
        let admin = self.admins[number].database("admin");
        let asking = tokio::spawn(async move { admin.run_command(ask).await });
        let _ = tokio::time::timeout(Duration::from_secs(8), asking).await;
    }

    /// The member that is the primary, as soon as there is one and it knows.
    pub(crate) async fn primary(&self) -> usize {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut found: Option<(Bson, usize)> = None;
            for number in 0..MEMBERS {
                let Some(hello) = self.ask(number, doc! { "hello": 1 }).await else {
                    continue;
                };
                if hello.get_bool("isWritablePrimary").is_ok_and(|is| is) {
                    let election = hello.get("electionId").cloned().unwrap_or(Bson::Null);
                    let is_newer =
                        |(than, _): &(Bson, usize)| election.to_string() > than.to_string();
                    if found.as_ref().is_none_or(is_newer) {
                        found = Some((election, number));
                    }
                }
            }
            if let Some((_, number)) = found {
                return number;
            }
            assert!(Instant::now() < until, "the set has no primary");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until there is a primary, and every member follows it.
    pub(crate) async fn is_whole(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let primary = self.primary().await;
            let status = self.ask(primary, doc! { "replSetGetStatus": 1 }).await;
            let states: Vec<i32> = status
                .iter()
                .flat_map(|status| status.get_array("members").unwrap())
                .filter_map(|member| member.as_document()?.get_i32("state").ok())
                .collect();
            // 1 is a primary, 2 a secondary.
            let is_well = |state: &&i32| matches!(**state, 1 | 2);
            if states.iter().filter(is_well).count() == MEMBERS {
                return;
            }
            assert!(Instant::now() < until, "the set is not whole: {states:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ask(&self, number: usize, what: Document) -> Option<Document> {
        let admin = self.admins[number].database("admin");
        // In a task: the driver's futures are not to be dropped.
        let asking = tokio::spawn(async move { admin.run_command(what).await });
        let answer = tokio::time::timeout(ANSWERS_WITHIN, asking).await;
        answer.ok()?.ok()?.ok()
    }
}

async fn admin_of(address: SocketAddr) -> Client {
    let url = format!(
        "mongodb://{address}/?directConnection=true&serverSelectionTimeoutMS=600&connectTimeoutMS=600"
    );
    let mut options = mongodb::options::ClientOptions::parse(url).await.unwrap();
    options.heartbeat_freq = Some(Duration::from_millis(500));
    Client::with_options(options).unwrap()
}
