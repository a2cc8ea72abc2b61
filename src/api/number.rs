//! Numbers of the platform's answers.

use serde::{Deserialize, Deserializer, de};

/// A whole number, which the platform writes as a number or as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            // The text stays out of the error: it could be anything.
            Either::Text(text) => text.parse().map(Self).map_err(|_| {
                de::Error::custom("a text that is no number, where a number is expected")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_may_come_as_a_string() {
        let read = |json: &str| serde_json::from_str::<Number>(json).map_err(|e| e.to_string());
        assert_eq!(read("7200"), Ok(Number(7200)));
        assert_eq!(read("\"7200\""), Ok(Number(7200)));
        for wrong in ["-1", "\"canary\"", "null", "1.5", "[]"] {
            assert!(!read(wrong).unwrap_err().contains("canary"), "{wrong}");
        }
    }
}
