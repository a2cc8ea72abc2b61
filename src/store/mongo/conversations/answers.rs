//! Replies that no delivery carried, and those that come from outside.

use std::time::Duration;

use mongodb::bson::{Bson, doc};

use super::record::{Found, Key, Mark, kept_to_be_had, kept_with, note_due};
use crate::store::mongo::Change;
use crate::store::mongo::expression::{binary, from_now, is_null, or_empty, when};
use crate::store::{AnswerId, Answered};
use crate::wechat::id::OpenId;

/// A delivery has carried the reply.
pub(super) fn given(of: &OpenId, key: &Key) -> Change {
    let filter = doc! {
        "_id": of.as_str(),
        key.path("reply"): { "$exists": true },
    };
    let given = doc! {
        "$set": {
            "ungiven": key.without("$ungiven"),
            "done": key.among_done(doc! { "carried": true }.into()),
        },
    };
    Change::update(filter, vec![given, note_due()])
}

/// No delivery of who has handled the message has carried the reply after all, nor another's, and it is
/// not kept.
pub(super) fn not_given(of: &OpenId, key: &Key) -> Change {
    let filter = doc! {
        "_id": of.as_str(),
        key.path("reply"): { "$exists": true },
        key.path("keeper"): Bson::Null,
        key.path("carried"): Bson::Null,
    };
    let ungiven = key.among_ungiven(key.of_done("seen.first"));
    let not_given = doc! { "$set": { "ungiven": ungiven } };
    Change::update(filter, vec![not_given, note_due()])
}

/// A reply that comes from outside, unless there is one.
pub(super) fn answer(of: &OpenId, key: &Key, reply: &[u8], mark: Mark) -> Change {
    let answer = doc! { "reply": binary(reply), "by": mark };
    let is_open = doc! { "$and": [key.is_done(), is_null(&key.of_done("reply"))] };
    let is_unanswered = doc! {
        "$and": [{ "$eq": ["$$this.key", key] }, is_null("$$this.outside")],
    };
    let answered = doc! {
        "$cond": [
            is_unanswered,
            { "$mergeObjects": ["$$this", { "outside": answer.clone() }] },
            "$$this",
        ],
    };
    let update = doc! {
        "$switch": {
            "branches": [
                {
                    "case": is_open,
                    "then": {
                        "done": key.among_done(answer.into()),
                        "ungiven": key.among_ungiven(key.of_done("seen.first")),
                    },
                },
                {
                    "case": key.waits(),
                    "then": { "waiting": { "$map": { "input": "$waiting", "in": answered } } },
                },
            ],
            "default": {},
        },
    };
    let pipeline = vec![
        doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", update] } },
        note_due(),
    ];
    Change::update(doc! { "_id": of.as_str() }, pipeline).returning(Found::fields(doc! {
        key.path("seen"): 1,
        key.path("by"): 1,
        "waiting.key": 1,
        "waiting.seen": 1,
        "waiting.outside.by": 1,
    }))
}

/// A reply that no delivery carried becomes a kept answer, unless the user has left.
pub(super) fn keep(of: &OpenId, key: &Key, mark: Mark) -> Change {
    let mut kept = kept_with(or_empty("$kept"), [key.of_done("reply").into()]);
    kept.insert("done", key.among_done(doc! { "keeper": mark }.into()));
    let is_kept = doc! { "$and": [{ "$not": ["$left"] }, key.is_done()] };
    let settled = doc! {
        "$mergeObjects": [
            { "ungiven": key.without("$ungiven") },
            when(is_kept, kept),
        ],
    };
    let update = doc! { "$cond": [key.is_ungiven(), settled, {}] };
    let pipeline = vec![
        doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", update] } },
        note_due(),
    ];
    let fields = doc! { key.path("seen"): 1, key.path("keeper"): 1 };
    Change::update(doc! { "_id": of.as_str() }, pipeline).returning(Found::fields(fields))
}

/// The oldest kept answer is being sent, unless one is already: the next would overtake it.
pub(super) fn send(of: &OpenId, lease: Duration, mark: Mark) -> Change {
    // Also where it is this operation that has taken it, when it is sent twice.
    let none_is_being_sent = doc! { "$lte": [{ "$max": "$kept.sending_until" }, "$$NOW"] };
    let may_send = doc! { "$and": [{ "$not": ["$left"] }, none_is_being_sent] };
    let oldest = doc! { "$arrayElemAt": [kept_to_be_had(), 0] };
    let sending = doc! { "sending_until": from_now(lease), "sender": mark };
    let sending = doc! {
        "$cond": [
            { "$eq": ["$$this.id", "$$oldest.id"] },
            { "$mergeObjects": ["$$this", sending] },
            "$$this",
        ],
    };
    let begun = doc! {
        "$let": {
            "vars": { "oldest": oldest },
            "in": { "$map": { "input": or_empty("$kept"), "in": sending } },
        },
    };
    let kept = doc! { "$set": { "kept": { "$cond": [may_send, begun, or_empty("$kept")] } } };
    let is_mine = doc! { "$eq": ["$$this.sender", mark] };
    let mine = doc! { "$filter": { "input": or_empty("$kept"), "cond": is_mine } };
    Change::update(doc! { "_id": of.as_str() }, vec![kept])
        .returning(Found::fields(doc! { "kept": mine }))
}

/// The answer was sent, or it was not.
pub(super) fn sent(of: &OpenId, answer: AnswerId, sent: bool) -> Change {
    let filter = doc! { "_id": of.as_str(), "kept.id": answer.0 };
    let update = if sent {
        doc! { "$pull": { "kept": { "id": answer.0 } } }
    } else {
        doc! { "$set": { "kept.$.sending_until": Bson::Null } }
    };
    Change::update(filter, update)
}

/// How [`answer`] went; `None` where the document does not know the message.
pub(super) fn answered(found: &Found, key: &Key, mark: Mark) -> Option<Answered> {
    let (by, seen) = match (found.done(key), found.waiting(key)) {
        (Some(done), _) => (done.by, done.seen),
        (None, Some(waiting)) => {
            let outside = waiting.outside.as_ref();
            (outside.map(|outside| outside.by), waiting.seen)
        }
        (None, None) => return None,
    };
    Some(if mark.is(by) {
        let first_seen = seen.since_first(found.now);
        Answered::Taken { first_seen }
    } else {
        Answered::Already
    })
}
