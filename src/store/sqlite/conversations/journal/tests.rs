//! The fast way over a file, with bounds that a few messages reach.

use std::path::PathBuf;

use futures_util::future::join_all;
use prometheus::Registry;
use rusqlite::Connection;

use super::super::super::{Sqlite, Survives};
use super::entry::entries;
use super::*;
use crate::store::{
    Answered, ConversationStore as _, Delivered, Finished, Store as _, Trigger, UserStore as _,
};
use crate::telemetry::metrics::StoreMetrics;

const LEASE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(20);

const SMALL: Limits = Limits {
    people: 50,
    segment: 8,
    segment_age: Duration::from_secs(600),
    filters: 2,
    seen: 100,
    buffered: 40,
    row: 3,
    claims: 20,
};

struct Fixture {
    store: Sqlite,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path().join("a.db"), SMALL).await;
        Self { store, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    async fn reopened(self) -> Self {
        self.store.close().await;
        let store = open(self.path(), SMALL).await;
        Self { store, ..self }
    }

    async fn handle(&self, user: &OpenId, n: u32) {
        handle(&self.store, user, n).await;
    }

    async fn say(&self, user: &OpenId, delivery: &Delivery) -> Delivered {
        say(&self.store, user, delivery).await
    }

    async fn finish(&self, user: &OpenId, n: u32) -> Finished {
        let handled = handled(n);
        let finish = self.store.finish(user, &handled, turn(n), LEASE);
        finish.await.unwrap()
    }

    async fn count(&self, table: &str) -> usize {
        let sql = format!("SELECT count(*) FROM {table}");
        let read = self
            .store
            .worker
            .read(move |db, _| db.query_row(&sql, [], |row| row.get(0)));
        read.await.unwrap()
    }

    async fn execute(&self, sql: String) {
        let db = Connection::open(self.path()).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db.execute_batch(&sql).unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.store.journal.lock()
    }

    fn is_fast(&self) -> bool {
        matches!(self.state().mode, Mode::Fast { .. })
    }

    async fn eventually(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(&self.state()) {
            assert!(Instant::now() < until, "never {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn written(&self) {
        self.eventually("written", |state| state.buffered == 0)
            .await;
    }
}

async fn open(path: PathBuf, limits: Limits) -> Sqlite {
    let metrics = StoreMetrics::register(&Registry::new()).unwrap();
    Sqlite::open_within(path, metrics, limits).await.unwrap()
}

async fn say(store: &Sqlite, user: &OpenId, delivery: &Delivery) -> Delivered {
    let n = u32::from_le_bytes(*delivery.key.0.first_chunk().unwrap());
    let deliver = store.deliver(user, delivery, turn(n), LEASE);
    deliver.await.unwrap()
}

async fn handle(store: &Sqlite, user: &OpenId, n: u32) {
    let delivered = say(store, user, &message(n)).await;
    assert!(
        matches!(delivered, Delivered::Held(_)),
        "{n}: {delivered:?}"
    );
    let finished = store.finish(user, &handled(n), turn(n), LEASE).await;
    assert_eq!(finished, Ok(Finished::Written(vec![])));
}

fn fan(n: u32) -> OpenId {
    OpenId::parse(&format!("oFan{n}")).unwrap()
}

fn key(n: u32) -> Digest {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    Digest(key)
}

fn turn(n: u32) -> Turn {
    Turn([n as u8; 16])
}

fn message(n: u32) -> Delivery {
    Delivery {
        key: key(n),
        message: format!("<xml>{n}</xml>").into(),
        is_farewell: false,
        may_be_old: false,
        is_handled: false,
        opens: Some(Trigger::Message),
    }
}

fn old(n: u32) -> Delivery {
    Delivery {
        may_be_old: true,
        ..message(n)
    }
}

fn reply(n: u32) -> Vec<u8> {
    format!("a reply to {n}").into_bytes()
}

fn done(n: u32) -> Delivered {
    Delivered::Done(reply(n))
}

fn handled(n: u32) -> Handled {
    Handled {
        key: key(n),
        reply: Some(reply(n)),
        given: true,
        taken: vec![],
        kept: vec![],
        session: SessionChange::Unchanged,
    }
}

fn numbers(delivered: Delivered) -> Vec<u32> {
    match delivered {
        Delivered::Held(found) => found
            .waiting
            .iter()
            .map(|w| u32::from_le_bytes(*w.key.0.first_chunk().unwrap()))
            .collect(),
        other => panic!("not held: {other:?}"),
    }
}

#[tokio::test]
async fn what_was_handled_before_a_start_is_learned_and_stays_known() {
    let fixture = Fixture::new().await;
    // More than the first filter has room for, in several segments.
    let numbers = 0..40;
    for n in numbers.clone() {
        fixture.handle(&fan(n), n).await;
        if n % 10 == 9 {
            fixture.written().await;
        }
    }
    let fixture = fixture.reopened().await;
    assert!(fixture.state().segments.len() > 1);
    let is_learned = |state: &State| state.unseen_until == i64::MIN;
    fixture.eventually("learned", is_learned).await;
    for n in numbers {
        assert_eq!(fixture.say(&fan(n), &message(n)).await, done(n));
    }
    fixture.handle(&fan(50), 50).await;
    assert!(fixture.is_fast());
}

#[tokio::test]
async fn a_common_message_has_no_rows_and_is_known_to_every_later_delivery() {
    let mut fixture = Fixture::new().await;
    let alice = fan(1);
    assert!(fixture.is_fast());
    fixture.handle(&alice, 1).await;
    fixture.handle(&alice, 2).await;
    for _ in 0..2 {
        for n in [1, 2] {
            assert_eq!(fixture.say(&alice, &message(n)).await, done(n));
            let looked = fixture.store.look(&alice, &key(n), turn(9), LEASE).await;
            assert_eq!(looked, Ok(done(n)));
        }
        assert_eq!(fixture.count("conversations").await, 0);
        assert_eq!(fixture.count("ledger").await, 0);
        // Another user's message of the same key is another.
        let bob = fan(2);
        assert!(fixture.is_fast());
        let looked = fixture.store.look(&bob, &key(1), turn(9), LEASE).await;
        assert_eq!(looked, Ok(super::super::claim::UNKNOWN));
        fixture = fixture.reopened().await;
    }
}

#[tokio::test]
async fn what_lies_in_segments_is_found_and_strangers_are_new() {
    let mut fixture = Fixture::new().await;
    for n in 0..200 {
        fixture.handle(&fan(n), n).await;
        if n % 20 == 0 {
            fixture.written().await;
        }
    }
    fixture.written().await;
    assert!(fixture.count("journal_segments").await > 5);
    for round in 0..2 {
        for n in 0..200 {
            for delivery in [message(n), old(n)] {
                assert_eq!(fixture.say(&fan(n), &delivery).await, done(n), "{n}");
            }
        }
        assert_eq!(fixture.count("ledger").await, 0);
        for n in 0..30 {
            let (user, n) = (fan(n), 1_000 + round * 100 + n);
            assert_eq!(numbers(fixture.say(&user, &old(n)).await), [n]);
            let finished = fixture.finish(&user, n).await;
            assert_eq!(finished, Finished::Written(vec![]));
        }
        fixture = fixture.reopened().await;
    }
}

#[tokio::test]
async fn memory_has_bounds() {
    let fixture = Fixture::new().await;
    let (mut longest, mut segments) = (0, 0);
    for n in 0..2_000 {
        fixture.handle(&fan(n), n).await;
        {
            let state = fixture.state();
            longest = longest.max(state.tail.refs.len());
            segments = segments.max(state.segments.len());
            let filters = state.segments.iter().filter(|segment| !segment.may_hold(0));
            assert!(filters.count() <= SMALL.filters);
        }
        if n % 8 == 0 {
            fixture.written().await;
        }
    }
    assert!(segments > 50, "{segments}");
    // What gathers while a segment is being made comes on top.
    assert!(longest <= 2 * (SMALL.segment + SMALL.buffered), "{longest}");
    fixture.written().await;
    let state = fixture.state();
    assert_eq!(state.tail.messages.len() * 2, state.tail.refs.len());
    assert!(state.claims.is_empty() && state.batches.is_empty());
}

#[tokio::test]
async fn a_message_that_takes_long_is_handled_over_the_tables() {
    let fixture = Fixture::new().await;
    let alice = fan(1);
    assert_eq!(numbers(fixture.say(&alice, &message(1)).await), [1]);
    assert_eq!(fixture.state().claims.len(), 1);
    fixture
        .eventually("rows", |state| state.claims.is_empty())
        .await;
    assert_eq!(fixture.count("ledger WHERE message IS NOT NULL").await, 1);
    assert_eq!(
        fixture.count("conversations WHERE turn IS NOT NULL").await,
        1
    );
    let finished = fixture.finish(&alice, 1).await;
    assert_eq!(finished, Finished::Written(vec![]));
    assert_eq!(fixture.say(&alice, &message(1)).await, done(1));
    // He has a row now.
    fixture.handle(&alice, 2).await;
    assert_eq!(fixture.count("ledger").await, 2);
    assert_eq!(fixture.count("journal").await, 0);
}

#[tokio::test]
async fn all_else_finds_the_tables_complete() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    // A second message while the first is handled.
    let alice = fan(1);
    fixture.say(&alice, &message(1)).await;
    let second = store.deliver(&alice, &message(2), turn(1), LEASE).await;
    assert_eq!(numbers(second.unwrap()), [1, 2]);
    // A retry, a look, a renewal, an end that is not plain, what overdue ones do.
    for n in 10..16 {
        assert_eq!(numbers(fixture.say(&fan(n), &message(n)).await), [n]);
    }
    match store.deliver(&fan(10), &message(10), turn(99), LEASE).await {
        Ok(Delivered::Elsewhere { deliveries, .. }) => assert_eq!(deliveries, 2),
        other => panic!("{other:?}"),
    }
    let looked = store.look(&fan(11), &key(11), turn(11), LEASE).await;
    assert_eq!(numbers(looked.unwrap()), [11]);
    assert_eq!(store.renew(&fan(12), turn(12), LEASE).await, Ok(true));
    let rich = Handled {
        kept: vec![b"kept".to_vec()],
        ..handled(13)
    };
    let finished = store.finish(&fan(13), &rich, turn(13), LEASE).await;
    assert_eq!(finished, Ok(Finished::Written(vec![])));
    let begun = store.begin_sending(&fan(13), LEASE).await.unwrap();
    assert_eq!(begun.unwrap().reply, b"kept");
    let answered = store.answer(&fan(14), &key(14), b"outside").await;
    assert!(
        matches!(answered, Ok(Answered::Taken { .. })),
        "{answered:?}"
    );
    store.release(&fan(15), turn(15)).await.unwrap();
    let taken = store.take_overdue(&fan(15), turn(99), LEASE).await.unwrap();
    assert_eq!(taken.held.unwrap().waiting[0].key, key(15));

    // Of what is done already.
    let bob = fan(20);
    fixture.handle(&bob, 20).await;
    for _ in 0..2 {
        assert_eq!(fixture.finish(&bob, 20).await, Finished::Written(vec![]));
    }
    let lost = store.finish(&bob, &handled(20), turn(99), LEASE).await;
    assert_eq!(lost, Ok(Finished::Lost));
    let carol = fan(21);
    fixture.handle(&carol, 21).await;
    assert_eq!(
        store.answer(&carol, &key(21), b"late").await,
        Ok(Answered::Already)
    );
    assert_eq!(store.keep_answer(&carol, &key(21)).await, Ok(false));
    let dave = fan(22);
    fixture.handle(&dave, 23).await;
    store.mark_given(&dave, &key(23), true).await.unwrap();
    store.mark_given(&dave, &key(23), false).await.unwrap();
    assert_eq!(store.keep_answer(&dave, &key(23)).await, Ok(false));
    store.mark_given(&carol, &key(21), false).await.unwrap();
    assert_eq!(store.keep_answer(&carol, &key(21)).await, Ok(true));
    assert_eq!(fixture.say(&carol, &message(21)).await, done(21));
    match fixture.say(&carol, &message(22)).await {
        Delivered::Held(found) => assert_eq!(found.kept[0].reply, reply(21)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn windows_are_those_of_the_tables_and_of_the_journal() {
    let mut fixture = Fixture::new().await;
    let alice = fan(1);
    let gesture = |n, opens| Delivery {
        opens: Some(opens),
        ..message(n)
    };
    fixture.say(&alice, &gesture(1, Trigger::Click)).await;
    fixture.finish(&alice, 1).await;
    fixture.handle(&alice, 2).await;
    // Others, for a segment.
    for n in 100..130 {
        fixture.handle(&fan(n), n).await;
    }
    let windows = async |fixture: &Fixture| {
        let mut found = fixture.store.windows(&alice).await.unwrap();
        found.sort_by_key(|window| window.trigger.name());
        assert!(found.iter().all(|window| window.age < PATIENCE));
        let of = |window: &crate::store::Window| (window.trigger, window.sent);
        found.iter().map(of).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(
            windows(&fixture).await,
            [(Trigger::Click, 0), (Trigger::Message, 0)]
        );
        assert_eq!(fixture.count("conversations").await, 0);
        fixture = fixture.reopened().await;
    }
    let count = fixture.store.count_sent(&alice, Trigger::Message);
    count.await.unwrap();
    let expected = [(Trigger::Click, 0), (Trigger::Message, 1)];
    assert_eq!(windows(&fixture).await, expected);
    tokio::time::sleep(Duration::from_millis(5)).await;
    fixture.handle(&alice, 3).await;
    assert_eq!(
        windows(&fixture).await,
        [(Trigger::Click, 0), (Trigger::Message, 0)]
    );
    fixture.store.forget_user(&alice).await.unwrap();
    assert_eq!(windows(&fixture).await, []);
}

/// Whether a row of the journal holds this.
fn holds(fixture: &Fixture, text: &[u8]) -> bool {
    let db = Connection::open(fixture.path()).unwrap();
    let mut rows = db.prepare("SELECT entries FROM journal").unwrap();
    let rows = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    rows.map(Result::unwrap)
        .any(|row| row.windows(text.len()).any(|part| part == text))
}

#[tokio::test]
async fn of_a_forgotten_user_the_journal_tells_nothing() {
    let fixture = Fixture::new().await;
    let (alice, bob) = (fan(1), fan(2));
    // One message lies in a segment, long ago; one is young.
    fixture.handle(&alice, 1).await;
    for n in 100..120 {
        fixture.handle(&fan(n), n).await;
    }
    fixture.written().await;
    let db = Connection::open(fixture.path()).unwrap();
    let first: Vec<u8> = db
        .query_row(
            "SELECT entries FROM journal ORDER BY id LIMIT 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let mut older = Vec::new();
    for mut entry in entries(&first) {
        entry.first_seen -= 120_000;
        entry.write(&mut older);
    }
    db.execute(
        "UPDATE journal SET entries = ?1 WHERE id = (SELECT min(id) FROM journal)",
        [older],
    )
    .unwrap();
    fixture.handle(&alice, 2).await;
    fixture.handle(&bob, 3).await;
    fixture.written().await;
    assert!(holds(&fixture, b"oFan1") && holds(&fixture, &reply(1)));

    fixture.store.forget_user(&alice).await.unwrap();
    let name = [b"\x05".as_slice(), b"oFan1", &key(1).0].concat();
    assert!(!holds(&fixture, &name) && !holds(&fixture, b"a reply to 1\x05"));
    for n in [1, 2] {
        let text = [reply(n), vec![5, b'o']].concat();
        assert!(!holds(&fixture, &text), "{n}");
    }
    assert!(holds(&fixture, b"oFan2") && holds(&fixture, &reply(3)));
    // Both are known to have been handled. What may be delivered again still has its reply.
    assert_eq!(fixture.say(&alice, &message(2)).await, done(2));
    let silent = Delivered::Done(Vec::new());
    assert_eq!(fixture.say(&alice, &old(1)).await, silent);
    assert_eq!(fixture.say(&bob, &message(3)).await, done(3));
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_is_written_later() {
    let fixture = Fixture::new().await;
    let alice = fan(1);
    // The disk has no page left but those that others may free.
    let db = Connection::open(fixture.path()).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    let fill = "INSERT INTO users (openid, profile) VALUES ('o', hex(zeroblob(500000)))";
    db.execute(fill, []).unwrap();
    let limit = fixture.store.worker.write(Survives::Crash, |db, _| {
        db.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()))
    });
    limit.await.unwrap();
    let large = |n: u32| Handled {
        reply: Some(vec![b'x'; 100_000]),
        ..handled(n)
    };
    assert_eq!(numbers(fixture.say(&alice, &message(1)).await), [1]);
    let finished = fixture
        .store
        .finish(&alice, &large(1), turn(1), LEASE)
        .await;
    assert_eq!(finished, Ok(Finished::Written(vec![])));
    // It is told to whoever delivers next, as soon as it is known.
    let until = Instant::now() + PATIENCE;
    for n in 10.. {
        let delivered = fixture
            .store
            .deliver(&fan(n), &message(n), turn(n), LEASE)
            .await;
        if delivered.is_err() {
            break;
        }
        assert!(Instant::now() < until, "nobody learns of it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fixture.state().buffered, 1);
    db.execute("DELETE FROM users", []).unwrap();
    fixture.written().await;
    let found = fixture.say(&alice, &message(1)).await;
    assert_eq!(found, Delivered::Done(vec![b'x'; 100_000]));
    let fixture = fixture.reopened().await;
    let found = fixture.say(&alice, &message(1)).await;
    assert_eq!(found, Delivered::Done(vec![b'x'; 100_000]));
}

#[tokio::test]
async fn with_too_many_users_in_the_tables_all_go_the_slow_way() {
    let fixture = Fixture::new().await;
    for n in 0..=SMALL.people as u32 {
        fixture.say(&fan(n), &message(n)).await;
        fixture.store.release(&fan(n), turn(n)).await.unwrap();
    }
    fixture
        .eventually("slow", |state| state.mode == Mode::Slow)
        .await;
    fixture.handle(&fan(999), 999).await;
    assert_eq!(fixture.say(&fan(999), &message(999)).await, done(999));
    let fixture = fixture.reopened().await;
    assert!(!fixture.is_fast());
    assert_eq!(fixture.say(&fan(999), &message(999)).await, done(999));
}

#[tokio::test]
async fn two_on_one_file_never_both_hold_a_message_and_know_each_others() {
    let fixture = Fixture::new().await;
    let other = open(fixture.path(), SMALL).await;
    assert!(fixture.is_fast() && !other.journal.lock().is_fast(Instant::now()));
    let stores = [&fixture.store, &other];
    fixture.handle(&fan(9_999), 9_999).await;
    assert_eq!(say(&other, &fan(9_999), &message(9_999)).await, done(9_999));

    // Each message comes to both at the same time, in bursts to one and the other.
    for burst in 0..20 {
        let messages = (0..10).map(async |n| {
            let n = burst * 10 + n;
            let user = fan(n % 37);
            let to = async |which: usize| {
                let turn = Turn::new();
                let store = stores[which];
                let delivered = store.deliver(&user, &message(n), turn, LEASE).await;
                (store, turn, delivered.unwrap())
            };
            let first = usize::from(burst % 3 == 0);
            let mut held = 0;
            let both = join_all([to(first), to(1 - first)]).await;
            for (store, turn, delivered) in both {
                match delivered {
                    Delivered::Held(found) => {
                        held += found.waiting.iter().filter(|w| w.key == key(n)).count();
                        for waiting in found.waiting {
                            let n = u32::from_le_bytes(*waiting.key.0.first_chunk().unwrap());
                            let finished = store.finish(&user, &handled(n), turn, LEASE).await;
                            finished.unwrap();
                        }
                    }
                    Delivered::Elsewhere { .. } => {}
                    Delivered::Done(found) => assert_eq!(found, reply(n)),
                    Delivered::Full => panic!("full"),
                }
            }
            assert!(held <= 1, "{n} is held by both");
        });
        join_all(messages).await;
    }
    for n in 0..200 {
        for store in stores {
            let found = say(store, &fan(n % 37), &message(n)).await;
            assert_eq!(found, done(n), "{n}");
        }
    }
    // When one goes the other has the fast way again.
    other.close().await;
    fixture.store.journal.right.calm_down_for_no_time();
    fixture.handle(&fan(7_777), 7_777).await;
    fixture
        .eventually("fast", |state| state.is_fast(Instant::now()))
        .await;
    fixture.handle(&fan(8_888), 8_888).await;
    assert_eq!(fixture.say(&fan(8_888), &message(8_888)).await, done(8_888));
    assert_eq!(
        fixture
            .count("conversations WHERE openid = 'oFan8888'")
            .await,
        0
    );
}

#[tokio::test]
async fn what_has_expired_is_deleted_and_windows_last_longer_than_replies() {
    let fixture = Fixture::new().await;
    for n in 0..100 {
        fixture.handle(&fan(n), n).await;
    }
    let fixture = fixture.reopened().await;
    let (rows, segments) = (
        fixture.count("journal").await,
        fixture.count("journal_segments").await,
    );
    assert!(rows > 30 && segments > 1, "{rows}, {segments}");
    fixture.store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("journal").await, rows);
    let day = millis(REMEMBER_MESSAGES);
    let age = format!("UPDATE journal SET at = at - {day}");
    fixture.execute(age).await;
    fixture.store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("journal").await, 0);
    assert_eq!(fixture.count("journal_segments").await, segments);
    assert_eq!(fixture.store.windows(&fan(1)).await.unwrap().len(), 1);
    let fixture = fixture.reopened().await;
    assert_eq!(numbers(fixture.say(&fan(1), &old(1)).await), [1]);

    let age = format!(
        "UPDATE journal_segments SET last_at = last_at - {}",
        day * 2
    );
    fixture.execute(age).await;
    fixture.store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("journal_segments").await, 0);
    assert_eq!(fixture.count("journal_refs").await, 0);
}
