//! Why the rules answer what they answer, in words.

use std::fmt::Write as _;

use super::condition::Subject;
use super::reply::Saying;
use super::template::Values;
use super::{Rule, Rulebook, Then};
use crate::wechat::xml::push_cdata;
use crate::wechat::{Message, Reply};

/// A message to be tried, as a person describes it.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// `Content`.
    pub text: Option<String>,
    /// `MsgType`, where it is no text and no event.
    pub msg_type: Option<String>,
    /// `Event`.
    pub event: Option<String>,
    /// `EventKey`. Without an event it is a CLICK.
    pub key: Option<String>,
    /// The scene of a QR code. Without an event it is a SCAN.
    pub scene: Option<String>,
    /// `FromUserName`.
    pub from: Option<String>,
    /// `CreateTime`, a local time of the rules' own offset or one with an offset. Now, if none.
    pub at: Option<String>,
}

/// The sender of a trial, unless another is given.
const SOMEBODY: &str = "oTrial0000000000000000000000";
const SOME_ACCOUNT: &str = "gh_000000000000";

impl Trial {
    /// The message that WeChat would push. `now` in Unix seconds.
    ///
    /// # Errors
    ///
    /// What does not go together, or is no time and no openid.
    pub fn message(&self, rules: &Rulebook, now: i64) -> Result<Message, String> {
        let event = match (&self.event, &self.key, &self.scene) {
            (Some(event), _, _) => Some(event.as_str()),
            (None, Some(_), None) => Some("CLICK"),
            (None, None, Some(_)) => Some("SCAN"),
            (None, Some(_), Some(_)) => {
                return Err("--key and --scene need --event: which of them is it?".to_owned());
            }
            (None, None, None) => None,
        };
        let msg_type = match (&self.text, event, self.msg_type.as_deref()) {
            (Some(_), None, None | Some("text")) => "text",
            (None, Some(_), None | Some("event")) => "event",
            (None, None, Some("text")) => return Err("a text needs its words".to_owned()),
            (None, None, Some("event")) => return Err("an event needs --event".to_owned()),
            (None, None, Some(other)) => other,
            (None, None, None) => return Err("give it a text, --event or --type".to_owned()),
            _ => return Err("a message is a text, an event or of another --type".to_owned()),
        };
        let at = match &self.at {
            Some(at) => {
                let moment = at.trim().parse().ok();
                let begins = moment.and_then(|m| super::schedule::begins(&m, rules.offset));
                begins
                    .ok_or_else(|| format!("--at `{at}`: expected a time like 2026-11-20 09:30"))?
            }
            None => now,
        };
        let key = match (&self.scene, &self.key) {
            (Some(scene), _) if event == Some("subscribe") => Some(format!("qrscene_{scene}")),
            (Some(scene), _) => Some(scene.clone()),
            (None, key) => key.clone(),
        };
        let mut xml = "<xml>".to_owned();
        let mut push = |name: &str, text: Option<&str>| {
            if let Some(text) = text {
                push_cdata(&mut xml, name, text);
            }
        };
        push("ToUserName", Some(SOME_ACCOUNT));
        push(
            "FromUserName",
            Some(self.from.as_deref().unwrap_or(SOMEBODY)),
        );
        push("CreateTime", Some(&at.to_string()));
        push("MsgType", Some(msg_type));
        push("Content", self.text.as_deref());
        push("Event", event);
        push("EventKey", key.as_deref());
        xml.push_str("</xml>");
        Message::parse(xml.as_bytes()).map_err(|error| error.to_string())
    }
}

impl Rulebook {
    /// What each rule makes of the message, and what is said: files by their names, the user's profile
    /// as if he had never signed in.
    pub fn explain(&self, message: &Message) -> String {
        let subject = Subject::new(message);
        let mut told = String::new();
        let decision = self.decide(&subject, |rule, outcome| {
            let head = format!("{}:{} {rule}", self.file, rule.line);
            match outcome {
                Err(condition) => {
                    let why = condition.refusal(&subject, self.offset);
                    line(&mut told, &format!("no   {head}: {why}"));
                }
                Ok(()) => {
                    let why = self.reasons(rule, &subject);
                    line(&mut told, &format!("fits {head}: {why}"));
                    let then = match rule.then {
                        Then::Stop => return,
                        Then::Next => "     then = \"next\": later rules are tried",
                        Then::Forward => "     then = \"forward\": the message is handed on",
                    };
                    line(&mut told, then);
                }
            }
        });
        let saying = decision.saying();
        if saying.is_empty() {
            line(
                &mut told,
                "say  nothing by rules: FORWARD_URL answers or, without one, the fallback",
            );
        }
        let mut replies = Vec::new();
        for (fitting, saying) in saying {
            let values = Values {
                message,
                captures: &fitting.captures,
                user: None,
            };
            line(
                &mut told,
                &format!("say  {}: {}", fitting.rule, name_of(saying)),
            );
            for chance in 0..saying.choices() {
                let reply = saying.say(&values, None, chance);
                for text in shown(&reply).lines() {
                    line(&mut told, &format!("     | {text}"));
                }
                replies.push(reply);
            }
            if saying.needs_user() {
                let note = "     (of a user who has signed in: with what is stored of his profile)";
                line(&mut told, note);
            }
        }
        let is_text = |reply: &Reply| matches!(reply, Reply::Text(_));
        if let Some((last, before)) = replies.split_last()
            && !is_text(last)
            && *last != Reply::None
            && before.iter().any(is_text)
        {
            let note = "     (no text goes with it: those of `then = \"next\"` are left out)";
            line(&mut told, note);
        }
        told
    }

    /// Why all conditions of a rule hold.
    fn reasons(&self, rule: &Rule, subject: &Subject<'_>) -> String {
        let reasons = rule.conditions.0.iter().filter_map(|condition| {
            let proof = condition.test(subject)?;
            condition.reason(&proof, subject, self.offset)
        });
        let reasons: Vec<_> = reasons.collect();
        if reasons.is_empty() {
            "any message does".to_owned()
        } else {
            reasons.join("; ")
        }
    }
}

fn line(told: &mut String, text: &str) {
    told.push_str(text);
    told.push('\n');
}

fn name_of(saying: &Saying) -> String {
    match saying {
        Saying::Nothing => "nothing".to_owned(),
        Saying::Text(texts) if texts.len() > 1 => {
            format!("one of these {} texts, by chance", texts.len())
        }
        Saying::Text(_) => "text".to_owned(),
        Saying::Image(_) => "image".to_owned(),
        Saying::Voice(_) => "voice".to_owned(),
        Saying::Video { .. } => "video".to_owned(),
        Saying::Music { .. } => "music".to_owned(),
        Saying::News(_) => "news".to_owned(),
        Saying::TransferCustomerService { .. } => "transfer_customer_service".to_owned(),
    }
}

/// The parts of a reply that are there, a line each.
fn shown(reply: &Reply) -> String {
    let mut shown = String::new();
    let mut part = |name: &str, text: &str| {
        if !text.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(shown, "{name}: {text}");
        }
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match reply {
        Reply::None => {}
        Reply::Text(content) => return content.clone(),
        Reply::Image { media_id } | Reply::Voice { media_id } => part("media", media_id),
        Reply::Video {
            media_id,
            title,
            description,
        } => {
            part("media", media_id);
            part("title", &text(title));
            part("description", &text(description));
        }
        Reply::Music {
            title,
            description,
            music_url,
            hq_music_url,
            thumb_media_id,
        } => {
            part("title", &text(title));
            part("description", &text(description));
            part("music_url", &text(music_url));
            part("hq_music_url", &text(hq_music_url));
            part("thumb", &text(thumb_media_id));
        }
        Reply::News(articles) => {
            for article in articles {
                part("title", &article.title);
                part("description", &article.description);
                part("pic_url", &article.pic_url);
                part("url", &article.url);
            }
        }
        Reply::TransferCustomerService { kf_account } => part("kf_account", &text(kf_account)),
    }
    shown
}
