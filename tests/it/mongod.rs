//! Real MongoDB servers on loopback. The shared ones start once per test process, when first used.
//!
//! Each is the child of a shell that reads from a pipe of this process. When this process ends, however
//! it ends, the pipe closes, and the shell kills its server and removes the folder.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

/// How long a server may take to listen, or a replica set to elect.
const PATIENCE: Duration = Duration::from_secs(60);

/// The shell's part. A line on its input starts the server again.
const GUARD: &str = r#"
folder=$1; shift
start() { "$@" >/dev/null 2>&1 & child=$!; echo $child >"$folder/pid"; }
start "$@"
while read -r _; do wait $child; start "$@"; done
kill -KILL $child
wait
rm -rf "$folder"
"#;

/// One server.
pub(crate) struct Mongod {
    port: u16,
    folder: PathBuf,
    guard: Child,
}

impl Mongod {
    /// Starts a server. Blocks until it listens. `extra` are options of its command line.
    pub(crate) fn start(extra: &[&str]) -> Self {
        let server = Self::spawn(extra);
        server.wait_until_it_listens();
        server
    }

    fn spawn(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let port = free_port();
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .args([&folder, &mongod()])
            .args(["--bind_ip", "127.0.0.1", "--port", &port.to_string()])
            .arg("--dbpath")
            .arg(&folder)
            .arg("--unixSocketPrefix")
            .arg(&folder)
            .arg("--logpath")
            .arg(folder.join("log"))
            .args(["--logappend", "--wiredTigerCacheSizeGB", "0.25"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .args(["--setParameter", "ttlMonitorSleepSecs=1"])
            .args(extra)
            .stdin(Stdio::piped())
            // Out of the terminal's group: Ctrl-C ends the tests, and their end the server.
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            port,
            folder,
            guard,
        }
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends the server a signal: `KILL`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success(), "kill -s {name} {pid}");
    }

    /// The server's process id, of the last start.
    pub(crate) fn pid(&self) -> u32 {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        pid.trim().parse().unwrap()
    }

    /// Starts the server again after it was killed, at the same port with the same data.
    pub(crate) fn restart(&mut self) {
        let mut pipe = self.guard.stdin.as_ref().unwrap();
        pipe.write_all(b"again\n").unwrap();
        self.wait_until_it_listens();
    }

    fn wait_until_it_listens(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.host()).is_err() {
            if Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                panic!("mongod does not listen; its last words: {last:#?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The shared standalone server: its URL up to the database's name.
pub(crate) fn standalone() -> &'static str {
    static URL: LazyLock<String> = LazyLock::new(|| {
        // Never dropped: it lasts as long as the process.
        let server = Box::leak(Box::new(Mongod::start(&[])));
        format!("mongodb://{}/", server.host())
    });
    &URL
}

/// The shared replica set of three members: its URL up to the database's name.
pub(crate) fn replica_set() -> &'static str {
    static URL: LazyLock<String> = LazyLock::new(|| {
        let start = || Mongod::spawn(&["--replSet", "tests", "--oplogSize", "16"]);
        let members: &[Mongod] = Box::leak(Box::new([start(), start(), start()]));
        for member in members {
            member.wait_until_it_listens();
        }
        let hosts: Vec<String> = members.iter().map(Mongod::host).collect();
        // Not on the caller's runtime: this is the process's, not one test's.
        let first = hosts[0].clone();
        let configured: Vec<Bson> = (0..)
            .zip(&hosts)
            .map(|(id, host)| doc! { "_id": id, "host": host }.into())
            .collect();
        std::thread::spawn(move || elect(&first, configured))
            .join()
            .unwrap();
        format!("mongodb://{}/", hosts.join(","))
    });
    &URL
}

#[tokio::main(flavor = "current_thread")]
async fn elect(first: &str, members: Vec<Bson>) {
    let settings = doc! { "electionTimeoutMillis": 2000 };
    initiate(
        first,
        doc! { "_id": "tests", "members": members, "settings": settings },
    )
    .await;
}

/// Makes a replica set of this configuration, by way of its first member, and waits until that is its
/// primary.
pub(crate) async fn initiate(first: &str, configuration: Document) {
    let client = Client::with_uri_str(format!("mongodb://{first}/?directConnection=true"))
        .await
        .unwrap();
    let admin = client.database("admin");
    admin
        .run_command(doc! { "replSetInitiate": configuration })
        .await
        .unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
        if hello.get_bool("isWritablePrimary").unwrap() {
            return;
        }
        assert!(Instant::now() < until, "no member became primary");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The server's program: `OFFIACCOUNT_TEST_MONGOD`, or what `tests/parts` finds or installs.
fn mongod() -> PathBuf {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(path) = std::env::var_os("OFFIACCOUNT_TEST_MONGOD") {
            return path.into();
        }
        let parts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parts");
        let found = Command::new(parts).arg("mongod").output().unwrap();
        assert!(
            found.status.success(),
            "no mongod for the tests: {}",
            String::from_utf8_lossy(&found.stderr)
        );
        String::from_utf8(found.stdout).unwrap().trim().into()
    });
    PATH.clone()
}

/// A port that nobody listens at now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
