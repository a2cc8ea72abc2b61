//! Table `conversations`: who holds one, the session, the windows.

use rusqlite::{Connection, OptionalExtension as _};

use super::super::between;
use crate::store::{Delivery, Trigger, Turn, Window};
use crate::wechat::id::OpenId;

/// What most operations need of a conversation.
pub(super) struct Head {
    pub(super) id: i64,
    pub(super) turn: Option<Turn>,
    lease_until: i64,
    pub(super) has_left: bool,
    has_session: bool,
    pub(super) has_kept: bool,
    /// How many messages wait.
    pub(super) waiting: usize,
}

impl Head {
    pub(super) fn find(db: &Connection, of: &OpenId, now: i64) -> rusqlite::Result<Option<Self>> {
        db.prepare_cached(
            "SELECT id, turn, lease_until, has_left, session_until > ?2,
                    EXISTS (SELECT 1 FROM kept_answers WHERE conversation = conversations.id),
                    (SELECT count(*) FROM ledger INDEXED BY ledger_waiting
                     WHERE conversation = conversations.id AND message IS NOT NULL)
             FROM conversations WHERE openid = ?1",
        )?
        .query_row((of.as_str(), now), |row| {
            Ok(Self {
                id: row.get(0)?,
                turn: row.get::<_, Option<_>>(1)?.map(Turn),
                lease_until: row.get(2)?,
                has_left: row.get(3)?,
                has_session: row.get(4)?,
                has_kept: row.get(5)?,
                waiting: row.get(6)?,
            })
        })
        .optional()
    }

    /// The first word of a user.
    pub(super) fn create(db: &Connection, of: &OpenId) -> rusqlite::Result<Self> {
        db.prepare_cached("INSERT INTO conversations (openid) VALUES (?1)")?
            .execute([of.as_str()])?;
        Ok(Self {
            id: db.last_insert_rowid(),
            turn: None,
            lease_until: 0,
            has_left: false,
            has_session: false,
            has_kept: false,
            waiting: 0,
        })
    }

    /// Whether it may be taken: nobody holds it (any more), or `turn` does.
    pub(super) fn is_free_for(&self, turn: Turn, now: i64) -> bool {
        self.lease_until <= now || self.turn == Some(turn)
    }

    /// Begins, prolongs or ends the lease.
    pub(super) fn lease(&self, db: &Connection, held: Option<(Turn, i64)>) -> rusqlite::Result<()> {
        let (turn, until) = held.unzip();
        db.prepare_cached("UPDATE conversations SET turn = ?2, lease_until = ?3 WHERE id = ?1")?
            .execute((self.id, turn.map(|turn| turn.0), until.unwrap_or(0)))
            .map(drop)
    }

    /// A new message: its window opens, the user has left or not, and the lease begins or is left as it
    /// was.
    pub(super) fn hear(
        &self,
        db: &Connection,
        delivery: &Delivery,
        held: Option<(Turn, i64)>,
        now: i64,
    ) -> rusqlite::Result<()> {
        let (turn, until) = held.map_or((self.turn, self.lease_until), |(turn, until)| {
            (Some(turn), until)
        });
        let turn = turn.map(|turn| turn.0);
        db.prepare_cached(
            "UPDATE conversations SET turn = ?2, lease_until = ?3,
                 has_left = ?4 OR (has_left AND ?5 IS NULL),
                 message_at   = iif(?5 = 'message', ?6, message_at),
                 message_sent = iif(?5 = 'message', 0, message_sent),
                 click_at     = iif(?5 = 'click', ?6, click_at),
                 click_sent   = iif(?5 = 'click', 0, click_sent),
                 follow_at    = iif(?5 = 'follow', ?6, follow_at),
                 follow_sent  = iif(?5 = 'follow', 0, follow_sent),
                 scan_at      = iif(?5 = 'scan', ?6, scan_at),
                 scan_sent    = iif(?5 = 'scan', 0, scan_sent)
             WHERE id = ?1",
        )?
        .execute((
            self.id,
            turn,
            until,
            delivery.is_farewell,
            delivery.opens.map(Trigger::name),
            now,
        ))
        .map(drop)
    }

    /// Opens a window at this time, unless it was opened later.
    pub(super) fn open_window(
        &self,
        db: &Connection,
        trigger: Trigger,
        at: i64,
    ) -> rusqlite::Result<()> {
        db.prepare_cached(
            "UPDATE conversations SET
                 message_sent = iif(?2 = 'message' AND ?3 > message_at, 0, message_sent),
                 message_at   = iif(?2 = 'message', max(?3, message_at), message_at),
                 click_sent   = iif(?2 = 'click' AND ?3 > click_at, 0, click_sent),
                 click_at     = iif(?2 = 'click', max(?3, click_at), click_at),
                 follow_sent  = iif(?2 = 'follow' AND ?3 > follow_at, 0, follow_sent),
                 follow_at    = iif(?2 = 'follow', max(?3, follow_at), follow_at),
                 scan_sent    = iif(?2 = 'scan' AND ?3 > scan_at, 0, scan_sent),
                 scan_at      = iif(?2 = 'scan', max(?3, scan_at), scan_at)
             WHERE id = ?1",
        )?
        .execute((self.id, trigger.name(), at))
        .map(drop)
    }

    /// The handlers' session, unless its time is over.
    pub(super) fn session(&self, db: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
        if !self.has_session {
            return Ok(None);
        }
        db.prepare_cached("SELECT session FROM conversations WHERE id = ?1")?
            .query_row([self.id], |row| row.get(0))
    }

    pub(super) fn set_session(
        &self,
        db: &Connection,
        session: Option<(&Vec<u8>, i64)>,
    ) -> rusqlite::Result<()> {
        let (session, until) = session.unzip();
        db.prepare_cached(
            "UPDATE conversations SET session = ?2, session_until = ?3 WHERE id = ?1",
        )?
        .execute((self.id, session, until.unwrap_or(0)))
        .map(drop)
    }
}

pub(super) fn renew(
    db: &Connection,
    of: &OpenId,
    turn: Turn,
    lease_until: i64,
) -> rusqlite::Result<bool> {
    let renewed = db
        .prepare_cached(
            "UPDATE conversations SET lease_until = ?3 WHERE openid = ?1 AND turn = ?2",
        )?
        .execute((of.as_str(), turn.0, lease_until))?;
    Ok(renewed == 1)
}

pub(super) fn release(db: &Connection, of: &OpenId, turn: Turn) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE conversations SET turn = NULL, lease_until = 0 WHERE openid = ?1 AND turn = ?2",
    )?
    .execute((of.as_str(), turn.0))
    .map(drop)
}

pub(super) fn windows(db: &Connection, of: &OpenId, now: i64) -> rusqlite::Result<Vec<Window>> {
    let windows = db
        .prepare_cached(
            "SELECT message_at, message_sent, click_at, click_sent,
                    follow_at, follow_sent, scan_at, scan_sent
             FROM conversations WHERE openid = ?1",
        )?
        .query_row([of.as_str()], |row| {
            let column = |trigger| match trigger {
                Trigger::Message => 0,
                Trigger::Click => 2,
                Trigger::Follow => 4,
                Trigger::Scan => 6,
            };
            let mut windows = Vec::new();
            for trigger in Trigger::ALL {
                let opened_at: i64 = row.get(column(trigger))?;
                if opened_at > 0 {
                    windows.push(Window {
                        trigger,
                        age: between(opened_at, now),
                        sent: row.get(column(trigger) + 1)?,
                    });
                }
            }
            Ok(windows)
        })
        .optional()?;
    Ok(windows.unwrap_or_default())
}

pub(super) fn count_sent(db: &Connection, of: &OpenId, trigger: Trigger) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE conversations SET
             message_sent = message_sent + (?2 = 'message' AND message_at > 0),
             click_sent   = click_sent + (?2 = 'click' AND click_at > 0),
             follow_sent  = follow_sent + (?2 = 'follow' AND follow_at > 0),
             scan_sent    = scan_sent + (?2 = 'scan' AND scan_at > 0)
         WHERE openid = ?1",
    )?
    .execute((of.as_str(), trigger.name()))
    .map(drop)
}

/// Removes the session, the windows and the kept answers. The ledger stays, and that he has left.
pub(super) fn forget(db: &Connection, of: &OpenId) -> rusqlite::Result<()> {
    for forget in [
        "DELETE FROM kept_answers WHERE conversation =
             (SELECT id FROM conversations WHERE openid = ?1)",
        "UPDATE conversations SET session = NULL, session_until = 0,
             message_at = 0, message_sent = 0, click_at = 0, click_sent = 0,
             follow_at = 0, follow_sent = 0, scan_at = 0, scan_sent = 0
         WHERE openid = ?1",
    ] {
        db.prepare_cached(forget)?.execute([of.as_str()])?;
    }
    Ok(())
}
