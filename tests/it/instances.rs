//! Backends in processes of their own, which can be killed, and a balancer in front of them.
//!
//! An instance is this test binary again: told to run [`instance`] alone, which serves the bot below
//! until it is killed, with its settings in the environment. It ends when its parent does, however that
//! ends.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use offiaccount::config::Settings;
use offiaccount::simulator::{Kind, Mode, Options, Simulator};
use offiaccount::{Bot, BotError, Config, Context, Reply};
use poem::http::{StatusCode, Uri};
use poem::listener::TcpAcceptor;
use poem::{IntoResponse as _, Request, Response};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::helpers::{AES_KEY, APPID, TOKEN, client, control};
use crate::mongod::{self, Mongod};

/// The file in which instances note what they handle: names the test that runs as one.
pub(crate) const JOURNAL: &str = "OFFIACCOUNT_TEST_JOURNAL";
/// How long an instance may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The platform's own.
const DEADLINE: Duration = Duration::from_secs(5);

/// Not a test: what the other tests start as an instance.
#[test]
#[ignore = "a part of other tests, which start it"]
fn instance() {
    let Some(journal) = std::env::var_os(JOURNAL) else {
        return;
    };
    std::thread::spawn(|| {
        // The parent holds the other end and writes nothing.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let settings = Settings::from_env().unwrap();
    let config = Config::from_settings(&settings).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bot = bot(Journal::at(Path::new(&journal)));
    runtime.spawn(notice_stalls("this instance", drop));
    runtime.block_on(offiaccount::serve(config, bot)).unwrap();
}

/// A time without any for the tasks of a process, in the milliseconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stall {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// The words with which a stall stands in the log, before and between its two times.
const STALLED: [&str; 2] = [" stood still from ", " ms to "];

/// Says when this process had no time for its tasks: where the machine is too busy, a delivery that is
/// not answered in time is no defect.
pub(crate) async fn notice_stalls(of: &str, note: impl Fn(Stall)) {
    loop {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let stalled = began.elapsed() - Duration::from_millis(50);
        if stalled > Duration::from_millis(100) {
            let to_ms = unix_ms();
            let from_ms = to_ms - u64::try_from(stalled.as_millis()).unwrap();
            eprintln!("{of}{}{from_ms}{}{to_ms}", STALLED[0], STALLED[1]);
            note(Stall { from_ms, to_ms });
        }
    }
}

/// The milliseconds of Unix time.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// What the bot of the instances does. A text is a command, and so is the key of a menu's button if
/// it has one, with the message's own `#tag` at its end, which comes back at the end of the answer:
///
/// - `wait MS`: `waited MS`, after so long.
/// - `count after MS`: counts in the session, after so long: `count N`.
/// - `count from N`: makes the session N, whatever it was.
/// - `long N`: N Chinese characters.
/// - `fail after MS`, `panic`: as it says.
pub(crate) fn bot(journal: Journal) -> Bot {
    let journal = Arc::new(journal);
    Bot::new().fallback(move |ctx: Context| {
        let journal = Arc::clone(&journal);
        async move {
            let key = ctx.event_key().filter(|key| key.contains('#'));
            let Some(text) = ctx.text().or(key).map(str::to_owned) else {
                return Ok(Reply::None);
            };
            let tag = tag_of(&text).unwrap_or_default();
            // In the log too, where the message's key stands beside it.
            tracing::info!("begins #{tag}");
            journal.note("begun", tag);
            let said = obey(&ctx, &text, tag).await;
            journal.note("ended", tag);
            tracing::info!("ends #{tag}");
            said.map(Reply::Text)
        }
    })
}

async fn obey(ctx: &Context, text: &str, tag: &str) -> Result<String, BotError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words.as_slice() {
        ["wait", ms, _] => {
            sleep(ms).await?;
            format!("waited {ms} #{tag}")
        }
        ["count", "after", ms, _] => {
            sleep(ms).await?;
            let count = ctx.session::<u32>().await?.unwrap_or(0) + 1;
            ctx.set_session(&count, Duration::from_secs(3600))?;
            format!("count {count} #{tag}")
        }
        ["count", "from", number, _] => {
            let number: u32 = number.parse()?;
            ctx.set_session(&number, Duration::from_secs(3600))?;
            format!("counts from {number} #{tag}")
        }
        ["long", characters, _] => {
            format!("{} #{tag}", "长".repeat(characters.parse()?))
        }
        ["fail", "after", ms, _] => {
            sleep(ms).await?;
            return Err("on purpose".into());
        }
        ["panic", _] => panic!("on purpose"),
        _ => format!("heard #{tag}"),
    })
}

async fn sleep(ms: &str) -> Result<(), BotError> {
    tokio::time::sleep(Duration::from_millis(ms.parse()?)).await;
    Ok(())
}

fn tag_of(text: &str) -> Option<&str> {
    text.rsplit_once('#').map(|(_, tag)| tag)
}

/// What was handled, by whom: a line for each beginning and each end of a handling, in a file that all
/// instances share.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

/// What the journal says of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handling {
    /// The process ids of those that began it, in order.
    pub(crate) begun: Vec<u32>,
    /// How often it ended.
    pub(crate) ended: usize,
}

impl Journal {
    pub(crate) fn at(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(path).unwrap();
        Self {
            path: path.to_owned(),
            file,
        }
    }

    /// The same journal, to be read elsewhere.
    pub(crate) fn again(&self) -> Self {
        Self::at(&self.path)
    }

    fn note(&self, what: &str, tag: &str) {
        // One write, so that the lines of several processes do not mix.
        let line = format!("{what} {} {tag}\n", std::process::id());
        (&self.file).write_all(line.as_bytes()).unwrap();
    }

    /// What was handled so far, by the messages' tags.
    pub(crate) fn read(&self) -> HashMap<String, Handling> {
        let mut handlings: HashMap<String, Handling> = HashMap::new();
        for (what, pid, tag) in self.lines() {
            let handling = handlings.entry(tag).or_default();
            match what.as_str() {
                "begun" => handling.begun.push(pid),
                _ => handling.ended += 1,
            }
        }
        handlings
    }

    /// The tags of the messages in the order in which their handling began.
    pub(crate) fn order(&self) -> Vec<String> {
        let begun = self.lines().into_iter().filter(|line| line.0 == "begun");
        begun.map(|(_, _, tag)| tag).collect()
    }

    /// What was noted: `begun` or `ended`, the process id, the tag.
    pub(crate) fn lines(&self) -> Vec<(String, u32, String)> {
        let text = std::fs::read_to_string(&self.path).unwrap();
        // A line that is being written has no end yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            (word(), word().parse().unwrap(), word())
        };
        whole.lines().map(line).collect()
    }
}

/// One backend in a process of its own.
pub(crate) struct Instance {
    pub(crate) addr: SocketAddr,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    child: Option<Child>,
}

impl Instance {
    /// One that is not started yet, with these settings by their names in the environment.
    pub(crate) fn new(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], mongod::free_port()));
        let mut environment: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        environment.push(("LISTEN".to_owned(), addr.to_string()));
        Self {
            addr,
            environment,
            folder: folder.to_owned(),
            child: None,
        }
    }

    /// Starts the process; it may not listen yet.
    pub(crate) fn start(&mut self) {
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true);
        let log = log.open(self.log_file()).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "instances::instance", "--ignored", "--nocapture"])
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until it listens.
    pub(crate) async fn listens(&mut self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.addr).await.is_err() {
            assert!(Instant::now() < until, "{} does not listen", self.addr);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(child) = &mut self.child
                && child.try_wait().unwrap().is_some()
            {
                // Somebody's connection had its port for a moment.
                self.start();
            }
        }
    }

    /// The process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `kill -9`, and it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.addr.port()))
    }

    /// The stalls that its log tells of.
    pub(crate) fn stalls(&self) -> Vec<Stall> {
        let stall = |line: &str| {
            let (_, times) = line.split_once(STALLED[0])?;
            let (from, to) = times.split_once(STALLED[1])?;
            let (from_ms, to_ms) = (from.parse().ok()?, to.parse().ok()?);
            Some(Stall { from_ms, to_ms })
        };
        self.log().lines().filter_map(stall).collect()
    }

    /// Waits until it has ended by itself. Returns whether that was a good end.
    pub(crate) async fn ends(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        let child = self.child.as_mut().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < until, "{} does not end", self.addr);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a cluster is made of.
pub(crate) struct Plan {
    pub(crate) database: Database,
    pub(crate) instances: usize,
    pub(crate) mode: Mode,
    pub(crate) kind: Kind,
    /// More settings, by their names in the environment.
    pub(crate) settings: Vec<(&'static str, &'static str)>,
    /// Whether the balancer, where it finds no instance, waits for one as a queueing proxy does, or
    /// answers 502.
    pub(crate) is_patient: bool,
}

/// Where a cluster keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// A file.
    Sqlite,
    /// A database of its own in the shared server.
    Mongodb,
    /// A server of its own, which may be frozen.
    OwnMongodb,
}

/// A simulated platform, a balancer, and instances of one backend behind it.
pub(crate) struct Cluster {
    pub(crate) phones: Phones,
    pub(crate) instances: Vec<Instance>,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    folder: Option<tempfile::TempDir>,
    stop: CancellationToken,
}

impl Cluster {
    pub(crate) async fn start(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let has_key = plan.mode != Mode::Plain;
        let mut simulator = Simulator::build(Options {
            listen: "127.0.0.1:0".into(),
            mode: plan.mode,
            kind: plan.kind,
            encoding_aes_key: has_key.then(|| AES_KEY.to_owned().into()),
            ..Options::default()
        })
        .unwrap();
        let sim = simulator.url().to_owned();
        let store = Store::new(plan.database, folder.path());
        let journal = folder.path().join("journal");
        let journal = journal.to_str().unwrap();
        let (secret, key) = ("0".repeat(32), "42".repeat(32));
        let mut settings = vec![
            (JOURNAL, journal),
            ("RUST_LOG", "info,offiaccount::ledger=debug"),
            ("WECHAT_APPID", APPID),
            ("WECHAT_APPSECRET", &secret),
            ("WECHAT_TOKEN", TOKEN),
            ("WECHAT_API_URL", &sim),
            ("WECHAT_OPEN_URL", &sim),
            ("DATABASE_URL", store.url()),
            ("STORE_KEY", &key),
        ];
        if has_key {
            settings.push(("WECHAT_ENCODING_AES_KEY", AES_KEY));
        }
        settings.extend(plan.settings);
        let mut instances: Vec<Instance> = (0..plan.instances)
            .map(|_| Instance::new(folder.path(), &settings))
            .collect();
        tokio::spawn(notice_stalls("the platform", drop));
        let stop = CancellationToken::new();
        let addresses = instances.iter().map(|instance| instance.addr).collect();
        let balancer = Arc::new(Balancer::new(addresses, plan.is_patient));
        let callback = serve_balancer(Arc::clone(&balancer), stop.clone()).await;
        simulator.set_callback_url(format!("http://{callback}/wechat"));
        tokio::spawn(simulator.run_until(stop.clone().cancelled_owned()));
        // The first makes the tables or indexes that the others find.
        for instance in &mut instances {
            instance.start();
            instance.listens().await;
        }
        Self {
            phones: Phones {
                http: client(),
                sim,
            },
            instances,
            journal: Journal::at(Path::new(journal)),
            store,
            folder: Some(folder),
            stop,
        }
    }
}

/// What a cluster keeps its state in.
pub(crate) enum Store {
    Sqlite { file: PathBuf, url: String },
    Shared { url: String },
    Own { server: Mongod, url: String },
}

impl Store {
    fn new(database: Database, folder: &Path) -> Self {
        match database {
            Database::Sqlite => {
                let file = folder.join("test.db");
                let url = format!("sqlite://{}", file.display());
                Self::Sqlite { file, url }
            }
            Database::Mongodb => {
                let name: u64 = rand::random();
                let url = format!("{}it{name:016x}", mongod::standalone());
                Self::Shared { url }
            }
            Database::OwnMongodb => {
                let server = Mongod::start(&[]);
                let url = format!("mongodb://{}/it", server.host());
                Self::Own { server, url }
            }
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Sqlite { url, .. } | Self::Shared { url } | Self::Own { url, .. } => url,
        }
    }

    /// Takes the store away until the absence is dropped: nothing can be written, or nothing answers.
    pub(crate) fn take_away(&self) -> Absence<'_> {
        match self {
            Self::Sqlite { .. } => {
                let db = self.read();
                db.execute_batch("BEGIN IMMEDIATE").unwrap();
                Absence::Locked { _by: db }
            }
            Self::Shared { .. } => panic!("it is others' too"),
            Self::Own { server, .. } => {
                server.signal("STOP");
                Absence::Frozen(server)
            }
        }
    }

    /// A connection of the test's own to the file.
    pub(crate) fn read(&self) -> rusqlite::Connection {
        let Self::Sqlite { file, .. } = self else {
            panic!("it is no file");
        };
        let db = rusqlite::Connection::open(file).unwrap();
        db.busy_timeout(PATIENCE).unwrap();
        db
    }
}

/// A store that is away.
pub(crate) enum Absence<'a> {
    /// The end of the connection ends its transaction.
    Locked {
        _by: rusqlite::Connection,
    },
    Frozen(&'a Mongod),
}

impl Drop for Absence<'_> {
    fn drop(&mut self) {
        if let Self::Frozen(server) = self {
            server.signal("CONT");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("journal and logs are left in {}", folder.keep().display());
        }
    }
}

/// Something that the account has said, in a fan's chat.
#[derive(Clone, Debug)]
pub(crate) struct Bubble {
    pub(crate) shown: String,
    /// It came as a customer-service message, not in answer to a delivery.
    pub(crate) is_custom: bool,
}

impl Bubble {
    /// The tags of the messages that it answers. Several where answers were kept.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &str> {
        self.shown
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('#'))
    }
}

/// The fans' phones, at a simulated platform.
#[derive(Clone)]
pub(crate) struct Phones {
    pub(crate) http: Client,
    pub(crate) sim: String,
}

impl Phones {
    /// A fan writes a text: what `POST /_sim/send` answered once the platform has delivered it.
    pub(crate) async fn write(&self, fan: &str, text: &str) -> Value {
        let message = json!({"openid": fan, "MsgType": "text", "Content": text});
        control(&self.http, &self.sim, "send", Some(message)).await
    }

    /// What the account has said to a fan, by the simulator's books.
    pub(crate) async fn heard(&self, fan: &str) -> Vec<Bubble> {
        let chat = control(&self.http, &self.sim, &format!("chat?openid={fan}"), None).await;
        let bubbles = chat["messages"].as_array().unwrap().iter();
        let from_account = bubbles.filter(|bubble| bubble["from"] == "account");
        from_account
            .map(|bubble| Bubble {
                shown: bubble["shown"].as_str().unwrap().to_owned(),
                is_custom: !bubble["message"]["custom"].is_null(),
            })
            .collect()
    }
}

/// Sends each delivery to another instance than the last one of the same fan.
struct Balancer {
    targets: Vec<SocketAddr>,
    /// Deliveries so far, by the fan's openid.
    deliveries: Mutex<HashMap<String, usize>>,
    fans: AtomicUsize,
    is_patient: bool,
    http: Client,
}

impl Balancer {
    fn new(addresses: Vec<SocketAddr>, is_patient: bool) -> Self {
        Self {
            targets: addresses,
            deliveries: Mutex::default(),
            fans: AtomicUsize::new(0),
            is_patient,
            http: client(),
        }
    }

    /// The next instance for this fan.
    fn next(&self, fan: &str) -> SocketAddr {
        let mut deliveries = self.deliveries.lock().unwrap();
        // Each fan begins at another one.
        let count = deliveries
            .entry(fan.to_owned())
            .or_insert_with(|| self.fans.fetch_add(1, Ordering::Relaxed));
        *count += 1;
        self.targets[*count % self.targets.len()]
    }
}

impl Balance for Balancer {
    async fn forward(self: &Arc<Self>, uri: &Uri, body: Vec<u8>) -> Option<Response> {
        let query = uri.query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let fan = pairs.find(|(name, _)| name == "openid");
        let fan = fan.map(|(_, value)| value.into_owned()).unwrap_or_default();
        let until = Instant::now() + DEADLINE;
        for tried in 1.. {
            let target = self.next(&fan);
            let request = self.http.post(format!("http://{target}{uri}"));
            let request = request.header("content-type", "text/xml");
            // When the platform hangs up, this future is dropped and the instance's connection closes.
            match request.body(body.clone()).send().await {
                Ok(answer) => {
                    let status = answer.status();
                    let body = answer.bytes().await.ok()?;
                    return Some(Response::builder().status(status).body(body));
                }
                // As any balancer does, with a request that has reached nobody.
                Err(error) if error.is_connect() && tried < self.targets.len() => {}
                Err(error) if error.is_connect() && self.is_patient && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(_) => return None,
            }
        }
        None
    }
}

/// What stands between the platform and the instances.
pub(crate) trait Balance: Send + Sync + 'static {
    /// Has an instance answer a delivery. `None` where there is no answer: the platform gets a 502.
    fn forward(
        self: &Arc<Self>,
        uri: &Uri,
        body: Vec<u8>,
    ) -> impl Future<Output = Option<Response>> + Send;
}

/// Serves a balancer until `stop`. Returns its address.
pub(crate) async fn serve_balancer(
    balancer: Arc<impl Balance>,
    stop: CancellationToken,
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let endpoint = poem::endpoint::make(move |mut request: Request| {
        let balancer = Arc::clone(&balancer);
        async move {
            let body = request.take_body().into_bytes().await?;
            let answer = balancer.forward(request.uri(), body.into()).await;
            let answer = answer.unwrap_or_else(|| StatusCode::BAD_GATEWAY.into_response());
            Ok::<_, poem::Error>(answer)
        }
    });
    let server = poem::Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).unwrap());
    let stopped = stop.cancelled_owned();
    tokio::spawn(server.run_with_graceful_shutdown(endpoint, stopped, Some(Duration::ZERO)));
    addr
}
