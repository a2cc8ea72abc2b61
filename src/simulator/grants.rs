//! What fans have allowed by web OAuth: codes, and the tokens got for them ("WeChat: 网页授权").

use std::collections::BTreeMap;

use super::clock::Seconds;
use super::mint::Mint;
use crate::wechat::id::{OpenId, UnionId};

const CODE_LIFE: Seconds = 300;
const ACCESS_LIFE: Seconds = 7200;
/// Dead codes and tokens are remembered so that they can be called old; no more than this many.
const REMEMBERED: usize = 20_000;
const REFRESH_LIFE: Seconds = 30 * 24 * 3600;

/// How much was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `snsapi_base`: the openid.
    Base,
    /// `snsapi_userinfo`: the profile.
    UserInfo,
}

impl Scope {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "snsapi_base" => Some(Self::Base),
            "snsapi_userinfo" => Some(Self::UserInfo),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Base => "snsapi_base",
            Self::UserInfo => "snsapi_userinfo",
        }
    }
}

/// One consent, which a code and later its tokens stand for.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// What the account learns: the fan's openid, or a virtual one for a snapshot.
    pub(crate) openid: OpenId,
    pub(crate) unionid: Option<UnionId>,
    pub(crate) scope: Scope,
    pub(crate) snapshot: bool,
}

struct Code {
    grant: Grant,
    expires_at: Seconds,
    used: bool,
}

struct Held {
    grant: Grant,
    expires_at: Seconds,
}

/// A pair of web tokens as an answer gives them.
pub(crate) struct Pair {
    pub(crate) access_token: String,
    pub(crate) expires_in: Seconds,
    pub(crate) refresh_token: String,
    pub(crate) grant: Grant,
}

/// All codes and web tokens.
#[derive(Default)]
pub(crate) struct Grants {
    codes: BTreeMap<String, Code>,
    access: BTreeMap<String, Held>,
    refresh: BTreeMap<String, Held>,
}

impl Grants {
    /// A code of 32 characters: good once, for 300 s.
    pub(crate) fn code(&mut self, grant: Grant, mint: &mut Mint, now: Seconds) -> String {
        if self.codes.len() >= REMEMBERED {
            self.codes.retain(|_, code| now < code.expires_at);
        }
        let code = mint.text("code", 32);
        self.codes.insert(
            code.clone(),
            Code {
                grant,
                expires_at: now + CODE_LIFE,
                used: false,
            },
        );
        code
    }

    /// Gives the tokens for a code.
    ///
    /// # Errors
    ///
    /// 40029 for an unknown or old code, 40163 for a used one.
    pub(crate) fn exchange(
        &mut self,
        code: &str,
        mint: &mut Mint,
        now: Seconds,
    ) -> Result<Pair, i64> {
        let code = self.codes.get_mut(code).ok_or(40029)?;
        if code.used {
            return Err(40163);
        }
        if code.expires_at <= now {
            return Err(40029);
        }
        code.used = true;
        let grant = code.grant.clone();
        let refresh_token = mint.token("refresh");
        self.refresh.insert(
            refresh_token.clone(),
            Held {
                grant: grant.clone(),
                expires_at: now + REFRESH_LIFE,
            },
        );
        Ok(self.pair(grant, refresh_token, mint, now))
    }

    /// Gives a new access token for a refresh token, which lives on as long as before.
    ///
    /// # Errors
    ///
    /// 40030 for an unknown refresh token, 42002 for one over 30 days old.
    pub(crate) fn renew(
        &mut self,
        refresh_token: &str,
        mint: &mut Mint,
        now: Seconds,
    ) -> Result<Pair, i64> {
        let held = self.refresh.get(refresh_token).ok_or(40030)?;
        if held.expires_at <= now {
            return Err(42002);
        }
        let grant = held.grant.clone();
        Ok(self.pair(grant, refresh_token.to_owned(), mint, now))
    }

    /// What an access token stands for.
    ///
    /// # Errors
    ///
    /// 40001 for an unknown token, 42001 for an old one.
    pub(crate) fn check(&self, access_token: &str, now: Seconds) -> Result<&Grant, i64> {
        let held = self.access.get(access_token).ok_or(40001)?;
        if held.expires_at <= now {
            return Err(42001);
        }
        Ok(&held.grant)
    }

    /// The fan takes his consent back: his tokens are as if they had never been.
    pub(crate) fn revoke(&mut self, openid: &str) {
        let others = |held: &Held| held.grant.openid.as_str() != openid;
        self.access.retain(|_, held| others(held));
        self.refresh.retain(|_, held| others(held));
    }

    fn pair(&mut self, grant: Grant, refresh_token: String, mint: &mut Mint, now: Seconds) -> Pair {
        if self.access.len() >= REMEMBERED {
            self.access.retain(|_, held| now < held.expires_at);
        }
        let access_token = mint.token("access");
        self.access.insert(
            access_token.clone(),
            Held {
                grant: grant.clone(),
                expires_at: now + ACCESS_LIFE,
            },
        );
        Pair {
            access_token,
            expires_in: ACCESS_LIFE,
            refresh_token,
            grant,
        }
    }
}
