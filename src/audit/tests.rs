use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use prometheus::Registry;

use super::*;
use crate::store::AuditQuery;

/// A try while the list is away, as of a store that does not answer.
const TAKES_TO_FAIL: Duration = Duration::from_secs(5);

/// A list that can be away.
#[derive(Default)]
struct Shelf {
    is_away: AtomicBool,
    batches: Mutex<Vec<(AuditBatch, Vec<AuditEntry>)>>,
}

#[async_trait]
impl AuditStore for Shelf {
    async fn add_audit(
        &self,
        batch: AuditBatch,
        entries: &[AuditEntry],
        keep: Duration,
    ) -> Result<(), StoreError> {
        assert_eq!(keep, KEEP);
        if self.is_away.load(Ordering::Relaxed) {
            tokio::time::sleep(TAKES_TO_FAIL).await;
            return Err(StoreError::Unavailable("away".into()));
        }
        let mut batches = self.batches.lock().unwrap();
        batches.push((batch, entries.to_vec()));
        Ok(())
    }

    async fn audit(&self, _query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        unreachable!("nobody reads here")
    }
}

struct Desk {
    audit: Audit,
    shelf: Arc<Shelf>,
    registry: Registry,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Desk {
    fn new() -> Self {
        let (registry, shelf) = (Registry::new(), Arc::new(Shelf::default()));
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let metrics = AuditMetrics::register(&registry).unwrap();
        let audit = Audit::new(shelf.clone(), metrics, tasks.clone(), shutdown.clone());
        Self {
            audit,
            shelf,
            registry,
            tasks,
            shutdown,
        }
    }

    fn away(&self, is_away: bool) {
        self.shelf.is_away.store(is_away, Ordering::Relaxed);
    }

    /// Waits until no task is at it: the clock goes on by itself.
    async fn is_idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn written(&self) -> Vec<AuditEntry> {
        let batches = self.shelf.batches.lock().unwrap();
        batches
            .iter()
            .flat_map(|(_, entries)| entries.clone())
            .collect()
    }

    fn counted(&self, outcome: &str) -> u64 {
        let families = self.registry.gather();
        let uses = families
            .iter()
            .find(|family| family.name() == "offiaccount_audit_uses_total");
        let metrics = uses.unwrap().get_metric().iter();
        let mut of_outcome = metrics.filter(|metric| metric.get_label()[0].value() == outcome);
        of_outcome
            .next()
            .map_or(0, |metric| metric.get_counter().get_value() as u64)
    }
}

fn entry(key: &str, status: u16) -> AuditEntry {
    AuditEntry {
        key: key.into(),
        action: "GET /getTokens".into(),
        status: Some(status),
        errcode: None,
        request: None,
        times: 1,
        age: Duration::ZERO,
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_is_written_together() {
    let desk = Desk::new();
    for key in ["a", "b", "c"] {
        desk.audit.note(entry(key, 200));
    }
    assert!(desk.written().is_empty(), "nobody waits for the store");
    desk.is_idle().await;
    assert_eq!(desk.shelf.batches.lock().unwrap().len(), 1);
    let written = desk.written();
    let keys: Vec<_> = written.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(written[0].age, GATHER_FOR);
    // And what comes later has a task of its own.
    desk.audit.note(entry("d", 200));
    desk.is_idle().await;
    assert_eq!(desk.written().len(), 4);
    assert_eq!((desk.counted("written"), desk.counted("lost")), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn entries_wait_for_a_store_that_is_away_and_keep_their_time() {
    let desk = Desk::new();
    desk.away(true);
    desk.audit.note(entry("a", 200));
    tokio::time::sleep(Duration::from_secs(600)).await;
    desk.audit.note(entry("b", 200));
    assert_eq!((desk.counted("written"), desk.counted("lost")), (0, 0));
    desk.away(false);
    desk.is_idle().await;
    let written = desk.written();
    assert!(written[0].age >= Duration::from_secs(600), "{written:?}");
    assert!(written[1].age <= AGAIN_AFTER + TAKES_TO_FAIL, "{written:?}");
    assert_eq!(desk.counted("written"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_while_the_store_is_away_is_counted_in_few_entries() {
    let desk = Desk::new();
    desk.away(true);
    let uses = MOST_WAITING * 3;
    for _ in 0..uses {
        desk.audit.note(entry("a", 200));
    }
    desk.away(false);
    desk.is_idle().await;
    let written = desk.written();
    assert_eq!(written.len(), LIKE_USES);
    assert_eq!(
        written.iter().map(|entry| entry.times).sum::<u32>() as usize,
        uses
    );
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted_as_lost() {
    let desk = Desk::new();
    desk.away(true);
    for n in 0..MOST_WAITING + 3 {
        desk.audit.note(entry(&format!("key-{n}"), 200));
    }
    assert_eq!(desk.counted("lost"), 3);
    desk.away(false);
    desk.is_idle().await;
    assert_eq!(desk.written().len(), MOST_WAITING);
    let batches = desk.shelf.batches.lock().unwrap();
    assert!(batches.iter().all(|(_, entries)| entries.len() <= BATCH));
}

#[tokio::test(start_paused = true)]
async fn an_end_while_the_store_is_away_counts_what_is_lost() {
    let desk = Desk::new();
    desk.away(true);
    for n in 0..BATCH + 7 {
        desk.audit.note(entry(&format!("key-{n}"), 200));
    }
    // In the midst of a try, which is not its last.
    tokio::time::sleep(Duration::from_secs(58)).await;
    let began = Instant::now();
    desk.shutdown.cancel();
    desk.is_idle().await;
    assert!(began.elapsed() <= LAST_TRY, "{:?}", began.elapsed());
    assert_eq!(desk.counted("lost"), BATCH as u64 + 7);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nothing_is_gathered_any_more() {
    let desk = Desk::new();
    desk.audit.note(entry("a", 200));
    desk.shutdown.cancel();
    let began = Instant::now();
    desk.is_idle().await;
    desk.audit.note(entry("b", 200));
    desk.is_idle().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(desk.written().len(), 2);
}

#[test]
fn like_uses_are_counted_in_the_last_entry_and_others_are_not() {
    let noted = |key, status| Noted {
        entry: entry(key, status),
        at: Instant::now(),
    };
    let mut uses: Vec<_> = (0..LIKE_USES + 4).map(|_| noted("a", 200)).collect();
    uses.push(noted("a", 403));
    uses.push(noted("b", 200));
    let folded = fold(uses);
    let times = |key: &str, status| -> Vec<u32> {
        let of_kind = folded
            .iter()
            .filter(|noted| noted.entry.key == key && noted.entry.status == Some(status));
        of_kind.map(|noted| noted.entry.times).collect()
    };
    let mut expected = vec![1; LIKE_USES];
    expected[LIKE_USES - 1] = 5;
    assert_eq!(times("a", 200), expected);
    assert_eq!(times("a", 403), [1]);
    assert_eq!(times("b", 200), [1]);
}
