//! The program itself, started as `offiaccount demo`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::helpers::client;

/// How long it may take to print its addresses, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running demo.
pub(crate) struct Demo {
    /// The demo page's address.
    pub(crate) page: String,
    /// The simulator's address.
    pub(crate) simulator: String,
    /// Where it runs: no `.env` there, and its temporary folder goes there.
    folder: tempfile::TempDir,
    child: Child,
}

impl Demo {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_offiaccount"))
            .args(["demo", "--port", "0", "--simulator-port", "0"])
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
        let mut demo = Self {
            page: String::new(),
            simulator: String::new(),
            folder,
            child,
        };
        let until = Instant::now() + PATIENCE;
        while demo.page.is_empty() || demo.simulator.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let line = printed.recv_timeout(left).expect("the demo printed no URL");
            let mut words = line.split_whitespace();
            let label = words.next().unwrap_or_default().to_owned();
            let url = words.find(|word| word.starts_with("http://"));
            let url = url.map(|url| url.trim_end_matches('/').to_owned());
            match (label.as_str(), url) {
                ("demo", Some(url)) => demo.page = url,
                ("simulator", Some(url)) => demo.simulator = url,
                _ => {}
            }
        }
        demo
    }

    /// Asks the simulator's control side.
    pub(crate) async fn sim(&self, path: &str) -> Value {
        let url = format!("{}/_sim/{path}", self.simulator);
        let response = client().get(url).send().await.unwrap();
        response.json().await.unwrap()
    }

    /// Changes something at the simulator's control side.
    pub(crate) async fn change(&self, method: reqwest::Method, path: &str, body: Value) {
        let url = format!("{}/_sim/{path}", self.simulator);
        let request = client().request(method, url).json(&body);
        let response = request.send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{:?}",
            response.text().await
        );
    }

    /// Stops it as Ctrl-C and SIGTERM do: it ends well and leaves nothing behind.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(sent.unwrap().success());
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "the demo does not end");
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

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            eprintln!("the demo's log:\n{}", log.unwrap_or_default());
        }
    }
}
