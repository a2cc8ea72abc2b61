//! `/healthz` for the balancer, `/readyz` and `/metrics` for the operator.

use std::time::Duration;

use poem::http::{StatusCode, header};
use poem::{Response, handler};
use serde_json::json;

use super::Backend;
use super::error::Problem;
use super::oauth::json;
use crate::store::StoreError;
use crate::token::Kind;

/// An operator's probe learns of a fault within 2 s.
const PROBE_WITHIN: Duration = Duration::from_millis(1_500);

/// 200 while messages can be answered, 503 from SIGTERM on. A store or a platform that is away is no
/// reason to be taken out: all instances would be.
#[handler]
pub(super) fn healthz(backend: &Backend) -> Result<Response, Problem> {
    if backend.shutdown.is_cancelled() {
        let detail = "this instance is shutting down";
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting_down",
            "Shutting down",
            detail,
        ));
    }
    Ok(json(&json!({"status": "ok"})))
}

/// 200 when store and token are usable, 503 when one is not.
#[handler]
pub(super) async fn readyz(backend: &Backend) -> Result<Response, Problem> {
    let store = async {
        tokio::time::timeout(PROBE_WITHIN, backend.store.ping())
            .await
            .unwrap_or(Err(StoreError::Timeout))
    };
    let token = tokio::time::timeout(PROBE_WITHIN, backend.api.tokens().get(Kind::AccessToken));
    let (store, token) = futures_util::future::join(store, token).await;
    store?;
    match token {
        Ok(token) => {
            token.map_err(|error| Problem::from(error).not_ready())?;
            Ok(json(
                &json!({"status": "ready", "store": backend.store.name()}),
            ))
        }
        Err(_) => {
            let detail = "the access_token is still being fetched";
            Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_token_yet",
                "No token yet",
                detail,
            ))
        }
    }
}

/// Prometheus text.
#[handler]
pub(super) fn metrics(backend: &Backend) -> Result<Response, Problem> {
    backend.api.tokens().report(&backend.metrics.credentials);
    backend.ledger.report();
    match backend.metrics.encode(backend.skew.seconds()) {
        Ok(text) => Ok(Response::builder()
            .header(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )
            .body(text)),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be encoded");
            let detail = "the metrics can't be encoded; the log has the cause";
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
                detail,
            ))
        }
    }
}
