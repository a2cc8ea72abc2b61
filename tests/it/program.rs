//! The program itself, `offiaccount demo` and the like, as a process of its own.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::helpers::client;

/// How long it may take to print its addresses, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program.
pub(crate) struct Program {
    /// The addresses that it printed, by the word before them.
    urls: HashMap<String, String>,
    /// Where it runs: no `.env` is there, and its temporary files go there.
    folder: tempfile::TempDir,
    child: Child,
}

impl Program {
    /// Simulator and backend.
    pub(crate) fn demo() -> Self {
        let ports = ["--port", "0", "--simulator-port", "0"];
        Self::start("demo", &ports, &["demo", "simulator"])
    }

    /// The simulator alone.
    pub(crate) fn simulate(arguments: &[&str]) -> Self {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(arguments);
        Self::start("simulate", &all, &["simulator"])
    }

    fn start(subcommand: &str, arguments: &[&str], addresses: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_offiaccount"))
            .arg(subcommand)
            .args(arguments)
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (lines, printed) = mpsc::channel();
        // To the end: a program whose output nobody reads fails.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut program = Self {
            urls: HashMap::new(),
            folder,
            child,
        };
        let until = Instant::now() + PATIENCE;
        while program.urls.len() < addresses.len() {
            let left = until.saturating_duration_since(Instant::now());
            let line = printed.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("{subcommand} printed no {addresses:?}"));
            let url = line
                .split_whitespace()
                .find(|word| word.starts_with("http://"));
            let label = line.split_whitespace().next();
            if let (Some(label), Some(url)) = (label, url)
                && addresses.contains(&label)
            {
                let url = url.trim_end_matches('/').to_owned();
                program.urls.insert(label.to_owned(), url);
            }
        }
        program
    }

    /// The demo page's address.
    pub(crate) fn page(&self) -> &str {
        &self.urls["demo"]
    }

    /// The simulator's address.
    pub(crate) fn simulator(&self) -> &str {
        &self.urls["simulator"]
    }

    /// Asks the simulator's control side.
    pub(crate) async fn sim(&self, path: &str) -> Value {
        self.control(Method::GET, path, Value::Null).await
    }

    /// Makes the simulator's control side do something.
    pub(crate) async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}/_sim/{path}", self.simulator());
        let mut request = client().request(method, url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Stops it as SIGTERM does: it ends well and leaves nothing behind.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(sent.unwrap().success());
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{status}");
        let left: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "log")
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            eprintln!("its log:\n{}", log.unwrap_or_default());
        }
    }
}
