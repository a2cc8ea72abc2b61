//! Template messages and subscription notices: what templates say, and who agreed to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::api::{Members, Refusal};
use super::clock::Seconds;

/// A template of the account's.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) id: String,
    pub(crate) title: String,
    /// Each keyword's name and its place in `data`, such as `thing1`.
    pub(crate) keywords: Vec<(String, String)>,
    /// Of a notice: 2 one-time, 3 long-term. Template messages have none.
    pub(crate) notice: Option<i64>,
}

/// All templates, and what fans agreed to.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    list: Vec<Template>,
    pub(crate) industry: Option<(i64, i64)>,
    /// Year and month in which the industry was set.
    pub(crate) industry_set: Option<(i64, i64)>,
    /// Sends left by openid and template.
    consents: BTreeMap<(String, String), Consent>,
    /// The job of each `client_msg_id`, by openid.
    sent: BTreeMap<(String, String), (u64, Seconds)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Consent {
    left: u64,
    /// Of a long-term notice: as often as the account likes.
    is_standing: bool,
}

/// Template messages' templates of one account.
const MOST: usize = 25;
/// Notices of one account.
const MOST_NOTICES: usize = 50;
/// How long a `client_msg_id` is remembered.
const ONCE_FOR: Seconds = 600;
/// Letters of a value without a limit of its own.
const VALUE: usize = 200;

impl Template {
    /// `订单号：{{character_string1.DATA}}`, a line for each keyword.
    pub(crate) fn content(&self) -> String {
        self.lines(|place| format!("{{{{{place}.DATA}}}}"))
    }

    /// The content with values of the right form.
    pub(crate) fn example(&self) -> String {
        self.lines(|place| example(kind_of(place)).to_owned())
    }

    /// What the phone shows for this `data`.
    pub(crate) fn filled(&self, data: &Members) -> String {
        let value = |place: &str| {
            let value = data.object(place).unwrap_or_default();
            value.text("value").unwrap_or_default().to_owned()
        };
        format!("{}\n{}", self.title, self.lines(value))
    }

    fn lines(&self, value: impl Fn(&str) -> String) -> String {
        let lines = self
            .keywords
            .iter()
            .map(|(name, place)| format!("{name}：{}", value(place)));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Checks the values of a message ("WeChat: 模板消息", 参数说明).
    ///
    /// # Errors
    ///
    /// 47003, naming the value that is missing or does not fit its kind.
    pub(crate) fn check(&self, data: &Members) -> Result<(), Refusal> {
        for (_, place) in &self.keywords {
            let value = data.object(place).unwrap_or_default();
            let fits = value
                .text("value")
                .is_some_and(|value| fits(kind_of(place), value));
            if !fits {
                return Err(Refusal::argument(&format!("data.{place}.value")));
            }
        }
        Ok(())
    }
}

/// `thing` of `thing12`.
fn kind_of(place: &str) -> &str {
    place.trim_end_matches(|letter: char| letter.is_ascii_digit())
}

/// The kind of value that a keyword of this name asks for.
pub(crate) fn kind_for(name: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["时间", "日期"]) {
        "time"
    } else if has(&["金额", "价格", "费用", "余额"]) {
        "amount"
    } else if has(&["单号", "编号", "订单号"]) {
        "character_string"
    } else if has(&["电话", "手机"]) {
        "phone_number"
    } else if has(&["姓名", "联系人"]) {
        "name"
    } else if has(&["状态", "结果"]) {
        "phrase"
    } else if has(&["数量", "次数"]) {
        "number"
    } else if has(&["车牌"]) {
        "car_number"
    } else {
        "thing"
    }
}

/// A value that fits.
pub(crate) fn example(kind: &str) -> &'static str {
    match kind {
        "time" => "2026年11月20日 15:01",
        "date" => "2026年11月20日",
        "amount" => "¥100.00",
        "character_string" => "20261120A001",
        "phone_number" => "+86-0766-66888866",
        "name" => "张三",
        "phrase" => "配送中",
        "number" => "5",
        "letter" => "ABC",
        "car_number" => "粤A8Z888挂",
        _ => "广州至北京",
    }
}

fn fits(kind: &str, value: &str) -> bool {
    let letters = value.chars().count();
    let is_cjk = |letter: char| ('\u{2e80}'..='\u{9fff}').contains(&letter);
    let has_digit = value.contains(|letter: char| letter.is_ascii_digit());
    match kind {
        "thing" => letters <= 20,
        "number" => {
            letters <= 32
                && value
                    .chars()
                    .all(|letter| letter.is_ascii_digit() || letter == '.')
        }
        "letter" => letters <= 32 && value.chars().all(|letter| letter.is_ascii_alphabetic()),
        "symbol" => letters <= 5,
        "character_string" => letters <= 32 && !value.contains(is_cjk),
        "time" | "date" => has_digit && letters <= 40,
        "amount" => {
            let digits = value.chars().filter(char::is_ascii_digit).count();
            (1..=12).contains(&digits) && letters <= digits + 5
        }
        "phone_number" => {
            letters <= 17
                && value
                    .chars()
                    .all(|letter| letter.is_ascii_digit() || "+-() ".contains(letter))
        }
        "car_number" => letters <= 8,
        "name" => {
            if value.is_ascii() {
                letters <= 20
            } else {
                letters <= 10
            }
        }
        "phrase" => letters <= 5 && value.chars().all(is_cjk),
        _ => letters <= VALUE,
    }
}

impl Templates {
    /// The templates of messages, or of notices.
    pub(crate) fn list(&self, notices: bool) -> impl Iterator<Item = &Template> {
        self.list
            .iter()
            .filter(move |template| template.notice.is_some() == notices)
    }

    /// Adds a template.
    ///
    /// # Errors
    ///
    /// 45026 beyond 25 templates, 200012 beyond 50 notices.
    pub(crate) fn add(&mut self, template: Template) -> Result<(), i64> {
        let is_notice = template.notice.is_some();
        let (most, errcode) = if is_notice {
            (MOST_NOTICES, 200_012)
        } else {
            (MOST, 45026)
        };
        if self.list(is_notice).count() >= most {
            return Err(errcode);
        }
        self.list.push(template);
        Ok(())
    }

    /// The template of a message, or of a notice: the one is not good for the other.
    ///
    /// # Errors
    ///
    /// 40037 for one that is not there.
    pub(crate) fn find(&self, id: &str, notice: bool) -> Result<&Template, i64> {
        self.list(notice)
            .find(|template| template.id == id)
            .ok_or(40037)
    }

    /// Removes a template.
    ///
    /// # Errors
    ///
    /// 40037 for one that is not there.
    pub(crate) fn delete(&mut self, id: &str, notice: bool) -> Result<(), i64> {
        self.find(id, notice)?;
        self.list.retain(|template| template.id != id);
        Ok(())
    }

    /// A fan agrees to one more message, or to all of a long-term notice.
    pub(crate) fn agree(&mut self, openid: &str, template_id: &str) {
        let is_standing = self
            .find(template_id, true)
            .is_ok_and(|template| template.notice == Some(3));
        let key = (openid.to_owned(), template_id.to_owned());
        let consent = self.consents.entry(key).or_default();
        consent.left += 1;
        consent.is_standing |= is_standing;
    }

    /// A fan takes back what he agreed to.
    pub(crate) fn refuse(&mut self, openid: &str, template_id: &str) {
        let key = (openid.to_owned(), template_id.to_owned());
        self.consents.remove(&key);
    }

    /// Uses one consent; false where none is left.
    pub(crate) fn use_consent(&mut self, openid: &str, template_id: &str) -> bool {
        let key = (openid.to_owned(), template_id.to_owned());
        match self.consents.get_mut(&key) {
            Some(consent) if consent.is_standing => true,
            Some(consent) if consent.left > 0 => {
                consent.left -= 1;
                true
            }
            _ => false,
        }
    }

    /// What was agreed to, as `/_sim/subscribe_notice` shows it.
    pub(crate) fn consents_json(&self, openid: &str) -> Value {
        let consents = self.consents.iter();
        consents
            .filter(|((fan, _), _)| fan == openid)
            .map(|((_, template_id), consent)| {
                json!({
                    "template_id": template_id,
                    "left": consent.left,
                    "standing": consent.is_standing,
                })
            })
            .collect()
    }

    /// The job that a `client_msg_id` was used for in the last ten minutes.
    pub(crate) fn sent(&self, openid: &str, client_msg_id: &str, now: Seconds) -> Option<u64> {
        let key = (openid.to_owned(), client_msg_id.to_owned());
        let (msgid, at) = self.sent.get(&key)?;
        (now < at + ONCE_FOR).then_some(*msgid)
    }

    pub(crate) fn note_sent(
        &mut self,
        openid: &str,
        client_msg_id: &str,
        msgid: u64,
        now: Seconds,
    ) {
        self.sent.retain(|_, (_, at)| now < *at + ONCE_FOR);
        let key = (openid.to_owned(), client_msg_id.to_owned());
        self.sent.insert(key, (msgid, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, value: &str, expected: bool) {
        assert_eq!(fits(kind, value), expected, "{kind} {value:?}");
    }

    #[test]
    fn every_example_fits_its_own_kind() {
        for kind in [
            "thing",
            "time",
            "date",
            "amount",
            "character_string",
            "phone_number",
            "name",
            "phrase",
            "number",
            "letter",
            "car_number",
        ] {
            check(kind, example(kind), true);
        }
    }

    #[test]
    fn values_have_the_limits_of_their_kind() {
        check("thing", &"好".repeat(20), true);
        check("thing", &"好".repeat(21), false);
        check("number", "1a", false);
        check("character_string", "订单1", false);
        check("character_string", &"a".repeat(33), false);
        check("phrase", "已经完成了吗", false);
        check("phrase", "done", false);
        check("name", &"a".repeat(20), true);
        check("name", &"张".repeat(11), false);
        check("amount", "free", false);
        check("time", "明天", false);
        check("car_number", "粤A8Z888挂车吗", false);
        check("phone_number", "call me", false);
        check("first", &"x".repeat(201), false);
    }
}
