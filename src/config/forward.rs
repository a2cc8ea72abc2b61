//! Where messages go that nothing here answers.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::Site;
use super::read::parse_http_url;
use crate::forward::SigningKey;

/// Where messages go that nothing here answers.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The program that answers them.
    pub url: ForwardUrl,
    /// What they are signed with.
    pub key: SigningKey,
}

/// `FORWARD_URL`. It may hold a password or a key, so it prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwardUrl(Url);

impl ForwardUrl {
    /// Reads an absolute http or https URL. Any host will do, this machine too: the operator named it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        parse_http_url(text).map(Self)
    }

    /// The clear URL, for the wire only.
    pub(crate) fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether it can be known to lead back to `site`.
    pub(super) fn is_of(&self, site: &Site) -> bool {
        let url = &self.0;
        if let Some(public_url) = &site.public_url
            && url.origin().ascii_serialization() == public_url.origin()
        {
            return true;
        }
        let listen = site.listen.ip();
        let local = listen.is_loopback() || listen.is_unspecified();
        let is_our_host = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" && local,
            Some(Host::Ipv4(ip)) => is_reached_by(listen, ip.into()),
            Some(Host::Ipv6(ip)) => is_reached_by(listen, ip.into()),
            None => false,
        };
        is_our_host && url.port_or_known_default() == Some(site.listen.port())
    }
}

/// Whether a connection to `host` arrives at a listener on `listen`.
fn is_reached_by(listen: IpAddr, host: IpAddr) -> bool {
    let is_local = host.is_loopback() || host.is_unspecified();
    host == listen || (listen.is_unspecified() && is_local)
}

impl fmt::Debug for ForwardUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Settings};

    fn faults(settings: &Settings) -> String {
        Config::from_settings(settings).unwrap_err().to_string()
    }

    fn unforwarded() -> Settings {
        Settings {
            wechat_appid: Some("wx0123456789abcdef".into()),
            wechat_appsecret: Some("0123456789abcdef0123456789abcdef".into()),
            wechat_token: Some("simtoken2026".into()),
            ..Settings::default()
        }
    }

    fn forwarding_to(url: &str) -> Settings {
        Settings {
            forward_url: Some(url.into()),
            forward_secret: Some("0123456789abcdef01234567".into()),
            ..unforwarded()
        }
    }

    #[test]
    fn messages_may_go_to_any_http_address() {
        for url in [
            "http://127.0.0.1:5000/",
            "http://localhost:5000",
            "http://10.0.0.7/bot?key=1",
            "https://user:password@bot.example.com/hook",
            "http://127.0.0.1:3001/wechat",
        ] {
            let config = Config::from_settings(&forwarding_to(url)).unwrap();
            assert_eq!(
                config
                    .forward
                    .unwrap()
                    .url
                    .expose()
                    .as_str()
                    .trim_end_matches('/'),
                url.trim_end_matches('/')
            );
        }
        for bad in ["bot.example.com", "ftp://x/", "http://", "http://x/#f"] {
            assert!(
                faults(&forwarding_to(bad)).contains("FORWARD_URL: "),
                "{bad}"
            );
        }
    }

    #[test]
    fn messages_never_go_where_they_come_from() {
        let to = |url: &str, public_url: &str, listen: &str| {
            Config::from_settings(&Settings {
                public_url: Some(public_url.into()),
                listen: Some(listen.into()),
                ..forwarding_to(url)
            })
        };
        for (url, public_url, listen) in [
            (
                "https://wx.example.com/wechat",
                "https://wx.example.com",
                "",
            ),
            (
                "https://WX.example.com:443/other",
                "https://wx.example.com",
                "",
            ),
            ("http://127.0.0.1:3000/", "", ""),
            ("http://127.9.9.9:3000/", "", "0.0.0.0:3000"),
            ("http://localhost:3000/", "", ""),
            ("http://[::1]:3000/", "", "[::]:3000"),
            ("http://0.0.0.0:3000/", "", ""),
            ("http://localhost:81/", "", "127.0.0.1:81"),
            ("http://127.0.0.1/", "", "127.0.0.1:80"),
            ("http://10.0.0.7:81/", "", "10.0.0.7:81"),
        ] {
            let error = to(url, public_url, listen).unwrap_err().to_string();
            assert!(
                error.contains("FORWARD_URL: leads back here"),
                "{url}: {error}"
            );
        }
        for (url, public_url, listen) in [
            ("https://bot.example.com/", "https://wx.example.com", ""),
            ("http://wx.example.com/", "https://wx.example.com", ""),
            ("http://127.0.0.1:3001/", "", ""),
            ("http://10.0.0.7:3000/", "", ""),
            ("http://127.0.0.1:81/", "", "10.0.0.7:81"),
            ("http://localhost:81/", "", "10.0.0.7:81"),
        ] {
            assert!(to(url, public_url, listen).is_ok(), "{url}");
        }
    }

    #[test]
    fn forwarding_takes_an_address_and_a_secret() {
        let config = Config::from_settings(&unforwarded()).unwrap();
        assert!(config.forward.is_none());
        let mut settings = forwarding_to("http://127.0.0.1:5000/");
        settings.forward_secret = None;
        assert!(faults(&settings).contains("FORWARD_SECRET: is missing"));
        settings.forward_secret = Some("whsec_canary!".into());
        assert!(faults(&settings).contains("FORWARD_SECRET: expected"));
        settings = Settings {
            forward_url: Some(" ".into()),
            ..forwarding_to("")
        };
        assert!(faults(&settings).contains("FORWARD_URL: is missing"));
    }

    #[test]
    fn where_messages_go_is_not_shown() {
        let settings = forwarding_to("https://canary:canary@bot.example.com/canary?canary");
        let config = Config::from_settings(&settings).unwrap();
        assert!(!format!("{:?}", config.forward).contains("canary"));
        let settings = Settings {
            public_url: Some("https://bot.example.com".into()),
            ..settings
        };
        assert!(!faults(&settings).contains("canary"));
    }
}
