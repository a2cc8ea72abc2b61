//! Errors of API calls, and what to do about each of the platform's return codes.

use crate::store::StoreError;

/// Why a call gave no answer. No variant holds a URL, so none can hold a token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The platform refused the call.
    #[error("WeChat answered errcode {errcode}: {errmsg}")]
    Refused {
        /// Its return code (全局返回码).
        errcode: i64,
        /// Its text, shortened. Branch on the code: the text changes.
        errmsg: String,
    },
    /// No answer within the deadline.
    #[error("WeChat did not answer in time")]
    Timeout,
    /// No connection could be made: nobody has seen the call.
    #[error("WeChat can't be reached: {0}")]
    Unreachable(String),
    /// The connection broke. What was sent may have taken effect.
    #[error("the connection to WeChat broke: {0}")]
    Network(String),
    /// An answer that is not what the platform's documents promise.
    #[error("WeChat answered nonsense: {0}")]
    Nonsense(String),
    /// The token that the call needs can't be read: our own store is away.
    #[error("no access_token at hand: {0}")]
    Store(String),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again, a little later.
    Retry,
    /// Renew the token, then repeat once.
    RenewToken,
    /// Send the user through OAuth again.
    RestartOAuth,
    /// The quota is used up: stop until it is reset (00:00 UTC+8).
    Quota,
    /// The user's state forbids it. No retry.
    User,
    /// Only the operator can mend it, in the account's console. See [`advice`].
    Operator,
    /// The call itself is wrong.
    GiveUp,
}

impl ApiError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused { errcode, .. } => class(*errcode),
            Self::Timeout
            | Self::Unreachable(_)
            | Self::Network(_)
            | Self::Nonsense(_)
            | Self::Store(_) => Class::Retry,
        }
    }

    /// The platform's return code, if it gave one.
    pub fn errcode(&self) -> Option<i64> {
        match self {
            Self::Refused { errcode, .. } => Some(*errcode),
            _ => None,
        }
    }

    /// The platform's text, if it gave one.
    pub fn errmsg(&self) -> Option<&str> {
        match self {
            Self::Refused { errmsg, .. } => Some(errmsg),
            _ => None,
        }
    }
}

fn class(errcode: i64) -> Class {
    match errcode {
        // -1: busy. 45011: rate per minute. 45159: a tag changed meanwhile. 61450: customer service.
        -1 | 45011 | 45159 | 61450 => Class::Retry,
        // Wrong or not the latest; malformed; expired.
        40001 | 40014 | 42001 => Class::RenewToken,
        // Bad code; bad, expired or revoked refresh_token; used code; code expired; password changed.
        40029 | 40030 | 40163 | 42002 | 42003 | 42007 => Class::RestartOAuth,
        45009 | 45028 | 48006 => Class::Quota,
        40003 | 43004 | 43005 | 43019 | 43101 | 43108 | 45015 | 45047 | 48002 | 49003 | 50001
        | 50005 => Class::User,
        40002 | 40013 | 40125 | 40164 | 40243 | 43116 | 48001 | 48003 | 48004 | 48008 | 50002
        | 89501 | 89503 | 89506 | 89507 => Class::Operator,
        _ => Class::GiveUp,
    }
}

/// What the operator does about a return code, if there is something to be done.
pub fn advice(errcode: i64) -> Option<&'static str> {
    Some(match errcode {
        // Of the token's own call a wrong secret; of another call, twice in a row, a second fetcher.
        40001 => {
            "WECHAT_APPSECRET is not this account's (reset it in the console, 基本配置 → 开发者密码), or another program fetches tokens for this account: let it ask /getTokens instead"
        }
        40125 => {
            "WECHAT_APPSECRET is not this account's: reset it in the console (基本配置 → 开发者密码) and set it anew"
        }
        40002 => "the grant_type was refused: check TOKEN_MODE",
        40013 => "WECHAT_APPID is not known to WeChat: copy it from the console's 基本配置 page",
        40029 | 40163 | 42003 => {
            "the sign-in's code was used or is over 5 minutes old: sign in again"
        }
        40164 => "add the address in the message to 基本配置 → IP白名单",
        40243 => "the AppSecret is frozen: unfreeze it in the console (基本配置 → 开发者密码)",
        42002 | 40030 | 42007 => "the user's authorization is over: let him sign in again",
        45009 => {
            "the daily quota of this API is used up; it is reset at 00:00 (UTC+8), or by clear_quota ten times a month"
        }
        45011 => "too many calls in this minute: wait a minute",
        48001 => {
            "the account has no right to this API: see 接口权限 in the console (certification may be missing)"
        }
        48004 => "WeChat has banned this API for the account: see the console's notifications",
        89501 | 89503 => "the account's administrator must confirm this IP in WeChat",
        89506 => "the administrator refused this IP twice: wait 24 hours",
        89507 => "the administrator refused this IP: wait an hour",
        -1 => "WeChat is busy: try again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_the_token_calls_has_its_class() {
        for code in [40001, 40014, 42001] {
            assert_eq!(class(code), Class::RenewToken, "{code}");
        }
        for code in [
            40002, 40013, 40125, 40164, 40243, 89501, 89503, 89506, 89507,
        ] {
            assert_eq!(class(code), Class::Operator, "{code}");
            assert!(advice(code).is_some(), "{code}");
        }
        assert_eq!(class(-1), Class::Retry);
        assert_eq!(class(45009), Class::Quota);
        assert_eq!(class(47001), Class::GiveUp);
    }
}
