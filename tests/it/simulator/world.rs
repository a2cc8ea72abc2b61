//! A simulator on a port of its own, and a callback to deliver to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offiaccount::secret::Secret;
use offiaccount::simulator::{Options, Simulator};
use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::{Endpoint, Request, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub(crate) const APPID: &str = "wx0000000000000sim";
pub(crate) const SECRET: &str = "00000000000000000000000000000000";
pub(crate) const TOKEN: &str = "simtoken2026";
pub(crate) const AES_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// A running simulator, stopped when dropped.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    server: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let options = Options {
            listen: "127.0.0.1:0".to_owned(),
            seed: options.seed.or(Some(2026)),
            ..options
        };
        let simulator = Simulator::build(options).unwrap();
        let url = simulator.url().to_owned();
        assert_eq!(url, format!("http://{}", simulator.addr()));
        let server = tokio::spawn(async move {
            simulator.run_until(std::future::pending()).await.unwrap();
        });
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self {
            url,
            client,
            server,
        }
    }

    /// A simulator whose account delivers to `callback` in `mode`.
    pub(crate) async fn delivering_to(callback: &Callback, mode: &str) -> Self {
        Self::with(Options {
            callback_url: Some(callback.url.clone()),
            mode: mode.parse().unwrap(),
            encoding_aes_key: Some(Secret::new(AES_KEY)),
            ..Options::default()
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.url)).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, json) = self.send("POST", path, body).await;
        assert_eq!(status, 200, "{path}: {json}");
        json
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Value {
        let (status, json) = self.send("PUT", path, body).await;
        assert_eq!(status, 200, "{path}: {json}");
        json
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}{path}", self.url));
        let response = request.body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(crate) async fn advance(&self, seconds: i64) {
        self.post("/_sim/clock", &json!({"advance_s": seconds}))
            .await;
    }

    /// A token of the account's by the classic call.
    pub(crate) async fn token(&self) -> String {
        let answer = self
            .get(&format!(
                "/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={SECRET}"
            ))
            .await;
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn stable_token(&self, force: bool) -> Value {
        self.post(
            "/cgi-bin/stable_token",
            &json!({
                "grant_type": "client_credential",
                "appid": APPID,
                "secret": SECRET,
                "force_refresh": force,
            }),
        )
        .await
    }

    /// The openid of the first fan.
    pub(crate) async fn fan(&self) -> String {
        let fans = self.get("/_sim/fans").await;
        fans[0]["openid"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn say(&self, text: &str) -> Value {
        let fan = self.fan().await;
        self.post(
            "/_sim/send",
            &json!({"openid": fan, "MsgType": "text", "Content": text}),
        )
        .await
    }
}

/// A request that the callback got.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) method: String,
    pub(crate) content_type: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Delivery {
    #[track_caller]
    pub(crate) fn query(&self, name: &str) -> &str {
        let mut values = self.query.iter().filter(|(key, _)| key == name);
        let value = &values
            .next()
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .1;
        assert!(values.next().is_none(), "{name} twice");
        value
    }
}

/// One answer of the callback.
#[derive(Clone)]
pub(crate) struct Answer {
    status: StatusCode,
    body: String,
    delay: Duration,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            ..Self::from("")
        }
    }

    pub(crate) fn late() -> Self {
        Self {
            delay: Duration::from_secs(60),
            ..Self::from("success")
        }
    }
}

impl<S: Into<String>> From<S> for Answer {
    fn from(body: S) -> Self {
        Self {
            status: StatusCode::OK,
            body: body.into(),
            delay: Duration::ZERO,
        }
    }
}

/// A backend that keeps what it gets and answers what it was told, the last answer again and again.
pub(crate) struct Callback {
    pub(crate) url: String,
    kept: Arc<Kept>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    deliveries: Mutex<Vec<Delivery>>,
    answers: Mutex<VecDeque<Answer>>,
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Callback {
    pub(crate) async fn answering<A: Into<Answer>>(answers: impl IntoIterator<Item = A>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/wechat?kept=1", listener.local_addr().unwrap());
        let kept = Arc::new(Kept {
            answers: Mutex::new(answers.into_iter().map(Into::into).collect()),
            ..Kept::default()
        });
        let endpoint = Receiver(kept.clone());
        let acceptor = TcpAcceptor::from_tokio(listener).unwrap();
        let server = tokio::spawn(async move {
            let server = poem::Server::new_with_acceptor(acceptor);
            server.run(endpoint).await.unwrap();
        });
        Self { url, kept, server }
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.kept.deliveries.lock().unwrap().clone()
    }
}

struct Receiver(Arc<Kept>);

impl Endpoint for Receiver {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(query).into_owned().collect();
        let echostr = query.iter().find(|(name, _)| name == "echostr").cloned();
        let delivery = Delivery {
            method: request.method().to_string(),
            content_type: request.content_type().unwrap_or_default().to_owned(),
            query,
            body: request.take_body().into_string().await.unwrap(),
        };
        self.0.deliveries.lock().unwrap().push(delivery);
        let answer = {
            let mut answers = self.0.answers.lock().unwrap();
            let answer = answers.front().cloned().expect("an answer");
            if answers.len() > 1 {
                answers.pop_front();
            }
            answer
        };
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        let body = match echostr {
            Some((_, echostr)) => answer.body.replace("ECHOSTR", &echostr),
            None => answer.body,
        };
        Ok(Response::builder().status(answer.status).body(body))
    }
}
