//! Who may use `/_sim` and the page: programs and pages of this machine.
//!
//! A page on the internet can make a browser call a local port. Its name in `Origin` gives it away; and
//! one that lets its own name point to this machine (DNS rebinding) is given away by `Host`.

use std::net::{IpAddr, SocketAddr};

use poem::Request;
use poem::http::header;
use url::Host;

/// Whether `Host` and `Origin` are of this machine.
pub(crate) fn is_local(request: &Request, listen: SocketAddr) -> bool {
    let header = |name| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap_or("?"))
    };
    let Some(host) = header(header::HOST).and_then(parse_host) else {
        return false;
    };
    // A program listens on every address on purpose; a name it was reached by is still suspicious.
    let any_address = listen.ip().is_unspecified() && !matches!(host, Host::Domain(_));
    if !any_address && !is_ours(&host, listen.ip()) {
        return false;
    }
    match header(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let origin = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
                .and_then(parse_host);
            origin.is_some_and(|origin| origin == host || is_ours(&origin, listen.ip()))
        }
    }
}

/// The host of `host[:port]`.
fn parse_host(authority: &str) -> Option<Host<String>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if !authority.bytes().all(is_plain) {
        return None;
    }
    let url = url::Url::parse(&format!("http://{authority}/")).ok()?;
    url.host().map(|host| host.to_owned())
}

fn is_ours(host: &Host<String>, listen: IpAddr) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback() || IpAddr::V4(*ip) == listen,
        Host::Ipv6(ip) => ip.is_loopback() || IpAddr::V6(*ip) == listen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(listen: &str, host: &str, origin: Option<&str>, expected: bool) {
        let mut request = Request::builder().header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let listen = listen.parse().unwrap();
        assert_eq!(
            is_local(&request.finish(), listen),
            expected,
            "{listen} {host} {origin:?}"
        );
    }

    #[test]
    fn only_names_of_this_machine_are_let_in() {
        for host in [
            "127.0.0.1:4000",
            "localhost",
            "localhost:1",
            "[::1]:4000",
            "127.0.0.1",
        ] {
            check("127.0.0.1:4000", host, None, true);
        }
        for host in [
            "evil.test",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "192.0.2.1:4000",
            "",
            "a@127.0.0.1",
        ] {
            check("127.0.0.1:4000", host, None, false);
        }
        check("192.0.2.1:4000", "192.0.2.1:4000", None, true);
        check("192.0.2.1:4000", "192.0.2.2:4000", None, false);
    }

    #[test]
    fn a_foreign_origin_is_refused() {
        let (listen, host) = ("127.0.0.1:4000", "127.0.0.1:4000");
        check(listen, host, Some("http://127.0.0.1:4000"), true);
        check(listen, host, Some("http://localhost:3000"), true);
        for origin in [
            "https://evil.test",
            "null",
            "http://192.0.2.1",
            "file://",
            "http://127.0.0.1.evil.test",
        ] {
            check(listen, host, Some(origin), false);
        }
    }

    #[test]
    fn a_wildcard_listener_is_reached_by_any_address_but_by_no_other_name() {
        check("0.0.0.0:4000", "192.0.2.1:4000", None, true);
        check(
            "0.0.0.0:4000",
            "192.0.2.1:4000",
            Some("http://192.0.2.1:4000"),
            true,
        );
        check(
            "0.0.0.0:4000",
            "192.0.2.1:4000",
            Some("http://192.0.2.7"),
            false,
        );
        check("0.0.0.0:4000", "rebound.evil.test:4000", None, false);
    }
}
