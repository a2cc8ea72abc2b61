//! The account's tokens and tickets ("WeChat: 获取 Access token", "获取稳定版接口调用凭据").
//!
//! Two spaces that do not know of each other. Classic: each call makes a new token, and the one before
//! works 300 s longer. Stable: the same token until 300 s before its end; then a new one beside it.

use std::collections::BTreeMap;

use super::clock::Seconds;
use super::mint::Mint;

/// The life of a token and of a ticket.
const LIFE: Seconds = 7200;
/// How long the token before the newest still works, and how early the stable one is renewed.
const OVERLAP: Seconds = 300;
/// Between two forced refreshes of the stable token.
const FORCE_PAUSE: Seconds = 30;
/// Dead tokens are remembered so that they can be called expired; no more than this many.
const REMEMBERED: usize = 500;
/// Of tickets the last few: a page that signs with an old one is told so.
const REMEMBERED_TICKETS: usize = 20;

/// One token that was given out.
struct Token {
    value: String,
    expires_at: Seconds,
    /// From then on a newer one has replaced it; never, while it is the newest.
    replaced_at: Option<Seconds>,
}

/// A token and its remaining life, as an answer gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) value: String,
    pub(crate) expires_in: Seconds,
}

#[derive(Default)]
struct Space(Vec<Token>);

/// The tokens and tickets of the account.
#[derive(Default)]
pub(crate) struct Tokens {
    classic: Space,
    stable: Space,
    forced_at: Option<Seconds>,
    tickets: BTreeMap<&'static str, Vec<Token>>,
}

impl Tokens {
    /// `/cgi-bin/token`: a new one.
    pub(crate) fn classic(&mut self, mint: &mut Mint, now: Seconds) -> Given {
        self.classic.renew(mint, now, now + OVERLAP)
    }

    /// `/cgi-bin/stable_token` without `force_refresh`.
    pub(crate) fn stable(&mut self, mint: &mut Mint, now: Seconds) -> Given {
        match self.stable.newest(now) {
            Some(given) if given.expires_in > OVERLAP => given,
            _ => self.stable.renew(mint, now, now + OVERLAP),
        }
    }

    /// Whether a `force_refresh` now would make a new token: not within 30 s of the last.
    pub(crate) fn may_force(&self, now: Seconds) -> bool {
        self.forced_at
            .is_none_or(|at| !(at..at + FORCE_PAUSE).contains(&now))
    }

    /// `/cgi-bin/stable_token` with `force_refresh`: the old one dies at once.
    pub(crate) fn force(&mut self, mint: &mut Mint, now: Seconds) -> Given {
        self.forced_at = Some(now);
        self.stable.renew(mint, now, now)
    }

    /// Whether the API takes this token.
    ///
    /// # Errors
    ///
    /// 42001 when its life is over; 40001 when a newer one replaced it or it never was.
    pub(crate) fn check(&self, value: &str, now: Seconds) -> Result<(), i64> {
        let token = self.classic.find(value).or_else(|| self.stable.find(value));
        match token {
            None => Err(40001),
            Some(token) if token.replaced_at.is_some_and(|at| at <= now) => Err(40001),
            Some(token) if token.expires_at <= now => Err(42001),
            Some(_) => Ok(()),
        }
    }

    /// `/cgi-bin/ticket/getticket`: the same one while it lives.
    pub(crate) fn ticket(&mut self, kind: &'static str, mint: &mut Mint, now: Seconds) -> Given {
        let tickets = self.tickets.entry(kind).or_default();
        if tickets.last().is_none_or(|ticket| ticket.expires_at <= now) {
            if tickets.len() >= REMEMBERED_TICKETS {
                tickets.remove(0);
            }
            tickets.push(Token {
                value: mint.text("ticket", 86),
                expires_at: now + LIFE,
                replaced_at: None,
            });
        }
        let newest = &tickets[tickets.len() - 1];
        Given {
            value: newest.value.clone(),
            expires_in: newest.expires_at - now,
        }
    }

    /// The `jsapi` ticket that signatures are checked with, if one was asked for and lives.
    pub(crate) fn jsapi_ticket(&self, now: Seconds) -> Option<&str> {
        let tickets = self.tickets.get("jsapi")?;
        let ticket = tickets.iter().find(|ticket| now < ticket.expires_at)?;
        Some(&ticket.value)
    }

    /// Every `jsapi` ticket that is still remembered, dead ones too.
    pub(crate) fn jsapi_tickets(&self) -> impl Iterator<Item = &str> {
        let tickets = self.tickets.get("jsapi").into_iter().flatten();
        tickets.map(|ticket| ticket.value.as_str())
    }

    /// The tokens as `/_sim/tokens` shows them, newest first.
    pub(crate) fn to_json(&self, now: Seconds) -> serde_json::Value {
        let list = |tokens: &[Token]| -> Vec<_> {
            let newest_first = tokens.iter().rev();
            newest_first
                .map(|token| {
                    let dies_at = token.replaced_at.unwrap_or(token.expires_at);
                    let dies_at = dies_at.min(token.expires_at);
                    serde_json::json!({"value": token.value, "dies_at": dies_at, "alive": now < dies_at})
                })
                .collect()
        };
        serde_json::json!({
            "now": now,
            "classic": list(&self.classic.0),
            "stable": list(&self.stable.0),
            "jsapi": list(self.tickets.get("jsapi").map_or(&[], Vec::as_slice)),
            "wx_card": list(self.tickets.get("wx_card").map_or(&[], Vec::as_slice)),
        })
    }
}

impl Space {
    fn find(&self, value: &str) -> Option<&Token> {
        self.0.iter().find(|token| token.value == value)
    }

    fn newest(&self, now: Seconds) -> Option<Given> {
        let token = self.0.last()?;
        Some(Given {
            value: token.value.clone(),
            expires_in: token.expires_at - now,
        })
    }

    fn renew(&mut self, mint: &mut Mint, now: Seconds, old_until: Seconds) -> Given {
        for token in &mut self.0 {
            let earlier = token.replaced_at.unwrap_or(old_until);
            token.replaced_at = Some(earlier.min(old_until));
        }
        if self.0.len() >= REMEMBERED {
            self.0.remove(0);
        }
        let value = mint.token("token");
        self.0.push(Token {
            value: value.clone(),
            expires_at: now + LIFE,
            replaced_at: None,
        });
        Given {
            value,
            expires_in: LIFE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (Tokens, Mint) {
        (Tokens::default(), Mint::new(Some(1)))
    }

    #[test]
    fn the_classic_token_before_the_newest_works_300_seconds_longer() {
        let (mut tokens, mut mint) = fresh();
        let first = tokens.classic(&mut mint, 1000);
        let second = tokens.classic(&mut mint, 2000);
        assert_ne!(first.value, second.value);
        assert_eq!(tokens.check(&first.value, 2299), Ok(()));
        assert_eq!(tokens.check(&first.value, 2300), Err(40001));
        assert_eq!(tokens.check(&second.value, 9199), Ok(()));
        assert_eq!(tokens.check(&second.value, 9200), Err(42001));
        assert_eq!(tokens.check("80_never", 2000), Err(40001));
    }

    #[test]
    fn the_stable_token_is_renewed_300_seconds_before_its_end_and_both_work_then() {
        let (mut tokens, mut mint) = fresh();
        let first = tokens.stable(&mut mint, 0);
        assert_eq!(tokens.stable(&mut mint, 6899).value, first.value);
        let second = tokens.stable(&mut mint, 6900);
        assert_ne!(second.value, first.value);
        assert_eq!(tokens.check(&first.value, 7199), Ok(()));
        assert!(tokens.check(&first.value, 7200).is_err());
        assert_eq!(tokens.check(&second.value, 7200), Ok(()));
    }

    #[test]
    fn a_forced_refresh_kills_the_old_stable_token_and_waits_30_seconds() {
        let (mut tokens, mut mint) = fresh();
        let first = tokens.stable(&mut mint, 0);
        assert!(tokens.may_force(0));
        let second = tokens.force(&mut mint, 0);
        assert_eq!(tokens.check(&first.value, 0), Err(40001));
        assert!(!tokens.may_force(29));
        assert!(tokens.may_force(30));
        assert_eq!(
            tokens.stable(&mut mint, 29),
            Given {
                expires_in: 7171,
                ..second
            }
        );
    }

    #[test]
    fn neither_space_kills_the_other() {
        let (mut tokens, mut mint) = fresh();
        let stable = tokens.stable(&mut mint, 0);
        let classic = tokens.classic(&mut mint, 0);
        tokens.classic(&mut mint, 1);
        tokens.force(&mut mint, 2);
        assert_eq!(tokens.check(&stable.value, 400), Err(40001));
        assert_eq!(tokens.check(&classic.value, 400), Err(40001));
        let stable = tokens.stable(&mut mint, 500);
        tokens.classic(&mut mint, 500);
        assert_eq!(tokens.check(&stable.value, 4000), Ok(()));
    }

    #[test]
    fn a_ticket_is_the_same_while_it_lives() {
        let (mut tokens, mut mint) = fresh();
        let first = tokens.ticket("jsapi", &mut mint, 0);
        assert_eq!(first.value.len(), 86);
        let again = tokens.ticket("jsapi", &mut mint, 7000);
        assert_eq!((again.value, again.expires_in), (first.value.clone(), 200));
        assert_ne!(tokens.ticket("wx_card", &mut mint, 7000).value, first.value);
        assert_ne!(tokens.ticket("jsapi", &mut mint, 7200).value, first.value);
    }
}
