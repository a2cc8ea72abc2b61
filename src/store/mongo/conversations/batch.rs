//! The common message: one that finds nothing else of its user's under way, and whose handling ends with a
//! plain reply that a delivery carries.
//!
//! An operation of its own costs the server five times what a statement among many does: a command to read,
//! a plan, and a wait for the journal and a majority. So the *claim* and the *end* of a common message are
//! statements of one `update`, with those of other users. While one command is on its way the next
//! gathers, so nothing waits that need not.
//!
//! The filter of a statement says all that has to hold. Each is an upsert: where its filter does not hold, the
//! server tries to insert another document under the `_id`, and names the statement in its errors. All others
//! took effect.
//!
//! Whatever is not known to have taken effect is done by an operation of its own, `Arrival::add` or `finish`.
//! A claim changes what that would have changed, and has its mark and its turn; so whichever comes first, and
//! however late the other, there is one effect. Whoever is known to have more than a message is
//! [`Uncommon`], and spared the try.
//!
//! Who waits for an answer has 1.2 s. Where a command takes long, what gathered goes its own way at once, and
//! so does what comes within a second.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mongodb::Database;
use mongodb::bson::{self, Bson, DateTime, Document, doc};
use mongodb::error::Error;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::arrival::{Arrival, LIVES, LIVES_AT_LEAST, doubt};
use super::handled::ENOUGH;
use super::record::{Key, Mark};
use super::uncommon::Uncommon;
use crate::store::mongo::clock::ServerClock;
use crate::store::mongo::error::{DUPLICATE_KEY, reason};
use crate::store::mongo::expression::{binary, from_now, literal};
use crate::store::mongo::schema::{CONVERSATIONS, hello};
use crate::store::{Delivery, Digest, Handled, KEEP_ANSWERS, SessionChange, Trigger, Turn};
use crate::telemetry::metrics::StoreMetrics;
use crate::timeout::timeout;
use crate::wechat::id::OpenId;

/// Statements in one command, and the bytes of the messages and replies in them: a command is a document,
/// and has 16 MiB at most.
const MOST_STATEMENTS: usize = 500;
const MOST_BYTES: usize = 8 << 20;
/// Statements that wait for the next command. More go their own way, where it is known what is too many.
const MOST_GATHERED: usize = 4_096;
/// Claims of which it is remembered how they were made. Without that an end goes its own way.
const MOST_CLAIMED: usize = 20_000;
/// A command that takes longer means trouble: a slow server, or a dead connection.
const ANSWERED_WITHIN: Duration = Duration::from_millis(150);
/// Who waits longer goes his own way.
const KNOWN_WITHIN: Duration = Duration::from_millis(300);
/// After trouble nothing is sent together for this long.
const REST_FOR: Duration = Duration::from_secs(1);

/// What one instance sends together.
pub(in crate::store::mongo) struct Batches {
    database: Database,
    clock: ServerClock,
    tasks: TaskTracker,
    metrics: StoreMetrics,
    gathered: Mutex<Gathered>,
    claimed: Mutex<HashMap<Digest, Claimed>>,
    pub(super) uncommon: Uncommon,
}

#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    /// A task sends what gathers.
    is_sent: bool,
    /// After trouble.
    rests_until: Option<Instant>,
}

/// A statement, and who waits for it to take effect.
struct Entry {
    statement: Statement,
    taken: oneshot::Sender<()>,
}

enum Statement {
    Claim(Claim),
    End(End),
}

/// A message that is new, of a user who has nothing else.
struct Claim {
    of: OpenId,
    key: Key,
    turn: Turn,
    mark: Mark,
    lease: Duration,
    doubt: Duration,
    message: Arc<str>,
    opens: Option<Trigger>,
}

/// The plain reply to one.
pub(super) struct End {
    of: OpenId,
    key: Key,
    claimed: Claimed,
    reply: Vec<u8>,
}

/// How a message was claimed.
#[derive(Clone, Copy)]
struct Claimed {
    turn: Turn,
    mark: Mark,
}

impl Gathered {
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

impl Batches {
    pub(in crate::store::mongo) fn new(
        database: Database,
        clock: ServerClock,
        tasks: TaskTracker,
        metrics: StoreMetrics,
    ) -> Self {
        Self {
            database,
            clock,
            tasks,
            metrics,
            gathered: Mutex::default(),
            claimed: Mutex::default(),
            uncommon: Uncommon::new(),
        }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claimed(&self) -> MutexGuard<'_, HashMap<Digest, Claimed>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worth trying to claim a message.
    pub(super) fn takes(self: &Arc<Self>, of: &OpenId, delivery: &Delivery) -> bool {
        let now = Instant::now();
        if self.clock.is_to_be_asked(now) {
            self.tasks.spawn(Arc::clone(self).ask_for_the_time());
        }
        !delivery.is_farewell
            && !delivery.is_handled
            && !self.uncommon.holds(of)
            && self.clock.now(now).is_some()
            && !self.gathered().rests(now)
    }

    /// Claims a message. Returns whether that is known to have taken effect: then the message is all that
    /// the user has.
    pub(super) async fn claim(
        self: &Arc<Self>,
        arrival: &Arrival<'_>,
        delivery: &Delivery,
    ) -> bool {
        let (turn, mark) = (arrival.turn, arrival.mark);
        let claim = Claim {
            of: arrival.of.clone(),
            key: arrival.key.clone(),
            turn,
            mark,
            lease: arrival.lease,
            doubt: doubt(delivery),
            message: Arc::clone(&delivery.message),
            opens: delivery.opens,
        };
        if !self.gather(Statement::Claim(claim)).await {
            return false;
        }
        let mut claimed = self.claimed();
        if claimed.len() >= MOST_CLAIMED {
            claimed.clear();
        }
        claimed.insert(delivery.key, Claimed { turn, mark });
        true
    }

    /// The end of a message that was claimed here, if it is a plain one.
    pub(super) fn end_of(&self, of: &OpenId, handled: &Handled, turn: Turn) -> Option<End> {
        let claimed = self.claimed().remove(&handled.key);
        let is_plain = handled.given
            && handled.taken.is_empty()
            && handled.kept.is_empty()
            && handled.session == SessionChange::Unchanged;
        if !is_plain {
            self.uncommon.note(of, true);
            return None;
        }
        Some(End {
            of: of.clone(),
            key: Key::of(&handled.key),
            claimed: claimed.filter(|claimed| claimed.turn == turn)?,
            reply: handled.reply.clone()?,
        })
    }

    /// Ends a message. Returns whether that is known to have taken effect: then nothing of the user's waits.
    pub(super) async fn end(self: &Arc<Self>, end: End) -> bool {
        self.gather(Statement::End(end)).await
    }

    /// Sends a statement with others. Returns whether it is known to have taken effect.
    async fn gather(self: &Arc<Self>, statement: Statement) -> bool {
        let (operation, began) = (statement.name(), Instant::now());
        let taken = self.gather_unseen(statement).await;
        let outcome = if taken { "ok" } else { "abandoned" };
        self.metrics.observe(operation, outcome, began.elapsed());
        taken
    }

    async fn gather_unseen(self: &Arc<Self>, statement: Statement) -> bool {
        let (taken, is_taken) = oneshot::channel();
        let begin = {
            let mut gathered = self.gathered();
            if gathered.rests(Instant::now())
                || gathered.entries.len() >= MOST_GATHERED
                || self.tasks.is_closed()
            {
                return false;
            }
            gathered.entries.push(Entry { statement, taken });
            !mem::replace(&mut gathered.is_sent, true)
        };
        if begin {
            self.tasks.spawn(Arc::clone(self).send_all());
        }
        matches!(timeout(KNOWN_WITHIN, is_taken).await, Ok(Ok(())))
    }

    async fn send_all(self: Arc<Self>) {
        while let Some(entries) = self.next() {
            // In a task of its own: it is not dropped half-way, and its panic is not the end of this one.
            let sending = self.tasks.spawn(Arc::clone(&self).send(entries));
            if timeout(ANSWERED_WITHIN, sending).await.is_err() {
                self.rest();
            }
        }
    }

    /// Sends those who wait their own ways, and for a while those who come.
    fn rest(&self) {
        let mut gathered = self.gathered();
        gathered.rests_until = Some(Instant::now() + REST_FOR);
        gathered.entries.clear();
    }

    /// What is to be sent next. With none, sending has ended.
    fn next(&self) -> Option<Vec<Entry>> {
        let mut gathered = self.gathered();
        // Who no longer waits has gone another way.
        gathered.entries.retain(|entry| !entry.taken.is_closed());
        let mut bytes = 0;
        let fitting = gathered.entries.iter().take_while(|entry| {
            bytes += entry.statement.bytes();
            bytes <= MOST_BYTES
        });
        let count = fitting.take(MOST_STATEMENTS).count();
        gathered.is_sent = count > 0;
        (count > 0).then(|| gathered.entries.drain(..count).collect())
    }

    async fn send(self: Arc<Self>, mut entries: Vec<Entry>) {
        let began = Instant::now();
        let Some(now) = self.clock.now(began) else {
            return;
        };
        // What ends comes first, so that the user's next message finds it ended.
        entries.sort_by_key(|entry| matches!(entry.statement, Statement::Claim(_)));
        let updates = entries.iter().map(|entry| entry.statement.update(now));
        let updates: Vec<Document> = updates.collect();
        let mut majority = doc! { "w": "majority" };
        let concern = self.database.write_concern();
        if let Some(time) = concern.and_then(|concern| concern.w_timeout) {
            majority.insert("wtimeout", millis(time));
        }
        let command = doc! {
            "update": CONVERSATIONS,
            "updates": updates,
            "ordered": false,
            "writeConcern": majority,
        };
        let answer = self.database.run_command(command).await;
        let answer = answer.and_then(|answer| Ok(bson::deserialize_from_document(answer)?));
        let outcome = match answer.map(|updated: Updated| updated.tell(entries)) {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!(error = reason(&error), "a batch of messages was not taken");
                "unavailable"
            }
        };
        if outcome != "ok" {
            self.rest();
        }
        self.metrics.observe("batch", outcome, began.elapsed());
    }

    async fn ask_for_the_time(self: Arc<Self>) {
        let asked_at = Instant::now();
        let answer: Result<_, Error> = hello(self.database.clone()).await;
        if let Some(now) = answer.ok().and_then(|server| server.local_time) {
            self.clock.note(now, asked_at, Instant::now());
        }
    }
}

/// The server's answer to a command.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    /// Statements that changed or inserted a document.
    n: usize,
    #[serde(default)]
    write_errors: Vec<Refused>,
    write_concern_error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Refused {
    index: usize,
    code: i32,
}

impl Updated {
    /// Tells those whose statement took effect, and returns how the command ended.
    fn tell(self, entries: Vec<Entry>) -> &'static str {
        if self.write_concern_error.is_some() {
            return "timeout";
        }
        if self.n + self.write_errors.len() != entries.len() {
            return "unusable";
        }
        let is_refused = |refused: &Refused| refused.code == DUPLICATE_KEY;
        let trouble = self
            .write_errors
            .iter()
            .find(|refused| !is_refused(refused));
        let refused: HashSet<usize> = self.write_errors.iter().map(|error| error.index).collect();
        for (index, entry) in entries.into_iter().enumerate() {
            if !refused.contains(&index) {
                // He may have gone.
                let _ = entry.taken.send(());
            }
        }
        trouble.map_or("ok", |trouble| {
            tracing::debug!(code = trouble.code, "a message of a batch was not taken");
            "unavailable"
        })
    }
}

impl Statement {
    fn name(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim",
            Self::End(_) => "end",
        }
    }

    /// Of what in it may be large.
    fn bytes(&self) -> usize {
        match self {
            Self::Claim(claim) => claim.message.len(),
            Self::End(end) => end.reply.len(),
        }
    }

    fn update(&self, now: DateTime) -> Document {
        match self {
            Self::Claim(claim) => claim.update(now),
            Self::End(end) => end.update(),
        }
    }
}

impl Claim {
    /// As `Arrival::add` would change a conversation that has nothing else. The lease runs from when the
    /// server gets to it.
    fn update(&self, now: DateTime) -> Document {
        let mut set = doc! {
            "turn": binary(self.turn.0),
            "lease_until": from_now(self.lease),
            "due_at": from_now(self.lease),
            "waiting": [{
                "key": &self.key,
                "seen": { "first": "$$NOW", "deliveries": 1_i64, "last": self.mark },
                "message": literal(&*self.message),
            }],
            "expires_at": { "$ifNull": ["$expires_at", from_now(LIVES)] },
        };
        if let Some(trigger) = self.opens {
            let window = doc! { "at": "$$NOW", "sent": 0_i64 };
            // Of a document alone the fields would be added to those that are there.
            let window = doc! { "$mergeObjects": [window] };
            set.insert(format!("windows.{}", trigger.name()), window);
            set.insert("left", false);
        }
        // Where `now` is behind the server's time, less may hold, and nothing that does not.
        let nothing_after = |time: DateTime| doc! { "$not": { "$gt": time } };
        let has_nothing_else = doc! {
            "_id": self.of.as_str(),
            "turn": Bson::Null,
            "waiting.0": { "$exists": false },
            "ungiven.0": { "$exists": false },
            self.key.entry_path(): { "$exists": false },
            "session.until": nothing_after(now),
            "kept.at": nothing_after(earlier(now, KEEP_ANSWERS)),
            "moved.latest": nothing_after(earlier(now, self.doubt)),
            "remembered": { "$not": { "$gte": ENOUGH } },
            "expires_at": { "$gt": later(now, LIVES_AT_LEAST) },
        };
        doc! { "q": has_nothing_else, "u": [{ "$set": set }], "upsert": true }
    }
}

impl End {
    /// As `finish` would, as long as the message is the only one and nobody else has touched it.
    fn update(&self) -> Document {
        let Claimed { turn, mark } = self.claimed;
        let is_untouched = doc! {
            "_id": self.of.as_str(),
            "turn": binary(turn.0),
            "waiting": { "$size": 1 },
            "waiting.key": &self.key,
            "waiting.seen.last": mark,
            "ungiven.0": { "$exists": false },
        };
        // Where this is refused, the server computes the change for what the filter alone says. Should there be
        // no document any more, that is what it inserts.
        let seen = doc! { "$arrayElemAt": ["$waiting.seen", 0] };
        let just_now = doc! { "first": "$$NOW", "deliveries": 1_i64, "last": mark };
        let done = doc! {
            "seen": { "$cond": [{ "$isArray": "$waiting.seen" }, seen, just_now] },
            "turn": binary(turn.0),
            "reply": binary(self.reply.as_slice()),
        };
        let change = doc! {
            "turn": Bson::Null,
            "lease_until": Bson::Null,
            "due_at": Bson::Null,
            "waiting": Vec::<Bson>::new(),
            self.key.entry_path(): done,
            "remembered": { "$add": [{ "$ifNull": ["$remembered", 0_i64] }, 1_i64] },
            "expires_at": { "$ifNull": ["$expires_at", from_now(LIVES)] },
        };
        doc! { "q": is_untouched, "u": [{ "$set": change }], "upsert": true }
    }
}

fn later(now: DateTime, duration: Duration) -> DateTime {
    DateTime::from_millis(now.timestamp_millis().saturating_add(millis(duration)))
}

fn earlier(now: DateTime, duration: Duration) -> DateTime {
    DateTime::from_millis(now.timestamp_millis().saturating_sub(millis(duration)))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
