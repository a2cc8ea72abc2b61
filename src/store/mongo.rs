//! The shared store: MongoDB, one database for one or many instances.
//!
//! It has to work on a standalone, a replica set and a sharded cluster, so there are no transactions and
//! no change streams: whatever decides something is one operation on one document by `_id`, which may be
//! the shard key, and nothing but `_id` is unique. (Lists go by other indexes, and so does the deletion of
//! a user's sessions.)
//!
//! Leases and expiries are decided by the server in one round trip, by update pipelines over `$$NOW`
//! (where that is not to be had, [`clock`] says what is);
//! what remains of a life is computed there too, in projections. Reads are from the primary, at majority,
//! so nothing that was read is rolled back.
//!
//! The driver's futures must not be dropped half-way, so each command runs in a task of its own, which
//! [`close`](Store::close) awaits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{
    ClientOptions, ConnectionString, DatabaseOptions, ReadConcern, ReadPreference, ReturnDocument,
    SelectionCriteria, UpdateModifications, WriteConcern,
};
use mongodb::{Client, Database};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::watch::watch;
use super::{OPERATION_DEADLINE, Store, StoreError};
use crate::telemetry::metrics::StoreMetrics;

mod audit;
mod clock;
mod conversations;
mod credentials;
mod dead_letters;
mod error;
mod expression;
mod keys;
mod schema;
mod sign_ins;
mod uploads;
mod users;

use clock::ServerClock;
use conversations::Batches;
use error::{may_repeat, reason, store_error};

/// How long [`Mongo::open`] waits for a primary before it says that there is none.
const OPEN_DEADLINE: Duration = Duration::from_secs(3);

/// How long indexes may take, once there is a primary.
const SCHEMA_DEADLINE: Duration = Duration::from_secs(30);

/// Operations under way at most. While no primary is there they pile up behind the driver's server
/// selection; more than this are refused at once.
const OPERATIONS: usize = 4096;

/// Whether the driver understands `url`.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    // The driver's own text may quote the URL.
    ConnectionString::parse(url).map(drop).map_err(|_| {
        "expected a MongoDB connection string: \
         `mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST…]/DATABASE[?OPTIONS]`, with the special \
         characters of user and password percent-encoded"
            .into()
    })
}

/// A MongoDB database that answered.
pub(super) struct Mongo {
    client: Client,
    database: Database,
    faults: Faults,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    metrics: StoreMetrics,
    batches: Arc<Batches>,
}

impl Mongo {
    /// Connects and makes the indexes.
    pub(super) async fn open(url: &str, metrics: StoreMetrics) -> Result<Self, StoreError> {
        let url = url.to_owned();
        // In tasks, because the driver's futures are not to be dropped at the deadline.
        let parsing = tokio::spawn(async move { ClientOptions::parse(url).await });
        let mut options = tokio::time::timeout(OPEN_DEADLINE, parsing)
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| {
                StoreError::Unavailable("the name server did not answer for MongoDB's host".into())
            })?
            .map_err(|error| store_error(&error, &Faults::default()))?;
        let faults = Faults::default();
        configure(&mut options, &faults);
        let hosts = names(&options);
        let name = options.default_database.clone();
        let client = Client::with_options(options).map_err(|error| store_error(&error, &faults))?;
        let database = client.database_with_options(
            name.as_deref().unwrap_or("offiaccount"),
            DatabaseOptions::builder()
                .read_concern(ReadConcern::majority())
                .build(),
        );

        let clock = ServerClock::default();
        let setting_up = async {
            let asked_at = Instant::now();
            let hello = tokio::spawn(schema::hello(database.clone()));
            let server = tokio::time::timeout(OPEN_DEADLINE, hello)
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or_else(|| {
                    let why = faults.to_string();
                    StoreError::Unavailable(format!("MongoDB has no primary at {hosts}{why}"))
                })?
                .map_err(|error| store_error(&error, &faults))?;
            server.check_version()?;
            if let Some(now) = server.local_time {
                clock.note(now, asked_at, Instant::now());
            }
            let making = tokio::spawn(schema::make(database.clone(), server));
            tokio::time::timeout(SCHEMA_DEADLINE, making)
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or_else(|| {
                    StoreError::Unavailable("MongoDB did not make the indexes in time".into())
                })?
                .map_err(|error| store_error(&error, &faults))?
        };
        if let Err(error) = setting_up.await {
            // Ends the tasks that still wait for the server.
            client.shutdown().immediate(true).await;
            return Err(error);
        }
        let tasks = TaskTracker::new();
        let batches = Batches::new(database.clone(), clock, tasks.clone(), metrics.clone());
        Ok(Self {
            client,
            database,
            faults,
            tasks,
            permits: Arc::new(Semaphore::new(OPERATIONS)),
            metrics,
            batches: Arc::new(batches),
        })
    }

    /// The document that `filter` finds, as `fields` shows it.
    async fn find<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        operation: &'static str,
        collection: &'static str,
        filter: Document,
        fields: Document,
    ) -> Result<Option<T>, StoreError> {
        self.run(operation, move |database| {
            let (filter, fields) = (filter.clone(), fields.clone());
            async move {
                let collection = database.collection::<T>(collection);
                collection.find_one(filter).projection(fields).await
            }
        })
        .await
    }

    /// Changes one document and returns it as it is afterwards; `None` where the filter finds none
    /// (and `change` does not insert).
    async fn change<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        operation: &'static str,
        collection: &'static str,
        change: Change,
    ) -> Result<Option<T>, StoreError> {
        self.run(operation, move |database| {
            let change = change.clone();
            async move {
                database
                    .collection::<T>(collection)
                    .find_one_and_update(change.filter, change.update)
                    .upsert(change.upsert)
                    .projection(change.fields)
                    .return_document(ReturnDocument::After)
                    .await
            }
        })
        .await
    }

    /// Runs one operation in a task of its own, counted under its name.
    ///
    /// It is repeated once where the error says that it may work now: two upserts met, or the connection
    /// broke (the driver repeats that by itself, but not on a standalone). So what it does has to have
    /// one effect, and tell its caller the same, when it is done twice.
    async fn run<T, W, F>(&self, operation: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(Database) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let running = async {
            if self.tasks.is_closed() {
                return Err(StoreError::Unavailable("it is closed".into()));
            }
            let permit = Arc::clone(&self.permits)
                .try_acquire_owned()
                .map_err(|_| StoreError::Unavailable("too many operations are waiting".into()))?;
            let database = self.database.clone();
            let task = self.tasks.spawn(async move {
                let _permit = permit;
                match work(database.clone()).await {
                    Err(error) if may_repeat(&error) => work(database).await,
                    outcome => outcome,
                }
            });
            match task.await {
                Ok(outcome) => outcome.map_err(|error| store_error(&error, &self.faults)),
                Err(_) => Err(StoreError::Unusable("an operation panicked".into())),
            }
        };
        watch(&self.metrics, operation, running).await
    }
}

/// What [`Mongo::change`] does.
#[derive(Clone)]
struct Change {
    filter: Document,
    update: UpdateModifications,
    upsert: bool,
    fields: Document,
}

impl Change {
    /// Changes the document that `filter` finds.
    fn update(filter: Document, update: impl Into<UpdateModifications>) -> Self {
        Self {
            filter,
            update: update.into(),
            upsert: false,
            fields: doc! { "_id": 1 },
        }
    }

    /// Changes the document under this `_id`, inserted where it is missing. The server allows no
    /// `$expr` in the filter of an upsert: conditions go into the pipeline.
    fn upsert(id: impl Into<mongodb::bson::Bson>, pipeline: Vec<Document>) -> Self {
        Self {
            upsert: true,
            ..Self::update(doc! { "_id": id.into() }, pipeline)
        }
    }

    /// What of the changed document is returned.
    fn returning(self, fields: Document) -> Self {
        Self { fields, ..self }
    }
}

#[async_trait]
impl Store for Mongo {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let touch = Change::upsert("ping", vec![doc! { "$set": { "at": "$$NOW" } }]);
        self.change::<IgnoredAny>("ping", schema::META, touch)
            .await
            .map(drop)
    }

    /// Nothing to do: the TTL indexes collect.
    async fn collect_garbage(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {
        self.tasks.close();
        // A server that went silent could hold a task for ever.
        let _ = tokio::time::timeout(OPERATION_DEADLINE, self.tasks.wait()).await;
        self.client.clone().shutdown().immediate(true).await;
    }
}

/// The settings that the store depends on, and the defaults that the URL may change.
fn configure(options: &mut ClientOptions, faults: &Faults) {
    options.retry_writes = Some(true);
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let w_timeout = options
        .write_concern
        .as_ref()
        .and_then(|concern| concern.w_timeout)
        .unwrap_or(Duration::from_secs(5));
    let mut majority = WriteConcern::majority();
    majority.w_timeout = Some(w_timeout);
    options.write_concern = Some(majority);

    options
        .app_name
        .get_or_insert_with(|| "offiaccount".to_owned());
    options.max_pool_size.get_or_insert(50);
    // A smaller pool of the URL bounds it.
    let most = options.max_pool_size.filter(|&size| size > 0);
    options
        .min_pool_size
        .get_or_insert(most.map_or(2, |size| size.min(2)));
    // A server that went silent is given up after both of these together, and so are the connections to
    // it. The driver's own 20 s would be longer than a message may wait.
    options.heartbeat_freq.get_or_insert(Duration::from_secs(1));
    options
        .connect_timeout
        .get_or_insert(Duration::from_secs(2));
    // Longer than an election of 10 s. Callers have deadlines of their own.
    options
        .server_selection_timeout
        .get_or_insert(Duration::from_secs(15));

    let faults = faults.clone();
    options.sdam_event_handler = Some(EventHandler::callback(move |event| faults.note(event)));
}

fn names(options: &ClientOptions) -> String {
    let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
    hosts.join(", ")
}

/// Why each server that does not answer doesn't, as its last heartbeat saw it.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<BTreeMap<String, String>>>);

impl Faults {
    fn note(&self, event: SdamEvent) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            SdamEvent::ServerHeartbeatFailed(event) => {
                faults.insert(event.server_address.to_string(), reason(&event.failure));
            }
            SdamEvent::ServerHeartbeatSucceeded(event) => {
                faults.remove(&event.server_address.to_string());
            }
            SdamEvent::ServerClosed(event) => {
                faults.remove(&event.address.to_string());
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (server, why)) in faults.iter().enumerate() {
            write!(f, "{}{server}: {why}", if index == 0 { " (" } else { ", " })?;
        }
        f.write_str(if faults.is_empty() { "" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn configured(url: &str) -> ClientOptions {
        let mut options = ClientOptions::parse(url).await.unwrap();
        configure(&mut options, &Faults::default());
        options
    }

    #[tokio::test]
    async fn the_url_sets_sizes_and_times_but_not_what_correctness_rests_on() {
        let plain = configured("mongodb://localhost/").await;
        assert_eq!(
            (plain.max_pool_size, plain.min_pool_size),
            (Some(50), Some(2))
        );
        assert_eq!(plain.connect_timeout, Some(Duration::from_secs(2)));
        assert_eq!(plain.heartbeat_freq, Some(Duration::from_secs(1)));

        let other = configured(
            "mongodb://localhost/?retryWrites=false&w=1&wtimeoutMS=700&maxPoolSize=1\
             &readPreference=secondary&connectTimeoutMS=900&heartbeatFrequencyMS=4000",
        )
        .await;
        assert_eq!(
            (other.max_pool_size, other.min_pool_size),
            (Some(1), Some(1))
        );
        assert_eq!(other.connect_timeout, Some(Duration::from_millis(900)));
        assert_eq!(other.heartbeat_freq, Some(Duration::from_secs(4)));
        for options in [plain, other] {
            assert_eq!(options.retry_writes, Some(true));
            let mut concern = options.write_concern.unwrap();
            concern.w_timeout = None;
            assert_eq!(concern, WriteConcern::majority());
            assert_eq!(
                options.selection_criteria,
                Some(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            );
        }
    }
}
