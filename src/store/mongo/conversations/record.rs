//! The document's parts, as expressions over it and as what comes back of it.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use serde::Deserialize;

use super::handled::{ENOUGH, MOVE_AFTER};
use crate::store::mongo::expression::{ago, binary, from_now, is_over, or_empty};
use crate::store::{
    AnswerId, Conversation, DELIVERIES_END, Delivered, Digest, KEEP_ANSWERS, KeptAnswer, MOST_KEPT,
    REMEMBER_MESSAGES, StoreError, Trigger, Turn, Waiting, Window,
};

/// A reply that no delivery has carried is overdue this long after the first delivery.
const OVERDUE_AFTER: Duration = DELIVERIES_END.saturating_add(Duration::from_secs(5));

/// A message's key as a text, because it is a field's name too.
#[derive(Clone)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn of(key: &Digest) -> Self {
        Self(URL_SAFE_NO_PAD.encode(key.0))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of a field of what is remembered of the message.
    pub(super) fn path(&self, field: &str) -> String {
        format!("done.{}.{field}", self.0)
    }

    /// That field as an expression.
    pub(super) fn of_done(&self, field: &str) -> String {
        format!("$done.{}.{field}", self.0)
    }

    /// The path of all that is remembered of the message.
    pub(super) fn entry_path(&self) -> String {
        format!("done.{}", self.0)
    }

    /// All of it as an expression.
    pub(super) fn entry(&self) -> String {
        format!("$done.{}", self.0)
    }

    /// Whether the message is done, and its time not over.
    pub(super) fn is_done(&self) -> Document {
        doc! { "$gt": [self.of_done("seen.first"), ago(REMEMBER_MESSAGES)] }
    }

    /// Whether the message waits.
    pub(super) fn waits(&self) -> Document {
        doc! { "$in": [self, or_empty("$waiting.key")] }
    }

    /// Whether the message is done and no delivery has carried its reply.
    pub(super) fn is_ungiven(&self) -> Document {
        doc! { "$in": [self, or_empty("$ungiven.key")] }
    }

    /// The elements of an array but this message's.
    pub(super) fn without(&self, array: &str) -> Bson {
        let cond = doc! { "$ne": ["$$this.key", self] };
        doc! { "$filter": { "input": or_empty(array), "cond": cond } }.into()
    }

    /// `ungiven` with this message.
    pub(super) fn among_ungiven(&self, first_seen: impl Into<Bson>) -> Bson {
        let after = i64::try_from(OVERDUE_AFTER.as_millis()).unwrap_or(i64::MAX);
        let due = doc! { "$add": [first_seen.into(), after] };
        let ungiven = doc! { "key": self, "due": due };
        doc! { "$concatArrays": [self.without("$ungiven"), [ungiven]] }.into()
    }

    /// `done` with these fields of this message, beside those that are there.
    pub(super) fn among_done(&self, fields: Bson) -> Bson {
        let entry = doc! { "$mergeObjects": [self.entry(), fields] };
        doc! { "$mergeObjects": ["$done", { self.as_str(): entry }] }.into()
    }
}

impl From<&Key> for Bson {
    fn from(key: &Key) -> Self {
        key.as_str().into()
    }
}

/// The message that a stored key stands for.
fn digest_of(key: &str) -> Result<Digest, StoreError> {
    let bytes = URL_SAFE_NO_PAD.decode(key).ok();
    let digest = bytes.and_then(|bytes| bytes.try_into().ok());
    digest
        .map(Digest)
        .ok_or_else(|| StoreError::Unusable("a record can't be read".into()))
}

/// Tells one operation from all others, and from itself where it is sent twice.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Mark(i64);

impl Mark {
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    pub(super) fn is(self, stored: Option<i64>) -> bool {
        stored == Some(self.0)
    }
}

impl From<Mark> for Bson {
    fn from(mark: Mark) -> Self {
        mark.0.into()
    }
}

/// Whether `turn` holds the conversation. Its lease may be over, as long as nobody has taken it.
pub(super) fn is_held_by(turn: Turn) -> Bson {
    doc! { "$eq": ["$turn", binary(turn.0)] }.into()
}

/// The conversation is `turn`'s.
pub(super) fn take_turn(turn: Turn, lease: Duration) -> Document {
    doc! { "turn": binary(turn.0), "lease_until": from_now(lease) }
}

/// The earliest time at which something may be overdue.
pub(super) fn due_at(lease_until: impl Into<Bson>) -> Bson {
    doc! { "$min": [lease_until.into(), { "$min": "$ungiven.due" }] }.into()
}

/// The last stage of what changes `lease_until` or `ungiven`.
pub(super) fn note_due() -> Document {
    doc! { "$set": { "due_at": due_at("$lease_until") } }
}

/// Of `kept`, or of what is made of it, the answers that are not too old.
fn young(kept: Bson) -> Bson {
    let is_young = doc! { "$gt": ["$$this.at", ago(KEEP_ANSWERS)] };
    doc! { "$filter": { "input": kept, "cond": is_young } }.into()
}

/// Those of them that nobody is sending.
fn idle(kept: impl Into<Bson>) -> Bson {
    let cond = is_over("$$this.sending_until");
    doc! { "$filter": { "input": kept.into(), "cond": cond } }.into()
}

/// The kept answers that are to be had.
pub(super) fn kept_to_be_had() -> Bson {
    idle(young(or_empty("$kept")))
}

/// More answers are kept, unless the user has left. If they are too many the oldest go, save those that are
/// being sent.
pub(super) fn kept_with(kept: Bson, more: impl IntoIterator<Item = Bson>) -> Document {
    let answers: Bson = doc! { "$ifNull": ["$answers", 0_i64] }.into();
    let more = (1_i64..).zip(more).map(|(number, reply)| {
        let id = doc! { "$add": [answers.clone(), number] };
        Bson::from(doc! { "id": id, "reply": reply, "at": "$$NOW" })
    });
    let more: Vec<Bson> = more.collect();
    let count = i64::try_from(more.len()).unwrap_or(i64::MAX);
    let most = i32::try_from(MOST_KEPT).unwrap_or(i32::MAX);
    let ids = doc! { "$map": { "input": idle("$$all"), "in": "$$this.id" } };
    let excess = doc! { "$max": [0, { "$subtract": [{ "$size": "$$all" }, most] }] };
    let goes = doc! { "$in": ["$$this.id", { "$slice": [ids, excess] }] };
    let all = doc! { "$concatArrays": [young(kept.clone()), more] };
    let stay = doc! { "$filter": { "input": "$$all", "cond": { "$not": [goes] } } };
    let kept_on = doc! { "$let": { "vars": { "all": all }, "in": stay } };
    doc! {
        "kept": { "$cond": ["$left", kept, kept_on] },
        "answers": { "$add": [answers, count] },
        "expires_at": lives_for(KEEP_ANSWERS),
    }
}

/// When the document may go, for something in it that lasts so long.
pub(super) fn lives_for(life: Duration) -> Bson {
    doc! { "$max": ["$expires_at", from_now(life)] }.into()
}

/// What comes back of a conversation, as far as an operation asks for it.
#[derive(Deserialize)]
pub(super) struct Found {
    pub(super) now: DateTime,
    turn: Option<Binary>,
    waiting: Option<Vec<FoundWaiting>>,
    /// Of the message that the operation is about, under its key.
    done: Option<HashMap<String, FoundDone>>,
    ungiven: Option<Vec<FoundUngiven>>,
    session: Option<FoundSession>,
    kept: Option<Vec<FoundKept>>,
    windows: Option<FoundWindows>,
    pub(super) remembered: Option<i64>,
    pub(super) moved: Option<Moved>,
}

/// How a message was delivered.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Seen {
    first: DateTime,
    deliveries: i64,
    /// By which operation it was counted last.
    last: i64,
}

#[derive(Deserialize)]
pub(super) struct FoundWaiting {
    key: String,
    pub(super) seen: Seen,
    message: Option<String>,
    pub(super) outside: Option<FoundOutside>,
}

/// A reply that came from outside while the message was being handled.
#[derive(Deserialize)]
pub(super) struct FoundOutside {
    pub(super) by: i64,
}

#[derive(Deserialize)]
pub(super) struct FoundDone {
    pub(super) seen: Seen,
    turn: Option<Binary>,
    reply: Option<Binary>,
    pub(super) by: Option<i64>,
    pub(super) keeper: Option<i64>,
}

#[derive(Deserialize)]
struct FoundSession {
    value: Binary,
    until: DateTime,
}

#[derive(Deserialize)]
struct FoundKept {
    id: i64,
    reply: Binary,
    at: DateTime,
    sending_until: Option<DateTime>,
    sender: Option<i64>,
}

#[derive(Deserialize)]
struct FoundUngiven {
    key: String,
    due: Option<DateTime>,
}

#[derive(Deserialize)]
struct FoundWindows {
    message: Option<FoundWindow>,
    click: Option<FoundWindow>,
    follow: Option<FoundWindow>,
    scan: Option<FoundWindow>,
}

#[derive(Deserialize)]
struct FoundWindow {
    at: DateTime,
    sent: i64,
}

/// That messages were moved out of the document.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Moved {
    /// How often.
    pub(super) times: i64,
    /// The first delivery of the youngest.
    pub(super) latest: DateTime,
}

impl Found {
    /// A projection to `fields` and the server's time.
    pub(super) fn fields(mut fields: Document) -> Document {
        fields.insert("_id", 0);
        fields.insert("now", "$$NOW");
        fields
    }

    pub(super) fn is_held_by(&self, turn: Turn) -> bool {
        is_turn(self.turn.as_ref(), turn)
    }

    /// What is remembered of a message, unless its time is over.
    pub(super) fn done(&self, key: &Key) -> Option<&FoundDone> {
        let done = self.done.as_ref()?.get(key.as_str())?;
        (done.seen.since_first(self.now) < REMEMBER_MESSAGES).then_some(done)
    }

    /// The message, if it waits.
    pub(super) fn waiting(&self, key: &Key) -> Option<&FoundWaiting> {
        let mut waiting = self.waiting.iter().flatten();
        waiting.find(|waiting| waiting.key == key.0)
    }

    /// Whether the user has something that the next message depends on, beside a message that waits.
    pub(super) fn has_more_than_a_message(&self) -> bool {
        let session = self.session.as_ref();
        let mut kept = self.kept.iter().flatten();
        session.is_some_and(|session| session.until > self.now)
            || kept.any(|kept| since(self.now, kept.at) < KEEP_ANSWERS)
            || self
                .ungiven
                .as_ref()
                .is_some_and(|ungiven| !ungiven.is_empty())
            || self
                .moved
                .is_some_and(|moved| moved.is_within(MOVE_AFTER, self.now))
            || self.remembered.is_some_and(|count| count >= ENOUGH)
    }

    /// How many wait.
    pub(super) fn count_waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, Vec::len)
    }

    /// What waits.
    pub(super) fn take_waiting(&mut self) -> Result<Vec<Waiting>, StoreError> {
        let now = self.now;
        let waiting = self.waiting.take().unwrap_or_default();
        let waiting = waiting.into_iter().map(|found| {
            Ok(Waiting {
                key: digest_of(&found.key)?,
                message: found.message,
                deliveries: found.seen.deliveries(),
                first_seen: found.seen.since_first(now),
            })
        });
        waiting.collect()
    }

    /// The kept answers that are to be had.
    pub(super) fn take_kept(&mut self) -> Vec<KeptAnswer> {
        let now = self.now;
        let kept = self.kept.take().unwrap_or_default().into_iter();
        kept.filter(|kept| since(now, kept.at) < KEEP_ANSWERS)
            .filter(|kept| kept.sending_until.is_none_or(|until| until <= now))
            .map(FoundKept::into_answer)
            .collect()
    }

    /// The kept answer that the operation of this mark took to send.
    pub(super) fn take_sending(&mut self, mark: Mark) -> Option<KeptAnswer> {
        let mut kept = self.kept.take().unwrap_or_default().into_iter();
        kept.find(|kept| mark.is(kept.sender))
            .map(FoundKept::into_answer)
    }

    /// All that a holder is to know.
    pub(super) fn take_conversation(&mut self) -> Result<Conversation, StoreError> {
        let session = self.session.take();
        Ok(Conversation {
            waiting: self.take_waiting()?,
            session: session
                .filter(|session| session.until > self.now)
                .map(|session| session.value.bytes),
            kept: self.take_kept(),
        })
    }

    /// The messages whose reply no delivery has carried in time.
    pub(super) fn not_given(&self) -> Result<Vec<Digest>, StoreError> {
        let ungiven = self.ungiven.iter().flatten();
        ungiven
            .filter(|ungiven| ungiven.due.is_some_and(|due| due <= self.now))
            .map(|ungiven| digest_of(&ungiven.key))
            .collect()
    }

    /// The windows that were opened.
    pub(super) fn windows(&self) -> Vec<Window> {
        let Some(windows) = &self.windows else {
            return Vec::new();
        };
        let window = |trigger| {
            let found = match trigger {
                Trigger::Message => &windows.message,
                Trigger::Click => &windows.click,
                Trigger::Follow => &windows.follow,
                Trigger::Scan => &windows.scan,
            };
            found.as_ref().map(|found| Window {
                trigger,
                age: since(self.now, found.at),
                sent: count(found.sent),
            })
        };
        Trigger::ALL.into_iter().filter_map(window).collect()
    }
}

impl Moved {
    /// Whether a message may be a repeat of one that was moved, if it may have been delivered that long ago.
    pub(super) fn is_within(&self, doubt: Duration, now: DateTime) -> bool {
        since(now, self.latest) < doubt
    }
}

impl FoundKept {
    fn into_answer(self) -> KeptAnswer {
        KeptAnswer {
            id: AnswerId(self.id),
            reply: self.reply.bytes,
        }
    }
}

impl Seen {
    pub(super) fn is_by(&self, mark: Mark) -> bool {
        mark.is(Some(self.last))
    }

    pub(super) fn since_first(&self, now: DateTime) -> Duration {
        since(now, self.first)
    }

    fn deliveries(&self) -> u32 {
        count(self.deliveries)
    }

    /// The answer to who does not hold its conversation, or where there is nothing to do.
    pub(super) fn elsewhere(&self, now: DateTime) -> Delivered {
        Delivered::Elsewhere {
            deliveries: self.deliveries(),
            first_seen: self.since_first(now),
        }
    }
}

impl FoundDone {
    /// What a delivery of the message finds.
    pub(super) fn delivered(&self, now: DateTime) -> Delivered {
        match &self.reply {
            Some(reply) => Delivered::Done(reply.bytes.clone()),
            None => self.seen.elsewhere(now),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.reply.is_none()
    }

    /// Whether `turn` finished it.
    pub(super) fn is_by(&self, turn: Turn) -> bool {
        is_turn(self.turn.as_ref(), turn)
    }
}

fn is_turn(stored: Option<&Binary>, turn: Turn) -> bool {
    stored.is_some_and(|stored| stored.bytes == turn.0)
}

/// Zero where the clock went back.
pub(super) fn since(now: DateTime, at: DateTime) -> Duration {
    let millis = now.timestamp_millis().saturating_sub(at.timestamp_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A number as it is stored.
fn count(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}
