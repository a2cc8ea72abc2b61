//! What the platform's errors mean and what to do about them, in Chinese and English.
//!
//! The codes are those of [`errcode`]; beside them stand the errors of consent pages (`oauth:10003`), of
//! the JS-SDK (`jssdk:invalid signature`) and of pushes (`push:timeout`).

use serde::Deserialize;
use serde_json::{Value, json};

use super::errcode;

const TABLE: &str = include_str!("../../templates/simulator/glossary.json");

#[derive(Deserialize)]
struct Glossary {
    /// What to do about a whole class of errors.
    classes: std::collections::BTreeMap<String, Words>,
    entries: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
struct Words {
    zh: String,
    en: String,
}

/// Id, class, what it means in both languages, what to do in both, where the class does not say it all.
#[derive(Deserialize)]
struct Entry(String, String, String, String, String, String);

/// `[{"id","errmsg","class","meaning":{"zh","en"},"cure":{"zh","en"}}]`
pub(crate) fn to_json() -> Value {
    let table = read();
    let one = |Entry(id, class, zh, en, cure_zh, cure_en): &Entry| {
        let of_class = &table.classes[class];
        let or = |own: &str, common: &str| if own.is_empty() { common } else { own }.to_owned();
        json!({
            "id": id,
            "errmsg": id.parse().ok().and_then(errcode::known),
            "class": class,
            "meaning": {"zh": zh, "en": en},
            "cure": {"zh": or(cure_zh, &of_class.zh), "en": or(cure_en, &of_class.en)},
        })
    };
    table.entries.iter().map(one).collect()
}

#[expect(
    clippy::expect_used,
    reason = "the file is part of the program, and a test reads it"
)]
fn read() -> Glossary {
    serde_json::from_str(TABLE).expect("the glossary is well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_of_the_platform_is_explained_in_both_languages() {
        let json = to_json();
        let entries = json.as_array().unwrap();
        let ids: BTreeSet<_> = entries
            .iter()
            .map(|entry| entry["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), entries.len(), "an id stands twice");
        let missing: Vec<_> = errcode::TEXTS
            .iter()
            .filter(|(code, _)| !ids.contains(code.to_string().as_str()))
            .collect();
        assert!(missing.is_empty(), "not explained: {missing:?}");
        for entry in entries {
            for part in ["meaning", "cure"] {
                for language in ["zh", "en"] {
                    assert_ne!(entry[part][language], "", "{part} of {}", entry["id"]);
                }
            }
        }
    }
}
