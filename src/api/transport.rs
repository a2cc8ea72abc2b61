//! One HTTP call to the platform: its URL is never shown, its answer is read with suspicion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::form::File;
use super::{ApiError, Skew};
use crate::telemetry::metrics::ApiMetrics;

/// Answers are lists of 10,000 openids at most: 400 kB.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// How much of the platform's text an error keeps.
const MAX_ERRMSG_CHARS: usize = 300;

/// A call, to be sent once.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// GET or POST.
    pub method: Method,
    /// The path, e.g. `/cgi-bin/user/get`. It names the call in metrics and logs.
    pub path: &'static str,
    /// Parameters of the query, without the token.
    pub query: Vec<(&'a str, &'a str)>,
    /// The body of a POST.
    pub body: Option<Body>,
    /// How long it may take in all.
    pub deadline: Duration,
}

/// What a POST carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON.
    Json(Value),
    /// A form with one file.
    File(File),
}

impl<'a> Call<'a> {
    /// A GET with the usual deadline of 5 s.
    pub fn get(path: &'static str, query: &[(&'a str, &'a str)]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: query.to_vec(),
            body: None,
            deadline: Duration::from_secs(5),
        }
    }

    /// A POST of JSON with the usual deadline of 5 s.
    pub fn post(path: &'static str, body: Value) -> Self {
        Self {
            method: Method::POST,
            path,
            query: vec![],
            body: Some(Body::Json(body)),
            deadline: Duration::from_secs(5),
        }
    }

    /// A POST of a file with the usual deadline of 5 s.
    pub fn upload(path: &'static str, query: &[(&'a str, &'a str)], file: File) -> Self {
        Self {
            method: Method::POST,
            body: Some(Body::File(file)),
            ..Self::get(path, query)
        }
    }

    /// The same call with another deadline.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// The HTTP client and the platform's address.
#[derive(Clone, Debug)]
pub struct Transport {
    http: reqwest::Client,
    base_url: String,
    skew: Arc<Skew>,
    metrics: ApiMetrics,
}

impl Transport {
    /// A client for the API at `base_url`, which has no slash at its end.
    ///
    /// # Errors
    ///
    /// When the TLS roots of the system can't be read.
    pub fn new(base_url: String, skew: Arc<Skew>, metrics: ApiMetrics) -> reqwest::Result<Self> {
        // The first of several applications in one process wins; all install the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("offiaccount/", env!("CARGO_PKG_VERSION")));
        // A proxy of the environment is for the way out; a simulator on this machine is not behind it.
        if url::Url::parse(&base_url).is_ok_and(|url| is_loopback(&url)) {
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build()?,
            base_url,
            skew,
            metrics,
        })
    }

    /// Sends the call and reads its JSON.
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] for an `errcode` other than 0; the other variants when there was no
    /// answer, or none that could be understood.
    pub async fn send<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        let sent = Instant::now();
        let outcome = match tokio::time::timeout(call.deadline, self.exchange(call, sent)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::Timeout),
        };
        self.metrics
            .observe(call.path, outcome.as_ref().err(), sent.elapsed());
        if let Err(error) = &outcome {
            tracing::debug!(api.path = call.path, %error, "API call failed");
        }
        let value = outcome?;
        serde_json::from_value(value)
            .map_err(|error| ApiError::Nonsense(format!("{}: {error}", call.path)))
    }

    async fn exchange(&self, call: &Call<'_>, sent: Instant) -> Result<Value, ApiError> {
        let mut request = self
            .http
            .request(
                call.method.clone(),
                format!("{}{}", self.base_url, call.path),
            )
            .query(&call.query);
        if let Some(body) = &call.body {
            let (content_type, body) = match body {
                // Raw UTF-8: several calls refuse \uXXXX escapes (40033), and serde_json makes none of
                // what can be shown.
                Body::Json(json) => (
                    "application/json; charset=utf-8".to_owned(),
                    json.to_string().into_bytes(),
                ),
                Body::File(file) => file.to_form(&hex::encode(rand::random::<[u8; 16]>())),
            };
            request = request
                .header(header::CONTENT_TYPE, content_type)
                .body(body);
        }
        let mut response = request.send().await.map_err(network)?;
        if let Some(date) = response
            .headers()
            .get(header::DATE)
            .and_then(|date| date.to_str().ok())
            && let Ok(date) = httpdate::parse_http_date(date)
        {
            self.skew.observe(date, sent.elapsed());
        }
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(ApiError::Nonsense(format!(
                    "an answer over {MAX_ANSWER_BYTES} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(ApiError::Nonsense(format!(
                "HTTP status {}",
                status.as_u16()
            )));
        }
        read_answer(body)
    }
}

/// Reads JSON whatever the Content-Type says: the platform's is unreliable.
fn read_answer(mut body: Vec<u8>) -> Result<Value, ApiError> {
    let parsed = serde_json::from_slice(&body).or_else(|_| {
        // Nicknames may hold raw control characters, which JSON forbids. Blanks do no harm instead.
        body.iter_mut()
            .filter(|byte| **byte < 0x20)
            .for_each(|byte| *byte = b' ');
        serde_json::from_slice(&body)
    });
    let value: Value = parsed.map_err(|_| ApiError::Nonsense("no JSON".into()))?;
    let Some(object) = value.as_object() else {
        return Err(ApiError::Nonsense("no JSON object".into()));
    };
    // Numbers may come as strings.
    let errcode = match object.get("errcode") {
        None => 0,
        Some(code) => code
            .as_i64()
            .or_else(|| code.as_str()?.parse().ok())
            .ok_or_else(|| ApiError::Nonsense("an errcode that is no number".into()))?,
    };
    if errcode == 0 {
        return Ok(value);
    }
    let errmsg = object
        .get("errmsg")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let errmsg = errmsg
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_ERRMSG_CHARS)
        .collect();
    Err(ApiError::Refused { errcode, errmsg })
}

/// The error without its URL: the platform takes tokens and secrets in the query.
fn network(error: reqwest::Error) -> ApiError {
    if error.is_timeout() {
        return ApiError::Timeout;
    }
    let is_unreachable = error.is_connect();
    let error = error.without_url();
    // The innermost cause says more than "error sending request".
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let cause = cause.to_string();
    if is_unreachable {
        ApiError::Unreachable(cause)
    } else {
        ApiError::Network(cause)
    }
}

/// Whether a URL is of this machine.
pub(crate) fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Value, ApiError> {
        read_answer(body.as_bytes().to_vec())
    }

    #[test]
    fn an_errcode_is_an_error_as_a_number_and_as_a_string() {
        for body in [
            r#"{"errcode":40013,"errmsg":"invalid appid"}"#,
            r#"{"errcode":"40013","errmsg":"invalid appid"}"#,
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(
                (error.errcode(), error.errmsg()),
                (Some(40013), Some("invalid appid"))
            );
        }
        assert!(read(r#"{"errcode":0,"errmsg":"ok"}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_object_is_nonsense() {
        for body in [
            "",
            "<html>",
            "[1]",
            "{\"access_token\":",
            r#"{"errcode":[]}"#,
        ] {
            assert!(matches!(read(body), Err(ApiError::Nonsense(_))), "{body}");
        }
    }

    #[test]
    fn a_raw_control_character_in_a_name_is_tolerated() {
        assert_eq!(
            read("{\"nickname\":\"a\u{1}b\"}").unwrap()["nickname"],
            "a b"
        );
    }

    #[tokio::test]
    async fn a_network_error_shows_no_url() {
        let metrics = ApiMetrics::register(&prometheus::Registry::new()).unwrap();
        let transport =
            Transport::new("http://127.0.0.1:9".into(), Arc::default(), metrics).unwrap();
        let call = Call::get("/cgi-bin/token", &[("secret", "canary")]);
        let error = transport.send::<Value>(&call).await.unwrap_err();
        assert!(matches!(error, ApiError::Unreachable(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
