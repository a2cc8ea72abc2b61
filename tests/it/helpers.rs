//! The world of a test: a simulated platform and a backend, each on a port of its own, with a store
//! of its own. Tests speak over HTTP, as the outside does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use offiaccount::config::Settings;
use offiaccount::simulator::{Mode, Options, Simulator};
use offiaccount::wechat::crypto::{Cipher, EncodingAesKey};
use offiaccount::wechat::id::AppId;
use offiaccount::wechat::signature;
use offiaccount::{Application, Bot, Config};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const APPID: &str = "wx0000000000000sim";
pub(crate) const TOKEN: &str = "simtoken2026";
pub(crate) const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-the-tests";
pub(crate) const ACCOUNT: &str = "gh_000000000sim";

/// What a test may set before it starts.
pub(crate) struct Setup {
    pub(crate) bot: Bot,
    pub(crate) settings: Settings,
    pub(crate) mode: Mode,
    pub(crate) simulator: Options,
}

impl Setup {
    /// Plain mode, a bot that says hello.
    pub(crate) fn new() -> Self {
        let settings = Settings {
            wechat_appid: Some(APPID.into()),
            wechat_appsecret: Some("0".repeat(32)),
            wechat_token: Some(TOKEN.into()),
            admin_token: Some(ADMIN_TOKEN.into()),
            listen: Some("127.0.0.1:0".into()),
            ..Settings::default()
        };
        let simulator = Options {
            listen: "127.0.0.1:0".into(),
            ..Options::default()
        };
        Self {
            bot: Bot::new(),
            settings,
            mode: Mode::Plain,
            simulator,
        }
    }

    /// Safe mode at both sides.
    pub(crate) fn safe() -> Self {
        let mut setup = Self::new();
        setup.mode = Mode::Safe;
        setup.settings.wechat_encoding_aes_key = Some(AES_KEY.into());
        setup
    }

    pub(crate) fn bot(mut self, bot: Bot) -> Self {
        self.bot = bot;
        self
    }

    pub(crate) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts platform and backend.
    pub(crate) async fn start(self) -> World {
        let has_key = self.mode != Mode::Plain;
        let mut simulator = Simulator::build(Options {
            mode: self.mode,
            encoding_aes_key: has_key.then(|| AES_KEY.to_owned().into()),
            ..self.simulator
        })
        .unwrap();
        let sim = simulator.url().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let mut settings = self.settings;
        let or = |setting: &mut Option<String>, value: String| {
            setting.get_or_insert(value);
        };
        or(&mut settings.wechat_api_url, sim.clone());
        or(&mut settings.wechat_open_url, sim.clone());
        or(
            &mut settings.wechat_jssdk_url,
            format!("{sim}/open/js/jweixin-1.6.0.js"),
        );
        or(&mut settings.database_url, database_url(&folder));
        or(&mut settings.store_key, "42".repeat(32));
        let stop = CancellationToken::new();
        let app = App::start(&settings, self.bot, stop.clone()).await;
        simulator.set_callback_url(format!("{}/wechat", app.url));
        tokio::spawn(simulator.run_until(stop.clone().cancelled_owned()));
        World {
            sim,
            app,
            settings,
            http: client(),
            _folder: folder,
            stop,
        }
    }
}

/// SQLite, or with `OFFIACCOUNT_TEST_STORE=mongodb` a database of its own in a real MongoDB.
fn database_url(folder: &tempfile::TempDir) -> String {
    match std::env::var("OFFIACCOUNT_TEST_STORE").as_deref() {
        Ok("mongodb") => {
            let name: u64 = rand::random();
            format!("{}it{name:016x}", crate::mongod::standalone())
        }
        _ => format!("sqlite://{}/test.db", folder.path().display()),
    }
}

/// A browser's HTTP: cookies are kept, redirects are not followed.
pub(crate) fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .cookie_store(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// One running backend.
pub(crate) struct App {
    pub(crate) url: String,
    /// Where it listens, whatever its public URL is.
    pub(crate) addr: std::net::SocketAddr,
    pub(crate) stop: CancellationToken,
    running: JoinHandle<()>,
}

impl App {
    pub(crate) async fn start(settings: &Settings, bot: Bot, stop: CancellationToken) -> Self {
        let config = Config::from_settings(settings).unwrap();
        let app = Application::build(config, bot).await.unwrap();
        let (url, addr) = (app.public_url().origin().to_owned(), app.addr());
        let running = tokio::spawn(app.run_until(stop.clone().cancelled_owned()));
        Self {
            url,
            addr,
            stop,
            running,
        }
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn stopped(&mut self) {
        (&mut self.running).await.unwrap();
    }
}

/// A platform and a backend that knows it.
pub(crate) struct World {
    /// The simulator's address.
    pub(crate) sim: String,
    pub(crate) app: App,
    /// With these a second backend on the same store can be started.
    pub(crate) settings: Settings,
    pub(crate) http: Client,
    _folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    /// A GET of the backend.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(self.http.get(format!("{}{path}", self.app.url)))
            .await
    }

    /// A GET of a management route.
    pub(crate) async fn manage(&self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.app.url));
        self.send(request.bearer_auth(ADMIN_TOKEN)).await
    }

    /// `POST /refreshTokens` with a token that failed.
    pub(crate) async fn refresh(&self, failed: &str) -> Response {
        let request = self.http.post(format!("{}/refreshTokens", self.app.url));
        let request = request.bearer_auth(ADMIN_TOKEN);
        self.send(request.json(&json!({"access_token": failed})))
            .await
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Response {
        request.send().await.unwrap()
    }

    /// The simulator's control side: GET without a body, POST with one.
    pub(crate) async fn sim(&self, path: &str, body: Option<Value>) -> Value {
        control(&self.http, &self.sim, path, body).await
    }

    /// The openid of the first fan.
    pub(crate) async fn fan(&self) -> String {
        self.sim("fans", None).await[0]["openid"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A fan says or does something: what `POST /_sim/send` answered.
    pub(crate) async fn act(&self, message: Value) -> Value {
        self.sim("send", Some(message)).await
    }

    /// The next calls to `path` fail in the way `fault` says.
    pub(crate) async fn fault(&self, path: &str, fault: Value, times: u32) {
        let mut body = fault;
        body["path"] = json!(path);
        body["times"] = json!(times);
        self.sim("faults", Some(body)).await;
    }

    /// The platform's clock jumps.
    pub(crate) async fn advance(&self, seconds: u64) {
        advance(&self.http, &self.sim, seconds).await;
    }

    /// How often the platform was asked for `path`.
    pub(crate) async fn calls(&self, path: &str) -> usize {
        calls(&self.http, &self.sim, path).await
    }

    /// Posts a body to `/wechat` under a query of one's own.
    pub(crate) async fn post(&self, query: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = format!("{}/wechat?{query}", self.app.url);
        let request = self.http.post(url).header("content-type", "text/xml");
        self.send(request.body(body)).await
    }

    /// Posts a plain message, freshly signed.
    pub(crate) async fn deliver(&self, xml: &str) -> Response {
        self.post(&signed_query(), xml.to_owned()).await
    }
}

/// A simulator's control side: GET without a body, POST with one.
pub(crate) async fn control(http: &Client, sim: &str, path: &str, body: Option<Value>) -> Value {
    let url = format!("{sim}/_sim/{path}");
    let request = match body {
        Some(body) => http.post(url).json(&body),
        None => http.get(url),
    };
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// A simulated platform's clock jumps.
pub(crate) async fn advance(http: &Client, sim: &str, seconds: u64) {
    control(http, sim, "clock", Some(json!({"advance_s": seconds}))).await;
}

/// How often a simulated platform was asked for `path`.
pub(crate) async fn calls(http: &Client, sim: &str, path: &str) -> usize {
    let requests = control(http, sim, "requests", None).await;
    let requests = requests.as_array().unwrap().iter();
    requests.filter(|request| request["path"] == path).count()
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A nonce that no other delivery has.
pub(crate) fn nonce() -> String {
    rand::random::<u32>().to_string()
}

/// `signature`, `timestamp` and `nonce` as the platform would send them now.
pub(crate) fn signed_query() -> String {
    let (timestamp, nonce) = (now().to_string(), nonce());
    let signature = signature::sign(TOKEN, &timestamp, &nonce);
    format!("signature={signature}&timestamp={timestamp}&nonce={nonce}")
}

/// The query and the body of an encrypted delivery of `xml`.
pub(crate) fn encrypted(xml: &str) -> (String, String) {
    let (timestamp, nonce) = (now().to_string(), nonce());
    let encrypt = cipher().encrypt(xml, rand::random());
    let plain = signature::sign(TOKEN, &timestamp, &nonce);
    let full = signature::sign_encrypted(TOKEN, &timestamp, &nonce, &encrypt);
    let query = format!(
        "signature={plain}&timestamp={timestamp}&nonce={nonce}&encrypt_type=aes&msg_signature={full}"
    );
    let body = format!(
        "<xml><ToUserName><![CDATA[{ACCOUNT}]]></ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
    );
    (query, body)
}

pub(crate) fn cipher() -> Cipher {
    Cipher::new(
        &EncodingAesKey::parse(AES_KEY).unwrap(),
        AppId::parse(APPID).unwrap(),
    )
}

/// A text of a fan, with a `MsgId` of its own.
pub(crate) fn text_xml(content: &str) -> String {
    let msg_id = rand::random::<u64>() >> 1;
    format!(
        "<xml><ToUserName><![CDATA[{ACCOUNT}]]></ToUserName>\
         <FromUserName><![CDATA[oFan0000000000000000000000001]]></FromUserName>\
         <CreateTime>{}</CreateTime><MsgType><![CDATA[text]]></MsgType>\
         <Content><![CDATA[{content}]]></Content><MsgId>{msg_id}</MsgId></xml>",
        now()
    )
}

/// The JSON of an answer with this status.
#[track_caller]
pub(crate) fn expect_status(response: Response, status: StatusCode) -> impl Future<Output = Value> {
    let at = std::panic::Location::caller();
    async move {
        let found = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(found, status, "{at}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }
}

/// Waits until `condition` holds, at most `patience`.
pub(crate) async fn eventually<F: AsyncFn() -> bool>(patience: Duration, condition: F) {
    let until = tokio::time::Instant::now() + patience;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < until,
            "did not happen within {patience:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
