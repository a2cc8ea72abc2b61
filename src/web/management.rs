//! The routes for other programs of the account's owner, behind `Authorization: Bearer $ADMIN_TOKEN`.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::{Body, Request, Response, handler};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Backend;
use super::error::Problem;
use super::oauth::json;
use super::request::{self, parameter};
use crate::secret::Secret;
use crate::token::{Credential, Kind};
use crate::wechat::id::OpenId;

/// The account's `access_token`.
#[handler]
pub(super) async fn get_tokens(
    request: &Request,
    Data(backend): Data<&Arc<Backend>>,
) -> Result<Response, Problem> {
    authorize(request, backend)?;
    let credential = backend.api.tokens().get(Kind::AccessToken).await?;
    Ok(tokens(&credential))
}

/// A new `access_token`, if the one that failed is still the stored one.
#[handler]
pub(super) async fn refresh_tokens(
    request: &Request,
    body: Body,
    Data(backend): Data<&Arc<Backend>>,
) -> Result<Response, Problem> {
    authorize(request, backend)?;
    let body = request::body(request, body).await?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reported = body.get("access_token").and_then(Value::as_str);
    let Some(reported) = reported.filter(|token| !token.is_empty()) else {
        let detail = "send {\"access_token\": \"the one that failed\"}: only if it is still the stored one is a new one fetched";
        return Err(Problem::bad_request("missing_access_token", detail));
    };
    let credential = backend
        .api
        .tokens()
        .renew_reported(Kind::AccessToken, &Secret::new(reported))
        .await?;
    Ok(tokens(&credential))
}

/// A page of followers with their records.
#[handler]
pub(super) async fn get_followers(
    request: &Request,
    Data(backend): Data<&Arc<Backend>>,
) -> Result<Response, Problem> {
    authorize(request, backend)?;
    let next_openid = parameter(request, "next_openid")?.filter(|openid| !openid.is_empty());
    if next_openid
        .as_ref()
        .is_some_and(|openid| OpenId::parse(openid).is_err())
    {
        return Err(Problem::bad_request(
            "bad_next_openid",
            "`next_openid` is no openid: send the one of the last page",
        ));
    }
    let followers = backend.api.followers(next_openid.as_deref()).await?;
    Ok(json(&json!(followers)))
}

fn tokens(credential: &Credential) -> Response {
    json(&json!({
        "access_token": credential.value.expose(),
        "expires_in": credential.expires_in().as_secs(),
    }))
}

/// RFC 6750, section 3.
fn authorize(request: &Request, backend: &Backend) -> Result<(), Problem> {
    let Some(admin_token) = &backend.admin_token else {
        let detail = "the management routes are off: set ADMIN_TOKEN and send it as `Authorization: Bearer …`";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "management_off",
            "Management is off",
            detail,
        ));
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // Digests, so that the comparison takes the same time whatever the lengths.
    let fits = given.is_some_and(|(_, token)| {
        Sha256::digest(token.trim())
            .ct_eq(&Sha256::digest(admin_token.expose()))
            .into()
    });
    if fits {
        return Ok(());
    }
    let detail = "send `Authorization: Bearer $ADMIN_TOKEN`";
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Unauthorized",
        detail,
    )
    .with_header(header::WWW_AUTHENTICATE, "Bearer"))
}
