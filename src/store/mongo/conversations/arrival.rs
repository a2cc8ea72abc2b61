//! A delivery, or a look, and what it finds.
//!
//! To the server the reading of an update's expressions is a good part of its cost. So a delivery comes
//! with those for a new message alone, as nearly all are. One that finds its message there, because the
//! platform delivers it again, takes a second step, and so does a holder who needs what others have handed
//! in.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};

use super::handled::MOVE_AFTER;
use super::record::{Found, Key, Mark, due_at, is_held_by, note_due, take_turn};
use crate::store::mongo::expression::{ago, from_now, is_over, literal, or_empty, when};
use crate::store::mongo::schema::CONVERSATIONS;
use crate::store::mongo::{Change, Mongo};
use crate::store::{Delivered, Delivery, MOST_WAITING, REMEMBER_MESSAGES, StoreError, Turn};
use crate::wechat::id::OpenId;

/// A document lives a week at least after a message. Its end is moved once a day at most: an index has
/// to follow.
pub(super) const LIVES: Duration = Duration::from_secs(8 * 24 * 3600);
pub(super) const LIVES_AT_LEAST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a look finds of a message that was never delivered.
const UNKNOWN: Delivered = Delivered::Elsewhere {
    deliveries: 0,
    first_seen: Duration::ZERO,
};

/// Somebody comes with a message, or looks for one.
pub(super) struct Arrival<'a> {
    pub(super) of: &'a OpenId,
    pub(super) key: Key,
    pub(super) turn: Turn,
    pub(super) lease: Duration,
    pub(super) mark: Mark,
}

impl Mongo {
    /// A delivery. One round trip if the message is new, and if it has its reply.
    pub(super) async fn arrive(
        &self,
        arrival: &Arrival<'_>,
        delivery: &Delivery,
    ) -> Result<Delivered, StoreError> {
        let key = &arrival.key;
        let mut looked = None;
        loop {
            let add = arrival.add(delivery, looked);
            let found: Option<Found> = self.change("deliver", CONVERSATIONS, add).await?;
            let Some(mut found) = found else {
                return Err(StoreError::Unusable("an upsert returned nothing".into()));
            };
            let uncommon = &self.batches.uncommon;
            uncommon.note(arrival.of, found.has_more_than_a_message());
            if let Some(done) = found.done(key) {
                if done.is_open() {
                    return self.arrive_again(arrival, Some(delivery)).await;
                }
                return Ok(done.delivered(found.now));
            }
            if let Some(waiting) = found.waiting(key) {
                if !waiting.seen.is_by(arrival.mark) {
                    return self.arrive_again(arrival, Some(delivery)).await;
                }
                if !found.is_held_by(arrival.turn) {
                    return Ok(waiting.seen.elsewhere(found.now));
                }
                if found.count_waiting() > 1 {
                    return self.arrive_again(arrival, Some(delivery)).await;
                }
                return found.take_conversation().map(Delivered::Held);
            }
            // Nothing was done: it may be an old one, or there is no room for it.
            let doubt = doubt(delivery);
            let Some(moved) = found
                .moved
                .filter(|moved| moved.is_within(doubt, found.now))
            else {
                return Ok(Delivered::Full);
            };
            if looked == Some(moved.times) {
                return Ok(Delivered::Full);
            }
            if let Some(delivered) = self.find_moved(arrival.of, key).await? {
                return Ok(delivered);
            }
            looked = Some(moved.times);
        }
    }

    /// A delivery of a message that is there, or a look.
    pub(super) async fn arrive_again(
        &self,
        arrival: &Arrival<'_>,
        delivery: Option<&Delivery>,
    ) -> Result<Delivered, StoreError> {
        let (operation, key) = (delivery.map_or("look", |_| "deliver"), &arrival.key);
        let again = arrival.again(delivery.is_some());
        let found: Option<Found> = self.change(operation, CONVERSATIONS, again).await?;
        let Some(mut found) = found else {
            return Ok(UNKNOWN);
        };
        if let Some(done) = found.done(key) {
            return Ok(done.delivered(found.now));
        }
        if let Some(waiting) = found.waiting(key) {
            if found.is_held_by(arrival.turn) {
                return found.take_conversation().map(Delivered::Held);
            }
            return Ok(waiting.seen.elsewhere(found.now));
        }
        if found.moved.is_none() {
            return Ok(UNKNOWN);
        }
        let moved = self.find_moved(arrival.of, key).await?;
        Ok(moved.unwrap_or(UNKNOWN))
    }
}

impl Arrival<'_> {
    /// Adds a message behind those that wait, and takes the conversation if it is free. Does nothing if the
    /// message is known, or may be, or too many wait, or if it is handled and the conversation is not free.
    /// `looked` is what a look among the moved messages was based on.
    fn add(&self, delivery: &Delivery, looked: Option<i64>) -> Change {
        let key = &self.key;
        let most = i32::try_from(MOST_WAITING).unwrap_or(i32::MAX);
        let mut may_be_old = Bson::from(doc! { "$gt": ["$moved.latest", ago(doubt(delivery))] });
        if let Some(times) = looked {
            let have_more_moved = doc! { "$ne": ["$moved.times", times] };
            may_be_old = doc! { "$and": [may_be_old, have_more_moved] }.into();
        }
        let mut stays: Vec<Bson> = vec![
            key.is_done().into(),
            key.waits().into(),
            doc! { "$gt": [{ "$size": or_empty("$waiting") }, most] }.into(),
            may_be_old,
        ];
        if delivery.is_handled {
            stays.push(doc! { "$not": [self.is_free()] }.into());
        }
        let stays = doc! { "$or": stays };
        let mut taken = take_turn(self.turn, self.lease);
        taken.insert("due_at", due_at(from_now(self.lease)));
        let parts = vec![
            "$$ROOT".into(),
            Bson::from(self.added(delivery)),
            when(self.is_free(), taken),
        ];
        let added = doc! { "$mergeObjects": parts };
        let update = doc! { "$replaceWith": { "$cond": [stays, "$$ROOT", added] } };
        // Not the message that was just handed in, and nothing to compute: see `again`.
        Change::upsert(self.of.as_str(), vec![update]).returning(Found::fields(doc! {
            "turn": 1,
            "waiting.key": 1,
            "waiting.seen": 1,
            key.entry_path(): 1,
            "session": 1,
            "kept": 1,
            "moved": 1,
            "ungiven": 1,
            "remembered": 1,
        }))
    }

    /// What a new message changes, whoever holds the conversation.
    fn added(&self, delivery: &Delivery) -> Document {
        let waiting = doc! {
            "key": &self.key,
            "seen": { "first": "$$NOW", "deliveries": 1_i64, "last": self.mark },
            "message": literal(&*delivery.message),
        };
        let lives_on = doc! { "$gt": ["$expires_at", from_now(LIVES_AT_LEAST)] };
        let mut added = doc! {
            "waiting": { "$concatArrays": [or_empty("$waiting"), [waiting]] },
            "expires_at": { "$cond": [lives_on, "$expires_at", from_now(LIVES)] },
        };
        if let Some(trigger) = delivery.opens {
            let opened = doc! { trigger.name(): { "at": "$$NOW", "sent": 0_i64 } };
            added.insert("windows", doc! { "$mergeObjects": ["$windows", opened] });
        }
        if delivery.is_farewell {
            added.insert("left", true);
            added.insert("kept", Vec::<Bson>::new());
        } else if delivery.opens.is_some() {
            added.insert("left", false);
        }
        added
    }

    /// Takes the conversation if the message waits and it is free. Counts a delivery if it `is_delivery`.
    fn again(&self, is_delivery: bool) -> Change {
        let key = &self.key;
        let mut again = Document::new();
        let mut waits = vec![when(self.is_free(), take_turn(self.turn, self.lease))];
        if is_delivery {
            again.insert("done", key.among_done(self.counted(&key.entry())));
            let is_it = doc! { "$eq": ["$$this.key", key] };
            let counted = doc! { "$cond": [is_it, self.counted("$$this"), "$$this"] };
            let counted = doc! { "$map": { "input": "$waiting", "in": counted } };
            waits.push(doc! { "waiting": counted }.into());
        }
        let update = doc! {
            "$switch": {
                "branches": [
                    { "case": key.is_done(), "then": again },
                    { "case": key.waits(), "then": { "$mergeObjects": waits } },
                ],
                "default": {},
            },
        };
        let pipeline = vec![
            doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", update] } },
            note_due(),
        ];
        // The answers, the session and the messages are the holder's to know, less the one that he has
        // just handed in.
        let is_held = is_held_by(self.turn);
        let mut is_news = vec![is_held.clone()];
        if is_delivery {
            is_news.push(doc! { "$ne": ["$$this.key", key] }.into());
        }
        let waiting = doc! {
            "key": "$$this.key",
            "seen": "$$this.seen",
            "message": { "$cond": [{ "$and": is_news }, "$$this.message", Bson::Null] },
        };
        let change = Change::update(doc! { "_id": self.of.as_str() }, pipeline);
        change.returning(Found::fields(doc! {
            "turn": 1,
            "waiting": { "$map": { "input": or_empty("$waiting"), "in": waiting } },
            key.entry_path(): 1,
            "session": { "$cond": [is_held.clone(), "$session", Bson::Null] },
            "kept": { "$cond": [is_held, "$kept", Bson::Null] },
            "moved": 1,
        }))
    }

    /// A message with one more delivery, unless that is counted.
    fn counted(&self, message: &str) -> Bson {
        let seen = |field: &str| format!("{message}.seen.{field}");
        let is_counted = doc! { "$eq": [seen("last"), self.mark] };
        let more = doc! {
            "first": seen("first"),
            "deliveries": { "$add": [seen("deliveries"), { "$cond": [is_counted, 0, 1] }] },
            "last": self.mark,
        };
        doc! { "$mergeObjects": [message, { "seen": more }] }.into()
    }

    fn is_free(&self) -> Document {
        doc! { "$or": [is_over("$lease_until"), is_held_by(self.turn)] }
    }
}

/// A message that the document does not know may be a repeat of one that was moved if one was whose first
/// delivery is not longer ago than this.
pub(super) fn doubt(delivery: &Delivery) -> Duration {
    if delivery.may_be_old {
        REMEMBER_MESSAGES
    } else {
        MOVE_AFTER
    }
}
