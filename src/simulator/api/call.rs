//! What a handler gets of a request, and what it gives back.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::form::{self, Part};
use crate::simulator::http::Pairs;

/// What a handler gets of the request.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) query: Pairs,
    /// Who calls, for the whitelist and the log.
    pub(crate) client: IpAddr,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

impl Call {
    /// A query parameter, or the refusal for want of it.
    pub(crate) fn need(&self, name: &str, missing: i64) -> Result<&str, Refusal> {
        self.query.get(name).ok_or(missing.into())
    }

    /// The body as a JSON object; raw UTF-8.
    pub(crate) fn json(&self) -> Result<Members, Refusal> {
        if self.body.is_empty() {
            return Err(44002.into());
        }
        let members = serde_json::from_slice(&self.body);
        members.map(Members).map_err(|_| 47001.into())
    }

    /// The body where a call may come without one: an empty object then.
    pub(crate) fn json_or_nothing(&self) -> Result<Members, Refusal> {
        if self.body.is_empty() {
            return Ok(Members(Map::new()));
        }
        self.json()
    }

    /// Whether a letter beyond ASCII stands as `\uXXXX`, which some calls refuse.
    pub(crate) fn has_escapes(&self) -> bool {
        let mut escaped = false;
        self.body.iter().any(|byte| {
            let is_unicode = escaped && *byte == b'u';
            escaped = !escaped && *byte == b'\\';
            is_unicode
        })
    }

    /// The parts of a form; none where the body is no form.
    pub(crate) fn form(&self) -> Vec<Part> {
        form::parse(&self.content_type, &self.body)
    }
}

/// The members of a JSON object, numbers as numbers or as texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members(pub(crate) Map<String, Value>);

impl Members {
    /// Those of a value, none where it is no object.
    pub(crate) fn of(value: &Value) -> Self {
        Self(value.as_object().cloned().unwrap_or_default())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let text = self.get(name)?.as_str()?;
        Some(text).filter(|text| !text.is_empty())
    }

    pub(crate) fn need(&self, name: &str, missing: i64) -> Result<&str, Refusal> {
        self.text(name).ok_or(missing.into())
    }

    /// A whole number, written bare or in quotes.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        whole(self.get(name)?)
    }

    pub(crate) fn list(&self, name: &str) -> Option<&Vec<Value>> {
        self.get(name)?.as_array()
    }

    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        self.get(name)?.as_object().cloned().map(Self)
    }

    /// `true`, or a number other than 0.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Value::Bool(set)) => *set,
            Some(value) => whole(value).is_some_and(|number| number != 0),
            None => false,
        }
    }

    /// A list of texts; of numbers too, as texts.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let one = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        self.list(name)?.iter().map(one).collect()
    }
}

/// A whole number, written bare or in quotes.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// A success.
#[derive(Debug)]
pub(crate) enum Answer {
    Json(Value),
    File(File),
    /// Status 404, as only the site `mp.weixin.qq.com` gives.
    Missing,
}

/// A file as the platform hands it out.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) content_type: &'static str,
    /// For `Content-disposition`; without one there is no such header.
    pub(crate) name: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

impl From<Value> for Answer {
    fn from(json: Value) -> Self {
        Self::Json(json)
    }
}

impl From<File> for Answer {
    fn from(file: File) -> Self {
        Self::File(file)
    }
}

/// `{"errcode":0,"errmsg":"ok"}`
pub(crate) fn ok() -> Answer {
    json!({"errcode": 0, "errmsg": "ok"}).into()
}

/// `{"errcode":0,"errmsg":"ok",…}`, the form of success that some calls have with their answer.
pub(crate) fn ok_with(mut answer: Value) -> Answer {
    answer["errcode"] = json!(0);
    answer["errmsg"] = json!("ok");
    answer.into()
}

/// A no of the platform's.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(super) errcode: i64,
    /// The words where they name what is wrong; else those of [`crate::simulator::errcode::TEXTS`].
    pub(super) errmsg: Option<String>,
    /// Members beside code and text.
    pub(super) more: Map<String, Value>,
}

impl Refusal {
    /// A code with words of its own.
    pub(crate) fn saying(errcode: i64, errmsg: String) -> Self {
        Self {
            errmsg: Some(errmsg),
            ..errcode.into()
        }
    }

    /// 47003 for one argument.
    pub(crate) fn argument(name: &str) -> Self {
        Self::saying(47003, format!("argument invalid! {name} invalid"))
    }

    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }
}

impl From<i64> for Refusal {
    fn from(errcode: i64) -> Self {
        Self {
            errcode,
            errmsg: None,
            more: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn call(body: &str) -> Call {
        Call {
            path: "/".to_owned(),
            query: Pairs::default(),
            client: Ipv4Addr::LOCALHOST.into(),
            content_type: String::new(),
            body: body.into(),
        }
    }

    #[test]
    fn an_escaped_letter_is_told_from_an_escaped_backslash() {
        assert!(call(r#"{"name":"\u4f60"}"#).has_escapes());
        assert!(!call(r#"{"name":"你"}"#).has_escapes());
        assert!(!call(r#"{"path":"C:\\users"}"#).has_escapes());
    }

    #[test]
    fn a_number_may_stand_in_quotes() {
        let body = call(r#"{"a":"7","b":7,"c":"x","d":null,"e":true}"#);
        let body = body.json().unwrap();
        assert_eq!((body.number("a"), body.number("b")), (Some(7), Some(7)));
        assert_eq!((body.number("c"), body.number("d")), (None, None));
        assert!(body.is_set("e") && body.is_set("b") && !body.is_set("d"));
    }
}
