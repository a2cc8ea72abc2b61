//! What a store that is away for a moment must not do to a user's messages, case by case. `kills` takes it
//! away at random.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use offiaccount::simulator::{Kind, Mode};
use serde_json::Value;

use crate::instances::{Cluster, Database, Plan};

const FAN: &str = "oFan";
/// How long something that has to happen may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than an operation may take on the way to an answer.
const A_WHILE: Duration = Duration::from_millis(2_500);

async fn start(instances: usize) -> Cluster {
    Cluster::start(Plan {
        database: Database::Sqlite,
        instances,
        mode: Mode::Plain,
        kind: Kind::Service,
        settings: vec![],
        is_patient: false,
    })
    .await
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn shown(result: &Value) -> &str {
    result["shown_to_user"].as_str().unwrap()
}

impl Cluster {
    async fn has_begun(&self, tag: &str) {
        let has_begun = || self.journal.read().contains_key(tag);
        eventually("it is begun", has_begun).await;
    }

    /// Waits until so many messages are done by the store's books.
    async fn has_stored(&self, messages: usize, and: &str) {
        let db = self.store.read();
        let sql = format!("SELECT count(*) FROM ledger WHERE message IS NULL {and}");
        let has_stored = || {
            let count: usize = db.query_row(&sql, [], |row| row.get(0)).unwrap();
            count == messages
        };
        eventually(&sql, has_stored).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_set_while_the_store_is_away_is_what_the_next_message_finds() {
    let cluster = start(1).await;
    let fans: Vec<String> = (0..20).map(|fan| format!("oFan{fan}")).collect();
    // Each a little after the one before, so that they find the store in every way.
    let write = async |text: &'static str, between: Duration| {
        let writing = (0..).zip(&fans).map(async |(number, fan)| {
            tokio::time::sleep(between * number).await;
            cluster.phones.write(fan, text).await
        });
        join_all(writing).await
    };
    for result in write("count after 0 #first", Duration::ZERO).await {
        assert_eq!(shown(&result), "count 1 #first");
    }
    let absence = cluster.store.take_away();
    let away = async move {
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(absence);
    };
    let between = Duration::from_millis(80);
    let set = write("count from 5 #set", between);
    let next = async {
        tokio::time::sleep(2 * between).await;
        write("count after 0 #next", between).await
    };
    let (_, set, next) = tokio::join!(away, set, next);
    for (set, next) in set.iter().zip(&next) {
        assert_eq!(shown(set), "counts from 5 #set");
        assert_eq!(shown(next), "count 6 #next");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_carried_while_the_store_is_away_is_noted_when_it_is_back() {
    let cluster = start(1).await;
    let writing = cluster.phones.write(FAN, "count after 4500 #slow");
    let absence = async {
        // Written when the first delivery no longer carries it, and the second one does not yet.
        cluster.has_stored(1, "AND given = 0").await;
        let absence = cluster.store.take_away();
        tokio::time::sleep(A_WHILE).await;
        drop(absence);
    };
    let (result, ()) = tokio::join!(writing, absence);
    assert_eq!(result["attempts"].as_array().unwrap().len(), 2, "{result}");
    assert_eq!(shown(&result), "count 1 #slow");
    // Else it would be overdue, and sent again.
    cluster.has_stored(1, "AND given <> 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_answered_while_the_store_is_away_is_not_handled_by_who_holds_the_others() {
    let cluster = start(2).await;
    let slow = cluster.phones.write(FAN, "wait 6000 #slow");
    let quick = async {
        cluster.has_begun("slow").await;
        let absence = cluster.store.take_away();
        // The balancer sends it to the other instance.
        let quick = cluster.phones.write(FAN, "wait 0 #quick").await;
        drop(absence);
        quick
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(shown(&slow), "waited 6000 #slow");
    assert_eq!(shown(&quick), "waited 0 #quick");
    cluster.has_stored(2, "").await;
    let handlings = cluster.journal.read();
    assert_ne!(handlings["quick"].begun, handlings["slow"].begun);
    for (tag, handling) in handlings {
        assert_eq!(handling.begun.len(), 1, "#{tag}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_while_the_store_is_away_tells_what_only_it_knows() {
    let mut cluster = start(1).await;
    let absence = cluster.store.take_away();
    let phones = cluster.phones.clone();
    let writing = tokio::spawn(async move { phones.write(FAN, "count after 0 #lost").await });
    cluster.has_begun("lost").await;
    cluster.instances[0].signal("TERM");
    cluster.instances[0].ends().await;
    drop(absence);
    writing.abort();
    let log = cluster.instances[0].log();
    assert!(log.contains("does not know these messages"), "{log}");
    assert!(log.contains("messages=1"), "{log}");
}
