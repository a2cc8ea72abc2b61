//! `/getJSConfig` and `/getJsConfig`: a signed config for the page at `url`.

use std::time::{SystemTime, UNIX_EPOCH};

use poem::http::header;
use poem::{Body, Request, Response, handler};
use serde::Deserialize;
use url::form_urlencoded;

use super::Backend;
use super::error::Problem;
use super::oauth::json;
use super::request::{self, parameter, single};
use crate::jssdk::JsConfigError;

#[derive(Deserialize)]
struct Asked {
    url: Option<String>,
}

#[handler]
pub(super) async fn get_js_config(
    request: &Request,
    backend: &Backend,
) -> Result<Response, Problem> {
    config(backend, parameter(request, "url")?.as_deref()).await
}

/// A JSON or a form body, by its Content-Type.
#[handler]
pub(super) async fn post_js_config(
    request: &Request,
    body: Body,
    backend: &Backend,
) -> Result<Response, Problem> {
    let body = request::body(request, body).await?;
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    // RFC 9110, section 8.3.1: in any case, and parameters may follow.
    let media_type = content_type.and_then(|value| value.split(';').next());
    let is_form = media_type.is_some_and(|value| {
        value
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    // `curl -d '{…}'` says form, and no form with a `url` begins so.
    let url = if is_form && !body.trim_ascii_start().starts_with(b"{") {
        single(form_urlencoded::parse(&body), "url")?.map(String::from)
    } else {
        let asked: Asked = serde_json::from_slice(&body).map_err(|_| {
            Problem::bad_request(
                "bad_body",
                "expected a JSON body {\"url\": …} or a form body url=…",
            )
        })?;
        asked.url
    };
    config(backend, url.as_deref()).await
}

async fn config(backend: &Backend, url: Option<&str>) -> Result<Response, Problem> {
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        return Err(Problem::bad_request(
            "missing_url",
            "`url` is missing: send the page's address, encodeURIComponent(location.href.split('#')[0])",
        ));
    };
    // Before 1970 no ticket is good anyway.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    match backend.jssdk.config(url, now).await {
        Ok(config) => Ok(json(&config)),
        Err(JsConfigError::Ticket(error)) => Err(error.into()),
        Err(error @ JsConfigError::Url) => Err(Problem::bad_request("bad_url", error.to_string())),
        Err(error @ JsConfigError::Host(_)) => {
            Err(Problem::bad_request("foreign_host", error.to_string()))
        }
    }
}
