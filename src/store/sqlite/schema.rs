//! The tables, and how a file of an older version becomes one of this.
//!
//! `user_version` counts the steps of [`STEPS`] that a file has taken. A step only adds: tables,
//! columns with a default, indexes. So a program that is still running when a newer one takes a step
//! goes on working, because its statements name their columns, and so does one that opens the file later:
//! two versions may run side by side. Should a step ever be needed that older programs can't live with, it
//! raises [`NEEDS`], which the file remembers, and they refuse to open it.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::error::store_error;
use crate::store::StoreError;

/// The steps, oldest first. Never change one that was released: add another.
const STEPS: &[&str] = &[
    "
    CREATE TABLE credentials (
        key          TEXT PRIMARY KEY,
        generation   INTEGER NOT NULL,
        value        BLOB,
        published_at INTEGER NOT NULL,
        expires_at   INTEGER NOT NULL,
        lease_owner  TEXT,
        lease_until  INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE users (
        openid             TEXT PRIMARY KEY,
        unionid            TEXT,
        scope              TEXT,
        access_token       BLOB,
        access_expires_at  INTEGER,
        refresh_token      BLOB,
        refresh_expires_at INTEGER,
        profile            TEXT
    ) STRICT;
    CREATE TABLE sign_ins (
        state       BLOB PRIMARY KEY,
        browser     BLOB NOT NULL,
        scope       TEXT NOT NULL,
        next        TEXT,
        id          TEXT,
        code        BLOB,
        lease_until INTEGER NOT NULL DEFAULT 0,
        outcome     BLOB,
        expires_at  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sign_ins_expires_at ON sign_ins (expires_at);
    CREATE TABLE sessions (
        id         BLOB PRIMARY KEY,
        openid     TEXT NOT NULL,
        scope      TEXT NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_expires_at ON sessions (expires_at);
    CREATE INDEX sessions_openid ON sessions (openid);
    CREATE TABLE conversations (
        id            INTEGER PRIMARY KEY,
        openid        TEXT NOT NULL UNIQUE,
        turn          BLOB,
        lease_until   INTEGER NOT NULL DEFAULT 0,
        has_left      INTEGER NOT NULL DEFAULT 0,
        message_at    INTEGER NOT NULL DEFAULT 0,
        message_sent  INTEGER NOT NULL DEFAULT 0,
        click_at      INTEGER NOT NULL DEFAULT 0,
        click_sent    INTEGER NOT NULL DEFAULT 0,
        follow_at     INTEGER NOT NULL DEFAULT 0,
        follow_sent   INTEGER NOT NULL DEFAULT 0,
        scan_at       INTEGER NOT NULL DEFAULT 0,
        scan_sent     INTEGER NOT NULL DEFAULT 0,
        session_until INTEGER NOT NULL DEFAULT 0,
        session       BLOB
    ) STRICT;
    CREATE INDEX conversations_session_until ON conversations (session_until)
        WHERE session IS NOT NULL;
    CREATE TABLE ledger (
        id           INTEGER PRIMARY KEY,
        conversation INTEGER NOT NULL,
        key          BLOB NOT NULL,
        message      TEXT,
        deliveries   INTEGER NOT NULL,
        first_seen   INTEGER NOT NULL,
        turn         BLOB,
        reply        BLOB,
        given        INTEGER NOT NULL DEFAULT 0,
        UNIQUE (conversation, key)
    ) STRICT;
    CREATE INDEX ledger_waiting ON ledger (conversation) WHERE message IS NOT NULL;
    CREATE INDEX ledger_not_given ON ledger (first_seen)
        WHERE message IS NULL AND reply IS NOT NULL AND given = 0;
    CREATE TABLE kept_answers (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation  INTEGER NOT NULL,
        reply         BLOB NOT NULL,
        sending_until INTEGER NOT NULL DEFAULT 0,
        expires_at    INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX kept_answers_conversation ON kept_answers (conversation);
    CREATE INDEX kept_answers_expires_at ON kept_answers (expires_at);
    CREATE TABLE dead_letters (
        position   INTEGER PRIMARY KEY,
        id         TEXT NOT NULL UNIQUE,
        openid     TEXT NOT NULL,
        message    TEXT NOT NULL,
        reason     TEXT NOT NULL,
        added_at   INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX dead_letters_expires_at ON dead_letters (expires_at);
    CREATE TABLE uploads (
        file       BLOB PRIMARY KEY,
        media_id   TEXT NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX uploads_expires_at ON uploads (expires_at);
    CREATE TABLE keys (
        name       TEXT PRIMARY KEY,
        digest     BLOB NOT NULL UNIQUE,
        scopes     TEXT NOT NULL,
        added_at   INTEGER NOT NULL,
        expires_at INTEGER,
        used_at    INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE audit (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        batch      BLOB NOT NULL,
        number     INTEGER NOT NULL,
        at         INTEGER NOT NULL,
        key        TEXT NOT NULL,
        action     TEXT NOT NULL,
        status     INTEGER,
        errcode    INTEGER,
        request    TEXT,
        times      INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        UNIQUE (batch, number)
    ) STRICT;
    CREATE INDEX audit_at ON audit (at);
    CREATE INDEX audit_expires_at ON audit (expires_at);
",
    "
    CREATE INDEX dead_letters_openid ON dead_letters (openid);
",
    "
    CREATE TABLE journal (
        id      INTEGER PRIMARY KEY,
        at      INTEGER NOT NULL,
        entries BLOB NOT NULL
    ) STRICT;
    CREATE TABLE journal_segments (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        first_at INTEGER NOT NULL,
        last_at  INTEGER NOT NULL,
        base_row INTEGER NOT NULL,
        last_row INTEGER NOT NULL,
        bits     INTEGER NOT NULL,
        filter   BLOB NOT NULL
    ) STRICT;
    CREATE TABLE journal_refs (
        id   INTEGER PRIMARY KEY,
        refs BLOB NOT NULL
    ) STRICT;
    CREATE TABLE journal_writer (
        only     INTEGER PRIMARY KEY CHECK (only = 1),
        name     BLOB NOT NULL,
        is_fast  INTEGER NOT NULL,
        is_asked INTEGER NOT NULL
    ) STRICT;
",
];

/// The steps that a program must know to work on a file that has taken all of [`STEPS`]. One that does not
/// know the journal would handle its messages again.
const NEEDS: usize = 3;

/// Marks a file as ours, so that another program's database is never written to: `offi`.
const APPLICATION_ID: i64 = 0x6f66_6669;

/// The program as the file remembers it: what an operator has to start again.
const MADE_BY: &str = concat!("offiaccount ", env!("CARGO_PKG_VERSION"));

/// Looks whether the file is for this program, before anything is written to it.
///
/// # Errors
///
/// [`StoreError::Unusable`] when another program made the file, or a newer version that this one can't
/// live with.
pub(super) fn check(db: &Connection) -> Result<(), StoreError> {
    // One snapshot: another process may be making the tables.
    let snapshot = db
        .unchecked_transaction()
        .map_err(|error| store_error(&error))?;
    check_for(&snapshot, STEPS.len()).map(drop)
}

/// Brings the file to the newest schema, in one transaction that other processes wait for.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    take_steps(db, STEPS, NEEDS)
}

/// Looks whether a file that is opened again in mid-service is still the one it was. An emptied file is
/// damage then, not a new store.
pub(super) fn verify(db: &Connection) -> Result<(), StoreError> {
    if is_ours(db)? && version(db)? >= STEPS.len() {
        Ok(())
    } else {
        Err(StoreError::Unusable(
            "the file is damaged or was replaced: restore it from a backup".into(),
        ))
    }
}

fn take_steps(db: &mut Connection, steps: &[&str], needs: usize) -> Result<(), StoreError> {
    let newest = steps.len();
    // Looked at without a lock first: nearly every opening finds nothing to do.
    if is_ours(db)? && check_for(db, newest)? >= newest {
        return Ok(());
    }
    let sql = |error| store_error(&error);
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql)?;
    let found = check_for(&transaction, newest)?;
    if !is_ours(&transaction)? {
        transaction
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(sql)?;
        transaction
            .execute_batch(
                "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) \
                 STRICT, WITHOUT ROWID",
            )
            .map_err(sql)?;
    }
    if found < newest {
        for step in &steps[found..] {
            transaction.execute_batch(step).map_err(sql)?;
        }
        transaction
            .execute(
                "INSERT INTO meta (name, value) VALUES ('made_by', ?1), ('needs', ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (MADE_BY, needs as i64),
            )
            .map_err(sql)?;
        transaction
            .pragma_update(None, "user_version", newest as i64)
            .map_err(sql)?;
    }
    transaction.commit().map_err(sql)
}

/// The steps that the file has taken; none if it is new.
fn check_for(db: &Connection, newest: usize) -> Result<usize, StoreError> {
    let found = version(db)?;
    let sql = |error| store_error(&error);
    if !is_ours(db)? {
        let tables: i64 = db
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(sql)?;
        return if found == 0 && tables == 0 {
            Ok(0)
        } else {
            Err(foreign())
        };
    }
    let needs: Option<i64> = db
        .query_row("SELECT value FROM meta WHERE name = 'needs'", [], |row| {
            row.get(0)
        })
        .optional()
        .map_err(sql)?;
    let needs = needs.map_or(found, |needs| usize::try_from(needs).unwrap_or(usize::MAX));
    if found <= newest || needs <= newest {
        return Ok(found);
    }
    let maker: Option<String> = db
        .query_row("SELECT value FROM meta WHERE name = 'made_by'", [], |row| {
            row.get(0)
        })
        .optional()
        .map_err(sql)?;
    Err(StoreError::Unusable(format!(
        "the file was made by {} (schema {needs}), and this is {MADE_BY} (schema {newest}): start the \
         newer program, or restore a backup made before it ran",
        maker.as_deref().unwrap_or("a newer version"),
    )))
}

fn foreign() -> StoreError {
    StoreError::Unusable("the file is another program's database: choose another path".into())
}

fn version(db: &Connection) -> Result<usize, StoreError> {
    let version: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| store_error(&error))?;
    usize::try_from(version).map_err(|_| foreign())
}

fn is_ours(db: &Connection) -> Result<bool, StoreError> {
    let id: i64 = db
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| store_error(&error))?;
    Ok(id == APPLICATION_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(db: &mut Connection) -> String {
        match migrate(db) {
            Err(StoreError::Unusable(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused_by_its_makers_name() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        migrate(&mut db).unwrap();
        db.execute_batch(
            "PRAGMA user_version = 120;
             UPDATE meta SET value = 99 WHERE name = 'needs';
             UPDATE meta SET value = 'offiaccount 7.1.0' WHERE name = 'made_by'",
        )
        .unwrap();
        let text = refusal(&mut db);
        assert!(
            text.contains("offiaccount 7.1.0 (schema 99)") && text.contains(MADE_BY),
            "{text}"
        );
    }

    #[test]
    fn an_older_file_takes_the_missing_steps_or_none() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        db.execute_batch("INSERT INTO users (openid) VALUES ('o1')")
            .unwrap();
        let count = |db: &Connection, sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));

        let torn = [STEPS, &["ALTER TABLE users ADD COLUMN a; nonsense"]].concat();
        assert!(take_steps(&mut db, &torn, NEEDS).is_err());
        assert_eq!(version(&db), Ok(STEPS.len()));
        assert!(
            count(&db, "SELECT count(a) FROM users").is_err(),
            "half a step"
        );

        let next = [STEPS, &["ALTER TABLE users ADD COLUMN a INTEGER DEFAULT 7"]].concat();
        take_steps(&mut db, &next, NEEDS).unwrap();
        assert_eq!(version(&db), Ok(next.len()));
        assert_eq!(count(&db, "SELECT a FROM users WHERE openid = 'o1'"), Ok(7));
    }

    #[test]
    fn an_older_program_opens_what_a_newer_one_has_only_added_to() {
        let next = [STEPS, &["ALTER TABLE users ADD COLUMN a INTEGER DEFAULT 7"]].concat();
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        take_steps(&mut db, &next, NEEDS).unwrap();
        check(&db).unwrap();
        migrate(&mut db).unwrap();
        assert_eq!(version(&db), Ok(next.len()), "no step is taken back");

        // The next one is more than an addition.
        let breaking = [&next[..], &["ALTER TABLE users DROP COLUMN profile"]].concat();
        take_steps(&mut db, &breaking, breaking.len()).unwrap();
        let text = refusal(&mut db);
        assert!(text.contains("start the newer program"), "{text}");
        assert!(check(&db).is_err());
        verify(&db).unwrap();
    }

    #[test]
    fn another_programs_database_is_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(refusal(&mut db).contains("another program"));

        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("PRAGMA user_version = 1").unwrap();
        assert!(refusal(&mut db).contains("another program"));
        assert!(!is_ours(&db).unwrap(), "nothing was written");
    }
}
