//! The store's promises, each kept by every back end: an embedded file, a single MongoDB server, and
//! a replica set of three. What only one of them can show is in `embedded` and `shared`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, poll_immediate};
use offiaccount::store::{
    self, Delivered, Digest, Exchange, InstanceId, Lease, MOST_KEPT, MOST_WAITING, OAuthGrant,
    Sealed, Session, SignIn, SignedIn, Store, StoreError, StoredCredential, StoredUser, check_url,
};
use offiaccount::telemetry::metrics::StoreMetrics;
use offiaccount::wechat::id::{OpenId, UnionId};
use prometheus::Registry;
use serde_json::json;

use super::mongod;

/// Makes each case a test on each back end.
macro_rules! on_every_store {
    ($($case:ident)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::store::Place::sqlite()).await;
            })+
        }
        mod sqlite_of_a_newer_version {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::store::Place::newer_sqlite().await).await;
            })+
        }
        mod mongodb_standalone {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::store::Place::mongodb(crate::mongod::standalone).await).await;
            })+
        }
        mod mongodb_replica_set {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::store::Place::mongodb(crate::mongod::replica_set).await).await;
            })+
        }
    };
}

mod audit;
mod conversations;
mod credentials;
mod dead_letters;
mod embedded;
mod keys;
#[cfg(target_os = "linux")]
mod processes;
mod shared;
mod sign_ins;
mod uploads;
mod users;

/// Long enough that it never ends within a test.
const LONG: Duration = Duration::from_secs(3600);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(60);
/// What a test may measure of it: stores count whole milliseconds.
const NEARLY_SHORT: Duration = Duration::from_millis(57);
/// How long something that has to happen may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An empty store that can be opened any number of times, as by several instances.
struct Place {
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite://{}", folder.path().join("store.db").display()),
            _folder: Some(folder),
        }
    }

    /// What a newer version has added to, as it may during a roll.
    async fn newer_sqlite() -> Self {
        let place = Self::sqlite();
        place.open().await.close().await;
        let db = rusqlite::Connection::open(place.url.strip_prefix("sqlite://").unwrap()).unwrap();
        embedded::add_to_the_schema(&db);
        place
    }

    async fn mongodb(server: fn() -> &'static str) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        // The first call starts the server.
        let server = tokio::task::spawn_blocking(server).await.unwrap();
        Self {
            url: format!("{server}case_{number}"),
            _folder: None,
        }
    }

    /// Opens it, as an instance does at its start.
    async fn open(&self) -> Arc<dyn Store> {
        open(&self.url).await.unwrap()
    }

    /// Two instances.
    async fn open_twice(&self) -> [Arc<dyn Store>; 2] {
        [self.open().await, self.open().await]
    }
}

async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    store::open(url, StoreMetrics::register(&Registry::new()).unwrap()).await
}

on_every_store! {
    what_was_stored_is_there_after_reopening
    an_operation_that_nobody_waits_for_takes_effect
    a_closed_store_says_so
}

async fn what_was_stored_is_there_after_reopening(place: Place) {
    let alice = open_id("oAlice");
    let store = place.open().await;
    store.ping().await.unwrap();
    store
        .publish_credential(KEY, &owner(1), 0, &sealed("value"), LONG)
        .await
        .unwrap();
    store
        .save_grant(&alice, None, &grant("snsapi_base", "a"))
        .await
        .unwrap();
    store
        .create_session(&digest(1), &session_of(&alice), LONG)
        .await
        .unwrap();
    store
        .create_sign_in(&digest(1), &sign_in("a"), LONG)
        .await
        .unwrap();
    conversations::answered(&store, 1).await;
    store.close().await;
    drop(store);

    let store = place.open().await;
    assert_eq!(
        store.credential(KEY).await.unwrap().value,
        Some(sealed("value"))
    );
    let found = store.user(&alice).await.unwrap().unwrap();
    assert_eq!(found.grant.unwrap().access_token, sealed("a"));
    assert_eq!(
        store.session(&digest(1)).await,
        Ok(Some(session_of(&alice)))
    );
    let found = store.sign_in(&digest(1), &BROWSER).await;
    assert_eq!(found, Ok(Some(sign_in("a"))));
    let found = conversations::delivered(&store, 1).await;
    assert_eq!(found, Delivered::Done(b"reply 1".to_vec()));
}

async fn an_operation_that_nobody_waits_for_takes_effect(place: Place) {
    let store = place.open().await;
    let alice = open_id("oAlice");
    let user = grant("snsapi_base", "a");
    // Polled once, which sends it, then dropped.
    let _ = poll_immediate(store.save_grant(&alice, None, &user)).await;
    eventually(|| async { store.user(&alice).await.unwrap() }).await;
}

async fn a_closed_store_says_so(place: Place) {
    let store = place.open().await;
    store.close().await;
    store.close().await;
    for outcome in [
        store.ping().await,
        store.credential(KEY).await.map(drop),
        store.delete_session(&digest(1)).await,
    ] {
        assert!(
            matches!(&outcome, Err(StoreError::Unavailable(text)) if text.contains("closed")),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_url_names_a_file_or_a_mongodb_database() {
    for good in [
        "sqlite://offiaccount.db",
        "sqlite:///var/lib/offiaccount/store.db",
        "sqlite://a b%20c.db",
        "mongodb://localhost",
        "mongodb://u:p%40@a:1,b:2/wx?replicaSet=r&tls=true",
        "mongodb+srv://u:p@cluster.example.com/wx",
    ] {
        assert_eq!(check_url(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "offiaccount.db",
        "sqlite://",
        "sqlite://:memory:",
        "sqlite://folder/",
        "sqlite://a.db?mode=ro",
        "postgres://u:canary@localhost/",
        "mongodb://",
        "mongodb://u:canary@x@localhost/",
        "mongodb://localhost/?maxPoolSize=canary",
        "mongodb+srv://u:canary@a,b/",
    ] {
        let said = check_url(bad).unwrap_err();
        assert!(said.contains("expected"), "{bad}: {said}");
        assert!(!said.contains("canary"), "{bad}: {said}");
    }
}

// What the cases are told with.

const KEY: &str = "wx0123456789abcdef/access_token";
const BROWSER: Digest = Digest([7; 32]);

fn owner(n: usize) -> InstanceId {
    InstanceId(format!("instance-{n}"))
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn digest_of(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    Digest(bytes)
}

fn open_id(text: &str) -> OpenId {
    OpenId::parse(text).unwrap()
}

fn sealed(text: &str) -> Sealed {
    Sealed(text.as_bytes().to_vec())
}

fn grant(scope: &str, token: &str) -> OAuthGrant {
    OAuthGrant {
        scope: scope.into(),
        access_token: sealed(token),
        access_expires_in: Duration::from_secs(7200),
        refresh_token: sealed(&format!("refresh {token}")),
        refresh_expires_in: Duration::from_secs(30 * 86_400),
    }
}

fn sign_in(text: &str) -> SignIn {
    SignIn {
        browser: BROWSER,
        scope: text.into(),
        next: Some(text.into()),
        id: Some(text.into()),
    }
}

fn session_of(open_id: &OpenId) -> Session {
    Session {
        open_id: open_id.clone(),
        scope: "snsapi_userinfo".into(),
    }
}

#[track_caller]
fn held(lease: Result<Lease, StoreError>) -> StoredCredential {
    match lease {
        Ok(Lease::Held(found)) => found,
        other => panic!("not held: {other:?}"),
    }
}

#[track_caller]
fn busy(lease: Result<Lease, StoreError>) {
    assert!(matches!(lease, Ok(Lease::Busy(_))), "{lease:?}");
}

/// Equal but for what a slow machine takes between two steps.
#[track_caller]
fn assert_close(found: Duration, expected: Duration) {
    assert!(
        found.abs_diff(expected) < PATIENCE,
        "{found:?}, expected {expected:?}"
    );
}

/// Runs `contender(0)` … `contender(count - 1)` as tasks that start together.
async fn all_at_once<T, F>(count: usize, contender: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|n| tokio::spawn(contender(n))).collect();
    join_all(tasks)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

/// Asks again until there is an answer: for what only time brings about.
async fn eventually<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
