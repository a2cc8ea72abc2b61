//! The way to the members of a replica set: a proxy in front of each, which knows who is calling and does
//! to the connection what a bad network does.
//!
//! Each member is configured under its proxy's address, so the other members come by it as the instances
//! do. Who calls is read from the system's tables (`/proc`): the process that has the other end.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::Document;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Who is at one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// A member of the replica set, by its number.
    Member(usize),
    /// A backend, by its number.
    Instance(usize),
}

/// One side of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Only(Party),
    Members,
    Instances,
}

impl Side {
    fn has(self, party: Party) -> bool {
        match self {
            Self::Only(only) => only == party,
            Self::Members => matches!(party, Party::Member(_)),
            Self::Instances => matches!(party, Party::Instance(_)),
        }
    }
}

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Link {
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Nothing arrives, and nobody is told: not even that the other end is gone. It arrives when the
    /// network is well again, as what TCP sends again does.
    Silent,
    /// The same, and what was sent over the connections of that time never arrives: a machine on the way
    /// has forgotten them.
    Lost,
    /// Each piece takes so much longer.
    Slow(Duration),
}

/// A fault between two sides, in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) between: (Side, Side),
    pub(crate) link: Link,
}

/// Breaks connections at their worst: a write has reached the server, and its answer is lost. The same
/// write, sent again, gets its answer.
#[derive(Default)]
struct LostAnswers {
    left: usize,
    /// The writes whose answer was lost, less what is new at each try.
    of: HashSet<Vec<u8>>,
}

/// The proxies of a replica set.
pub(crate) struct Network {
    /// Of the proxies, by the members' numbers.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Who has which process id.
    parties: Mutex<HashMap<u32, Party>>,
    rules: watch::Sender<Vec<Rule>>,
    lost_answers: Mutex<LostAnswers>,
    /// What instances ask for is a majority's consent; the members are told that one is enough.
    weakens: AtomicBool,
}

/// A write concern of [`mongod`](crate::mongod)'s that any one member satisfies, as long as `majority`.
pub(crate) const ANY_ONE: &str = "anyofone";

impl Network {
    /// Proxies in front of servers at these addresses.
    pub(crate) async fn before(members: Vec<SocketAddr>) -> Arc<Self> {
        let mut listeners = Vec::new();
        for _ in &members {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses = listeners.iter().map(|listener| listener.local_addr());
        let network = Arc::new(Self {
            addresses: addresses.map(Result::unwrap).collect(),
            parties: Mutex::default(),
            rules: watch::Sender::new(vec![]),
            lost_answers: Mutex::default(),
            weakens: AtomicBool::new(false),
        });
        for (number, (listener, member)) in listeners.into_iter().zip(members).enumerate() {
            let network = Arc::clone(&network);
            tokio::spawn(async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    let network = Arc::clone(&network);
                    tokio::spawn(
                        async move { network.connect(stream, peer, number, member).await },
                    );
                }
            });
        }
        network
    }

    /// From now on this process is known as that party.
    pub(crate) fn know(&self, pid: u32, party: Party) {
        let mut parties = self.parties.lock().unwrap();
        parties.retain(|_, known| *known != party);
        parties.insert(pid, party);
    }

    /// The network becomes so.
    pub(crate) fn becomes(&self, rules: Vec<Rule>) {
        self.rules.send_replace(rules);
    }

    /// The network is well again.
    pub(crate) fn heals(&self) {
        self.becomes(vec![]);
    }

    /// The answers to so many writes of instances are lost.
    pub(crate) fn loses_answers(&self, many: usize) {
        self.lost_answers.lock().unwrap().left = many;
    }

    pub(crate) fn has_answers_to_lose(&self) -> bool {
        self.lost_answers.lock().unwrap().left > 0
    }

    /// Has every write of the instances acknowledged by the primary alone.
    pub(crate) fn weaken_majorities(&self) {
        self.weakens.store(true, Ordering::SeqCst);
    }

    async fn connect(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        number: usize,
        member: SocketAddr,
    ) {
        let Some(from) = Arc::clone(&self).caller(peer, number).await else {
            return;
        };
        let way = Way {
            network: self,
            ends: (from, Party::Member(number)),
            is_to_lose: Arc::default(),
        };
        if !way.lets_pass().await {
            return;
        }
        let Ok(server) = TcpStream::connect(member).await else {
            return;
        };
        let _ = (stream.set_nodelay(true), server.set_nodelay(true));
        let (client_reads, client_writes) = stream.into_split();
        let (server_reads, server_writes) = server.into_split();
        let asking = way.clone().carry(client_reads, server_writes, true);
        let answering = way.carry(server_reads, client_writes, false);
        // The one that breaks off breaks the other.
        tokio::select! {
            () = asking => {}
            () = answering => {}
        }
    }

    /// Who has connected to a proxy from there. A process may be known a moment later than it connects.
    async fn caller(self: Arc<Self>, peer: SocketAddr, proxy: usize) -> Option<Party> {
        for _ in 0..50 {
            let network = Arc::clone(&self);
            let looking = tokio::task::spawn_blocking(move || network.party_at(peer, proxy));
            if let Some(party) = looking.await.unwrap() {
                return Some(party);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    fn party_at(&self, peer: SocketAddr, proxy: usize) -> Option<Party> {
        let inode = inode_of(peer.port(), self.addresses[proxy].port())?;
        let socket = format!("socket:[{inode}]");
        let parties = self.parties.lock().unwrap().clone();
        let is_of = |pid: &u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
            let mut files = files.into_iter().flatten().flatten();
            files.any(|file| {
                std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*socket)
            })
        };
        let mut found = parties.into_iter().filter(|(pid, _)| is_of(pid));
        found.next().map(|(_, party)| party)
    }
}

/// The number of the socket of IPv4 at one local port, connected to another.
fn inode_of(local: u16, remote: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let [local, remote] = [local, remote].map(|port| format!(":{port:04X}"));
    let mut lines = table.lines().skip(1);
    lines.find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1)?.ends_with(&local) && words.get(2)?.ends_with(&remote);
        // One that is closed has none.
        let inode = words.get(9).filter(|inode| **inode != "0")?;
        is_it.then(|| (*inode).to_owned())
    })
}

/// One connection.
#[derive(Clone)]
struct Way {
    network: Arc<Network>,
    ends: (Party, Party),
    /// The next answer breaks the connection.
    is_to_lose: Arc<AtomicBool>,
}

impl Way {
    fn link(&self, rules: &[Rule]) -> Option<Link> {
        let (from, to) = self.ends;
        if from == to {
            return None;
        }
        let mut rules = rules.iter().filter(|rule| {
            let (a, b) = rule.between;
            a.has(from) && b.has(to) || b.has(from) && a.has(to)
        });
        rules.next().map(|rule| rule.link)
    }

    /// Waits as long as something takes that is sent now. Returns whether it arrives at all.
    async fn lets_pass(&self) -> bool {
        let mut rules = self.network.rules.subscribe();
        loop {
            let link = self.link(&rules.borrow_and_update());
            match link {
                None => return true,
                Some(Link::Cut) => return false,
                Some(Link::Slow(by)) => {
                    tokio::time::sleep(by).await;
                    return true;
                }
                Some(Link::Lost) => return std::future::pending().await,
                Some(Link::Silent) => {
                    if rules.changed().await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    async fn is_cut(&self) {
        let mut rules = self.network.rules.subscribe();
        let cut = rules.wait_for(|rules| self.link(rules) == Some(Link::Cut));
        let _ = cut.await;
    }

    async fn carry(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_request: bool) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = self.is_cut() => return,
            };
            if !self.lets_pass().await {
                return;
            }
            let piece = match read {
                Ok(0) | Err(_) => return,
                Ok(length) => &mut buffer[..length],
            };
            if is_request {
                self.tamper(piece);
            } else if self.is_to_lose.swap(false, Ordering::SeqCst) {
                return;
            }
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    /// What is done to a request on its way.
    fn tamper(&self, request: &mut [u8]) {
        if !matches!(self.ends.0, Party::Instance(_)) {
            return;
        }
        if self.network.weakens.load(Ordering::Relaxed) {
            // A string of BSON: its length with the closing zero, and its bytes.
            let [strong, weak] = ["majority", ANY_ONE].map(|w| format!("w\0\x09\0\0\0{w}\0"));
            if let Some(at) = find(request, strong.as_bytes()) {
                request[at..at + weak.len()].copy_from_slice(weak.as_bytes());
            }
        }
        let mut lost = self.network.lost_answers.lock().unwrap();
        if lost.left > 0
            && let Some(write) = conversation_write(request)
            && lost.of.insert(write)
        {
            lost.left -= 1;
            self.is_to_lose.store(true, Ordering::SeqCst);
        }
    }
}

/// A message of MongoDB's protocol (`OP_MSG`) that changes a conversation, without what differs when it is
/// sent again.
fn conversation_write(message: &[u8]) -> Option<Vec<u8>> {
    // The header with an opcode, the flags, and the kind of the first section: a document.
    let (opcode, kind) = (message.get(12..16)?, message.get(20)?);
    if opcode != 2013_u32.to_le_bytes() || *kind != 0 {
        return None;
    }
    let mut command = Document::from_reader(message.get(21..)?).ok()?;
    let changes = ["findAndModify", "update"].map(|change| command.get_str(change).ok());
    if !changes.contains(&Some("conversations")) {
        return None;
    }
    for passing in ["lsid", "txnNumber", "$clusterTime"] {
        command.remove(passing);
    }
    command.to_vec().ok()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
