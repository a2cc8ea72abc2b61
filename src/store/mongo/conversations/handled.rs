//! Collection `handled`, what was done and is moved out of the conversations:
//! `{_id: "OPENID/KEY", entry: {…}, expires_at}`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::{Collection, Database};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::record::{Found, FoundDone, Key, since};
use crate::store::mongo::error::store_error;
use crate::store::mongo::expression::{alive, or_empty};
use crate::store::mongo::schema::{CONVERSATIONS, HANDLED};
use crate::store::mongo::{Change, Mongo};
use crate::store::watch::outcome;
use crate::store::{Delivered, REMEMBER_MESSAGES, StoreError};
use crate::wechat::id::OpenId;

/// What was delivered first this long ago is moved. The platform delivers for 15 s, and its signatures are
/// fresh for 300 s: whoever sees a repeat of what was moved sees that it
/// [may be old](crate::store::Delivery::may_be_old).
pub(super) const MOVE_AFTER: Duration = Duration::from_secs(600);
/// Messages that a document remembers before any is moved, and how many more may come until it is tried
/// again.
pub(super) const ENOUGH: i64 = 32;
const STEP: i64 = 16;
/// Messages that a document remembers before it is too many of them: then all but the youngest are moved,
/// young as they may be.
const MOST: usize = 128;
const YOUNGEST: usize = 32;

/// Whether to try and move messages, now that so many are remembered.
pub(super) fn is_time_to_move(remembered: i64) -> bool {
    remembered > ENOUGH && remembered % STEP == 1
}

/// What a document remembers, without the replies.
#[derive(Deserialize)]
struct Remembered {
    now: DateTime,
    done: Vec<Done>,
    ungiven: Vec<String>,
}

#[derive(Deserialize)]
struct Done {
    key: String,
    first_seen: DateTime,
    is_open: bool,
    keeper: Option<i64>,
}

impl Remembered {
    fn fields() -> Document {
        let done = doc! { "$objectToArray": { "$ifNull": ["$done", {}] } };
        let entry = doc! {
            "key": "$$this.k",
            "first_seen": "$$this.v.seen.first",
            "is_open": { "$eq": [{ "$type": "$$this.v.reply" }, "missing"] },
            "keeper": "$$this.v.keeper",
        };
        Found::fields(doc! {
            "done": { "$map": { "input": done, "in": entry } },
            "ungiven": or_empty("$ungiven.key"),
        })
    }

    /// What is to be moved, oldest first. Not what may still change: a reply that nobody was given.
    fn into_old(self) -> Vec<Done> {
        let Self {
            now,
            mut done,
            ungiven,
        } = self;
        let is_crowded = done.len() > MOST;
        done.retain(|done| !ungiven.contains(&done.key));
        done.sort_by_key(|done| done.first_seen);
        if is_crowded {
            done.truncate(done.len().saturating_sub(YOUNGEST));
        } else {
            done.retain(|done| since(now, done.first_seen) >= MOVE_AFTER);
        }
        done
    }
}

/// Moves what is old. At any error, and wherever else it ends, each message is in at least one of the two
/// places, and the document's own is the one that counts.
async fn move_old(database: &Database, of: &OpenId) -> Result<(), Error> {
    let conversations: Collection<IgnoredAny> = database.collection(CONVERSATIONS);
    let found = conversations
        .clone_with_type::<Remembered>()
        .find_one(doc! { "_id": of.as_str() })
        .projection(Remembered::fields())
        .await?;
    let old = found.map(Remembered::into_old).unwrap_or_default();
    let Some(latest) = old.last().map(|done| done.first_seen) else {
        return Ok(());
    };
    let keys: Vec<&str> = old.iter().map(|done| done.key.as_str()).collect();
    let expires_at = doc! {
        "$add": ["$done.v.seen.first", i64::try_from(REMEMBER_MESSAGES.as_millis()).unwrap_or(0)],
    };
    conversations
        .aggregate([
            doc! { "$match": { "_id": of.as_str() } },
            doc! { "$project": { "done": { "$objectToArray": "$done" } } },
            doc! { "$unwind": "$done" },
            doc! { "$match": { "done.k": { "$in": keys.as_slice() } } },
            doc! { "$replaceWith": {
                "_id": { "$concat": [format!("{of}/"), "$done.k"] },
                "entry": "$done.v",
                "expires_at": expires_at,
            } },
            doc! { "$merge": { "into": HANDLED, "whenMatched": "replace" } },
        ])
        .await?;

    // All or nothing, and nothing if one of them has changed since.
    let mut unchanged = doc! { "_id": of.as_str(), "ungiven.key": { "$nin": keys } };
    let mut forgotten = Document::new();
    for done in &old {
        let path = |field: &str| format!("done.{}.{field}", done.key);
        unchanged.insert(path("seen.first"), done.first_seen);
        unchanged.insert(path("reply"), doc! { "$exists": !done.is_open });
        unchanged.insert(path("keeper"), done.keeper);
        forgotten.insert(format!("done.{}", done.key), "");
    }
    let moved = i64::try_from(old.len()).unwrap_or(i64::MAX);
    conversations
        .update_one(
            unchanged,
            doc! {
                "$unset": forgotten,
                "$inc": { "remembered": -moved, "moved.times": 1_i64 },
                "$max": { "moved.latest": latest },
            },
        )
        .await
        .map(drop)
}

/// What was moved, as it is found again.
#[derive(Deserialize)]
struct FoundMoved {
    now: DateTime,
    entry: FoundDone,
}

fn moved(of: &OpenId, key: &Key) -> Document {
    doc! { "_id": format!("{of}/{}", key.as_str()), "$expr": alive() }
}

impl Mongo {
    /// What a delivery of a message that was moved finds.
    pub(super) async fn find_moved(
        &self,
        of: &OpenId,
        key: &Key,
    ) -> Result<Option<Delivered>, StoreError> {
        let filter = moved(of, key);
        let fields = Found::fields(doc! { "entry": 1 });
        let found: Option<FoundMoved> = self.find("find_moved", HANDLED, filter, fields).await?;
        Ok(found.map(|found| found.entry.delivered(found.now)))
    }

    /// Brings a message back that was moved, because something about it is to change. Returns whether that
    /// may be worth another try.
    pub(super) async fn bring_back(&self, of: &OpenId, key: &Key) -> Result<bool, StoreError> {
        #[derive(Deserialize)]
        struct Entry {
            entry: Document,
        }

        let (operation, filter) = ("bring_back", doc! { "_id": of.as_str() });
        let fields = Found::fields(doc! { "moved": 1 });
        let found: Option<Found> = self.find(operation, CONVERSATIONS, filter, fields).await?;
        let Some(at) = found.and_then(|found| found.moved) else {
            return Ok(false);
        };
        let fields = doc! { "_id": 0, "entry": 1 };
        let found: Option<Entry> = self
            .find(operation, HANDLED, moved(of, key), fields)
            .await?;
        let Some(Entry { entry }) = found else {
            return Ok(false);
        };
        // As long as nothing was moved since, what was found is the last of it.
        let is_away = doc! {
            "_id": of.as_str(),
            "moved.times": at.times,
            key.path("seen"): { "$exists": false },
            "waiting.key": { "$ne": key },
        };
        let back = doc! { "$set": { key.entry_path(): entry }, "$inc": { "remembered": 1_i64 } };
        let back = Change::update(is_away, back);
        self.change::<IgnoredAny>(operation, CONVERSATIONS, back)
            .await?;
        Ok(true)
    }

    /// Moves what is old in a task of its own: nobody waits for it, and what is not moved now is moved later.
    pub(super) fn move_old_soon(&self, of: &OpenId) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return;
        };
        let (database, of) = (self.database.clone(), of.clone());
        let (metrics, faults) = (self.metrics.clone(), self.faults.clone());
        self.tasks.spawn(async move {
            let _permit = permit;
            let began = Instant::now();
            let moved = move_old(&database, &of).await;
            let moved = moved.map_err(|error| store_error(&error, &faults));
            metrics.observe("move_old", outcome(&moved), began.elapsed());
            if let Err(error) = moved {
                tracing::debug!(%error, "old messages stay where they are for now");
            }
        });
    }
}
