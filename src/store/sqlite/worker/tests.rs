//! Jobs in groups, one that fails, a file that fails.

use std::fs;
use std::sync::mpsc::channel;

use futures_util::future::{join_all, poll_immediate};

use super::*;

type Work<T> = Box<dyn FnOnce(&Connection) -> rusqlite::Result<T> + Send>;

struct Fixture {
    folder: tempfile::TempDir,
    worker: Worker,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let (worker, _) = Worker::start(&path, journal::Limits::default()).unwrap();
        Self { folder, worker }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.worker
            .write(Survives::PowerLoss, |db, _| work(db))
            .await
    }

    /// Runs `jobs` as one group: they queue up behind a job that waits for them.
    async fn write_together<T: Send + 'static>(
        &self,
        jobs: Vec<(Survives, Work<T>)>,
    ) -> Vec<Result<T, StoreError>> {
        let (open, gate) = channel();
        let (started, running) = oneshot::channel();
        let gate = self.write(move |_| {
            let _ = started.send(());
            Ok(gate.recv().is_ok())
        });
        let together = async {
            running.await.unwrap();
            let jobs = jobs
                .into_iter()
                .map(|(survives, job)| self.worker.write(survives, |db, _| job(db)));
            let queued = async {
                // Polled after the jobs, which are in the queue then.
                open.send(()).unwrap();
            };
            tokio::join!(join_all(jobs), queued).0
        };
        let (_, answers) = tokio::join!(gate, together);
        answers
    }
}

fn add_user(name: &'static str) -> impl FnOnce(&Connection) -> rusqlite::Result<usize> + Send {
    move |db| db.execute("INSERT INTO users (openid) VALUES (?1)", [name])
}

async fn users(fixture: &Fixture) -> Vec<String> {
    let read = fixture.worker.read(|db, _| {
        db.prepare("SELECT openid FROM users ORDER BY openid")?
            .query_map([], |row| row.get(0))?
            .collect()
    });
    read.await.unwrap()
}

#[tokio::test]
async fn a_job_that_fails_harms_no_other_of_its_group() {
    let fixture = Fixture::new();
    let answers = fixture
        .write_together(vec![
            (Survives::Crash, Box::new(add_user("a"))),
            (
                Survives::Crash,
                Box::new(|db| {
                    add_user("half")(db)?;
                    add_user("half")(db)
                }),
            ),
            (Survives::Crash, Box::new(add_user("b"))),
        ])
        .await;
    assert_eq!(answers[0], Ok(1));
    assert!(matches!(answers[1], Err(StoreError::Unusable(_))));
    assert_eq!(answers[2], Ok(1));
    assert_eq!(users(&fixture).await, ["a", "b"]);
}

#[tokio::test]
async fn a_group_is_as_durable_as_its_most_careful_job_asks() {
    let fixture = Fixture::new();
    let level = || -> Work<i64> {
        Box::new(|db| db.pragma_query_value(None, "synchronous", |row| row.get(0)))
    };
    for (group, expected) in [
        (vec![Survives::Crash, Survives::Crash], 1),
        (vec![Survives::Crash, Survives::PowerLoss], 2),
        (vec![Survives::Crash], 1),
    ] {
        let jobs = group.iter().map(|&survives| (survives, level())).collect();
        for found in fixture.write_together(jobs).await {
            assert_eq!(found, Ok(expected), "{group:?}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_written_to_again_when_it_has_room() {
    let fixture = Fixture::new();
    fixture
        .write(|db| {
            let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            db.query_row(
                &format!("PRAGMA max_page_count = {}", pages + 3),
                [],
                |_| Ok(()),
            )
        })
        .await
        .unwrap();
    let fill = |name: &'static str| {
        move |db: &Connection| {
            let large = "x".repeat(100_000);
            db.execute(
                "INSERT INTO users (openid, profile) VALUES (?1, ?2)",
                (name, large),
            )
        }
    };
    let full = StoreError::Unavailable("the disk is full".into());
    assert_eq!(fixture.write(fill("a")).await, Err(full.clone()));
    assert_eq!(fixture.write(fill("b")).await, Err(full));
    assert!(users(&fixture).await.is_empty(), "reads go on");

    fixture
        .write(|db| db.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())))
        .await
        .unwrap();
    assert_eq!(fixture.write(fill("c")).await, Ok(1));
    assert_eq!(users(&fixture).await, ["c"]);
}

#[tokio::test]
async fn a_file_that_is_torn_in_service_is_told_and_used_again_once_restored() {
    let fixture = Fixture::new();
    fixture.write(add_user("a")).await.unwrap();
    let path = fixture.path();
    let checkpoint = Connection::open(&path).unwrap();
    checkpoint
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(checkpoint);
    let whole = fs::read(&path).unwrap();

    fs::write(&path, "").unwrap();
    for _ in 0..2 {
        match fixture.write(add_user("b")).await {
            Err(StoreError::Unusable(text)) => assert!(text.contains("damaged"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(fs::read(&path).unwrap().is_empty(), "no new store is made");

    fs::write(&path, whole).unwrap();
    assert_eq!(fixture.write(add_user("c")).await, Ok(1));
    assert_eq!(users(&fixture).await, ["a", "c"]);
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_at_once() {
    let fixture = Fixture::new();
    let (open, gate) = channel::<()>();
    let (started, running) = oneshot::channel();
    let blocked = fixture.write(move |_| {
        let _ = started.send(());
        Ok(gate.recv().is_ok())
    });
    let filling = async {
        running.await.unwrap();
        let mut queued: Vec<_> = (0..QUEUE)
            .map(|_| Box::pin(fixture.write(|_| Ok(()))))
            .collect();
        for write in &mut queued {
            assert_eq!(poll_immediate(write).await, None, "it waits in the queue");
        }
        match fixture.write(|_| Ok(())).await {
            Err(StoreError::Unavailable(text)) => assert!(text.contains("waiting"), "{text}"),
            other => panic!("{other:?}"),
        }
        open.send(()).unwrap();
        for write in queued {
            assert_eq!(write.await, Ok(()));
        }
    };
    let (blocked, ()) = tokio::join!(blocked, filling);
    assert_eq!(blocked, Ok(true));
    assert_eq!(fixture.write(add_user("a")).await, Ok(1), "and takes again");
}
