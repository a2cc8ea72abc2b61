//! The two cookies: which browser this is, and its session. Both `HttpOnly; SameSite=Lax`, `Secure`
//! where the public URL is https.

use cookie::{Cookie, SameSite};
use poem::http::{HeaderMap, HeaderValue, header};
use poem::{Request, Response};

use crate::config::PublicUrl;
use crate::oauth::SESSION_TTL;

/// Names the browser that begins sign-ins.
pub(super) const BROWSER: &str = "offiaccount_browser";
/// The session's id.
pub(super) const SESSION: &str = "offiaccount_session";

/// The value of a cookie of the request.
pub(super) fn value<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    from_headers(request.headers(), name)
}

fn from_headers<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(given, value)| (given == name).then_some(value))
}

/// Sets a cookie for 30 days.
pub(super) fn set(
    response: &mut Response,
    public_url: &PublicUrl,
    name: &'static str,
    value: String,
) {
    let seconds = SESSION_TTL.as_secs().cast_signed();
    let cookie = Cookie::build((name, value))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(public_url.is_https())
        .max_age(cookie::time::Duration::seconds(seconds))
        .build();
    // Both values are hex digits and a dot.
    if let Ok(header) = HeaderValue::from_str(&cookie.to_string()) {
        response.headers_mut().append(header::SET_COOKIE, header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=1; offiaccount_session=s=2"),
        );
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("offiaccount_browser=b"),
        );
        assert_eq!(from_headers(&headers, SESSION), Some("s=2"));
        assert_eq!(from_headers(&headers, BROWSER), Some("b"));
        assert_eq!(from_headers(&headers, "session"), None);
    }
}
