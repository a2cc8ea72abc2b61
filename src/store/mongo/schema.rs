//! Collections and indexes, made at start. Making what is there already changes nothing.
//!
//! Instances of two versions may run side by side, so a change only adds what older programs leave alone:
//! fields, collections, indexes. Should one ever be needed that they can't live with, it raises
//! [`READS`] and [`NEEDS`]: the database needs it from then on, and older programs refuse to start. One
//! that is running goes on.

use mongodb::Database;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::options::ReturnDocument;
use serde::Deserialize;

use super::error::code;
use crate::store::StoreError;

pub(super) const CREDENTIALS: &str = "credentials";
pub(super) const USERS: &str = "users";
pub(super) const SIGN_INS: &str = "sign_ins";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const CONVERSATIONS: &str = "conversations";
/// What was done and is moved out of the conversations.
pub(super) const HANDLED: &str = "handled";
pub(super) const DEAD_LETTERS: &str = "dead_letters";
pub(super) const UPLOADS: &str = "uploads";
pub(super) const KEYS: &str = "keys";
pub(super) const AUDIT: &str = "audit";
/// What is about the database itself.
pub(super) const META: &str = "meta";

/// The newest schema that this program knows.
const READS: i32 = 1;
/// The schema that a program must know to work with what this one writes. Raise it with [`READS`], and only
/// for what an older program would do harm to.
const NEEDS: i32 = 1;

/// How long an expired document stays. The server that decides about it may not be the one whose
/// clock collects it.
const GARBAGE_AFTER_SECONDS: i64 = 60;

/// The version 4.4: expressions in projections. As the server's `hello` counts.
const OLDEST_WIRE_VERSION: i32 = 9;

/// `IndexOptionsConflict` and `IndexKeySpecsConflict`.
const INDEX_DIFFERS: [i32; 2] = [85, 86];

/// The conversations in the index on `due_at`. A query that holds this condition may use it.
pub(super) fn has_due_at() -> Document {
    doc! { "due_at": { "$gt": DateTime::from_millis(0) } }
}

/// What `hello` says of the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Server {
    max_wire_version: i32,
    pub(super) local_time: Option<DateTime>,
    /// Of a replica set.
    set_name: Option<String>,
    /// `isdbgrid` of a sharded cluster's router.
    msg: Option<String>,
}

impl Server {
    /// Refuses a server that is too old.
    pub(super) fn check_version(&self) -> Result<(), StoreError> {
        if self.max_wire_version >= OLDEST_WIRE_VERSION {
            return Ok(());
        }
        Err(StoreError::Unusable(
            "MongoDB is too old: 4.4 or newer is needed".into(),
        ))
    }

    fn is_standalone(&self) -> bool {
        self.set_name.is_none() && self.msg.is_none()
    }
}

/// Asks the primary (or the router, or the only server) what it is.
pub(super) async fn hello(database: Database) -> Result<Server, Error> {
    let answer = database.run_command(doc! { "hello": 1 }).await?;
    Ok(mongodb::bson::deserialize_from_document(answer)?)
}

/// Checks that this program knows the schema, and makes the indexes.
pub(super) async fn make(
    database: Database,
    server: Server,
) -> Result<Result<(), StoreError>, Error> {
    // First: a database that is too new is left as it is.
    if let Err(refused) = check_schema(&database).await? {
        return Ok(Err(refused));
    }
    let ttl = doc! {
        "name": "expires_at",
        "key": { "expires_at": 1 },
        "expireAfterSeconds": GARBAGE_AFTER_SECONDS,
    };
    let openid = doc! { "name": "openid", "key": { "openid": 1 } };
    // Of the few that something may be overdue of.
    let due_at = doc! {
        "name": "due_at",
        "key": { "due_at": 1 },
        "partialFilterExpression": has_due_at(),
    };
    let position = doc! { "name": "position", "key": { "position": 1 } };
    let digest = doc! { "name": "digest", "key": { "digest": 1 } };
    let newest = doc! { "name": "at", "key": { "at": -1 } };
    for (collection, indexes) in [
        (SIGN_INS, vec![ttl.clone()]),
        (SESSIONS, vec![ttl.clone(), openid.clone()]),
        (CONVERSATIONS, vec![ttl.clone(), due_at]),
        (HANDLED, vec![ttl.clone()]),
        (DEAD_LETTERS, vec![ttl.clone(), position, openid]),
        (UPLOADS, vec![ttl.clone()]),
        (KEYS, vec![ttl.clone(), digest]),
        (AUDIT, vec![ttl.clone(), newest]),
    ] {
        for index in indexes {
            make_index(&database, &server, collection, index).await?;
        }
    }
    Ok(Ok(()))
}

async fn make_index(
    database: &Database,
    server: &Server,
    collection: &str,
    index: Document,
) -> Result<(), Error> {
    let mut command = doc! { "createIndexes": collection, "indexes": [index.clone()] };
    if !server.is_standalone() {
        // The default waits for every voting member, one that is down too.
        command.insert("commitQuorum", "majority");
        command.insert("writeConcern", doc! { "w": "majority" });
    }
    match database.run_command(command).await {
        Err(error) if code(&error).is_some_and(|code| INDEX_DIFFERS.contains(&code)) => {
            // It is there with another life: an operator's, or an older version's.
            let Some(after) = index.get("expireAfterSeconds") else {
                return Err(error);
            };
            let keys = index.get("key").cloned();
            database
                .run_command(doc! {
                    "collMod": collection,
                    "index": { "keyPattern": keys, "expireAfterSeconds": after.clone() },
                })
                .await
                .map(drop)
        }
        outcome => outcome.map(drop),
    }
}

/// Notes what this program needs of others, where it is more than was noted; and where that is more than
/// it knows itself, refuses.
async fn check_schema(database: &Database) -> Result<Result<(), StoreError>, Error> {
    #[derive(Deserialize)]
    struct Schema {
        needs: i32,
        made_by: String,
    }

    let made_by = concat!("offiaccount ", env!("CARGO_PKG_VERSION"));
    let is_more = doc! { "$lt": [{ "$ifNull": ["$needs", 0] }, NEEDS] };
    let noted = doc! {
        "needs": { "$max": ["$needs", NEEDS] },
        "made_by": { "$cond": [is_more, made_by, "$made_by"] },
    };
    let found = database
        .collection::<Schema>(META)
        .find_one_and_update(doc! { "_id": "schema" }, vec![doc! { "$set": noted }])
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    Ok(match found {
        Some(schema) if schema.needs > READS => Err(StoreError::Unusable(format!(
            "the database was made by {} (schema {}), and this is {made_by} (schema {READS}): start \
             the newer program",
            schema.made_by, schema.needs,
        ))),
        _ => Ok(()),
    })
}
