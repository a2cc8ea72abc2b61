//! Writing down how a message was handled.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};

use super::record::{Found, Key, due_at, kept_to_be_had, kept_with, lives_for};
use crate::store::mongo::expression::{binary, from_now, is_null, or_empty};
use crate::store::mongo::schema::CONVERSATIONS;
use crate::store::mongo::{Change, Mongo};
use crate::store::{Finished, Handled, KEEP_ANSWERS, SessionChange, StoreError, Turn};
use crate::wechat::id::OpenId;

impl Mongo {
    /// Why [`finish`] found nothing to change. The message may be finished by the same: it was said twice,
    /// and others may have gone on from there.
    pub(super) async fn why_not_finished(
        &self,
        of: &OpenId,
        handled: &Handled,
        turn: Turn,
    ) -> Result<Finished, StoreError> {
        let key = Key::of(&handled.key);
        let filter = doc! { "_id": of.as_str() };
        let fields = Found::fields(doc! {
            "turn": 1,
            "waiting": 1,
            key.path("seen"): 1,
            key.path("turn"): 1,
            "kept": 1,
        });
        let found: Option<Found> = self.find("finish", CONVERSATIONS, filter, fields).await?;
        let Some(mut found) = found else {
            return Ok(Finished::Lost);
        };
        let is_mine = found.is_held_by(turn);
        if found.done(&key).is_some_and(|done| done.is_by(turn)) {
            let waiting = if is_mine {
                found.take_waiting()?
            } else {
                Vec::new()
            };
            return Ok(Finished::Written(waiting));
        }
        Ok(match found.waiting(&key) {
            Some(_) if is_mine => Finished::KeptChanged(found.take_kept()),
            _ => Finished::Lost,
        })
    }
}

/// All of it, if `turn` holds the conversation, the message waits, and the answers that stand in the reply
/// are to be had.
pub(super) fn finish(of: &OpenId, handled: &Handled, turn: Turn, lease: Duration) -> Change {
    let key = Key::of(&handled.key);
    let mut filter = doc! {
        "_id": of.as_str(),
        "turn": binary(turn.0),
        "waiting.key": &key,
    };
    if !handled.taken.is_empty() {
        let ids = doc! { "$map": { "input": kept_to_be_had(), "in": "$$this.id" } };
        filter.insert("$expr", doc! { "$setIsSubset": [taken(handled), ids] });
    }
    let until = from_now(lease);
    let end = doc! { "turn": Bson::Null, "lease_until": Bson::Null, "due_at": due_at(Bson::Null) };
    let go_on = doc! { "lease_until": until.clone(), "due_at": due_at(until) };
    let lease = doc! { "$cond": [{ "$eq": ["$waiting", []] }, end, go_on] };
    let pipeline = vec![
        doc! { "$set": changes(&key, handled, turn) },
        doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", lease] } },
    ];
    let fields = Found::fields(doc! { "waiting": 1, "remembered": 1 });
    Change::update(filter, pipeline).returning(fields)
}

fn changes(key: &Key, handled: &Handled, turn: Turn) -> Document {
    let index = doc! { "$indexOfArray": ["$waiting.key", key] };
    let element = |array: &str| doc! { "$arrayElemAt": [array, index.clone()] };
    let mut done = doc! { "seen": element("$waiting.seen"), "turn": binary(turn.0) };
    let mut changes = doc! {
        "waiting": key.without("$waiting"),
        "remembered": { "$add": [{ "$ifNull": ["$remembered", 0_i64] }, 1] },
    };
    let ungiven = key.among_ungiven(element("$waiting.seen.first"));
    match &handled.reply {
        Some(reply) => {
            done.insert("reply", binary(reply.as_slice()));
            if !handled.given {
                changes.insert("ungiven", ungiven);
            }
        }
        None => {
            // It may have come already.
            let outside = |of_it: Document| {
                let message = doc! { "message": element("$waiting") };
                doc! { "$let": { "vars": message, "in": of_it } }
            };
            done.insert(
                "reply",
                outside(doc! { "$ifNull": ["$$message.outside.reply", "$$REMOVE"] }),
            );
            done.insert(
                "by",
                outside(doc! { "$ifNull": ["$$message.outside.by", "$$REMOVE"] }),
            );
            let is_open = is_null("$$message.outside");
            let ungiven = doc! { "$cond": [is_open, or_empty("$ungiven"), ungiven] };
            changes.insert("ungiven", outside(ungiven));
        }
    }
    let done = doc! { key.as_str(): done };
    changes.insert("done", doc! { "$mergeObjects": ["$done", done] });
    if !(handled.taken.is_empty() && handled.kept.is_empty()) {
        let is_taken = doc! { "$in": ["$$this.id", taken(handled)] };
        let left_over = doc! {
            "$filter": { "input": or_empty("$kept"), "cond": { "$not": [is_taken] } },
        };
        let more = handled.kept.iter().map(|reply| binary(reply.as_slice()));
        changes.extend(kept_with(left_over.into(), more));
    }
    match &handled.session {
        SessionChange::Unchanged => {}
        SessionChange::Set(value, life) => {
            let session = doc! { "value": binary(value.as_slice()), "until": from_now(*life) };
            changes.insert("session", session);
            changes.insert("expires_at", lives_for((*life).max(KEEP_ANSWERS)));
        }
        SessionChange::Cleared => {
            changes.insert("session", Bson::Null);
        }
    }
    changes
}

fn taken(handled: &Handled) -> Bson {
    let ids = handled.taken.iter().map(|id| Bson::from(id.0));
    ids.collect::<Vec<_>>().into()
}
