//! The conditions of a rule, as the file has them.

use regex::{Regex, RegexBuilder};
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::Reader;
use crate::rules::condition::{Condition, Conditions, SCANS, Words};
use crate::rules::fault::{listed, meant};
use crate::rules::schedule::{self, UtcOffset, Week, Weekday, Window};
use crate::wechat::{Event, Message};

/// A pattern and what it is compiled to. Matching takes time in proportion to the text, whatever the
/// pattern is.
const MOST_PATTERN_CHARS: usize = 1000;
const MOST_PATTERN_BYTES: usize = 1 << 20;

impl Reader<'_> {
    /// The patterns of a rule, compiled; `None` where one of them can't be.
    pub(super) fn regexes(&mut self, table: &DeTable<'_>) -> Option<Vec<Regex>> {
        let Some(value) = table.get("regex") else {
            return Some(Vec::new());
        };
        let mut regexes = Vec::new();
        let patterns = self.words(value);
        let all = patterns.len();
        for (at, pattern) in patterns {
            if pattern.chars().count() > MOST_PATTERN_CHARS {
                let text =
                    format!("a regex of over {MOST_PATTERN_CHARS} characters; make it shorter");
                self.source.fault(at, text);
                continue;
            }
            let regex = RegexBuilder::new(pattern)
                .size_limit(MOST_PATTERN_BYTES)
                .dfa_size_limit(MOST_PATTERN_BYTES)
                .build();
            match regex {
                Ok(regex) => regexes.push(regex),
                Err(regex::Error::CompiledTooBig(_)) => self.source.fault(
                    at,
                    "the regex takes too much memory; use smaller counts in `{}`",
                ),
                Err(error) => {
                    let why = error.to_string();
                    // Above it the pattern is shown, with a mark under the place.
                    let why = why.lines().last().unwrap_or_default();
                    let why = why.trim_start_matches("error: ");
                    self.source
                        .fault(at, format!("no regular expression: {why}"));
                }
            }
        }
        (regexes.len() == all && all > 0).then_some(regexes)
    }

    pub(super) fn conditions(&mut self, table: &DeTable<'_>, regexes: Vec<Regex>) -> Conditions {
        let mut conditions = Vec::new();
        let case_sensitive = self.case_sensitive(table);
        for (key, known) in [
            ("type", Message::types().collect::<Vec<_>>()),
            ("event", Event::NAMES.to_vec()),
        ] {
            let Some(value) = table.get(key) else {
                continue;
            };
            let words = self.words(value);
            for (at, word) in &words {
                self.check_known(*at, key, word, &known);
            }
            let values = words.into_iter().map(|(_, word)| word.to_owned()).collect();
            conditions.push(match key {
                "type" => Condition::Type(values),
                _ => Condition::Event(values),
            });
        }
        for key in ["key", "scene", "keyword", "contains"] {
            let Some(value) = table.get(key) else {
                continue;
            };
            let words = self.words(value);
            for (at, word) in &words {
                if word.trim().is_empty() {
                    self.source
                        .fault(*at, format!("an empty `{key}`; remove it"));
                }
            }
            let values = words.into_iter().map(|(_, word)| word.to_owned()).collect();
            conditions.push(match key {
                "key" => Condition::Key(values),
                "scene" => Condition::Scene(values),
                "keyword" => Condition::Keyword(Words::new(values, case_sensitive)),
                _ => Condition::Contains(Words::new(values, case_sensitive)),
            });
        }
        if !regexes.is_empty() {
            conditions.push(Condition::Regex(regexes));
        }
        self.times(table, &mut conditions);
        self.check_possible(table, &conditions);
        let says_what = |condition: &Condition| {
            matches!(
                condition.name(),
                "type" | "event" | "key" | "scene" | "keyword" | "contains" | "regex"
            )
        };
        if !conditions.iter().any(says_what) {
            conditions.insert(0, Condition::NoEvent);
        }
        Conditions(conditions)
    }

    fn case_sensitive(&mut self, table: &DeTable<'_>) -> bool {
        let Some(value) = table.get("case_sensitive") else {
            return false;
        };
        if !table.contains_key("keyword") && !table.contains_key("contains") {
            self.fault_at(
                value,
                "`case_sensitive` goes with `keyword` or `contains`; a regex minds the case unless it \
                 begins with `(?i)`",
            );
        }
        self.boolean(value).unwrap_or(false)
    }

    /// WeChat adds types and events without notice, so one that is not known is only doubtful. One
    /// that differs in nothing but its case is wrong.
    fn check_known(&mut self, at: usize, key: &str, word: &str, known: &[&str]) {
        if known.contains(&word) {
            return;
        }
        if let Some(right) = known.iter().find(|name| name.eq_ignore_ascii_case(word)) {
            let text = format!("WeChat writes it `{right}`, and capitals count in its names");
            self.source.fault(at, text);
            return;
        }
        let near = meant(word, known.iter().copied());
        self.source.warn(
            at,
            format!("WeChat has no {key} `{word}` that is known here{near}"),
        );
    }

    fn times(&mut self, table: &DeTable<'_>, conditions: &mut Vec<Condition>) {
        let mut written = Vec::new();
        let mut days = Vec::new();
        let mut windows = Vec::new();
        if let Some(value) = table.get("weekday") {
            for (at, word) in self.words(value) {
                written.push(word.trim().to_owned());
                match Weekday::parse_range(word) {
                    Some(range) => days.extend(range),
                    None => self.source.fault(
                        at,
                        "expected a day or days, like `mon`, `mon-fri` or `周一至周五`",
                    ),
                }
            }
        }
        if let Some(value) = table.get("time") {
            for (at, word) in self.words(value) {
                written.push(word.trim().to_owned());
                match Window::parse(word) {
                    Some(window) => windows.push(window),
                    None => self.source.fault(
                        at,
                        "expected two times that differ, like `09:00-18:00`, or `22:00-06:00` over \
                         midnight",
                    ),
                }
            }
        }
        if !written.is_empty() {
            if days.is_empty() {
                days = Weekday::ALL.to_vec();
            }
            conditions.push(Condition::Time {
                week: Box::new(Week::new(&days, &windows)),
                offset: self.offset,
                written: written.join(", "),
            });
        }
        let from = self.moment(table, "from", schedule::begins);
        let until = self.moment(table, "until", schedule::ends);
        if let (Some((first, _)), Some((last, _)), Some(value)) =
            (&from, &until, table.get("until"))
            && first >= last
        {
            self.fault_at(value, "`until` is over before `from` begins");
        }
        if let Some((unix_s, written)) = from {
            conditions.push(Condition::From { unix_s, written });
        }
        if let Some((unix_s, written)) = until {
            conditions.push(Condition::Until { unix_s, written });
        }
    }

    fn moment(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        read: fn(&Datetime, UtcOffset) -> Option<i64>,
    ) -> Option<(i64, String)> {
        let value = table.get(key)?;
        let moment = match value.get_ref() {
            DeValue::Datetime(moment) => Some(*moment),
            DeValue::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let unix_s = moment.and_then(|moment| read(&moment, self.offset));
        let Some((moment, unix_s)) = moment.zip(unix_s) else {
            self.fault_at(
                value,
                "expected a date or a date and a time, like 2026-12-24 or 2026-12-24T18:00:00",
            );
            return None;
        };
        Some((unix_s, moment.to_string().replace('T', " ")))
    }

    /// Conditions that never hold together.
    fn check_possible(&mut self, table: &DeTable<'_>, conditions: &[Condition]) {
        let given =
            |keys: &[&'static str]| keys.iter().copied().find(|key| table.contains_key(*key));
        let of_text = given(&["keyword", "contains", "regex"]);
        let of_event = given(&["event", "key", "scene"]);
        if let (Some(text), Some(event)) = (of_text, of_event) {
            let why = format!(
                "`{text}` needs a text and `{event}` an event: nothing is both; make two rules of it"
            );
            self.fault_at_key(table, event, why);
            return;
        }
        for condition in conditions {
            match condition {
                Condition::Type(types) => {
                    for (key, needed) in [(of_text, "text"), (of_event, "event")] {
                        if let Some(key) = key
                            && types.iter().any(|one| one != needed)
                        {
                            let why = format!("`{key}` fits type `{needed}` alone; remove `type`");
                            self.fault_at_key(table, "type", why);
                        }
                    }
                }
                Condition::Event(events) => {
                    let tells_scene = |event: &String| SCANS.contains(&event.as_str());
                    if table.contains_key("scene") && !events.iter().any(tells_scene) {
                        let why = format!("only the events {} have a scene", listed(SCANS));
                        self.fault_at_key(table, "scene", why);
                    }
                }
                _ => {}
            }
        }
    }
}
