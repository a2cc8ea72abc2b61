//! How an endpoint is declared: one line of what it is, then what it takes, needs and refuses.

use serde_json::{Value, json};

use super::call::{Answer, Call, Refusal};
use crate::simulator::account::Right;
use crate::simulator::errcode;
use crate::simulator::platform::Platform;

/// What answers a call.
pub(crate) type Handler = fn(&mut Platform, &Call) -> Result<Answer, Refusal>;

/// One call of the API: what it is, what it needs, what it may refuse, what it does.
///
/// In the lists of names a `?` at the end marks what may be left out.
pub(crate) struct Endpoint {
    pub(crate) method: Verb,
    pub(crate) path: &'static str,
    /// One line for `/_sim/endpoints`.
    pub(crate) summary: &'static str,
    /// Parameters of the query, `access_token` aside.
    pub(crate) query: &'static [&'static str],
    pub(crate) body: Body,
    /// The codes this call answers beside [`COMMON`].
    pub(crate) errors: &'static [i64],
    pub(crate) access: Access,
    pub(crate) right: Right,
    pub(crate) daily: Option<Daily>,
    pub(crate) handler: Handler,
}

/// The method that a call is for; another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    /// The documents say one, clients in use send the other too.
    Either,
}

/// What a call carries beside its query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Nothing,
    /// A JSON object with these members.
    Json(&'static [&'static str]),
    /// `multipart/form-data` with these parts; `media` is a file.
    Form(&'static [&'static str]),
}

/// What a caller shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// `access_token` of the account in the query.
    Token,
    /// Something of its own, which the handler checks.
    Own,
}

/// Calls a day ("WeChat: 接口调用频次限制").
#[derive(Clone, Copy, Debug)]
pub(crate) struct Daily {
    pub(crate) account: u64,
    pub(crate) sandbox: u64,
}

/// Codes that every call may answer: busy, the token's, the method's, quota, form and rights.
pub(crate) const COMMON: &[i64] = &[
    -1, 40001, 40014, 41001, 42001, 43001, 43002, 44002, 45009, 45011, 47001, 48001,
];

/// A call by GET. Without more it needs a token and the rights of a certified account.
pub(crate) const fn get(
    path: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    handler: Handler,
) -> Endpoint {
    Endpoint {
        method: Verb::Get,
        path,
        summary,
        query,
        body: Body::Nothing,
        errors: &[],
        access: Access::Token,
        right: Right::Certified,
        daily: None,
        handler,
    }
}

/// A call by POST with a JSON body.
pub(crate) const fn post(
    path: &'static str,
    summary: &'static str,
    members: &'static [&'static str],
    handler: Handler,
) -> Endpoint {
    Endpoint {
        method: Verb::Post,
        body: Body::Json(members),
        ..get(path, summary, &[], handler)
    }
}

/// A call by POST with a form that carries a file.
pub(crate) const fn upload(
    path: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    parts: &'static [&'static str],
    handler: Handler,
) -> Endpoint {
    Endpoint {
        method: Verb::Post,
        body: Body::Form(parts),
        ..get(path, summary, query, handler)
    }
}

impl Endpoint {
    /// The codes beside [`COMMON`].
    pub(crate) const fn errors(self, errors: &'static [i64]) -> Self {
        Self { errors, ..self }
    }

    pub(crate) const fn right(self, right: Right) -> Self {
        Self { right, ..self }
    }

    /// Calls a day of an account, and of the sandbox account.
    pub(crate) const fn daily(self, account: u64, sandbox: u64) -> Self {
        Self {
            daily: Some(Daily { account, sandbox }),
            ..self
        }
    }

    pub(crate) const fn without_token(self) -> Self {
        Self {
            access: Access::Own,
            ..self
        }
    }

    pub(crate) const fn by_either_method(self) -> Self {
        Self {
            method: Verb::Either,
            ..self
        }
    }

    /// As `/_sim/endpoints` lists it.
    pub(crate) fn to_json(&self) -> Value {
        let (members, parts): (&[_], &[_]) = match self.body {
            Body::Nothing => (&[], &[]),
            Body::Json(members) => (members, &[]),
            Body::Form(parts) => (&[], parts),
        };
        json!({
            "method": self.method.as_str(),
            "path": self.path,
            "summary": self.summary,
            "query": self.query,
            "members": members,
            "parts": parts,
            "needs_access_token": self.access == Access::Token,
            "right": self.right.as_str(),
            "daily": self.daily.map(|daily| daily.account),
            "errors": codes(self.errors),
            "common_errors": codes(COMMON),
        })
    }
}

/// Codes with their texts.
fn codes(codes: &[i64]) -> Value {
    let one = |code: &i64| json!({"errcode": code, "errmsg": errcode::text(*code)});
    codes.iter().map(one).collect()
}

impl Verb {
    /// The method of the documents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get | Self::Either => "GET",
            Self::Post => "POST",
        }
    }
}
