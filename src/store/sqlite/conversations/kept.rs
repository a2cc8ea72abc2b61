//! Table `kept_answers`: what no delivery carried. Row numbers are never used twice, so the name of an
//! answer that is gone never means another.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::super::millis;
use crate::store::{AnswerId, KEEP_ANSWERS, KeptAnswer, MOST_KEPT};

/// Those that nobody is sending, oldest first.
pub(super) fn available(
    db: &Connection,
    conversation: i64,
    now: i64,
) -> rusqlite::Result<Vec<KeptAnswer>> {
    db.prepare_cached(
        "SELECT id, reply FROM kept_answers
         WHERE conversation = ?1 AND expires_at > ?2 AND sending_until <= ?2 ORDER BY id",
    )?
    .query_map((conversation, now), kept)?
    .collect()
}

/// Whether all of these may be taken.
pub(super) fn are_available(
    db: &Connection,
    conversation: i64,
    answers: &[AnswerId],
    now: i64,
) -> rusqlite::Result<bool> {
    let mut is_available = db.prepare_cached(
        "SELECT 1 FROM kept_answers
         WHERE id = ?1 AND conversation = ?2 AND expires_at > ?3 AND sending_until <= ?3",
    )?;
    for answer in answers {
        if !is_available.exists((answer.0, conversation, now))? {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn remove(
    db: &Connection,
    conversation: i64,
    answers: &[AnswerId],
) -> rusqlite::Result<()> {
    for answer in answers {
        db.prepare_cached("DELETE FROM kept_answers WHERE id = ?1 AND conversation = ?2")?
            .execute((answer.0, conversation))?;
    }
    Ok(())
}

/// Adds answers behind the others. The oldest go where they are too many then.
pub(super) fn push(
    db: &Connection,
    conversation: i64,
    replies: &[Vec<u8>],
    now: i64,
) -> rusqlite::Result<()> {
    for reply in replies {
        db.prepare_cached(
            "INSERT INTO kept_answers (conversation, reply, expires_at) VALUES (?1, ?2, ?3)",
        )?
        .execute((conversation, reply, now + millis(KEEP_ANSWERS)))?;
    }
    db.prepare_cached(
        "DELETE FROM kept_answers WHERE id IN (
             SELECT id FROM kept_answers
             WHERE conversation = ?1 AND expires_at > ?2 AND sending_until <= ?2
             ORDER BY id
             LIMIT max(0, (SELECT count(*) FROM kept_answers
                           WHERE conversation = ?1 AND expires_at > ?2) - ?3))",
    )?
    .execute((conversation, now, MOST_KEPT as i64))
    .map(drop)
}

/// Takes the oldest, unless one is being sent.
pub(super) fn begin_sending(
    db: &Connection,
    conversation: i64,
    now: i64,
    until: i64,
) -> rusqlite::Result<Option<KeptAnswer>> {
    db.prepare_cached(
        "UPDATE kept_answers SET sending_until = ?3 WHERE id =
             (SELECT id FROM kept_answers
              WHERE conversation = ?1 AND expires_at > ?2
              ORDER BY id LIMIT 1)
         AND NOT EXISTS
             (SELECT 1 FROM kept_answers WHERE conversation = ?1 AND sending_until > ?2)
         RETURNING id, reply",
    )?
    .query_row((conversation, now, until), kept)
    .optional()
}

pub(super) fn end_sending(
    db: &Connection,
    conversation: i64,
    answer: AnswerId,
    sent: bool,
) -> rusqlite::Result<()> {
    if sent {
        return remove(db, conversation, &[answer]);
    }
    db.prepare_cached(
        "UPDATE kept_answers SET sending_until = 0 WHERE id = ?1 AND conversation = ?2",
    )?
    .execute((answer.0, conversation))
    .map(drop)
}

/// The columns `id, reply`.
fn kept(row: &Row<'_>) -> rusqlite::Result<KeptAnswer> {
    Ok(KeptAnswer {
        id: AnswerId(row.get(0)?),
        reply: row.get(1)?,
    })
}
