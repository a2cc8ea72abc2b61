//! Rules without code: a TOML file says what is answered to what.
//!
//! ```toml
//! [[rule]]
//! keyword = ["帮助", "help"]
//! text = "发“订单 123”查物流。"
//!
//! [[rule]]
//! regex = '^订单\s*(\d+)$'
//! news = [{ title = "订单 {{1}}", url = "https://shop.example.com/orders?no={{1}}" }]
//!
//! [[rule]]
//! event = "subscribe"
//! image = { file = "welcome.jpg" }
//! ```
//!
//! Rules are tried in the order of the file. A rule fits when each of its conditions holds, of a list any
//! value; the first that fits answers.
//!
//! | condition | holds for |
//! | --- | --- |
//! | `keyword` | a text that is this, blanks around it, case and width aside (`case_sensitive = true`: not case) |
//! | `contains` | a text in which this stands, compared in the same way |
//! | `regex` | a text that this finds, blanks around the text aside |
//! | `type` | a `MsgType` |
//! | `event`, `key` | an `Event`, an `EventKey` as it came: a menu button's, most likely |
//! | `scene` | a QR code's scene, scanned by a new follower or an old one |
//! | `time`, `weekday` | `"22:00-06:00"`, `"mon-fri"`; a window over midnight belongs to the day it begins on |
//! | `from`, `until` | from this moment, until that one; a date without a time is the whole day |
//!
//! A rule that names no event, key, scene or type fits messages alone: events come unasked, a LOCATION
//! every few seconds. The time of a message is its `CreateTime`, so a retry finds the same rules; times
//! are those of `utc_offset`, `+08:00` unless the file says otherwise.
//!
//! A rule says one of `text` (of a list one by chance), `image`, `voice`, `video`, `music`, `news`,
//! `transfer_customer_service` and `nothing`. Its `then` is `stop`, or `next`: its text is kept, later
//! rules are tried, and what they answer comes behind it; or `forward`: the message is handed on as if no
//! rule fitted.
//!
//! Texts, titles and addresses are templates: `{{1}}` and `{{name}}` are groups of the `regex`,
//! `{{EventKey}}` and the like fields of the message, `{{openid}}` its sender, and `{{nickname}}`,
//! `{{headimgurl}}`, `{{unionid}}` what is stored of him once he has signed in. What is absent is no text,
//! or what stands behind a bar: `{{nickname|朋友}}`. In an address values are percent-encoded. `{{{{` is
//! two braces.
//!
//! All that costs something is made when the file is read: patterns are compiled, weeks spelt out, files
//! looked at. So are all faults found then.

mod condition;
mod explain;
mod fault;
mod file;
mod live;
mod media;
mod overlap;
mod reply;
mod schedule;
mod template;
mod uploads;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use explain::Trial;
pub use fault::Fault;
pub use file::{Reading, read};
pub(crate) use live::{Parts, Rules};

use condition::{Condition, Conditions, Subject};
use media::MediaFile;
use reply::Saying;
use schedule::UtcOffset;
use template::Captures;

use crate::wechat::Reply;

/// The rules of one file.
#[derive(Clone, Debug)]
pub struct Rulebook {
    /// As it was named.
    file: String,
    rules: Vec<Rule>,
    offset: UtcOffset,
    /// Those that rules send.
    files: Vec<Arc<MediaFile>>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: Option<String>,
    /// Its place in the file, from 1.
    number: usize,
    line: usize,
    /// The same in bytes.
    at: usize,
    conditions: Conditions,
    says: Option<Saying>,
    then: Then,
}

/// What follows on a rule that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It answers.
    Stop,
    /// Later rules are tried; what they answer comes behind its own text.
    Next,
    /// The message goes where it would go without rules.
    Forward,
}

/// A rule that fits a message.
struct Fitting<'r> {
    rule: &'r Rule,
    captures: Captures,
}

/// What the rules make of a message.
#[derive(Default)]
struct Decision<'r> {
    /// Rules that fit and let others answer.
    noted: Vec<Fitting<'r>>,
    /// The rule that ended the search.
    last: Option<Fitting<'r>>,
}

impl Rulebook {
    /// Tries the rules in their order, and tells `tried` of each how it went.
    fn decide<'r>(
        &'r self,
        subject: &Subject<'_>,
        mut tried: impl FnMut(&'r Rule, Result<(), &'r Condition>),
    ) -> Decision<'r> {
        let mut decision = Decision::default();
        for rule in &self.rules {
            let captures = match rule.conditions.fit(subject) {
                Ok(captures) => captures,
                Err(condition) => {
                    tried(rule, Err(condition));
                    continue;
                }
            };
            tried(rule, Ok(()));
            let fitting = Fitting { rule, captures };
            if rule.then == Then::Next {
                decision.noted.push(fitting);
            } else {
                decision.last = Some(fitting);
                break;
            }
        }
        decision
    }
}

impl<'r> Decision<'r> {
    /// The rules that fit, in their order.
    fn fitting(&self) -> impl Iterator<Item = &Fitting<'r>> {
        self.noted.iter().chain(&self.last)
    }

    /// Those of them that say something; none where the message goes on to others.
    fn saying(&self) -> Vec<(&Fitting<'r>, &'r Saying)> {
        if let Some(last) = &self.last
            && last.rule.then == Then::Forward
        {
            return Vec::new();
        }
        self.fitting().filter_map(Fitting::saying).collect()
    }
}

impl<'r> Fitting<'r> {
    fn saying(&self) -> Option<(&Self, &'r Saying)> {
        Some((self, self.rule.says.as_ref()?))
    }
}

/// One reply out of those of all rules that fit: texts go before a text, or stand for nothing; before
/// anything else there is no place for them.
fn join(mut replies: Vec<Reply>) -> Reply {
    let Some(last) = replies.pop() else {
        return Reply::None;
    };
    let text = match last {
        Reply::Text(text) => Some(text),
        Reply::None => None,
        other => return other,
    };
    let before = replies.into_iter().filter_map(|reply| match reply {
        Reply::Text(text) => Some(text),
        _ => None,
    });
    let texts: Vec<_> = before.chain(text).collect();
    if texts.is_empty() {
        Reply::None
    } else {
        Reply::Text(texts.join("\n"))
    }
}

impl Rule {
    /// Its name, or its number.
    fn label(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => self.number.to_string(),
        }
    }
}

/// `12 rules, 3 media files`.
impl fmt::Display for Rulebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        write!(
            f,
            "{}, {}",
            counted(self.rules.len(), "rule"),
            counted(self.files.len(), "media file")
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "rule {} `{name}`", self.number),
            None => write!(f, "rule {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests;
