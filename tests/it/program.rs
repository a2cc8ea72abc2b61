//! The commands that bring a simulator: `offiaccount demo` and `offiaccount simulate`.

use reqwest::Method;
use serde_json::Value;

use crate::helpers::client;
use crate::wire::Binary;

/// One of the commands, running.
pub(crate) struct Program {
    /// The demo page's address; none with a simulator alone.
    page: Option<String>,
    /// The simulator's address.
    pub(crate) simulator: String,
    binary: Binary,
}

impl Program {
    /// Simulator and backend.
    pub(crate) async fn demo() -> Self {
        let mut binary = Binary::start(&["demo", "--port", "0", "--simulator-port", "0"], &[]);
        let page = binary.says(r"demo page +(http://[0-9.:]+)").await;
        Self {
            page: Some(page),
            simulator: binary.says(r"simulator +(http://[0-9.:]+)").await,
            binary,
        }
    }

    /// The simulator alone.
    pub(crate) async fn simulate(arguments: &[&str]) -> Self {
        let mut all = vec!["simulate", "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let mut binary = Binary::start(&all, &[]);
        Self {
            page: None,
            simulator: binary.says(r"simulator +(http://[0-9.:]+)").await,
            binary,
        }
    }

    /// The demo page's address.
    pub(crate) fn page(&self) -> &str {
        self.page.as_deref().expect("the demo")
    }

    /// Asks the simulator's control side.
    pub(crate) async fn sim(&self, path: &str) -> Value {
        self.control(Method::GET, path, Value::Null).await
    }

    /// Makes the simulator's control side do something.
    pub(crate) async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}/_sim/{path}", self.simulator);
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

    /// Stops it as SIGTERM does: it ends well, and leaves nothing behind.
    pub(crate) async fn stop(mut self) {
        self.binary.signal("TERM");
        let (code, _) = self.binary.ended().await;
        assert_eq!(code, 0);
        let left: Vec<_> = std::fs::read_dir(self.binary.folder()).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it said:\n{}", self.binary.output());
        }
    }
}

#[tokio::test]
async fn a_demo_that_is_stopped_at_once_ends_well_and_leaves_nothing_behind() {
    Program::demo().await.stop().await;
}

#[tokio::test]
async fn a_simulator_that_is_stopped_at_once_ends_well() {
    Program::simulate(&[]).await.stop().await;
}
