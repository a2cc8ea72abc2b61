//! Below and around HTTP: raw bytes on a connection, the real binary as a process, a sign-in.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection to a server at `http://host:port`.
pub(crate) async fn connect(url: &str) -> TcpStream {
    let address = url.strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// Sends these bytes, and gives whatever comes until the server closes. Reads while it writes, since
/// a server may answer before it has read all.
pub(crate) async fn raw(url: &str, request: &[u8]) -> String {
    let (mut read, mut write) = connect(url).await.into_split();
    let sending = async {
        // A server that has answered may have closed already.
        let _ = write.write_all(request).await;
    };
    let reading = async {
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = read.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..n]);
        }
        answer
    };
    let both = async { tokio::join!(sending, reading).1 };
    let answer = tokio::time::timeout(Duration::from_secs(10), both).await;
    String::from_utf8_lossy(&answer.expect("the server closes")).into_owned()
}

/// Waits until the server closes the connection, and says how long that took.
pub(crate) async fn closed_after(stream: &mut TcpStream, patience: Duration) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(patience, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "still open after {patience:?}");
    began.elapsed()
}

/// A fan signs in at the backend through the simulator's consent page. The client keeps the session.
pub(crate) async fn sign_in(http: &Client, backend: &str, sim: &str, fan: &str) {
    let to = async |url: &str| {
        let response = http.get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FOUND, "{url}");
        response.headers()["location"].to_str().unwrap().to_owned()
    };
    let page = to(&format!("{backend}/wxAuthorize")).await;
    let page = http.get(page).send().await.unwrap().text().await.unwrap();
    let action = page.split("action=\"").nth(1).expect("a form");
    let action = action.split('"').next().unwrap();
    let action = action.replace("&#38;", "&").replace("&amp;", "&");
    let consent = http
        .post(format!("{sim}{action}"))
        .form(&[("_fan", fan), ("_choice", "allow")]);
    let back = consent.send().await.unwrap();
    assert_eq!(back.status(), StatusCode::FOUND);
    to(back.headers()["location"].to_str().unwrap()).await;
}

/// The real binary, in a folder of its own, with no environment but what is given.
pub(crate) struct Binary {
    child: Child,
    output: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

impl Binary {
    pub(crate) fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args, env)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_offiaccount"))
            .args(args)
            .env_clear()
            .envs(env.iter().copied())
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), &output);
        collect(child.stderr.take().unwrap(), &output);
        Self {
            child,
            output,
            folder,
        }
    }

    /// Runs to its end: the exit code and all it wrote.
    pub(crate) async fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
        let mut binary = Self::start(args, env);
        let (code, _) = binary.ended().await;
        (code, binary.output())
    }

    /// Where it runs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All it wrote so far, to standard output and standard error.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// The first match of a pattern in its output: group 1, once it is there.
    pub(crate) async fn says(&mut self, pattern: &str) -> String {
        let regex = regex::Regex::new(pattern).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let output = self.output();
            if let Some(found) = regex.captures(&output) {
                return found[1].to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                Instant::now() < until && ended.is_none(),
                "no {pattern} in:\n{output}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The backend's address, once it serves. The log must be JSON.
    pub(crate) async fn url(&mut self) -> String {
        let addr = self.says(r#""addr":"([0-9.:]+)""#).await;
        format!("http://{addr}")
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end: the exit code, and how long that took.
    pub(crate) async fn ended(&mut self) -> (i32, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let took = began.elapsed();
                // What it wrote last is still in the pipes.
                while Arc::strong_count(&self.output) > 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                return (status.code().expect("not ended by a signal"), took);
            }
            let output = self.output();
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "still running:\n{output}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: impl Read + Send + 'static, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    });
}
