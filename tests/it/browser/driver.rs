//! A real Chromium, driven through its own driver. It reaches 127.0.0.1 and no other host.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::Url;

use crate::parts::part;
use crate::program::Program;

/// How long a page may take to show what is expected of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Chromium shares its driver's process group. When the pipe from the test closes, however the test
/// ended, the group goes, and the profile's folder with it. The shell lets go of the output, so that it
/// ends with the driver.
const GUARD: &str = r#"
folder=$1; shift
"$@" & driver=$!
exec >/dev/null
read -r _
trap '' TERM
kill -TERM 0
wait $driver
rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
kill -KILL 0
"#;

const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// A screen to look at a page on.
#[derive(Clone, Copy)]
pub(crate) struct Screen {
    width: u32,
    height: u32,
    scale: u32,
    is_phone: bool,
    scheme: &'static str,
}

pub(crate) const DESKTOP: Screen = Screen {
    width: 1280,
    height: 800,
    scale: 1,
    is_phone: false,
    scheme: "light",
};

/// A small laptop's.
pub(crate) const LAPTOP: Screen = Screen {
    height: 720,
    ..DESKTOP
};

pub(crate) const PHONE: Screen = Screen {
    width: 390,
    height: 844,
    scale: 2,
    is_phone: true,
    scheme: "light",
};

impl Screen {
    pub(crate) fn dark(self) -> Self {
        Self {
            scheme: "dark",
            ..self
        }
    }
}

/// A browser with one window, light and of a desktop's size.
pub(crate) struct Browser {
    window: Client,
    _driver: Driver,
    /// What the console said, less what a test expected.
    complaints: RefCell<Vec<String>>,
    /// Every address that was asked for.
    requested: RefCell<Vec<Url>>,
}

/// Runs `walk` with a demo and a browser of its own. At the end nothing unexpected may stand in the
/// console, and no other host may have been asked for anything.
pub(crate) async fn walk<F: AsyncFnOnce(&Program, &Browser)>(name: &str, walk: F) {
    let Some(chromedriver) = part("browser") else {
        return;
    };
    let demo = Program::demo().await;
    let browser = Browser::open(&chromedriver).await;
    let walked = AssertUnwindSafe(async {
        walk(&demo, &browser).await;
        browser.assert_quiet_and_local().await;
    });
    let outcome = walked.catch_unwind().await;
    if outcome.is_err() {
        browser.keep_picture(&format!("failed-{name}.png")).await;
        browser.read_logs().await;
        let complaints = browser.complaints.borrow();
        eprintln!("the console: {complaints:#?}");
    }
    browser.close().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    demo.stop().await;
}

impl Browser {
    async fn open(chromedriver: &Path) -> Self {
        let driver = Driver::start(chromedriver);
        let profile = format!("--user-data-dir={}", driver.folder.display());
        let mut flags = FLAGS.to_vec();
        flags.push(&profile);
        let wanted = json!({
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let Value::Object(wanted) = wanted else {
            unreachable!()
        };
        let window = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&driver.url)
            .await
            .unwrap();
        let browser = Self {
            window,
            _driver: driver,
            complaints: RefCell::default(),
            requested: RefCell::default(),
        };
        browser.look_on(DESKTOP).await;
        browser
    }

    async fn close(self) {
        let _ = self.window.close().await;
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.window.goto(url).await.unwrap();
    }

    pub(crate) async fn reload(&self) {
        self.window.refresh().await.unwrap();
    }

    pub(crate) async fn address(&self) -> Url {
        self.window.current_url().await.unwrap()
    }

    /// The first element of this kind, once there is one.
    pub(crate) async fn find(&self, css: &str) -> Element {
        let wait = self.window.wait().at_most(PATIENCE);
        let found = wait.for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    pub(crate) async fn press(&self, css: &str) {
        self.find(css).await.click().await.unwrap();
    }

    pub(crate) async fn write(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub(crate) async fn keys(&self, keys: &str) {
        let press = |actions: KeyActions, value| {
            let down = actions.then(KeyAction::Down { value });
            down.then(KeyAction::Up { value })
        };
        let actions = keys.chars().fold(KeyActions::new("keys".into()), press);
        self.window.perform_actions(actions).await.unwrap();
    }

    /// From here on the elements are those of the page in this frame.
    pub(crate) async fn step_into(&self, css: &str) {
        self.find(css).await.enter_frame().await.unwrap();
    }

    /// Back to the page that holds the frame.
    pub(crate) async fn step_out(&self) {
        self.window.enter_parent_frame().await.unwrap();
    }

    pub(crate) async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    /// The value of an expression in the page.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        let value = self.window.execute(&script, Vec::new()).await;
        value.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub(crate) fn until(&self, expression: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        let script = format!("return Boolean({expression});");
        async move {
            let until = tokio::time::Instant::now() + PATIENCE;
            // A page on its way to another can't be asked.
            while self.window.execute(&script, Vec::new()).await.ok() != Some(Value::Bool(true)) {
                assert!(
                    tokio::time::Instant::now() < until,
                    "{at}: never {expression}"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Goes on in a window of its own, beside those that are there.
    pub(crate) async fn open_window(&self) {
        let window = self.window.new_window(true).await.unwrap();
        self.window.switch_to_window(window.handle).await.unwrap();
    }

    /// Goes on in the window that a link has opened.
    pub(crate) async fn follow_to_new_window(&self) {
        let current = self.window.window().await.unwrap();
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let windows = self.window.windows().await.unwrap();
            if let Some(new) = windows.into_iter().find(|window| *window != current) {
                self.window.switch_to_window(new).await.unwrap();
                return;
            }
            assert!(tokio::time::Instant::now() < until, "no second window");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn look_on(&self, screen: Screen) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({
                "width": screen.width,
                "height": screen.height,
                "deviceScaleFactor": screen.scale,
                "mobile": screen.is_phone,
            }),
        )
        .await;
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({"features": [
                {"name": "prefers-color-scheme", "value": screen.scheme},
                // Pictures are of what stands, not of what moves.
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ]}),
        )
        .await;
    }

    /// Takes a picture on each of these screens, and leaves the browser on a desktop's. Nothing may
    /// reach over the side of the page.
    pub(crate) async fn pictures(&self, name: &str, screens: &[(&str, Screen)]) {
        for (of, screen) in screens {
            self.look_on(*screen).await;
            let overhang =
                "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(self.eval(overhang).await, 0, "{name} on {of} is too wide");
            self.keep_picture(&format!("{name}-{of}.png")).await;
        }
        self.look_on(DESKTOP).await;
    }

    /// Keeps a picture of the window in `tests/.out`, which git ignores.
    pub(crate) async fn keep_picture(&self, file: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.out");
        std::fs::create_dir_all(&folder).unwrap();
        match self.window.screenshot().await {
            Ok(png) => std::fs::write(folder.join(file), png).unwrap(),
            Err(error) => eprintln!("no picture {file}: {error}"),
        }
    }

    /// A picture that the README shows. With `OFFIACCOUNT_UPDATE_SCREENSHOTS=1` it is made anew.
    pub(crate) async fn keep_picture_of_the_readme(&self, file: &str) {
        self.keep_picture(file).await;
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let kept = tests.join("screenshots").join(file);
        if std::env::var("OFFIACCOUNT_UPDATE_SCREENSHOTS").as_deref() == Ok("1") {
            std::fs::create_dir_all(tests.join("screenshots")).unwrap();
            std::fs::copy(tests.join(".out").join(file), &kept).unwrap();
        }
        assert!(kept.exists(), "{} is missing", kept.display());
    }

    /// One line with `words` in the console is expected; the next time it is a complaint again.
    pub(crate) async fn expect_complaint(&self, words: &str) {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.read_logs().await;
            {
                let mut complaints = self.complaints.borrow_mut();
                let found = complaints.iter().position(|line| line.contains(words));
                if let Some(at) = found {
                    complaints.remove(at);
                    return;
                }
                let late = tokio::time::Instant::now() > until;
                assert!(!late, "nobody complained of {words}: {complaints:#?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn assert_quiet_and_local(&self) {
        self.read_logs().await;
        let requested = self.requested.borrow();
        let seen = requested.iter().any(|url| url.scheme() == "http");
        assert!(seen, "nothing was recorded");
        // The browser's own pages and what a page holds in itself (`chrome:`, `data:`) go nowhere.
        let foreign: Vec<&str> = requested
            .iter()
            .filter(|url| matches!(url.scheme(), "http" | "https" | "ws" | "wss"))
            .filter(|url| url.host_str() != Some("127.0.0.1"))
            .map(Url::as_str)
            .collect();
        assert!(foreign.is_empty(), "asked for {foreign:#?}");
        let complaints = self.complaints.borrow();
        assert!(complaints.is_empty(), "the console: {complaints:#?}");
    }

    /// Takes over what is new in the logs of the console and of the network.
    async fn read_logs(&self) {
        for line in self.log("browser").await {
            let (level, message) = (&line["level"], &line["message"]);
            // Hints to the author, such as a password's field outside of a form.
            if level != "DEBUG" {
                let complaint = format!("{level} {message}");
                self.complaints.borrow_mut().push(complaint);
            }
        }
        for line in self.log("performance").await {
            let event: Value = serde_json::from_str(line["message"].as_str().unwrap()).unwrap();
            let event = &event["message"];
            if event["method"] == "Network.requestWillBeSent" {
                let url = event["params"]["request"]["url"].as_str().unwrap();
                self.requested.borrow_mut().push(Url::parse(url).unwrap());
            }
        }
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let lines = self.chrome("se/log", json!({"type": kind})).await;
        lines.as_array().unwrap().clone()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.chrome("goog/cdp/execute", body).await
    }

    async fn chrome(&self, path: &'static str, body: Value) -> Value {
        self.window
            .issue_cmd(ChromeCommand { path, body })
            .await
            .unwrap()
    }
}

/// A command of Chromium's driver beyond the standard.
#[derive(Debug)]
struct ChromeCommand {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for ChromeCommand {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (reqwest::Method, Option<String>) {
        (reqwest::Method::POST, Some(self.body.to_string()))
    }
}

/// The driver's process, and the folder of its browser.
struct Driver {
    url: String,
    folder: PathBuf,
    guard: Child,
}

impl Driver {
    /// The driver asks for a free port and binds it a moment later, to two families of addresses: with
    /// others at it, that fails now and then.
    fn start(chromedriver: &Path) -> Self {
        let started = (0..3).find_map(|_| Self::try_start(chromedriver));
        started.expect("chromedriver did not start")
    }

    fn try_start(chromedriver: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap().keep();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .args([&folder, chromedriver])
            .arg("--port=0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own, to end as one.
            .process_group(0)
            .spawn()
            .unwrap();
        let output = BufReader::new(guard.stdout.take().unwrap());
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let driver = Self {
            url: format!("http://127.0.0.1:{}", port.unwrap_or_default()),
            folder,
            guard,
        };
        // One that did not start is ended and cleaned up, too.
        port.map(|_| driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
