//! What only the embedded file can show.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::*;

fn at(path: &Path) -> Place {
    Place {
        url: format!("sqlite://{}", path.display()),
        _folder: None,
    }
}

async fn unusable(place: &Place) -> String {
    match open(&place.url).await.map(drop) {
        Err(StoreError::Unusable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn its_files_are_readable_by_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = at(&folder.path().join("store.db"));
    let store = place.open().await;
    store.ping().await.unwrap();
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        seen.push((entry.file_name().into_string().unwrap(), mode & 0o777));
    }
    seen.sort();
    let expected = ["store.db", "store.db-lock", "store.db-shm", "store.db-wal"];
    assert_eq!(seen, expected.map(|name| (name.to_owned(), 0o600)));

    store.close().await;
    let left = std::fs::read_dir(folder.path()).unwrap();
    let mut left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(
        left,
        ["store.db", "store.db-lock"],
        "closing leaves one file and its lock"
    );
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_the_name_of_its_maker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let place = at(&path);
    place.open().await.close().await;
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA user_version = 1000;
         UPDATE meta SET value = 1000 WHERE name = 'needs';
         UPDATE meta SET value = 'offiaccount 99.1.0' WHERE name = 'made_by'",
    )
    .unwrap();
    drop(db);
    let before = std::fs::read(&path).unwrap();
    let said = unusable(&place).await;
    assert!(said.contains("offiaccount 99.1.0"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before, "and left as it is");
}

/// A step of a newer version, and all that it may do: add.
pub(super) fn add_to_the_schema(db: &rusqlite::Connection) {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut tables = db.prepare(sql).unwrap();
    let tables: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(tables.len() > 5, "{tables:?}");
    for table in tables {
        db.execute_batch(&format!(
            "ALTER TABLE {table} ADD COLUMN of_a_newer_version INTEGER NOT NULL DEFAULT 7;
             CREATE INDEX {table}_of_a_newer_version ON {table} (of_a_newer_version)"
        ))
        .unwrap();
    }
    db.execute_batch(
        "CREATE TABLE of_a_newer_version (x);
         PRAGMA user_version = 1000;
         UPDATE meta SET value = 'offiaccount 99.1.0' WHERE name = 'made_by'",
    )
    .unwrap();
}

#[tokio::test]
async fn a_running_program_goes_on_while_a_newer_one_changes_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let place = at(&path);
    let running = place.open().await;
    let publish = async |generation| {
        let value = sealed(&format!("value {generation}"));
        let published = running
            .publish_credential(KEY, &owner(1), generation, &value, LONG)
            .await;
        assert_eq!(published, Ok(true));
        running.credential(KEY).await.unwrap()
    };
    publish(0).await;
    let db = rusqlite::Connection::open(&path).unwrap();
    add_to_the_schema(&db);
    let found = publish(1).await;
    assert_eq!(
        place.open().await.credential(KEY).await.unwrap().value,
        found.value
    );
    // More than an addition: whoever runs goes on, and nobody of this version starts.
    let needs = "UPDATE meta SET value = 1000 WHERE name = 'needs'";
    assert_eq!(db.execute(needs, []), Ok(1));
    publish(2).await;
    conversations::answered(&running, 1).await;
    let said = unusable(&place).await;
    assert!(said.contains("offiaccount 99.1.0"), "{said}");
}

#[tokio::test]
async fn what_can_not_be_opened_is_told_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    let missing = at(&folder.path().join("none/store.db"));
    let said = unusable(&missing).await;
    assert!(said.contains("none") && said.contains("missing"), "{said}");

    std::fs::create_dir(folder.path().join("folder")).unwrap();
    unusable(&at(&folder.path().join("folder"))).await;

    let foreign = folder.path().join("foreign.db");
    let db = rusqlite::Connection::open(&foreign).unwrap();
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(db);
    let said = unusable(&at(&foreign)).await;
    assert!(said.contains("another program"), "{said}");
}

#[tokio::test]
async fn a_torn_file_is_refused_and_opens_again_once_it_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let place = at(&path);
    let store = place.open().await;
    let alice = open_id("oAlice");
    store
        .save_grant(&alice, None, &grant("snsapi_base", "a"))
        .await
        .unwrap();
    store.close().await;
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, vec![b'x'; whole.len()]).unwrap();
    let said = unusable(&place).await;
    assert!(said.contains("damaged"), "{said}");
    std::fs::write(&path, &whole).unwrap();
    assert!(place.open().await.user(&alice).await.unwrap().is_some());
}

/// A process of another program, with another SQLite, that holds the write lock until its input closes.
struct Lock(std::process::Child);

impl Lock {
    fn hold(path: &Path) -> Self {
        let script = "import sqlite3, sys\n\
             db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
             db.execute('BEGIN IMMEDIATE')\n\
             print('locked', flush=True)\n\
             sys.stdin.read()\n";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 7];
        let stdout = child.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut said).unwrap();
        Self(child)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

#[tokio::test]
async fn a_second_process_on_the_file_is_waited_for_and_then_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let place = at(&path);
    let store = place.open().await;

    let lock = Lock::hold(&path);
    let began = Instant::now();
    let ping = store.ping();
    let release = async {
        tokio::time::sleep(SHORT).await;
        lock.release();
    };
    let (pinged, ()) = tokio::join!(ping, release);
    assert_eq!(pinged, Ok(()));
    assert!(began.elapsed() >= NEARLY_SHORT);

    let lock = Lock::hold(&path);
    let other = place.open().await;
    assert_eq!(other.user(&open_id("oA")).await, Ok(None), "reads go on");
    match other.ping().await {
        Err(StoreError::Unavailable(text)) => assert!(text.contains("another process"), "{text}"),
        other => panic!("{other:?}"),
    }
    lock.release();
    assert_eq!(other.ping().await, Ok(()));
}

#[tokio::test]
async fn many_instances_may_open_a_new_file_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let stores = all_at_once(8, |_| {
        let place = at(&path);
        async move { place.open().await }
    })
    .await;
    let found = all_at_once(8, |n| {
        let store = stores[n].clone();
        async move { conversations::delivered(&store, 1).await }
    })
    .await;
    let held = |found: &&Delivered| matches!(found, Delivered::Held(_));
    assert_eq!(found.iter().filter(held).count(), 1);
}
