//! Whether a page lets the phone's web view show it.
//!
//! A browser does not tell a page why a frame stays empty. So the simulator asks the site itself, by HEAD,
//! which leaves one-time links alone, and reads the two headers that decide.

use std::time::Duration;

use poem::http::{HeaderMap, header};
use serde_json::{Value, json};
use url::{Origin, Url};

use super::World;

const PATIENCE: Duration = Duration::from_secs(3);

/// `{"framable","why","status"}`: what the page at `url` says about being shown by `ancestor`. A page
/// that cannot be asked has no `status` and an `error`.
pub(crate) async fn ask(world: &World, url: Url, ancestor: &Url) -> Value {
    let asked = world.client.head(url.clone()).timeout(PATIENCE);
    let response = match asked.send().await {
        Ok(response) => response,
        Err(error) => {
            let error = super::push::words(&error);
            return json!({"framable": true, "why": null, "status": null, "error": error});
        }
    };
    let why = refusal(response.headers(), &url, ancestor);
    json!({"framable": why.is_none(), "why": why, "status": response.status().as_u16()})
}

/// The header that forbids it. `frame-ancestors` goes before `X-Frame-Options`, as in browsers.
fn refusal(headers: &HeaderMap, page: &Url, ancestor: &Url) -> Option<String> {
    let ancestors: Vec<_> = headers
        .get_all(header::CONTENT_SECURITY_POLICY)
        .iter()
        .filter_map(|policy| policy.to_str().ok())
        .flat_map(|policies| policies.split(','))
        .flat_map(|policy| policy.split(';').map(str::trim))
        .filter(|directive| {
            let name = directive.split_ascii_whitespace().next();
            name.is_some_and(|name| name.eq_ignore_ascii_case("frame-ancestors"))
        })
        .collect();
    for directive in &ancestors {
        let mut sources = directive.split_ascii_whitespace().skip(1);
        if !sources.any(|source| allows(source, page, ancestor)) {
            return Some(format!("Content-Security-Policy: {directive}"));
        }
    }
    if !ancestors.is_empty() {
        return None;
    }
    let option = headers.get(header::X_FRAME_OPTIONS)?.to_str().ok()?.trim();
    let is_refused = option.eq_ignore_ascii_case("deny")
        || option.eq_ignore_ascii_case("sameorigin") && page.origin() != ancestor.origin();
    is_refused.then(|| format!("X-Frame-Options: {option}"))
}

/// Whether one source of `frame-ancestors` matches the ancestor.
fn allows(source: &str, page: &Url, ancestor: &Url) -> bool {
    if source == "*" {
        return true;
    }
    if source.starts_with('\'') {
        return source.eq_ignore_ascii_case("'self'") && page.origin() == ancestor.origin();
    }
    if let Some(scheme) = source.strip_suffix(':') {
        return scheme.eq_ignore_ascii_case(ancestor.scheme());
    }
    let (scheme, rest) = source
        .split_once("://")
        .unwrap_or((ancestor.scheme(), source));
    if !scheme.eq_ignore_ascii_case(ancestor.scheme()) {
        return false;
    }
    let Origin::Tuple(_, host, port) = ancestor.origin() else {
        return false;
    };
    let host = host.to_string();
    let authority = rest.split('/').next().unwrap_or_default();
    let (name, wanted_port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    };
    let host_matches = match name.strip_prefix("*.") {
        Some(parent) => host
            .to_ascii_lowercase()
            .strip_suffix(&parent.to_ascii_lowercase())
            .is_some_and(|child| child.ends_with('.')),
        None => name.eq_ignore_ascii_case(&host),
    };
    let port_matches = match wanted_port {
        Some("*") => true,
        Some(wanted) => wanted == port.to_string(),
        None => ancestor.port().is_none(),
    };
    host_matches && port_matches
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::http::{HeaderName, HeaderValue};

    #[track_caller]
    fn check(name: &'static str, value: &str, is_refused: bool) {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        let page = Url::parse("http://127.0.0.1:3000/a").unwrap();
        let ancestor = Url::parse("http://127.0.0.1:4000/").unwrap();
        let why = refusal(&headers, &page, &ancestor);
        assert_eq!(why.is_some(), is_refused, "{value}: {why:?}");
    }

    #[test]
    fn the_two_headers_are_read_as_browsers_read_them() {
        let csp = "content-security-policy";
        check(csp, "default-src 'none'", false);
        check(csp, "default-src 'self'; frame-ancestors 'none'", true);
        check(csp, "frame-ancestors", true);
        check(csp, "frame-ancestors 'self'", true);
        check(csp, "frame-ancestors 'self' http://127.0.0.1:4000", false);
        check(csp, "frame-ancestors 127.0.0.1:*", false);
        check(csp, "frame-ancestors http://127.0.0.1", true);
        check(csp, "frame-ancestors https://127.0.0.1:4000", true);
        check(csp, "frame-ancestors http:", false);
        check(csp, "frame-ancestors *", false);
        check(csp, "frame-ancestors *.0.0.1:4000", false);
        check(csp, "Frame-Ancestors *.example.com", true);
        check("x-frame-options", "DENY", true);
        check("x-frame-options", "SameOrigin", true);
        check("x-frame-options", "ALLOWALL", false);
    }
}
