//! Instances that share the account's credentials: processes of their own over a replica set, a platform
//! that counts what they fetch, and callers by the thousand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use offiaccount::simulator::{Options, Simulator};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Mutex};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::helpers::{ADMIN_TOKEN, APPID, TOKEN, advance, calls, client, control, eventually};
use crate::instances::{Instance, JOURNAL};
use crate::mongod;

pub(crate) const TICKET: &str = "/cgi-bin/ticket/getticket";
pub(crate) const SECRET: &str = "00000000000000000000000000000000";
/// How long something that has to happen may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which of the platform's calls gives the instances their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Stable,
    Classic,
}

impl Mode {
    /// As the setting `TOKEN_MODE` and the platform's books call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Classic => "classic",
        }
    }

    /// The call.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Stable => "/cgi-bin/stable_token",
            Self::Classic => "/cgi-bin/token",
        }
    }
}

/// A platform, a database, and instances that are started and have not fetched anything.
pub(crate) struct Centre {
    pub(crate) mode: Mode,
    pub(crate) instances: Vec<Instance>,
    pub(crate) http: Client,
    pub(crate) sim: String,
    /// Of all instances, or of the first where each has its own.
    pub(crate) database: mongodb::Database,
    folder: Option<tempfile::TempDir>,
    stop: CancellationToken,
}

impl Centre {
    /// Instances on one database.
    pub(crate) async fn start(instances: usize, mode: Mode) -> Self {
        let name: u64 = rand::random();
        Self::over(&vec![format!("it{name:016x}"); instances], mode).await
    }

    /// Instances that know nothing of each other: each has a database of its own.
    pub(crate) async fn start_apart(instances: usize, mode: Mode) -> Self {
        let name = || format!("it{:016x}", rand::random::<u64>());
        let names: Vec<_> = std::iter::repeat_with(name).take(instances).collect();
        Self::over(&names, mode).await
    }

    /// An instance for each name of a database.
    async fn over(names: &[String], mode: Mode) -> Self {
        let server = tokio::task::spawn_blocking(mongod::replica_set);
        let server = server.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let simulator = Simulator::build(Options {
            listen: "127.0.0.1:0".into(),
            ..Options::default()
        })
        .unwrap();
        let sim = simulator.url().to_owned();
        let stop = CancellationToken::new();
        // In a thread of its own: thousands of callers must not keep the platform from answering.
        let stopped = stop.clone().cancelled_owned();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(simulator.run_until(stopped)).unwrap();
        });
        let journal = folder.path().join("journal").display().to_string();
        let key = "42".repeat(32);
        let mut instances = Vec::new();
        for name in names {
            let database = format!("{server}{name}");
            let settings = [
                (JOURNAL, journal.as_str()),
                ("RUST_LOG", "info,offiaccount::token=debug"),
                ("WECHAT_APPID", APPID),
                ("WECHAT_APPSECRET", SECRET),
                ("WECHAT_TOKEN", TOKEN),
                ("WECHAT_API_URL", &sim),
                ("WECHAT_OPEN_URL", &sim),
                ("DATABASE_URL", &database),
                ("STORE_KEY", &key),
                ("ADMIN_TOKEN", ADMIN_TOKEN),
                ("TOKEN_MODE", mode.name()),
            ];
            let mut instance = Instance::new(folder.path(), &settings);
            instance.start();
            // The first makes the indexes that the others find.
            instance.listens().await;
            instances.push(instance);
        }
        let client_of_all = mongodb::Client::with_uri_str(server).await.unwrap();
        Self {
            mode,
            instances,
            http: client(),
            sim,
            database: client_of_all.database(&names[0]),
            folder: Some(folder),
            stop,
        }
    }

    /// As if nothing had ever been fetched: new processes that remember nothing, no credential in the
    /// database, none at the platform.
    pub(crate) async fn make_cold(&mut self) {
        self.instances.iter_mut().for_each(Instance::kill);
        let credentials = self.database.collection::<Document>("credentials");
        credentials.delete_many(doc! {}).await.unwrap();
        self.sim("reset", Some(json!({}))).await;
        self.instances.iter_mut().for_each(Instance::start);
        for instance in &mut self.instances {
            instance.listens().await;
        }
    }

    /// The simulator's control side: GET without a body, POST with one.
    pub(crate) async fn sim(&self, path: &str, body: Option<Value>) -> Value {
        control(&self.http, &self.sim, path, body).await
    }

    /// The next call of `path` is answered so much later.
    pub(crate) async fn delay(&self, path: &str, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap();
        if delay_ms > 0 {
            let fault = json!({"path": path, "delay_ms": delay_ms});
            self.sim("faults", Some(fault)).await;
        }
    }

    /// The platform's clock moves.
    pub(crate) async fn advance(&self, seconds: u64) {
        advance(&self.http, &self.sim, seconds).await;
    }

    /// How often the platform was asked for `path`.
    pub(crate) async fn calls(&self, path: &str) -> usize {
        calls(&self.http, &self.sim, path).await
    }

    /// Waits until the platform was asked so often.
    pub(crate) async fn asked(&self, path: &str, times: usize) {
        eventually(PATIENCE, async || self.calls(path).await >= times).await;
    }

    /// The generation of the stored `access_token`.
    pub(crate) async fn generation(&self) -> i64 {
        let credentials = self.database.collection::<Document>("credentials");
        let id = format!("{APPID}/access_token");
        let found = credentials.find_one(doc! { "_id": id }).await.unwrap();
        found.unwrap().get_i64("generation").unwrap()
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let instances = self.instances.iter();
        instances.map(|instance| instance.addr).collect()
    }

    /// The token that an instance gives out.
    pub(crate) async fn token_at(&self, addr: SocketAddr) -> String {
        let (status, answer) = ask(&self.http, addr, Call::Token).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Another program of the account's owner fetches a token for itself, and so ends ours: in classic
    /// mode 300 s later, in stable mode by force. The next fetch may be answered so much later.
    pub(crate) async fn kill_token(&self, delay: Option<Duration>) {
        let url = format!("{}{}", self.sim, self.mode.path());
        let request = match self.mode {
            Mode::Classic => self.http.get(format!(
                "{url}?grant_type=client_credential&appid={APPID}&secret={SECRET}"
            )),
            Mode::Stable => self.http.post(url).json(&json!({
                "grant_type": "client_credential",
                "appid": APPID,
                "secret": SECRET,
                "force_refresh": true,
            })),
        };
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["access_token"].is_string(), "{answer}");
        // In stable mode some callers know by now, and their fetch may be over.
        self.delay(self.mode.path(), delay.unwrap_or_default())
            .await;
        if self.mode == Mode::Classic {
            self.advance(301).await;
        }
    }
}

impl Drop for Centre {
    fn drop(&mut self) {
        self.stop.cancel();
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("the logs are left in {}", folder.keep().display());
        }
    }
}

/// One call of an instance: status and JSON; nothing where the connection broke.
pub(crate) async fn ask(http: &Client, addr: SocketAddr, call: Call) -> Option<(u16, Value)> {
    let request = http.get(format!("http://{addr}{}", call.path()));
    let request = request.bearer_auth(ADMIN_TOKEN).timeout(PATIENCE);
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().await.ok()?;
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Some((status, json))
}

/// What a caller wants of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Token,
    Ticket,
    JsConfig,
}

impl Call {
    pub(crate) const ALL: [Self; 3] = [Self::Token, Self::Ticket, Self::JsConfig];

    fn path(self) -> &'static str {
        match self {
            Self::Token => "/getTokens",
            Self::Ticket => "/getTickets?type=jsapi",
            Self::JsConfig => "/getJSConfig?url=http%3A%2F%2F127.0.0.1%2F",
        }
    }

    /// The whole request.
    pub(crate) fn request(self) -> String {
        format!(
            "GET {} HTTP/1.1\r\nHost: it\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n",
            self.path()
        )
    }
}

/// A keep-alive connection.
struct Line(BufReader<TcpStream>);

impl Line {
    /// A connection that has carried a request already.
    async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut line = Self(BufReader::new(stream));
        let healthz = "GET /healthz HTTP/1.1\r\nHost: it\r\n\r\n";
        assert_eq!(line.send(healthz).await.0, 200);
        line
    }

    async fn send(&mut self, request: &str) -> (u16, Value) {
        self.0
            .get_mut()
            .write_all(request.as_bytes())
            .await
            .unwrap();
        let (mut status, mut length) = (0, 0);
        let mut head = String::new();
        loop {
            head.clear();
            let read = self.0.read_line(&mut head).await.unwrap();
            assert!(read > 0, "the instance has closed");
            let line = head.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

/// What a caller was answered, and after how long.
#[derive(Debug)]
pub(crate) struct Answered {
    /// Its place among the requests.
    pub(crate) caller: usize,
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) took: Duration,
}

/// Connections at most: what the callers need beyond they wait for. An instance takes 8,192 requests at
/// once, and both ends of all connections must not need more files than a process may open.
const MOST_LINES: usize = 6_000;

/// All requests at once, spread over the instances, from a thread of its own: every connection stands
/// before the first of them is sent.
pub(crate) async fn ask_all(addresses: &[SocketAddr], requests: Vec<String>) -> Vec<Answered> {
    let addresses = addresses.to_vec();
    let asking = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(ask_all_here(&addresses, requests))
    });
    asking.await.unwrap()
}

async fn ask_all_here(addresses: &[SocketAddr], requests: Vec<String>) -> Vec<Answered> {
    let mut opening = JoinSet::new();
    let mut lines = Vec::new();
    for place in 0..requests.len().min(MOST_LINES) {
        // Fewer than the system queues for a listener.
        if opening.len() >= 100 {
            lines.push(opening.join_next().await.unwrap().unwrap());
        }
        let addr = addresses[place % addresses.len()];
        opening.spawn(async move { Arc::new(Mutex::new(Line::open(addr).await)) });
    }
    lines.extend(opening.join_all().await);
    let start = Arc::new(Barrier::new(requests.len()));
    let mut callers = JoinSet::new();
    for (caller, request) in requests.into_iter().enumerate() {
        let line = Arc::clone(&lines[caller % lines.len()]);
        let start = Arc::clone(&start);
        callers.spawn(async move {
            start.wait().await;
            let began = Instant::now();
            let (status, body) = line.lock().await.send(&request).await;
            let took = began.elapsed();
            Answered {
                caller,
                status,
                body,
                took,
            }
        });
    }
    callers.join_all().await
}
