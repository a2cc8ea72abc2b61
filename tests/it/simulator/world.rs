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
    token: Mutex<Option<String>>,
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
        Self::serving(Options {
            seed: options.seed.or(Some(2026)),
            ..options
        })
        .await
    }

    /// A simulator with options as they are: without a seed its jobs take their time.
    pub(crate) async fn serving(options: Options) -> Self {
        let options = Options {
            listen: "127.0.0.1:0".to_owned(),
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
            token: Mutex::new(None),
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
        *self.token.lock().unwrap() = None;
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

    /// `path` with a token that lives.
    pub(crate) async fn with_token(&self, path: &str) -> String {
        let kept = self.token.lock().unwrap().clone();
        let token = match kept {
            Some(token) => token,
            None => {
                let token = self.stable_token(false).await["access_token"].clone();
                let token = token.as_str().expect("a token").to_owned();
                *self.token.lock().unwrap() = Some(token.clone());
                token
            }
        };
        let sign = if path.contains('?') { '&' } else { '?' };
        format!("{path}{sign}access_token={token}")
    }

    /// A call of the API by GET, with a token.
    pub(crate) async fn ask(&self, path: &str) -> Value {
        self.get(&self.with_token(path).await).await
    }

    /// A call of the API by POST, with a token.
    pub(crate) async fn call(&self, path: &str, body: &Value) -> Value {
        self.post(&self.with_token(path).await, body).await
    }

    /// A call that must succeed.
    pub(crate) async fn must(&self, path: &str, body: &Value) -> Value {
        let answer = self.call(path, body).await;
        assert_eq!(
            answer["errcode"].as_i64().unwrap_or(0),
            0,
            "{path} {body}: {answer}"
        );
        answer
    }

    /// A call that must be refused with that code.
    pub(crate) async fn refuses(&self, path: &str, body: &Value, errcode: i64) {
        let answer = self.call(path, body).await;
        assert_eq!(answer["errcode"], errcode, "{path} {body}: {answer}");
    }

    /// Uploads a file as the part `media`, with a `description` where there is one.
    pub(crate) async fn upload(
        &self,
        path: &str,
        filename: &str,
        bytes: &[u8],
        description: Option<&str>,
    ) -> Value {
        let mut body = format!(
            "--b0undary\r\nContent-Disposition: form-data; name=\"media\"; \
             filename=\"{filename}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(bytes);
        if let Some(description) = description {
            let part = format!(
                "\r\n--b0undary\r\nContent-Disposition: form-data; name=\"description\"\r\n\r\n\
                 {description}"
            );
            body.extend_from_slice(part.as_bytes());
        }
        body.extend_from_slice(b"\r\n--b0undary--\r\n");
        let url = format!("{}{}", self.url, self.with_token(path).await);
        let request = self.client.post(url).body(body);
        let request = request.header("Content-Type", "multipart/form-data; boundary=b0undary");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// The newest delivery of that event, waited for.
    pub(crate) async fn pushed(&self, event: &str) -> Value {
        let path = format!("/_sim/pushes?event={event}&wait_s=20&limit=1");
        let pushes = self.get(&path).await;
        assert!(pushes[0].is_object(), "no {event} was pushed");
        pushes[0].clone()
    }

    /// Checks that the calls in the log have shown every code that the endpoints with these paths
    /// declare, and a good case of each, but for `except`: pairs of a path and a code.
    pub(crate) async fn has_shown_all(&self, paths: &[&str], except: &[(&str, i64)]) {
        let log = self.get("/_sim/requests").await;
        let log = log.as_array().unwrap();
        assert!(log.len() < 500, "the log may have forgotten some calls");
        let shown = |path: &str, errcode: i64| {
            log.iter()
                .any(|call| call["path"] == path && call["errcode"].as_i64() == Some(errcode))
        };
        let mut missing = Vec::new();
        let endpoints = self.get("/_sim/endpoints").await;
        let mut found = 0;
        for endpoint in endpoints.as_array().unwrap() {
            let path = endpoint["path"].as_str().unwrap();
            if !paths.iter().any(|prefix| path.starts_with(prefix)) {
                continue;
            }
            found += 1;
            let errors = endpoint["errors"].as_array().unwrap().iter();
            let codes = errors.map(|error| error["errcode"].as_i64().unwrap());
            for errcode in codes.chain([0]) {
                if !shown(path, errcode) && !except.contains(&(path, errcode)) {
                    missing.push((path, errcode));
                }
            }
        }
        assert!(found > 0, "no endpoint under {paths:?}");
        assert!(missing.is_empty(), "not shown: {missing:?}");
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

    pub(crate) fn after(delay: Duration, body: &str) -> Self {
        Self {
            delay,
            ..Self::from(body)
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

/// Small files that begin as files of their kind do.
pub(crate) const JPG: &[u8] = b"\xff\xd8\xff\xe0 a picture";
pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n a picture";
pub(crate) const GIF: &[u8] = b"GIF89a a picture";
pub(crate) const AMR: &[u8] = b"#!AMR\n a voice";
pub(crate) const MP4: &[u8] = b"\x00\x00\x00\x18ftypmp42 a video";
