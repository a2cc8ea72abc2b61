//! What a message must be for a rule to fit it.

use std::fmt;

use memchr::memmem::Finder;
use regex::Regex;

use super::fault::listed;
use super::schedule::{UtcOffset, Week};
use super::template::Captures;
use crate::wechat::Message;

/// A message as conditions look at it. Made once for all rules.
pub(super) struct Subject<'m> {
    pub(super) message: &'m Message,
    text: Option<SubjectText<'m>>,
}

struct SubjectText<'m> {
    /// Without the blanks around it.
    trimmed: &'m str,
    /// The same in half-width forms.
    narrow: String,
    /// The same in lower case.
    lower: String,
}

impl<'m> Subject<'m> {
    pub(super) fn new(message: &'m Message) -> Self {
        let text = message.text().map(|text| {
            let trimmed = text.trim();
            let narrow = narrow(trimmed);
            SubjectText {
                trimmed,
                lower: narrow.to_lowercase(),
                narrow,
            }
        });
        Self { message, text }
    }

    /// When the user sent it, Unix seconds: `CreateTime`, so that a retry finds what the first
    /// delivery found.
    fn at(&self) -> i64 {
        self.message.create_time
    }
}

/// Words as texts are compared with them: full-width letters, digits and signs count as their
/// half-width forms and, unless it is said otherwise, capitals as small letters.
#[derive(Clone, Debug)]
pub(super) struct Words {
    written: Vec<String>,
    compared: Vec<String>,
    finders: Vec<Finder<'static>>,
    case_sensitive: bool,
}

impl Words {
    pub(super) fn new(written: Vec<String>, case_sensitive: bool) -> Self {
        let compared: Vec<_> = written
            .iter()
            .map(|word| match narrow(word.trim()) {
                word if case_sensitive => word,
                word => word.to_lowercase(),
            })
            .collect();
        let finders = compared.iter().map(|word| Finder::new(word).into_owned());
        Self {
            finders: finders.collect(),
            written,
            compared,
            case_sensitive,
        }
    }

    fn of<'s>(&self, text: &'s SubjectText<'_>) -> &'s str {
        if self.case_sensitive {
            &text.narrow
        } else {
            &text.lower
        }
    }

    /// The word that is the text.
    fn same(&self, text: &SubjectText<'_>) -> Option<&str> {
        let text = self.of(text);
        let at = self.compared.iter().position(|word| word == text)?;
        Some(&self.written[at])
    }

    /// A word that is in the text.
    fn inside(&self, text: &SubjectText<'_>) -> Option<&str> {
        let text = self.of(text).as_bytes();
        let at = self
            .finders
            .iter()
            .position(|word| word.find(text).is_some())?;
        Some(&self.written[at])
    }

    /// Whether `is_covered` holds of each word of `other` and one of these, both as the stricter of
    /// the two is compared.
    fn cover(&self, other: &Self, is_covered: impl Fn(&str, &str) -> bool) -> bool {
        // Texts in another case would fit the other and not this one.
        if self.case_sensitive && !other.case_sensitive {
            return false;
        }
        other.compared.iter().all(|there| {
            let there = if self.case_sensitive {
                there.clone()
            } else {
                there.to_lowercase()
            };
            self.compared.iter().any(|here| is_covered(here, &there))
        })
    }
}

/// One condition. Of its values any will do.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// It is no event. Holds for each rule that asks for none.
    NoEvent,
    /// `MsgType`.
    Type(Vec<String>),
    /// `Event`.
    Event(Vec<String>),
    /// `EventKey` as it came.
    Key(Vec<String>),
    /// The scene of a QR code that was scanned.
    Scene(Vec<String>),
    /// A text that is this.
    Keyword(Words),
    /// A text in which this stands.
    Contains(Words),
    /// A text that this finds.
    Regex(Vec<Regex>),
    /// When it was sent, in the week.
    Time {
        week: Box<Week>,
        offset: UtcOffset,
        written: String,
    },
    /// Not before this second.
    From { unix_s: i64, written: String },
    /// Before this second.
    Until { unix_s: i64, written: String },
}

/// Why a condition holds.
#[derive(Debug, PartialEq)]
pub(super) enum Proof<'c> {
    /// By this value.
    Value(&'c str),
    /// By this regular expression, with what it found.
    Found(&'c str, Captures),
    /// There is no more to say than the condition itself.
    Plain,
}

impl Condition {
    /// Whether it holds, and by what.
    pub(super) fn test(&self, subject: &Subject<'_>) -> Option<Proof<'_>> {
        let message = subject.message;
        let one_of = |values: &[String], value: Option<&str>| {
            let value = value?;
            values.iter().position(|known| known == value)
        };
        let when = |holds: bool| holds.then_some(Proof::Plain);
        match self {
            Self::NoEvent => when(!message.is_event()),
            Self::Type(types) => {
                let at = one_of(types, Some(message.msg_type()))?;
                Some(Proof::Value(&types[at]))
            }
            Self::Event(events) => {
                let at = one_of(events, message.event_name())?;
                Some(Proof::Value(&events[at]))
            }
            Self::Key(keys) => {
                let at = one_of(keys, message.event_key())?;
                Some(Proof::Value(&keys[at]))
            }
            Self::Scene(scenes) => {
                let at = one_of(scenes, message.scene())?;
                Some(Proof::Value(&scenes[at]))
            }
            Self::Keyword(words) => words.same(subject.text.as_ref()?).map(Proof::Value),
            Self::Contains(words) => words.inside(subject.text.as_ref()?).map(Proof::Value),
            Self::Regex(regexes) => {
                let text = subject.text.as_ref()?.trimmed;
                let (regex, captures) = regexes
                    .iter()
                    .find_map(|regex| Some((regex, Captures::of(regex, text)?)))?;
                Some(Proof::Found(regex.as_str(), captures))
            }
            Self::Time { week, offset, .. } => when(week.holds(subject.at(), *offset)),
            Self::From { unix_s, .. } => when(subject.at() >= *unix_s),
            Self::Until { unix_s, .. } => when(subject.at() < *unix_s),
        }
    }

    /// Its key in the file.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NoEvent => "no event",
            Self::Type(_) => "type",
            Self::Event(_) => "event",
            Self::Key(_) => "key",
            Self::Scene(_) => "scene",
            Self::Keyword(_) => "keyword",
            Self::Contains(_) => "contains",
            Self::Regex(_) => "regex",
            Self::Time { .. } => "time",
            Self::From { .. } => "from",
            Self::Until { .. } => "until",
        }
    }

    /// Why it does not hold, for a person.
    pub(super) fn refusal(&self, subject: &Subject<'_>, offset: UtcOffset) -> String {
        let message = subject.message;
        let other = |what: &str, value: Option<&str>, values: &[String]| match value {
            Some(value) => format!(
                "{what} `{value}` is not {}",
                listed(values.iter().map(String::as_str))
            ),
            None => format!("it has no {what}"),
        };
        let no_text = || "it is no text".to_owned();
        match self {
            Self::NoEvent => "it is an event, and the rule names no event, key or scene".to_owned(),
            Self::Type(types) => other("MsgType", Some(message.msg_type()), types),
            Self::Event(events) => other("Event", message.event_name(), events),
            Self::Key(keys) => other("EventKey", message.event_key(), keys),
            Self::Scene(scenes) => other("scene", message.scene(), scenes),
            Self::Keyword(_) | Self::Contains(_) | Self::Regex(_) if subject.text.is_none() => {
                no_text()
            }
            Self::Keyword(words) => format!("the text is not {words}"),
            Self::Contains(words) => format!("the text does not hold {words}"),
            Self::Regex(regexes) => {
                let regexes = listed(regexes.iter().map(Regex::as_str));
                format!("the text is not matched by {regexes}")
            }
            Self::Time { written, .. } => {
                format!("{} is not in {written}", offset.tell(subject.at()))
            }
            Self::From { written, .. } => {
                format!("{} is before {written}", offset.tell(subject.at()))
            }
            Self::Until { written, .. } => {
                format!("{} is after {written}", offset.tell(subject.at()))
            }
        }
    }

    /// Why it holds, for a person. Nothing where it goes without saying.
    pub(super) fn reason(
        &self,
        proof: &Proof<'_>,
        subject: &Subject<'_>,
        offset: UtcOffset,
    ) -> Option<String> {
        Some(match (self, proof) {
            (Self::NoEvent, _) => return None,
            (_, Proof::Value(value)) => format!("{} `{value}`", self.name()),
            (_, Proof::Found(regex, captures)) => {
                let groups = captures
                    .told()
                    .map(|(name, text)| format!("{{{{{name}}}}} = `{text}`"));
                let groups: Vec<_> = groups.collect();
                format!("regex `{regex}` with {}", groups.join(", "))
            }
            (Self::Time { written, .. }, _) => {
                format!("{} is in {written}", offset.tell(subject.at()))
            }
            (Self::From { written, .. }, _) => format!("from {written}"),
            (Self::Until { written, .. }, _) => format!("until {written}"),
            (_, Proof::Plain) => return None,
        })
    }
}

/// All conditions of a rule: each must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions(pub(super) Vec<Condition>);

impl Conditions {
    /// What the regular expressions found, if all conditions hold; else the first that does not.
    pub(super) fn fit(&self, subject: &Subject<'_>) -> Result<Captures, &Condition> {
        let mut captures = Captures::default();
        for condition in &self.0 {
            match condition.test(subject) {
                None => return Err(condition),
                Some(Proof::Found(_, found)) => captures = found,
                Some(Proof::Value(_) | Proof::Plain) => {}
            }
        }
        Ok(captures)
    }

    /// Whether these hold for each message for which the others do. `false` where that can't be told.
    pub(super) fn cover(&self, other: &Self) -> bool {
        self.0.iter().all(|condition| other.imply(condition))
    }

    /// The same conditions, a set for each value of the most telling list.
    pub(super) fn alternatives(&self) -> Vec<(String, Self)> {
        for name in [
            "keyword", "key", "scene", "event", "type", "contains", "regex",
        ] {
            let Some(at) = self.0.iter().position(|condition| condition.name() == name) else {
                continue;
            };
            let single = |(value, condition): (String, Condition)| {
                let mut conditions = self.clone();
                conditions.0[at] = condition;
                (format!("{name} `{value}`"), conditions)
            };
            return self.0[at].split().into_iter().map(single).collect();
        }
        vec![("it".to_owned(), self.clone())]
    }

    fn imply(&self, wanted: &Condition) -> bool {
        let any = |implies: &dyn Fn(&Condition) -> bool| self.0.iter().any(implies);
        let within = |values: &[String], of: &[String]| values.iter().all(|v| of.contains(v));
        match wanted {
            Condition::NoEvent => any(&|here| match here {
                Condition::NoEvent
                | Condition::Keyword(_)
                | Condition::Contains(_)
                | Condition::Regex(_) => true,
                Condition::Type(types) => !types.iter().any(|t| t == "event"),
                _ => false,
            }),
            Condition::Type(types) => any(&|here| match here {
                Condition::Type(here) => within(here, types),
                Condition::Keyword(_) | Condition::Contains(_) | Condition::Regex(_) => {
                    types.iter().any(|t| t == "text")
                }
                Condition::Event(_) | Condition::Key(_) | Condition::Scene(_) => {
                    types.iter().any(|t| t == "event")
                }
                _ => false,
            }),
            Condition::Event(events) => any(&|here| match here {
                Condition::Event(here) => within(here, events),
                Condition::Scene(_) => SCANS.iter().all(|scan| events.iter().any(|e| e == scan)),
                _ => false,
            }),
            Condition::Key(keys) => {
                any(&|here| matches!(here, Condition::Key(here) if within(here, keys)))
            }
            Condition::Scene(scenes) => {
                any(&|here| matches!(here, Condition::Scene(here) if within(here, scenes)))
            }
            Condition::Keyword(words) => any(&|here| match here {
                Condition::Keyword(here) => words.cover(here, |wanted, word| wanted == word),
                _ => false,
            }),
            Condition::Contains(words) => any(&|here| match here {
                Condition::Keyword(here) | Condition::Contains(here) => {
                    words.cover(here, |wanted, word| word.contains(wanted))
                }
                _ => false,
            }),
            Condition::Regex(regexes) => any(&|here| match here {
                Condition::Regex(here) => here
                    .iter()
                    .all(|here| regexes.iter().any(|r| r.as_str() == here.as_str())),
                _ => false,
            }),
            Condition::Time { week, .. } => {
                any(&|here| matches!(here, Condition::Time { week: here, .. } if week.covers(here)))
            }
            Condition::From { unix_s, .. } => {
                any(&|here| matches!(here, Condition::From { unix_s: here, .. } if here >= unix_s))
            }
            Condition::Until { unix_s, .. } => {
                any(&|here| matches!(here, Condition::Until { unix_s: here, .. } if here <= unix_s))
            }
        }
    }
}

impl Condition {
    /// A condition for each of its values.
    fn split(&self) -> Vec<(String, Self)> {
        let texts = |values: &[String], of: fn(Vec<String>) -> Self| {
            let single = |value: &String| (value.clone(), of(vec![value.clone()]));
            values.iter().map(single).collect()
        };
        let words = |words: &Words, of: fn(Words) -> Self| {
            let single = |word: &String| {
                let one = Words::new(vec![word.clone()], words.case_sensitive);
                (word.clone(), of(one))
            };
            words.written.iter().map(single).collect()
        };
        match self {
            Self::Type(values) => texts(values, Self::Type),
            Self::Event(values) => texts(values, Self::Event),
            Self::Key(values) => texts(values, Self::Key),
            Self::Scene(values) => texts(values, Self::Scene),
            Self::Keyword(values) => words(values, Self::Keyword),
            Self::Contains(values) => words(values, Self::Contains),
            Self::Regex(regexes) => {
                let single = |r: &Regex| (r.as_str().to_owned(), Self::Regex(vec![r.clone()]));
                regexes.iter().map(single).collect()
            }
            whole => vec![(String::new(), whole.clone())],
        }
    }
}

/// The events that tell a scene.
pub(super) const SCANS: [&str; 2] = ["subscribe", "SCAN"];

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&listed(self.written.iter().map(String::as_str)))
    }
}

/// Full-width letters, digits and signs (U+FF01 to U+FF5E) and blanks (U+3000) in half-width forms:
/// Chinese keyboards make the one or the other.
fn narrow(text: &str) -> String {
    let narrowed = |character| match character {
        '\u{3000}' => ' ',
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character)
        }
        other => other,
    };
    text.chars().map(narrowed).collect()
}
