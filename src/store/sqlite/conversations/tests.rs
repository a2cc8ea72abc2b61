//! What only time brings about: rows are made older than they are.

use prometheus::Registry;

use super::claim::UNKNOWN;
use super::journal::Limits;
use super::*;
use crate::store::{
    DELIVERIES_END, DeadLetter, DeadLetterStore as _, KEEP_ANSWERS, MOST_KEPT, REMEMBER_MESSAGES,
    Store as _, UploadStore as _, UserStore as _,
};
use crate::telemetry::metrics::StoreMetrics;

const LONG: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    store: Sqlite,
    turn: Turn,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = StoreMetrics::register(&Registry::new()).unwrap();
        // What is told here is told of the tables.
        let limits = Limits {
            people: 0,
            ..Limits::default()
        };
        let store = Sqlite::open_within(folder.path().join("a.db"), metrics, limits).await;
        Self {
            store: store.unwrap(),
            turn: Turn::new(),
            _folder: folder,
        }
    }

    async fn deliver(&self, of: &OpenId, n: u8) -> Delivered {
        self.say(of, n, false).await
    }

    async fn say(&self, of: &OpenId, n: u8, is_farewell: bool) -> Delivered {
        let delivery = Delivery {
            key: key(n),
            message: "<xml/>".into(),
            is_farewell,
            may_be_old: false,
            is_handled: false,
            opens: Some(Trigger::Message),
        };
        let deliver = self.store.deliver(of, &delivery, self.turn, LONG);
        deliver.await.unwrap()
    }

    async fn finish(&self, of: &OpenId, handled: &Handled) -> Finished {
        let finish = self.store.finish(of, handled, self.turn, LONG);
        finish.await.unwrap()
    }

    /// Takes a message and writes down how it was handled.
    async fn handle(&self, of: &OpenId, handled: &Handled) {
        let delivered = self.deliver(of, handled.key.0[0]).await;
        assert!(matches!(delivered, Delivered::Held(_)), "{delivered:?}");
        assert_eq!(self.finish(of, handled).await, Finished::Written(vec![]));
    }

    async fn overdue(&self) -> Vec<OpenId> {
        self.store.overdue(10).await.unwrap()
    }

    async fn take_overdue(&self, of: &OpenId) -> Overdue {
        let take = self.store.take_overdue(of, self.turn, LONG);
        take.await.unwrap()
    }

    /// Makes what `column` tells of all rows so much older.
    async fn age(&self, table: &str, column: &str, by: Duration) {
        self.execute(format!(
            "UPDATE {table} SET {column} = {column} - {} WHERE {column} > 0",
            millis(by)
        ))
        .await;
    }

    async fn execute(&self, sql: String) {
        let execute = self
            .store
            .worker
            .write(Survives::Crash, move |db, _| db.execute(&sql, []).map(drop));
        execute.await.unwrap();
    }

    async fn count(&self, table: &str) -> usize {
        let sql = format!("SELECT count(*) FROM {table}");
        let count = self
            .store
            .worker
            .read(move |db, _| db.query_row(&sql, [], |row| row.get(0)));
        count.await.unwrap()
    }
}

fn user(text: &str) -> OpenId {
    OpenId::parse(text).unwrap()
}

fn key(n: u8) -> Digest {
    Digest([n; 32])
}

/// Answered by a reply that no delivery carried yet.
fn handled(n: u8) -> Handled {
    Handled {
        key: key(n),
        reply: Some(vec![n]),
        given: false,
        taken: vec![],
        kept: vec![],
        session: SessionChange::Unchanged,
    }
}

fn replies(kept: &[KeptAnswer]) -> Vec<&[u8]> {
    kept.iter().map(|kept| &kept.reply[..]).collect()
}

#[tokio::test]
async fn a_reply_that_no_delivery_carried_is_overdue_when_none_will() {
    let fixture = Fixture::new().await;
    let (alice, bob) = (user("oAlice"), user("oBob"));
    fixture.handle(&alice, &handled(1)).await;
    let given = Handled {
        given: true,
        ..handled(2)
    };
    fixture.handle(&alice, &given).await;
    fixture.handle(&bob, &given).await;

    fixture.age("ledger", "first_seen", DELIVERIES_END).await;
    assert_eq!(fixture.overdue().await, []);
    assert_eq!(fixture.take_overdue(&alice).await, Overdue::default());
    fixture.age("ledger", "first_seen", 5 * SECOND).await;
    assert_eq!(fixture.overdue().await, std::slice::from_ref(&alice));
    let expected = Overdue {
        held: None,
        not_given: vec![key(1)],
    };
    assert_eq!(fixture.take_overdue(&alice).await, expected);
    let renewed = fixture.store.renew(&alice, fixture.turn, LONG).await;
    assert_eq!(renewed, Ok(false), "nothing waits: it was not taken");

    // While others wait and somebody holds it too.
    fixture.deliver(&alice, 3).await;
    let another = fixture.store.take_overdue(&alice, Turn::new(), LONG).await;
    assert_eq!(another, Ok(expected));
    fixture.store.release(&alice, fixture.turn).await.unwrap();
    let both = fixture.take_overdue(&alice).await;
    assert_eq!(both.not_given, [key(1)]);
    assert_eq!(both.held.unwrap().waiting[0].key, key(3));
    fixture
        .finish(
            &alice,
            &Handled {
                given: true,
                ..handled(3)
            },
        )
        .await;

    let mark = async |n, given| {
        let key = key(n);
        let mark = fixture.store.mark_given(&alice, &key, given);
        mark.await.unwrap();
    };
    mark(1, true).await;
    assert_eq!(fixture.overdue().await, []);
    mark(1, false).await;
    assert_eq!(fixture.overdue().await, [], "a delivery has carried it");
    fixture.age("ledger", "first_seen", 60 * SECOND).await;
    assert_eq!(fixture.overdue().await, [], "a delivery carries it");
    mark(3, false).await;
    assert_eq!(fixture.overdue().await, std::slice::from_ref(&alice));
    assert_eq!(fixture.store.keep_answer(&alice, &key(3)).await, Ok(true));
    assert_eq!(fixture.overdue().await, []);
    assert_eq!(fixture.take_overdue(&alice).await, Overdue::default());
}

#[tokio::test]
async fn an_answer_that_nobody_fetched_is_overdue_and_an_awaited_one_is_not() {
    let fixture = Fixture::new().await;
    let alice = user("oAlice");
    let left_open = Handled {
        reply: None,
        ..handled(1)
    };
    fixture.handle(&alice, &left_open).await;
    fixture.age("ledger", "first_seen", 60 * SECOND).await;
    assert_eq!(fixture.overdue().await, []);
    let answered = fixture.store.answer(&alice, &key(1), b"x").await.unwrap();
    assert!(matches!(answered, Answered::Taken { .. }), "{answered:?}");
    assert_eq!(fixture.overdue().await, std::slice::from_ref(&alice));

    // What can't be said to a user who has left is not overdue for ever.
    fixture.say(&alice, 2, true).await;
    fixture
        .finish(
            &alice,
            &Handled {
                given: true,
                ..handled(2)
            },
        )
        .await;
    assert_eq!(fixture.store.keep_answer(&alice, &key(1)).await, Ok(false));
    assert_eq!(fixture.overdue().await, []);
}

#[tokio::test]
async fn an_entry_is_forgotten_after_its_time_whether_it_was_deleted_or_not() {
    let fixture = Fixture::new().await;
    let (alice, store) = (user("oAlice"), &fixture.store);
    for n in [1, 2] {
        fixture.handle(&alice, &handled(n)).await;
    }
    fixture.age("ledger", "first_seen", REMEMBER_MESSAGES).await;

    assert_eq!(fixture.overdue().await, []);
    assert_eq!(fixture.take_overdue(&alice).await, Overdue::default());
    assert_eq!(
        store.answer(&alice, &key(2), b"x").await,
        Ok(Answered::Unknown)
    );
    assert_eq!(store.keep_answer(&alice, &key(1)).await, Ok(false));
    for n in [1, 2] {
        let looked = store.look(&alice, &key(n), fixture.turn, LONG).await;
        assert_eq!(looked, Ok(UNKNOWN));
    }
    // Delivered again it is new.
    let delivered = fixture.deliver(&alice, 1).await;
    assert!(matches!(delivered, Delivered::Held(_)), "{delivered:?}");

    store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("ledger").await, 1);
}

#[tokio::test]
async fn a_message_that_waits_is_never_forgotten() {
    let fixture = Fixture::new().await;
    let (alice, store) = (user("oAlice"), &fixture.store);
    fixture.deliver(&alice, 2).await;
    fixture.handle(&user("oBob"), &handled(1)).await;
    fixture.age("ledger", "first_seen", REMEMBER_MESSAGES).await;
    fixture.age("conversations", "lease_until", LONG).await;
    store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("ledger").await, 1, "what was handled is gone");

    assert_eq!(fixture.overdue().await, std::slice::from_ref(&alice));
    let found = fixture.take_overdue(&alice).await.held.unwrap();
    assert_eq!(found.waiting[0].key, key(2));
    let answer = store.answer(&alice, &key(2), b"from outside").await;
    assert!(matches!(answer, Ok(Answered::Taken { .. })), "{answer:?}");
    // It comes again, and keeps its place before those behind it.
    fixture.deliver(&alice, 3).await;
    match fixture.deliver(&alice, 2).await {
        Delivered::Held(found) => {
            let keys: Vec<u8> = found.waiting.iter().map(|w| w.key.0[0]).collect();
            assert_eq!(keys, [2, 3]);
            assert_eq!(found.waiting[0].deliveries, 2);
        }
        other => panic!("{other:?}"),
    }
    match fixture.finish(&alice, &handled(2)).await {
        Finished::Written(next) => assert_eq!(next[0].key, key(3)),
        other => panic!("{other:?}"),
    }
}

/// As many as one step of the collection takes wait in front of what is to go.
#[tokio::test]
async fn what_waits_does_not_hold_up_the_collection() {
    let fixture = Fixture::new().await;
    let rows = "SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1200";
    for (column, value) in [("message", "'<xml/>'"), ("reply", "x'00'")] {
        fixture
            .execute(format!(
                "INSERT INTO ledger (conversation, key, deliveries, first_seen, {column})
                 SELECT i, randomblob(32), 1, 1, {value}
                 FROM (WITH RECURSIVE n (i) AS ({rows}) SELECT i FROM n)"
            ))
            .await;
    }
    fixture.store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("ledger").await, 1200);
    assert_eq!(fixture.count("ledger WHERE message IS NULL").await, 0);
}

#[tokio::test]
async fn a_kept_answer_is_forgotten_after_its_time() {
    let fixture = Fixture::new().await;
    let alice = user("oAlice");
    let keep = |n: u8, count: usize| Handled {
        kept: vec![vec![n]; count],
        ..handled(n)
    };
    fixture.handle(&alice, &keep(1, 3)).await;
    fixture
        .age("kept_answers", "expires_at", KEEP_ANSWERS - LONG)
        .await;
    fixture.handle(&alice, &keep(2, 1)).await;
    let kept_for = async |n| match fixture.deliver(&alice, n).await {
        Delivered::Held(found) => found.kept,
        other => panic!("{other:?}"),
    };
    assert_eq!(kept_for(100).await.len(), 4);
    fixture.age("kept_answers", "expires_at", LONG).await;
    assert_eq!(replies(&kept_for(101).await), [[2]]);
    // Nor does it take the place of another.
    fixture.finish(&alice, &handled(100)).await;
    let finish = Handled {
        key: key(101),
        ..keep(3, MOST_KEPT - 1)
    };
    fixture.finish(&alice, &finish).await;
    let mut expected = vec![&[2][..]];
    expected.resize(MOST_KEPT, &[3]);
    assert_eq!(replies(&kept_for(102).await), expected);
    let sending = fixture.store.begin_sending(&alice, LONG).await.unwrap();
    assert_eq!(sending.unwrap().reply, [2]);
    fixture.store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("kept_answers").await, MOST_KEPT);
}

#[tokio::test]
async fn a_conversation_is_deleted_when_nothing_of_it_lives() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let [alice, bob, carol, dave, eve] = ["oAlice", "oBob", "oCarol", "oDave", "oEve"].map(user);
    let given = |n| Handled {
        given: true,
        ..handled(n)
    };
    // One who was forgotten is remembered for his last message, which may come again.
    let frank = user("oFrank");
    fixture.say(&frank, 1, true).await;
    fixture.finish(&frank, &given(1)).await;
    store.forget_user(&frank).await.unwrap();
    // Of each other something else lives: nothing, a session, a kept answer, a window, a message that waits.
    fixture.handle(&alice, &given(1)).await;
    let session = SessionChange::Set(b"session".to_vec(), LONG);
    fixture
        .handle(
            &bob,
            &Handled {
                session,
                ..given(1)
            },
        )
        .await;
    let kept = vec![b"kept".to_vec()];
    fixture.handle(&carol, &Handled { kept, ..given(1) }).await;
    let session = SessionChange::Set(b"over".to_vec(), Duration::ZERO);
    fixture
        .handle(
            &dave,
            &Handled {
                session,
                ..given(1)
            },
        )
        .await;
    fixture.deliver(&eve, 1).await;
    store.collect_garbage().await.unwrap();
    let delivered = fixture.deliver(&frank, 1).await;
    assert_eq!(delivered, Delivered::Done(vec![1]));
    assert_eq!(fixture.count("ledger").await, 6);
    assert_eq!(fixture.count("conversations").await, 6);
    assert_eq!(
        fixture
            .count("conversations WHERE session IS NOT NULL")
            .await,
        1,
        "a session that is over is deleted at once"
    );

    fixture.age("ledger", "first_seen", REMEMBER_MESSAGES).await;
    store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("ledger").await, 1, "Eve's waits");
    assert_eq!(
        fixture.count("conversations").await,
        5,
        "their windows are open"
    );
    let two_days = Duration::from_secs(48 * 3600);
    fixture.age("conversations", "message_at", two_days).await;
    let reopen = "UPDATE conversations SET click_at = message_at + 3600000 WHERE openid = 'oDave'";
    fixture.execute(reopen.into()).await;
    store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("conversations").await, 4);
    assert_eq!(
        fixture.count("conversations WHERE openid = 'oAlice'").await,
        0
    );

    store.forget_user(&carol).await.unwrap();
    fixture.finish(&eve, &given(1)).await;
    fixture.age("conversations", "session_until", LONG).await;
    fixture.age("conversations", "click_at", LONG).await;
    store.collect_garbage().await.unwrap();
    assert_eq!(fixture.count("conversations").await, 0);
    // He is a new user then.
    fixture.handle(&alice, &given(1)).await;
}

#[tokio::test]
async fn garbage_of_many_steps_is_collected_to_the_last() {
    let fixture = Fixture::new().await;
    let alice = user("oAlice");
    let letter = DeadLetter {
        id: "lives".into(),
        open_id: alice.clone(),
        message: "<xml/>".into(),
        reason: "refused".into(),
        age: Duration::ZERO,
    };
    let add = fixture.store.add_dead_letter(&letter, LONG, 10_000);
    add.await.unwrap();
    fixture
        .store
        .save_upload(&key(1), "lives", LONG)
        .await
        .unwrap();
    let rows = "FROM (WITH RECURSIVE n (i) AS
        (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1200) SELECT i FROM n)";
    for table in [
        "conversations (openid) SELECT 'o' || i",
        "conversations (openid, session, session_until) SELECT 'p' || i, x'00', 1",
        "ledger (conversation, key, deliveries, first_seen) SELECT i, randomblob(32), 1, 1",
        "kept_answers (conversation, reply, expires_at) SELECT i, x'00', 1",
        "dead_letters (id, openid, message, reason, added_at, expires_at)
         SELECT i, 'o', 'm', 'r', 0, 1",
        "uploads (file, media_id, expires_at) SELECT randomblob(32), 'm', 1",
        "sessions (id, openid, scope, expires_at) SELECT randomblob(32), 'o', 's', 1",
        "sign_ins (state, browser, scope, expires_at)
         SELECT randomblob(32), randomblob(32), 's', 1",
    ] {
        fixture.execute(format!("INSERT INTO {table} {rows}")).await;
    }
    // Behind all of them, so found by the last step.
    fixture.deliver(&alice, 1).await;
    fixture.store.collect_garbage().await.unwrap();
    for (table, left) in [
        ("conversations", 1),
        ("ledger", 1),
        ("kept_answers", 0),
        ("dead_letters", 1),
        ("uploads", 1),
        ("sessions", 0),
        ("sign_ins", 0),
    ] {
        assert_eq!(fixture.count(table).await, left, "{table}");
    }
}

#[test]
fn what_changes_state_or_kept_answers_outlives_a_power_failure() {
    assert_eq!(survives(&handled(1)), Survives::Crash);
    for careful in [
        Handled {
            taken: vec![AnswerId(1)],
            ..handled(1)
        },
        Handled {
            kept: vec![vec![]],
            ..handled(1)
        },
        Handled {
            session: SessionChange::Cleared,
            ..handled(1)
        },
        Handled {
            session: SessionChange::Set(vec![], LONG),
            ..handled(1)
        },
    ] {
        assert_eq!(survives(&careful), Survives::PowerLoss, "{careful:?}");
    }
}
