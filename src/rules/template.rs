//! Texts with holes: `{{1}}`, `{{Content}}`, `{{nickname|朋友}}`.
//!
//! A template is read once, and what fills a hole is never read as a template: it is the user's. In an
//! address it is percent-encoded. Nothing to fill a hole with: what stands after `|`, or no text.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;

use super::fault::{listed, meant};
use crate::store::StoredUser;
use crate::wechat::Message;
use crate::wechat::id::UnionId;

/// All but the unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text with holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Hole {
        name: Name,
        otherwise: String,
        in_url: bool,
    },
}

/// What fills a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// A group of the regular expression; 0 is all that it found.
    Group(usize),
    /// A group by its name.
    NamedGroup(String),
    /// A field of the message by WeChat's name.
    Field(String),
    /// Of the stored copy of the user's profile.
    Profile(&'static str),
}

/// Names of the user's own data: the first is in every message, the others are there if he signed in.
const OPENID: &str = "openid";
const PROFILE: &[&str] = &["nickname", "headimgurl", "unionid"];

/// Where a template stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A text, in which there may be addresses.
    Text,
    /// It is an address.
    Url,
}

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TemplateFault {
    /// How many `{{` stand before the place.
    pub(super) nth: usize,
    pub(super) text: String,
}

/// What a template is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'v> {
    pub(super) message: &'v Message,
    pub(super) captures: &'v Captures,
    pub(super) user: Option<&'v StoredUser>,
}

/// What a regular expression found: each group's name and text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Captures(Vec<(Option<String>, Option<String>)>);

impl Captures {
    pub(super) fn of(regex: &Regex, text: &str) -> Option<Self> {
        let found = regex.captures(text)?;
        let groups = regex.capture_names().zip(found.iter());
        let owned = |(name, group): (Option<&str>, Option<regex::Match<'_>>)| {
            (
                name.map(str::to_owned),
                group.map(|group| group.as_str().to_owned()),
            )
        };
        Some(Self(groups.map(owned).collect()))
    }

    fn group(&self, number: usize) -> Option<&str> {
        self.0.get(number)?.1.as_deref()
    }

    fn named(&self, wanted: &str) -> Option<&str> {
        let is_it = |(name, _): &&(Option<String>, Option<String>)| name.as_deref() == Some(wanted);
        self.0.iter().find(is_it)?.1.as_deref()
    }

    /// Each group as a template names it, with its text.
    pub(super) fn told(&self) -> impl Iterator<Item = (String, &str)> {
        let numbered = self.0.iter().enumerate();
        numbered.map(|(number, (name, text))| {
            let name = name.clone().unwrap_or_else(|| number.to_string());
            (name, text.as_deref().unwrap_or_default())
        })
    }
}

/// The groups that a template may name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Groups<'r> {
    /// Those of these regular expressions.
    Of(&'r [Regex]),
    /// A regular expression can't be read, so any name may be one of its groups.
    Any,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub(super) fn parse(
        text: &str,
        place: Place,
        groups: Groups<'_>,
    ) -> Result<Self, Vec<TemplateFault>> {
        let mut pieces = Vec::new();
        let mut faults = Vec::new();
        let mut literal = String::new();
        // What stands before a hole, an earlier hole standing as one letter.
        let mut before = String::new();
        let mut nth = 0;
        let mut rest = text;
        while let Some((ahead, behind)) = rest.split_once("{{") {
            literal.push_str(ahead);
            before.push_str(ahead);
            if let Some(behind) = behind.strip_prefix("{{") {
                literal.push_str("{{");
                before.push_str("{{");
                nth += 2;
                rest = behind;
                continue;
            }
            let mut fault = |text: &str| {
                let text = text.to_owned();
                faults.push(TemplateFault { nth, text });
            };
            let Some((inside, behind)) = behind.split_once("}}") else {
                fault("`{{` without `}}`; for two braces write `{{{{`");
                rest = "";
                break;
            };
            if place == Place::Url && pieces.is_empty() && !has_host(&literal) {
                fault(
                    "scheme and host of an address must stand before the first `{{`, e.g. \
                     https://example.com/?q={{Content}}",
                );
            }
            let (name, otherwise) = inside.split_once('|').unwrap_or((inside, ""));
            match Name::parse(name.trim(), groups) {
                Err(why) => fault(&why),
                Ok(name) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Hole {
                        name,
                        otherwise: otherwise.trim().to_owned(),
                        in_url: place == Place::Url || is_in_url(&before),
                    });
                }
            }
            before.push('x');
            nth += 1;
            rest = behind;
        }
        literal.push_str(rest);
        if place == Place::Url && pieces.is_empty() && nth == 0 && !is_url(&literal) {
            let text = "expected an address that begins with http:// or https://".to_owned();
            faults.push(TemplateFault { nth: 0, text });
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        if faults.is_empty() {
            Ok(Self { pieces })
        } else {
            Err(faults)
        }
    }

    /// Fills the holes.
    pub(super) fn fill(&self, values: &Values<'_>) -> String {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => filled.push_str(text),
                Piece::Hole {
                    name,
                    otherwise,
                    in_url,
                } => {
                    let value = name.value(values).filter(|value| !value.is_empty());
                    let value = value.as_deref().unwrap_or(otherwise);
                    if *in_url {
                        filled.extend(utf8_percent_encode(value, RESERVED));
                    } else {
                        filled.push_str(value);
                    }
                }
            }
        }
        filled
    }

    /// Whether the stored copy of the user's profile has to be read for it.
    pub(super) fn needs_user(&self) -> bool {
        let is_of_user = |piece: &Piece| {
            matches!(
                piece,
                Piece::Hole {
                    name: Name::Profile(_),
                    ..
                }
            )
        };
        self.pieces.iter().any(is_of_user)
    }

    /// The bytes that it has in any case.
    pub(super) fn least_bytes(&self) -> usize {
        let literal = |piece: &Piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Hole { .. } => 0,
        };
        self.pieces.iter().map(literal).sum()
    }

    /// Whether nothing stands in it.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl Name {
    fn parse(name: &str, groups: Groups<'_>) -> Result<Self, String> {
        let Groups::Of(regexes) = groups else {
            return Ok(Self::NamedGroup(name.to_owned()));
        };
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            let is_there = |number: usize| regexes.iter().any(|r| number < r.captures_len());
            return match name.parse() {
                Ok(number) if is_there(number) => Ok(Self::Group(number)),
                _ if regexes.is_empty() => Err(format!(
                    "`{{{{{name}}}}}` is a group of a `regex`, and this rule has none"
                )),
                _ => Err(format!("the rule's `regex` has no group {name}")),
            };
        }
        let names = || regexes.iter().flat_map(|r| r.capture_names().flatten());
        if names().any(|group| group == name) {
            return Ok(Self::NamedGroup(name.to_owned()));
        }
        if name == OPENID {
            return Ok(Self::Field("FromUserName".to_owned()));
        }
        if let Some(name) = PROFILE.iter().find(|known| **known == name) {
            return Ok(Self::Profile(name));
        }
        let fields = Message::field_names();
        if fields.iter().any(|known| known == name) {
            return Ok(Self::Field(name.to_owned()));
        }
        let known = fields.iter().map(String::as_str).chain(names());
        let near = meant(name, known.chain([OPENID]).chain(PROFILE.iter().copied()));
        let hint = if near.is_empty() {
            format!(
                "; there are groups of the rule's `regex`, fields of the message by WeChat's names, \
                 `{OPENID}`, and {}",
                listed(PROFILE.iter().copied())
            )
        } else {
            near
        };
        Err(format!("there is no `{{{{{name}}}}}`{hint}"))
    }

    fn value(&self, values: &Values<'_>) -> Option<String> {
        match self {
            Self::Group(number) => values.captures.group(*number).map(str::to_owned),
            Self::NamedGroup(name) => values.captures.named(name).map(str::to_owned),
            Self::Field(name) => values.message.field(name),
            Self::Profile(name) => {
                let user = values.user?;
                let union_id = || user.union_id.as_ref().map(UnionId::to_string);
                let of_profile = || Some(user.profile.as_ref()?.get(name)?.as_str()?.to_owned());
                of_profile().or_else(|| union_id().filter(|_| *name == "unionid"))
            }
        }
    }
}

fn is_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Whether an address up to here has its scheme and its host, and goes on behind them.
fn has_host(literal: &str) -> bool {
    let rest = literal
        .strip_prefix("https://")
        .or_else(|| literal.strip_prefix("http://"));
    rest.is_some_and(|rest| rest.contains(['/', '?', '#'])) && url::Url::parse(literal).is_ok()
}

/// Whether what comes after this text belongs to an address in it.
fn is_in_url(before: &str) -> bool {
    is_in_href(before) || is_in_bare_url(before)
}

/// `<a href="https://example.com/?q=`.
fn is_in_href(before: &str) -> bool {
    let Some((_, value)) = before.rsplit_once("href=") else {
        return false;
    };
    let mut characters = value.chars();
    match characters.next() {
        Some(quote @ ('"' | '\'')) => !characters.as_str().contains(quote),
        _ => false,
    }
}

/// `https://example.com/?q=`, of which the phone makes a link by itself.
fn is_in_bare_url(before: &str) -> bool {
    let Some((_, after_scheme)) = before.rsplit_once("://") else {
        return false;
    };
    after_scheme
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wechat::xml::push_cdata;

    fn text(content: &str) -> Message {
        let mut xml = "<xml><ToUserName>gh_1</ToUserName><FromUserName>oFan1</FromUserName>\
                       <CreateTime>1700000000</CreateTime><MsgType>text</MsgType>"
            .to_owned();
        push_cdata(&mut xml, "Content", content);
        xml.push_str("</xml>");
        Message::parse(xml.as_bytes()).unwrap()
    }

    fn filled(template: &str, place: Place, pattern: &str, content: &str) -> String {
        let regexes = [Regex::new(pattern).unwrap()];
        let template = Template::parse(template, place, Groups::Of(&regexes)).unwrap();
        let message = text(content);
        let captures = Captures::of(&regexes[0], content).unwrap();
        template.fill(&Values {
            message: &message,
            captures: &captures,
            user: None,
        })
    }

    #[track_caller]
    fn check(template: &str, content: &str, expected: &str) {
        let pattern = r"^(?<verb>\w+)(?: (.*))?(?: (never))?";
        assert_eq!(filled(template, Place::Text, pattern, content), expected);
    }

    #[track_caller]
    fn check_faults(template: &str, place: Place, expected: &[(usize, &str)]) {
        let regexes = [Regex::new("(a)(?<b>b)").unwrap()];
        let faults = Template::parse(template, place, Groups::Of(&regexes)).unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| fault.nth).collect();
        let wanted: Vec<_> = expected.iter().map(|(nth, _)| *nth).collect();
        assert_eq!(found, wanted, "{faults:?}");
        for (fault, (_, text)) in faults.iter().zip(expected) {
            assert!(fault.text.contains(text), "{fault:?}");
        }
    }

    #[test]
    fn holes_are_groups_fields_and_the_user() {
        check(
            "{{0}}|{{1}}|{{ verb }}|{{2}}",
            "say 你好",
            "say 你好|say|say|你好",
        );
        check(
            "{{openid}} {{FromUserName}} {{MsgType}} {{CreateTime}}",
            "a",
            "oFan1 oFan1 text 1700000000",
        );
        check("<{{Content}}>", "a b ", "<a b >");
    }

    #[test]
    fn what_is_not_there_is_the_default_or_no_text() {
        check(
            "<{{3}}> <{{3|none}}> <{{EventKey | 没有 }}> <{{nickname|朋友}}>",
            "a b",
            "<> <none> <没有> <朋友>",
        );
    }

    #[test]
    fn what_a_user_wrote_is_never_a_template() {
        check("{{2}}", "say {{openid}}", "{{openid}}");
        check("{{2}}{{verb}}", "say {{", "{{say");
        check("{{verb}}{{2}}", "say {{{{1}}", "say{{{{1}}");
    }

    #[test]
    fn two_braces_are_written_as_four() {
        check("{ {{{{ }} {{{{verb}} {{verb}}", "a", "{ {{ }} {{verb}} a");
    }

    #[test]
    fn in_an_address_values_are_encoded() {
        let q = "https://a.example/s?q={{2}}&v={{verb}}";
        let encoded = "https://a.example/s?q=%E4%BD%A0%26%20%3C%22%2F%25%23&v=say";
        let content = "say 你& <\"/%#";
        assert_eq!(
            filled(q, Place::Url, r"^(?<verb>\w+) (.*)", content),
            encoded
        );
        check(&format!("见 {q}"), content, &format!("见 {encoded}"));
        check(
            "<a href=\"https://a.example/搜/{{2}}\">{{2}}</a> {{2}}",
            "say 好",
            "<a href=\"https://a.example/搜/%E5%A5%BD\">好</a> 好",
        );
        check(
            "https://a.example/，{{2}}",
            "say 好",
            "https://a.example/，好",
        );
        check(
            "https://a.example/ {{2}}",
            "say 好",
            "https://a.example/ 好",
        );
        check(
            "https://a.example/{{2}}/{{2}}",
            "say 好",
            "https://a.example/%E5%A5%BD/%E5%A5%BD",
        );
    }

    #[test]
    fn the_stored_profile_fills_in_where_there_is_one() {
        let template = "{{nickname|?}} {{headimgurl|?}} {{unionid|?}}";
        let template = Template::parse(template, Place::Text, Groups::Of(&[])).unwrap();
        assert!(template.needs_user());
        let message = text("a");
        let user = |profile, union_id: Option<&str>| StoredUser {
            open_id: message.from.clone(),
            union_id: union_id.map(|id| UnionId::parse(id).unwrap()),
            grant: None,
            profile,
        };
        let fill = |user: &StoredUser| {
            template.fill(&Values {
                message: &message,
                captures: &Captures::default(),
                user: Some(user),
            })
        };
        let profile = serde_json::json!({"nickname": "小明{{1}}", "headimgurl": "", "sex": 0});
        assert_eq!(fill(&user(Some(profile), Some("u1"))), "小明{{1}} ? u1");
        assert_eq!(fill(&user(None, None)), "? ? ?");
    }

    #[test]
    fn names_that_there_are_not_are_found_when_it_is_read() {
        check_faults("{{3}}", Place::Text, &[(0, "no group 3")]);
        check_faults(
            "{{nicknam}} {{{{ {{Contnt}} {{}}",
            Place::Text,
            &[
                (0, "did you mean `nickname`?"),
                (3, "did you mean `Content`?"),
                (4, "there is no"),
            ],
        );
        check_faults("a {{1", Place::Text, &[(0, "without `}}`")]);
        let none = Template::parse("{{1}}", Place::Text, Groups::Of(&[])).unwrap_err();
        assert!(none[0].text.contains("this rule has none"), "{none:?}");
        assert!(Template::parse("{{anything}} {{7}}", Place::Text, Groups::Any).is_ok());
    }

    #[test]
    fn an_address_has_its_host_before_any_hole() {
        for bad in [
            "{{1}}",
            "https://{{1}}",
            "https://a.example{{1}}",
            "ftp://a/{{1}}",
        ] {
            check_faults(bad, Place::Url, &[(0, "scheme and host")]);
        }
        for bad in [
            "",
            "a.example",
            "ftp://a/",
            "https://",
            "javascript:alert(1)",
        ] {
            check_faults(bad, Place::Url, &[(0, "http:// or https://")]);
        }
        let regexes = [Regex::new("(a)").unwrap()];
        for good in [
            "http://a.example",
            "https://a.example/{{1}}",
            "https://a?{{1}}",
        ] {
            assert!(
                Template::parse(good, Place::Url, Groups::Of(&regexes)).is_ok(),
                "{good}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_has_a_fault(text in "[{}|a1 ]{0,12}", content: String) {
            let regexes = [Regex::new("(?s)(.*)").unwrap()];
            match Template::parse(&text, Place::Text, Groups::Of(&regexes)) {
                Ok(_) => {
                    filled(&text, Place::Text, "(?s)(.*)", &content);
                }
                Err(faults) => prop_assert!(!faults.is_empty()),
            }
        }

        #[test]
        fn a_filled_address_keeps_its_host_and_gives_the_value_back(value: String) {
            let filled = filled("https://a.example/s?q={{0}}#f", Place::Url, "(?s).*", &value);
            let url = url::Url::parse(&filled).unwrap();
            prop_assert_eq!(url.host_str(), Some("a.example"));
            prop_assert_eq!(url.path(), "/s");
            prop_assert_eq!(url.fragment(), Some("f"));
            let (_, query) = url.query_pairs().next().unwrap();
            prop_assert_eq!(&*query, &*value);
        }
    }
}
