//! Table `ledger`: the messages that were delivered lately, in the order of their first delivery.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::super::{between, damaged, millis};
use super::journal::Found;
use crate::store::{DELIVERIES_END, Delivery, Digest, Handled, REMEMBER_MESSAGES, Turn, Waiting};
use crate::wechat::id::OpenId;

/// A reply that no delivery carried is left to the instance that handled the message for so long after
/// the last delivery.
const OVERDUE_AFTER: Duration = Duration::from_secs(5);

/// Values of `given`. Whoever has handled a message may say `GIVEN` before a delivery has carried the reply,
/// and take that back; not `CARRIED`, which an instance says once one has. A reply that became a kept answer
/// is never given by a delivery.
const NOT_GIVEN: i64 = 0;
const GIVEN: i64 = 1;
const KEPT: i64 = 2;
const CARRIED: i64 = 3;

pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) deliveries: u32,
    pub(super) first_seen: i64,
    pub(super) state: State,
}

pub(super) enum State {
    /// Not handled yet.
    Waiting,
    /// Handled, and its reply comes from outside.
    LeftOpen,
    /// Handled; its reply.
    Done(Vec<u8>),
}

/// What was first seen then, or earlier, is forgotten, unless it waits.
fn forgotten(now: i64) -> i64 {
    now - millis(REMEMBER_MESSAGES)
}

/// Adds a message behind the others. `None` if it is there already.
pub(super) fn append(
    db: &Connection,
    conversation: i64,
    delivery: &Delivery,
    now: i64,
) -> rusqlite::Result<Option<i64>> {
    let append = || -> rusqlite::Result<bool> {
        let added = db
            .prepare_cached(
                "INSERT INTO ledger (conversation, key, message, deliveries, first_seen)
                 VALUES (?1, ?2, ?3, 1, ?4) ON CONFLICT (conversation, key) DO NOTHING",
            )?
            .execute((conversation, delivery.key.0, &*delivery.message, now))?;
        Ok(added == 1)
    };
    let mut is_new = append()?;
    if !is_new {
        let was_forgotten = db
            .prepare_cached(
                "DELETE FROM ledger WHERE conversation = ?1 AND key = ?2 AND first_seen <= ?3
                     AND message IS NULL",
            )?
            .execute((conversation, delivery.key.0, forgotten(now)))?
            == 1;
        is_new = was_forgotten && append()?;
    }
    Ok(is_new.then(|| db.last_insert_rowid()))
}

/// Adds a message that was handled, and whose reply a delivery carried.
pub(super) fn import(
    db: &Connection,
    conversation: i64,
    key: &Digest,
    found: &Found,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO ledger (conversation, key, deliveries, first_seen, turn, reply, given)
         VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6) ON CONFLICT (conversation, key) DO NOTHING",
    )?
    .execute((
        conversation,
        key.0,
        found.first_seen,
        found.turn.0,
        &found.reply,
        GIVEN,
    ))
    .map(drop)
}

/// Takes back what [`append`] did.
pub(super) fn remove(db: &Connection, entry: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM ledger WHERE id = ?1")?
        .execute([entry])
        .map(drop)
}

pub(super) fn find(
    db: &Connection,
    conversation: i64,
    key: &Digest,
    now: i64,
) -> rusqlite::Result<Option<Entry>> {
    db.prepare_cached(
        "SELECT id, deliveries, first_seen, message IS NOT NULL, reply FROM ledger
         WHERE conversation = ?1 AND key = ?2 AND (message IS NOT NULL OR first_seen > ?3)",
    )?
    .query_row((conversation, key.0, forgotten(now)), |row| {
        Ok(Entry {
            id: row.get(0)?,
            deliveries: row.get(1)?,
            first_seen: row.get(2)?,
            state: match (row.get(3)?, row.get(4)?) {
                (true, _) => State::Waiting,
                (false, None) => State::LeftOpen,
                (false, Some(reply)) => State::Done(reply),
            },
        })
    })
    .optional()
}

/// The messages that wait, in their order, each with its XML unless it was just `handed_in`.
pub(super) fn waiting(
    db: &Connection,
    conversation: i64,
    handed_in: Option<&Digest>,
    now: i64,
) -> rusqlite::Result<Vec<Waiting>> {
    db.prepare_cached(
        "SELECT key, deliveries, first_seen, iif(key = ?2, NULL, message)
         FROM ledger INDEXED BY ledger_waiting
         WHERE conversation = ?1 AND message IS NOT NULL
         ORDER BY id",
    )?
    .query_map((conversation, handed_in.map(|key| key.0)), |row| {
        Ok(Waiting {
            key: Digest(row.get(0)?),
            deliveries: row.get(1)?,
            first_seen: between(row.get(2)?, now),
            message: row.get(3)?,
        })
    })?
    .collect()
}

pub(super) fn is_waiting(
    db: &Connection,
    conversation: i64,
    key: &Digest,
    now: i64,
) -> rusqlite::Result<bool> {
    let found = find(db, conversation, key, now)?;
    Ok(found.is_some_and(|entry| matches!(entry.state, State::Waiting)))
}

/// Whether the message waits while somebody holds its conversation.
pub(super) fn is_waiting_and_held(
    db: &Connection,
    of: &OpenId,
    key: &Digest,
    now: i64,
) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT 1 FROM conversations JOIN ledger ON ledger.conversation = conversations.id
         WHERE openid = ?1 AND lease_until > ?3 AND key = ?2 AND message IS NOT NULL",
    )?
    .exists((of.as_str(), key.0, now))
}

/// Notes how many deliveries were counted.
pub(super) fn count(db: &Connection, entry: i64, deliveries: u32) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE ledger SET deliveries = ?2 WHERE id = ?1")?
        .execute((entry, deliveries))
        .map(drop)
}

/// Writes the reply over the message, if that still waits. Without one an answer that came from outside
/// meanwhile becomes the reply, which nobody has given then.
pub(super) fn finish(
    db: &Connection,
    conversation: i64,
    handled: &Handled,
    turn: Turn,
) -> rusqlite::Result<bool> {
    let given = if handled.given && handled.reply.is_some() {
        GIVEN
    } else {
        NOT_GIVEN
    };
    let finished = db
        .prepare_cached(
            "UPDATE ledger SET message = NULL, reply = ifnull(?3, reply), given = ?4, turn = ?5
             WHERE conversation = ?1 AND key = ?2 AND message IS NOT NULL",
        )?
        .execute((conversation, handled.key.0, &handled.reply, given, turn.0))?;
    Ok(finished == 1)
}

/// Whether `turn` has finished the message: the same is being said again.
pub(super) fn was_handled_under(
    db: &Connection,
    conversation: i64,
    handled: &Handled,
    turn: Turn,
) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM ledger WHERE conversation = ?1 AND key = ?2 AND turn = ?3")?
        .exists((conversation, handled.key.0, turn.0))
}

/// Stores a reply from outside unless there is one. Returns whether it did.
pub(super) fn answer(db: &Connection, entry: i64, reply: &[u8]) -> rusqlite::Result<bool> {
    let answered = db
        .prepare_cached("UPDATE ledger SET reply = ?2 WHERE id = ?1 AND reply IS NULL")?
        .execute((entry, reply))?;
    Ok(answered == 1)
}

pub(super) fn mark_given(
    db: &Connection,
    conversation: i64,
    key: &Digest,
    given: bool,
) -> rusqlite::Result<()> {
    let (from, to) = if given {
        ([NOT_GIVEN, GIVEN], CARRIED)
    } else {
        ([GIVEN, GIVEN], NOT_GIVEN)
    };
    db.prepare_cached(
        "UPDATE ledger SET given = ?5 WHERE conversation = ?1 AND key = ?2 AND given IN (?3, ?4)
             AND message IS NULL AND reply IS NOT NULL",
    )?
    .execute((conversation, key.0, from[0], from[1], to))
    .map(drop)
}

/// The reply, if no delivery carried it. None will from now on.
pub(super) fn take_out(
    db: &Connection,
    conversation: i64,
    key: &Digest,
    now: i64,
) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached(
        "UPDATE ledger SET given = ?4 WHERE conversation = ?1 AND key = ?2 AND given = ?3
             AND message IS NULL AND reply IS NOT NULL AND first_seen > ?5
         RETURNING reply",
    )?
    .query_row(
        (conversation, key.0, NOT_GIVEN, KEPT, forgotten(now)),
        |row| row.get(0),
    )
    .optional()
}

/// The messages whose reply no delivery carried, and none will any more.
pub(super) fn not_given(
    db: &Connection,
    conversation: i64,
    now: i64,
) -> rusqlite::Result<Vec<Digest>> {
    db.prepare_cached(
        "SELECT key FROM ledger
         WHERE conversation = ?1 AND message IS NULL AND reply IS NOT NULL AND given = 0
             AND first_seen > ?2 AND first_seen <= ?3
         ORDER BY id",
    )?
    .query_map(
        (conversation, forgotten(now), not_given_since(now)),
        |row| row.get(0).map(Digest),
    )?
    .collect()
}

fn not_given_since(now: i64) -> i64 {
    now - millis(DELIVERIES_END + OVERDUE_AFTER)
}

/// Users for whom messages wait while nobody holds their conversation, or with a reply that is
/// [`not_given`].
pub(super) fn overdue(db: &Connection, limit: usize, now: i64) -> rusqlite::Result<Vec<OpenId>> {
    db.prepare_cached(
        "SELECT openid FROM conversations WHERE id IN (
             SELECT ledger.conversation
             FROM ledger INDEXED BY ledger_waiting
             CROSS JOIN conversations AS held ON held.id = ledger.conversation
             WHERE ledger.message IS NOT NULL AND held.lease_until <= ?1
             UNION ALL
             SELECT conversation FROM ledger INDEXED BY ledger_not_given
             WHERE message IS NULL AND reply IS NOT NULL AND given = 0
                 AND first_seen > ?2 AND first_seen <= ?3)
         LIMIT ?4",
    )?
    .query_map(
        (now, forgotten(now), not_given_since(now), limit as i64),
        |row| {
            let open_id: String = row.get(0)?;
            OpenId::parse(&open_id).map_err(|error| damaged(0, error))
        },
    )?
    .collect()
}
