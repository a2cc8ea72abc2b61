//! The store seen from outside, past the program: what lies at rest, and time that has passed there.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, RawDocumentBuf, doc};
use offiaccount::config::Settings;

/// The store of a world.
pub(crate) enum Stored {
    Sqlite(String),
    Mongo(mongodb::Database),
}

/// A moment that a record holds: its table, its name in SQLite, its name in MongoDB.
pub(crate) type Moment = (&'static str, &'static str, &'static str);

pub(crate) const CREDENTIAL_PUBLISHED: Moment = ("credentials", "published_at", "published_at");
pub(crate) const CREDENTIAL_EXPIRES: Moment = ("credentials", "expires_at", "expires_at");
pub(crate) const CREDENTIAL_LEASE: Moment = ("credentials", "lease_until", "lease.until");
pub(crate) const WEB_TOKEN_EXPIRES: Moment =
    ("users", "access_expires_at", "grant.access_expires_at");
pub(crate) const SIGN_IN_EXPIRES: Moment = ("sign_ins", "expires_at", "expires_at");
pub(crate) const USER_WROTE: Moment = ("conversations", "message_at", "windows.message.at");
pub(crate) const SESSION_EXPIRES: Moment = ("sessions", "expires_at", "expires_at");

impl Stored {
    pub(crate) async fn of(settings: &Settings) -> Self {
        let url = settings.database_url.as_deref().unwrap();
        match url.strip_prefix("sqlite://") {
            Some(path) => Self::Sqlite(path.to_owned()),
            None => {
                let client = mongodb::Client::with_uri_str(url).await.unwrap();
                Self::Mongo(client.default_database().unwrap())
            }
        }
    }

    /// Every byte at rest.
    pub(crate) async fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Sqlite(path) => ["", "-wal"]
                .iter()
                .filter_map(|end| std::fs::read(format!("{path}{end}")).ok())
                .collect::<Vec<_>>()
                .concat(),
            Self::Mongo(database) => {
                let mut bytes = Vec::new();
                for name in database.list_collection_names().await.unwrap() {
                    let collection = database.collection::<RawDocumentBuf>(&name);
                    let found = collection.find(doc! {}).await.unwrap();
                    let documents: Vec<_> = found.try_collect().await.unwrap();
                    bytes.extend(documents.iter().flat_map(|it| it.as_bytes().to_vec()));
                }
                bytes
            }
        }
    }

    pub(crate) async fn holds(&self, text: &str) -> bool {
        let bytes = self.bytes().await;
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    /// The records about a user: himself and his sessions.
    pub(crate) async fn records_about(&self, openid: &str) -> u64 {
        match self {
            Self::Sqlite(path) => {
                let db = rusqlite::Connection::open(path).unwrap();
                let sql = "SELECT (SELECT count(*) FROM users WHERE openid = ?1)
                                + (SELECT count(*) FROM sessions WHERE openid = ?1)";
                db.query_row(sql, [openid], |row| row.get(0)).unwrap()
            }
            Self::Mongo(database) => {
                let users = database.collection::<RawDocumentBuf>("users");
                let sessions = database.collection::<RawDocumentBuf>("sessions");
                users.count_documents(doc! {"_id": openid}).await.unwrap()
                    + sessions
                        .count_documents(doc! {"openid": openid})
                        .await
                        .unwrap()
            }
        }
    }

    /// Puts a moment of every record where it would be had the time passed: `after` from now, or `ago`.
    pub(crate) async fn set(&self, moment: Moment, when: When) {
        let now = std::time::SystemTime::now();
        let when = match when {
            When::Ago(duration) => now - duration,
            When::In(duration) => now + duration,
        };
        let (table, column, field) = moment;
        match self {
            Self::Sqlite(path) => {
                let since = when.duration_since(std::time::UNIX_EPOCH).unwrap();
                let millis = i64::try_from(since.as_millis()).unwrap();
                let db = rusqlite::Connection::open(path).unwrap();
                let sql = format!("UPDATE {table} SET {column} = ?1");
                assert!(db.execute(&sql, [millis]).unwrap() > 0, "{table} is empty");
            }
            Self::Mongo(database) => {
                let collection = database.collection::<RawDocumentBuf>(table);
                let set = doc! {"$set": {field: DateTime::from_system_time(when)}};
                let changed = collection.update_many(doc! {}, set).await.unwrap();
                assert!(changed.matched_count > 0, "{table} is empty");
            }
        }
    }
}

/// A time beside now.
pub(crate) enum When {
    Ago(Duration),
    In(Duration),
}
