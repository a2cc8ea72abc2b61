//! Collection `conversations`, a document for each user:
//!
//! ```text
//! {_id: openid,
//!  turn, lease_until,               // who holds it; a lease's end is there as long as something waits
//!  waiting: [{key: KEY, seen: {first, deliveries, last}, message, outside: {reply, by}}],
//!  done: {KEY: {seen, turn, reply, by, keeper, carried}},
//!  ungiven: [{key: KEY, due}],      // of `done`: replies that no delivery has carried
//!  kept: [{id, reply, at, sending_until, sender}], answers,
//!  session: {value, until}, windows: {message: {at, sent, last}, …}, left,
//!  due_at, expires_at, remembered, moved: {times, latest}}
//! ```
//!
//! Each change is one update of this document, so that nothing needs a transaction: the session and the
//! kept answers change together with the ledger's entry, or not at all. What waits is an array, short and in
//! the order of the first deliveries. What is done is a map: no operation walks through it. What waits is
//! remembered until somebody has handled it, what is done for a day.
//!
//! An operation that is sent twice has one effect. Random numbers (`last`, `by`, `keeper`, `sender`, and
//! `turn`) tell it from another's; what is not counted needs none.
//!
//! Those of common messages, which most are, go to the server many at a time: [`batch`].
//!
//! `due_at` is the earliest time at which something may be overdue, `lease_until` or a `due` of `ungiven`.
//! All that changes one of them computes it anew.
//!
//! # Old messages
//!
//! A document that grew all day would be slow to rewrite. So [`handled`] moves what is done to a collection
//! of its own, ten minutes after the first delivery, and notes in `moved` how often it did, and the first
//! delivery of the youngest. Whoever delivers says whether the message [may be old]. If it is not, or
//! nothing was moved, all that it may be a repeat of is in the document, and one round trip decides. Else,
//! if the document does not know the message, nothing is changed at first: it is looked up among those that
//! were moved, and then delivered with the `moved.times` that the look was based on. Should there be more by
//! then, it is looked up again.
//!
//! A message falls nowhere between: it is in the collection, on a majority, before the document forgets
//! it; reads are from the primary, at majority, and what the document says of its own is what counts.
//!
//! # Size
//!
//! MongoDB allows 16 MiB. A message has 64 KiB at most, and a reply (which has to be sent in one piece) far
//! less: 21 messages wait, 20 answers are kept, and of the replies that are done all but the youngest 32 are
//! moved, old or not, once there are some 128. If each of them were as large as a message that made 11 MiB.
//! They make some ten KiB in fact. A session has 64 KiB at most.
//!
//! [may be old]: crate::store::Delivery::may_be_old

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{binary, from_now, is_over, merge, or_empty, when};
use super::schema::{CONVERSATIONS, has_due_at};
use super::{Change, Mongo};
use crate::store::{
    AnswerId, Answered, Conversation, ConversationStore, Delivered, Delivery, Digest, Finished,
    Handled, KeptAnswer, Overdue, StoreError, Trigger, Turn, Window,
};
use crate::wechat::id::OpenId;

mod answers;
mod arrival;
mod batch;
mod finish;
mod handled;
mod record;
mod uncommon;

use arrival::Arrival;
pub(super) use batch::Batches;
use record::{Found, Key, Mark, note_due, take_turn};

/// How often something that another instance undoes meanwhile is tried.
const TRIES: usize = 3;

#[async_trait]
impl ConversationStore for Mongo {
    async fn deliver(
        &self,
        of: &OpenId,
        delivery: &Delivery,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError> {
        let arrival = Arrival {
            of,
            key: Key::of(&delivery.key),
            turn,
            lease,
            mark: Mark::new(),
        };
        if self.batches.takes(of, delivery) && self.batches.claim(&arrival, delivery).await {
            return Ok(Delivered::Held(Conversation::of_new(&delivery.key)));
        }
        self.arrive(&arrival, delivery).await
    }

    async fn look(
        &self,
        of: &OpenId,
        key: &Digest,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError> {
        let arrival = Arrival {
            of,
            key: Key::of(key),
            turn,
            lease,
            mark: Mark::new(),
        };
        self.arrive_again(&arrival, None).await
    }

    async fn still_waiting(&self, messages: &[(OpenId, Digest)]) -> Result<Vec<bool>, StoreError> {
        #[derive(Deserialize)]
        struct Known {
            _id: OpenId,
            is_held: bool,
            waiting: Vec<String>,
        }

        let of: HashSet<String> = messages
            .iter()
            .map(|(of, _)| of.as_str().to_owned())
            .collect();
        let of: Vec<String> = of.into_iter().collect();
        let known: HashMap<OpenId, Known> = self
            .run("still_waiting", move |database| {
                let asked = doc! { "_id": { "$in": &of } };
                async move {
                    let mut found = database
                        .collection::<Known>(CONVERSATIONS)
                        .find(asked)
                        .projection(doc! {
                            "_id": 1,
                            "is_held": { "$not": [is_over("$lease_until")] },
                            "waiting": or_empty("$waiting.key"),
                        })
                        .await?;
                    let mut known = HashMap::new();
                    while let Some(found) = found.try_next().await? {
                        known.insert(found._id.clone(), found);
                    }
                    Ok(known)
                }
            })
            .await?;
        let waits = |(of, key): &(OpenId, Digest)| {
            known.get(of).is_some_and(|known| {
                known.is_held
                    && known
                        .waiting
                        .iter()
                        .any(|waiting| Key::of(key).as_str() == waiting)
            })
        };
        Ok(messages.iter().map(waits).collect())
    }

    async fn renew(&self, of: &OpenId, turn: Turn, lease: Duration) -> Result<bool, StoreError> {
        let renewed = doc! { "$set": { "lease_until": from_now(lease) } };
        let renew = Change::update(held_by(of, turn), vec![renewed, note_due()]);
        self.change::<IgnoredAny>("renew", CONVERSATIONS, renew)
            .await
            .map(|found| found.is_some())
    }

    async fn finish(
        &self,
        of: &OpenId,
        handled: &Handled,
        turn: Turn,
        lease: Duration,
    ) -> Result<Finished, StoreError> {
        if let Some(end) = self.batches.end_of(of, handled, turn)
            && self.batches.end(end).await
        {
            return Ok(Finished::Written(Vec::new()));
        }
        let finish = finish::finish(of, handled, turn, lease);
        let found: Option<Found> = self.change("finish", CONVERSATIONS, finish).await?;
        let Some(mut found) = found else {
            return self.why_not_finished(of, handled, turn).await;
        };
        if found.remembered.is_some_and(handled::is_time_to_move) {
            self.move_old_soon(of);
        }
        found.take_waiting().map(Finished::Written)
    }

    async fn release(&self, of: &OpenId, turn: Turn) -> Result<(), StoreError> {
        let released = doc! { "$set": { "turn": Bson::Null, "lease_until": "$$NOW" } };
        let release = Change::update(held_by(of, turn), vec![released, note_due()]);
        self.change::<IgnoredAny>("release", CONVERSATIONS, release)
            .await
            .map(drop)
    }

    async fn mark_given(&self, of: &OpenId, key: &Digest, given: bool) -> Result<(), StoreError> {
        let key = Key::of(key);
        for _ in 0..TRIES {
            let mark = if given {
                answers::given(of, &key)
            } else {
                answers::not_given(of, &key)
            };
            let found: Option<IgnoredAny> = self.change("mark_given", CONVERSATIONS, mark).await?;
            // What was moved counts as given.
            if given || found.is_some() || !self.bring_back(of, &key).await? {
                break;
            }
        }
        Ok(())
    }

    async fn answer(
        &self,
        of: &OpenId,
        key: &Digest,
        reply: &[u8],
    ) -> Result<Answered, StoreError> {
        let (key, mark) = (Key::of(key), Mark::new());
        for _ in 0..TRIES {
            let answer = answers::answer(of, &key, reply, mark);
            let found: Option<Found> = self.change("answer", CONVERSATIONS, answer).await?;
            if let Some(answered) = found.and_then(|found| answers::answered(&found, &key, mark)) {
                return Ok(answered);
            }
            if !self.bring_back(of, &key).await? {
                break;
            }
        }
        Ok(Answered::Unknown)
    }

    async fn keep_answer(&self, of: &OpenId, key: &Digest) -> Result<bool, StoreError> {
        let mark = Mark::new();
        let key = Key::of(key);
        let keep = answers::keep(of, &key, mark);
        let found: Option<Found> = self.change("keep_answer", CONVERSATIONS, keep).await?;
        let keeper = found.and_then(|found| found.done(&key)?.keeper);
        Ok(mark.is(keeper))
    }

    async fn begin_sending(
        &self,
        of: &OpenId,
        lease: Duration,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        let mark = Mark::new();
        let send = answers::send(of, lease, mark);
        let found: Option<Found> = self.change("begin_sending", CONVERSATIONS, send).await?;
        Ok(found.and_then(|mut found| found.take_sending(mark)))
    }

    async fn end_sending(
        &self,
        of: &OpenId,
        answer: AnswerId,
        sent: bool,
    ) -> Result<(), StoreError> {
        let end = answers::sent(of, answer, sent);
        self.change::<IgnoredAny>("end_sending", CONVERSATIONS, end)
            .await
            .map(drop)
    }

    async fn windows(&self, of: &OpenId) -> Result<Vec<Window>, StoreError> {
        let fields = Found::fields(doc! { "windows": 1 });
        let filter = doc! { "_id": of.as_str() };
        let found: Option<Found> = self.find("windows", CONVERSATIONS, filter, fields).await?;
        Ok(found.map_or_else(Vec::new, |found| found.windows()))
    }

    async fn count_sent(&self, of: &OpenId, trigger: Trigger) -> Result<(), StoreError> {
        let mark = Mark::new();
        let field = |field| format!("windows.{}.{field}", trigger.name());
        let [sent, last] = ["sent", "last"].map(field);
        let is_counted = doc! { "$eq": [format!("${last}"), mark] };
        let more = doc! { "$add": [format!("${sent}"), { "$cond": [is_counted, 0, 1] }] };
        let filter = doc! { "_id": of.as_str(), sent.as_str(): { "$exists": true } };
        let count = Change::update(filter, vec![doc! { "$set": { sent: more, last: mark } }]);
        self.change::<IgnoredAny>("count_sent", CONVERSATIONS, count)
            .await
            .map(drop)
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<OpenId>, StoreError> {
        #[derive(Deserialize)]
        struct Due {
            _id: OpenId,
            is_due: bool,
        }

        // To the server 0 is no limit.
        if limit == 0 {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.run("overdue", move |database| async move {
            // The server's time is no bound that the index of every version understands: those that are
            // due first come first, and tell whether they are due.
            let mut found = database
                .collection::<Due>(CONVERSATIONS)
                .find(has_due_at())
                .sort(doc! { "due_at": 1 })
                .limit(limit)
                .projection(doc! { "_id": 1, "is_due": is_over("$due_at") })
                .await?;
            let mut due = Vec::new();
            while let Some(found) = found.try_next().await? {
                if found.is_due {
                    due.push(found._id);
                }
            }
            Ok(due)
        })
        .await
    }

    async fn take_overdue(
        &self,
        of: &OpenId,
        turn: Turn,
        lease: Duration,
    ) -> Result<Overdue, StoreError> {
        let something_waits = doc! { "$gt": ["$waiting", []] };
        let is_abandoned = doc! { "$and": [something_waits, is_over("$lease_until")] };
        let mut pipeline = merge([when(is_abandoned, take_turn(turn, lease))]);
        pipeline.push(note_due());
        let take = Change::update(doc! { "_id": of.as_str() }, pipeline);
        let take = take.returning(Found::fields(doc! {
            "turn": 1, "waiting": 1, "session": 1, "kept": 1, "ungiven": 1,
        }));
        let found: Option<Found> = self.change("take_overdue", CONVERSATIONS, take).await?;
        let Some(mut found) = found else {
            return Ok(Overdue::default());
        };
        Ok(Overdue {
            not_given: found.not_given()?,
            held: found
                .is_held_by(turn)
                .then(|| found.take_conversation())
                .transpose()?,
        })
    }
}

/// Removes the session, the kept answers and the windows. What was handled stays until its time is over,
/// and so does that he has left.
pub(super) async fn forget(database: &Database, of: &OpenId) -> Result<(), Error> {
    database
        .collection::<IgnoredAny>(CONVERSATIONS)
        .update_one(
            doc! { "_id": of.as_str() },
            doc! { "$unset": { "session": "", "kept": "", "windows": "" } },
        )
        .await
        .map(drop)
}

fn held_by(of: &OpenId, turn: Turn) -> Document {
    doc! { "_id": of.as_str(), "turn": binary(turn.0) }
}
