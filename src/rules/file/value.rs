//! Values of the file by the type that is expected, with a fault for any other.

use toml::de::{DeTable, DeValue};

use super::{Reader, Value};
use crate::rules::fault::{listed, meant};
use crate::rules::template::{Groups, Place, Template};

/// A text of the file, and where it stands.
pub(super) type Word<'v> = (usize, &'v str);

impl Reader<'_> {
    /// All other keys are faults. Returns whether there were none: a key that seems missing may be the
    /// misspelt one.
    pub(super) fn only(&mut self, table: &DeTable<'_>, known: &[&str], whose: &str) -> bool {
        let mut all_known = true;
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                all_known = false;
                let near = match meant(name, known.iter().copied()) {
                    near if near.is_empty() => {
                        format!("; the keys {whose} are {}", listed(known.iter().copied()))
                    }
                    near => near,
                };
                self.source
                    .fault(key.span().start, format!("unknown key `{name}`{near}"));
            }
        }
        all_known
    }

    pub(super) fn table<'v>(&mut self, value: &'v Value<'_>) -> Option<&'v DeTable<'v>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, "a table: keys and values in `{ }`");
        }
        table
    }

    pub(super) fn text<'v>(&mut self, value: &'v Value<'_>) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, "a text in quotes");
        }
        text
    }

    pub(super) fn boolean(&mut self, value: &Value<'_>) -> Option<bool> {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(value, "`true` or `false`");
        }
        boolean
    }

    /// A text or a list of texts. A whole number will do for a text, as it is written.
    pub(super) fn words<'v>(&mut self, value: &'v Value<'_>) -> Vec<Word<'v>> {
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        if values.is_empty() {
            self.fault_at(value, "an empty list; give it a text, or remove it");
        }
        let mut words = Vec::new();
        for value in values {
            match value.get_ref() {
                DeValue::String(text) => words.push((value.span().start, text.as_ref())),
                DeValue::Integer(number) if number.radix() == 10 => {
                    words.push((value.span().start, number.as_str()));
                }
                _ => self.wrong_type(value, "a text in quotes, or a list of them"),
            }
        }
        words
    }

    pub(super) fn template(
        &mut self,
        value: &Value<'_>,
        place: Place,
        groups: Groups<'_>,
    ) -> Option<Template> {
        let text = self.text(value)?.trim_end();
        match Template::parse(text, place, groups) {
            Ok(template) => Some(template),
            Err(faults) => {
                for fault in faults {
                    let at = self.source.placeholder(value.span(), fault.nth);
                    self.source.fault(at, fault.text);
                }
                None
            }
        }
    }

    pub(super) fn optional(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        place: Place,
        groups: Groups<'_>,
    ) -> Option<Template> {
        let value = table.get(key)?;
        self.template(value, place, groups)
    }

    pub(super) fn wrong_type(&mut self, value: &Value<'_>, expected: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "`true` or `false`",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault_at(value, format!("expected {expected}, found {found}"));
    }

    pub(super) fn fault_at(&mut self, value: &Value<'_>, text: impl Into<String>) {
        self.source.fault(value.span().start, text);
    }

    /// At the key, which says more than its value.
    pub(super) fn fault_at_key(&mut self, table: &DeTable<'_>, key: &str, text: String) {
        let at = table
            .get_key_value(key)
            .map_or(0, |(key, _)| key.span().start);
        self.source.fault(at, text);
    }
}
