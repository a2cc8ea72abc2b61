//! What a reply says when answers wait from before, and where the rest of it goes. Pure.
//!
//! Kept answers come first, oldest first, in one text with the new one while it holds. What does not
//! fit, or is no text, waits for the message after.

use crate::store::AnswerId;
use crate::wechat::Reply;
use crate::wechat::reply::{MAX_TEXT_BYTES, split_text};

/// Between two answers in one text.
const BETWEEN: &str = "\n\n";

/// A reply made of what was kept and what is new.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Composed {
    /// What the delivery carries.
    pub(super) say: Reply,
    /// Kept answers that stand in it.
    pub(super) taken: Vec<AnswerId>,
    /// What of the new answer does not.
    pub(super) keep: Vec<Reply>,
}

/// Puts the kept answers and the new one together.
pub(super) fn compose(kept: &[(AnswerId, Reply)], new: Reply) -> Composed {
    if kept.is_empty() && !is_in_parts(&new) {
        return Composed {
            say: if new.is_silent() { Reply::None } else { new },
            ..Composed::default()
        };
    }
    let mut new = parts(new);
    // Handing over waits for nothing: the user talks to people from now on.
    if kept.is_empty() || matches!(new.first(), Some(Reply::TransferCustomerService { .. })) {
        let say = if new.is_empty() {
            Reply::None
        } else {
            new.remove(0)
        };
        return Composed {
            say,
            taken: vec![],
            keep: new,
        };
    }
    let mut say = Reply::None;
    let mut taken = Vec::new();
    for (id, answer) in kept {
        if !join(&mut say, answer) {
            break;
        }
        taken.push(*id);
    }
    if taken.len() == kept.len() {
        while new.first().is_some_and(|first| join(&mut say, first)) {
            new.remove(0);
        }
    }
    Composed {
        say,
        taken,
        keep: new,
    }
}

fn is_in_parts(reply: &Reply) -> bool {
    matches!(reply, Reply::Text(content) if is_long(content))
}

fn is_long(content: &str) -> bool {
    content.len() > MAX_TEXT_BYTES
}

/// A new answer as replies that the platform delivers: a long text becomes several.
pub(super) fn parts(reply: Reply) -> Vec<Reply> {
    match reply {
        reply if reply.is_silent() => vec![],
        Reply::Text(content) if is_long(&content) => split_text(&content)
            .map(|part| Reply::Text(part.to_owned()))
            .filter(|part| !part.is_silent())
            .collect(),
        reply => vec![reply],
    }
}

/// Adds `next` to what is said, if both fit into one reply.
fn join(say: &mut Reply, next: &Reply) -> bool {
    match (&mut *say, next) {
        (Reply::None, next) => *say = next.clone(),
        (Reply::Text(said), Reply::Text(next))
            if said.len() + BETWEEN.len() + next.len() <= MAX_TEXT_BYTES =>
        {
            said.push_str(BETWEEN);
            said.push_str(next);
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Reply {
        Reply::Text(content.to_owned())
    }

    fn picture() -> Reply {
        Reply::Image {
            media_id: "m".into(),
        }
    }

    #[track_caller]
    fn check(kept: &[Reply], new: Reply, say: Reply, taken: usize, keep: &[Reply]) {
        let kept: Vec<_> = (0..).map(AnswerId).zip(kept.iter().cloned()).collect();
        let composed = compose(&kept, new);
        assert_eq!(composed.say, say);
        let ids: Vec<_> = (0..).map(AnswerId).take(taken).collect();
        assert_eq!(composed.taken, ids);
        assert_eq!(composed.keep, keep);
    }

    #[test]
    fn nothing_kept_says_what_is_new() {
        check(&[], text("new"), text("new"), 0, &[]);
        check(&[], Reply::None, Reply::None, 0, &[]);
        check(&[], picture(), picture(), 0, &[]);
    }

    #[test]
    fn kept_answers_come_first_and_oldest_first() {
        let kept = [text("one"), text("two")];
        check(&kept, text("new"), text("one\n\ntwo\n\nnew"), 2, &[]);
        check(&kept, Reply::None, text("one\n\ntwo"), 2, &[]);
    }

    #[test]
    fn what_is_no_text_or_does_not_fit_waits() {
        let long = text(&"x".repeat(MAX_TEXT_BYTES - 4));
        let kept = [long.clone(), text("second")];
        check(&kept, text("new"), long.clone(), 1, &[text("new")]);
        check(
            &[text("one"), picture()],
            text("new"),
            text("one"),
            1,
            &[text("new")],
        );
        check(
            &[picture(), text("two")],
            text("new"),
            picture(),
            1,
            &[text("new")],
        );
        check(&[text("one")], picture(), text("one"), 1, &[picture()]);
        let fits = text(&"x".repeat(MAX_TEXT_BYTES - 5));
        let all = text(&format!("{}\n\nnew", "x".repeat(MAX_TEXT_BYTES - 5)));
        check(&[fits], text("new"), all, 1, &[]);
    }

    #[test]
    fn a_long_text_is_said_in_parts() {
        let long = "天".repeat(1000);
        let composed = compose(&[], text(&long));
        let said: Vec<_> = std::iter::once(composed.say).chain(composed.keep).collect();
        let contents: Vec<_> = said
            .iter()
            .map(|reply| match reply {
                Reply::Text(content) => content.as_str(),
                _ => unreachable!("texts alone"),
            })
            .collect();
        assert_eq!(contents.len(), 2);
        assert!(contents.iter().all(|part| part.len() <= MAX_TEXT_BYTES));
        assert_eq!(contents.concat(), long);
    }

    #[test]
    fn handing_over_waits_for_nothing() {
        let transfer = Reply::TransferCustomerService { kf_account: None };
        check(&[text("one")], transfer.clone(), transfer, 0, &[]);
    }
}
