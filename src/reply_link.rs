//! Reply links: addresses of ours at which another program gives the reply to one message.
//!
//! A link holds, under seal, whose message it is, which, and until when it is good. So any instance takes
//! it, and nothing is stored for it. That it is good once is the ledger's doing: a message has one reply.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::PublicUrl;
use crate::store::{Digest, Sealed, Vault};
use crate::wechat::id::OpenId;

/// The path of a link. What is secret in it stands in the query, which no log shows.
pub(crate) const PATH: &str = "/replies";
/// How long a link is good: as long as a message is remembered.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
/// What the seal is for.
const PURPOSE: &str = "reply link";

/// Makes reply links and reads them. Cheap to clone.
#[derive(Clone)]
pub struct ReplyLinks(Arc<Inner>);

struct Inner {
    vault: Vault,
    address: String,
}

impl fmt::Debug for ReplyLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyLinks")
    }
}

impl ReplyLinks {
    /// Links of this site, under this key.
    pub fn new(vault: &Vault, public_url: &PublicUrl) -> Self {
        Self(Arc::new(Inner {
            vault: vault.clone(),
            address: public_url.join(PATH),
        }))
    }

    /// The address for the reply to a message, good for 24 h. Whoever has it may answer the user once.
    pub fn url(&self, of: &OpenId, key: &Digest) -> String {
        let token = self.token(of, key, now() + GOOD_FOR.as_secs());
        format!("{}?token={token}", self.0.address)
    }

    /// Whose message a token is for, and which. `None` for one that is not ours, damaged or over.
    pub fn open(&self, token: &str) -> Option<(OpenId, Digest)> {
        self.open_at(token, now())
    }

    fn token(&self, of: &OpenId, key: &Digest, good_until: u64) -> String {
        let clear = format!("{good_until} {} {of}", hex::encode(key.0));
        URL_SAFE_NO_PAD.encode(self.0.vault.seal(PURPOSE, &clear).0)
    }

    fn open_at(&self, token: &str, now: u64) -> Option<(OpenId, Digest)> {
        let sealed = Sealed(URL_SAFE_NO_PAD.decode(token).ok()?);
        let clear = self.0.vault.open(PURPOSE, &sealed).ok()?;
        let mut parts = clear.expose().splitn(3, ' ');
        let good_until: u64 = parts.next()?.parse().ok()?;
        let key = hex::decode(parts.next()?).ok()?.try_into().ok()?;
        let of = OpenId::parse(parts.next()?).ok()?;
        (now < good_until).then_some((of, Digest(key)))
    }
}

/// Unix seconds. Instances' clocks may differ by some: it is a matter of a day.
fn now() -> u64 {
    // Before 1970 no link is good anyway.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};
    use crate::store::StoreKey;

    fn links(key: &StoreKey, previous: Option<&StoreKey>) -> ReplyLinks {
        let settings = Settings {
            wechat_appid: Some("wx0123456789abcdef".into()),
            wechat_appsecret: Some("0123456789abcdef0123456789abcdef".into()),
            wechat_token: Some("simtoken2026".into()),
            public_url: Some("https://wx.example.com".into()),
            ..Settings::default()
        };
        let site = Config::from_settings(&settings).unwrap().site;
        let public_url = site.public_url("127.0.0.1:1".parse().unwrap());
        ReplyLinks::new(&Vault::new(key, previous), &public_url)
    }

    fn message() -> (OpenId, Digest) {
        let open_id = OpenId::parse("oFan0000000000000000000000001").unwrap();
        (open_id, Digest([7; 32]))
    }

    #[test]
    fn a_link_names_its_message_to_every_instance_with_the_key() {
        let (key, next) = (StoreKey::generate(), StoreKey::generate());
        let (of, digest) = message();
        let url = links(&key, None).url(&of, &digest);
        let token = url.strip_prefix("https://wx.example.com/replies?token=");
        let token = token.expect("an address of this site");
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        assert!(token.bytes().all(is_plain), "{token}");
        assert_eq!(links(&key, None).open(token), Some((of, digest)));
        assert!(links(&next, Some(&key)).open(token).is_some(), "rotated");
        assert_eq!(links(&next, None).open(token), None, "another's key");
    }

    #[test]
    fn a_link_shows_nothing_and_no_two_are_alike() {
        let links = links(&StoreKey::generate(), None);
        let (of, digest) = message();
        let url = links.url(&of, &digest);
        assert!(!url.contains(of.as_str()) && !url.contains(&hex::encode(digest.0)));
        assert_ne!(url, links.url(&of, &digest));
    }

    #[test]
    fn a_link_is_good_for_a_day() {
        let links = links(&StoreKey::generate(), None);
        let (of, digest) = message();
        let began = now();
        let url = links.url(&of, &digest);
        let token = url.split_once('=').unwrap().1;
        assert!(links.open_at(token, began + 24 * 3600 - 1).is_some());
        assert_eq!(links.open_at(token, now() + 24 * 3600), None);
    }

    #[test]
    fn what_was_sealed_for_something_else_is_no_link() {
        let key = StoreKey::generate();
        let links = links(&key, None);
        let (of, digest) = message();
        let clear = format!("{} {} {of}", now() + 60, hex::encode(digest.0));
        let other = Vault::new(&key, None).seal("access_token", &clear);
        assert_eq!(links.open(&URL_SAFE_NO_PAD.encode(other.0)), None);
        for bad in ["", "x", "AAAA", "中", "=", &"A".repeat(200)] {
            assert_eq!(links.open(bad), None, "{bad}");
        }
    }
}
