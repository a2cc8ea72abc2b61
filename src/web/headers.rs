//! The content security policy of our pages.

use poem::http::HeaderValue;
use url::Url;

use crate::config::Platform;

/// WeChat's second host for its script.
const SCRIPT_FALLBACK_ORIGIN: &str = "https://res2.wx.qq.com";
const REAL_SCRIPT_ORIGIN: &str = "https://res.wx.qq.com";
const REAL_OPEN_ORIGIN: &str = "https://open.weixin.qq.com";

/// What our pages may load, and where WeChat's script may come from.
#[derive(Clone, Debug)]
pub(crate) struct PagePolicy {
    /// The value of `Content-Security-Policy`.
    pub(super) header: HeaderValue,
    /// The script on WeChat's second host, where the first is WeChat's.
    pub(super) jssdk_fallback_url: Option<String>,
}

impl PagePolicy {
    /// The policy for these addresses of the platform.
    pub(crate) fn new(platform: &Platform) -> Self {
        let script_origin = origin(&platform.jssdk_url);
        let open_origin = origin(&platform.open_url);
        let jssdk_fallback_url = (script_origin == REAL_SCRIPT_ORIGIN).then(|| {
            platform
                .jssdk_url
                .replacen(REAL_SCRIPT_ORIGIN, SCRIPT_FALLBACK_ORIGIN, 1)
        });
        let fallback_origin = jssdk_fallback_url
            .as_ref()
            .map_or("", |_| SCRIPT_FALLBACK_ORIGIN);
        // A simulator shows our pages in the web view of its phone.
        let ancestor = if open_origin == REAL_OPEN_ORIGIN {
            ""
        } else {
            &open_origin
        };
        let policy = format!(
            "default-src 'self'; script-src 'self' {script_origin} {fallback_origin}; \
             connect-src 'self' {script_origin} {fallback_origin}; img-src 'self' http: https: data:; \
             frame-src 'self' weixin: weixinping:; frame-ancestors 'self' {ancestor}; \
             object-src 'none'; base-uri 'none'; form-action 'self'"
        );
        // Origins are ASCII, as `Url` serializes them.
        let header = HeaderValue::from_str(&policy)
            .unwrap_or(HeaderValue::from_static("default-src 'self'"));
        Self {
            header,
            jssdk_fallback_url,
        }
    }
}

fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(jssdk_url: &str, open_url: &str) -> PagePolicy {
        let (jssdk_url, open_url) = (jssdk_url.to_owned(), open_url.to_owned());
        PagePolicy::new(&Platform {
            api_url: String::new(),
            open_url,
            jssdk_url,
        })
    }

    #[test]
    fn wechats_script_may_come_from_both_its_hosts() {
        let policy = policy(
            "https://res.wx.qq.com/open/js/jweixin-1.6.0.js",
            "https://open.weixin.qq.com",
        );
        let header = policy.header.to_str().unwrap();
        assert!(
            header.contains("script-src 'self' https://res.wx.qq.com https://res2.wx.qq.com;"),
            "{header}"
        );
        assert!(header.contains("frame-ancestors 'self' ;"), "{header}");
        assert_eq!(
            policy.jssdk_fallback_url.unwrap(),
            "https://res2.wx.qq.com/open/js/jweixin-1.6.0.js"
        );
    }

    #[test]
    fn a_simulator_may_frame_our_pages() {
        let policy = policy(
            "http://127.0.0.1:4000/open/js/jweixin-1.6.0.js",
            "http://127.0.0.1:4000",
        );
        let header = policy.header.to_str().unwrap();
        assert!(
            header.contains("frame-ancestors 'self' http://127.0.0.1:4000;"),
            "{header}"
        );
        assert!(!header.contains("qq.com"), "{header}");
        assert_eq!(policy.jssdk_fallback_url, None);
    }
}
