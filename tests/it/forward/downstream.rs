//! A program at `FORWARD_URL`, as anybody might write it.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use poem::endpoint::make;
use poem::http::{HeaderMap, StatusCode};
use poem::listener::TcpAcceptor;
use poem::{Request, Response, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().unwrap_or_else(|| panic!("no {name}"));
        assert!(values.next().is_none(), "{name} once");
        value.to_str().unwrap()
    }

    pub(crate) fn content(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["Content"].as_str().unwrap_or_default().to_owned()
    }
}

/// It notes what it gets.
pub(crate) struct Downstream {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    serving: JoinHandle<()>,
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Downstream {
    /// On a free port.
    pub(crate) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Received) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, answer)
    }

    pub(crate) fn start_on<F, A>(listener: TcpListener, answer: F) -> Self
    where
        F: Fn(Received) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let url = format!("http://{}/bot", listener.local_addr().unwrap());
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (notes, answer) = (Arc::clone(&received), Arc::new(answer));
        let endpoint = make(move |request: Request| {
            let (notes, answer) = (Arc::clone(&notes), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let received = Received {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    headers: head.headers,
                    body: body.into_vec().await.unwrap(),
                };
                notes.lock().unwrap().push(received.clone());
                Ok::<_, poem::Error>(answer(received).await)
            }
        });
        let acceptor = TcpAcceptor::from_tokio(listener).unwrap();
        let serving = tokio::spawn(async move {
            Server::new_with_acceptor(acceptor)
                .run(endpoint)
                .await
                .unwrap();
        });
        Self {
            url,
            received,
            serving,
        }
    }

    /// It always says this.
    pub(crate) async fn saying(text: &'static str) -> Self {
        Self::start(move |_| async move { says(text) }).await
    }

    /// It answers what the user wrote: a status by its number, else a body as JSON.
    pub(crate) async fn echoing() -> Self {
        Self::start(|received| async move {
            let content = received.content();
            match content.parse() {
                Ok(status) => StatusCode::from_u16(status).unwrap().into(),
                Err(_) => json_answer(content),
            }
        })
        .await
    }

    /// It says the how-manieth request it is.
    pub(crate) async fn numbering() -> Self {
        let count = Arc::new(Mutex::new(0));
        Self::start(move |_| {
            let mut count = count.lock().unwrap();
            *count += 1;
            let number = *count;
            async move { says(&format!("number {number}")) }
        })
        .await
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        let address = self.url.trim_start_matches("http://");
        address.trim_end_matches("/bot").to_owned()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The `webhook-id` of each request.
    pub(crate) fn ids(&self) -> Vec<String> {
        let received = self.received();
        received
            .iter()
            .map(|received| received.header("webhook-id").to_owned())
            .collect()
    }

    /// Its port refuses connections from now on.
    pub(crate) async fn stop(&self) {
        self.serving.abort();
        while !self.serving.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

/// A body that says it is JSON.
pub(crate) fn json_answer(body: impl Into<poem::Body>) -> Response {
    Response::builder()
        .content_type("application/json; charset=utf-8")
        .body(body)
}

/// A text.
pub(crate) fn says(text: &str) -> Response {
    json_answer(json!({"MsgType": "text", "Content": text}).to_string())
}

/// Checks a signature as the other side does: with nothing of ours.
#[track_caller]
pub(crate) fn verify(received: &Received, secret: &[u8]) {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
    for part in ["webhook-id", "webhook-timestamp"] {
        mac.update(received.header(part).as_bytes());
        mac.update(b".");
    }
    mac.update(&received.body);
    let given = received.header("webhook-signature");
    let given = given.strip_prefix("v1,").expect("version 1");
    mac.verify_slice(&STANDARD.decode(given).unwrap())
        .expect("the signature fits");
}
