use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::*;
use crate::keys::generate;
use crate::secret::Secret;

/// One key in a store that takes its time and can be away.
#[derive(Default)]
struct Shelf {
    stored: Mutex<Option<(Digest, StoredKey)>>,
    is_away: AtomicBool,
    reads: AtomicUsize,
    touches: AtomicUsize,
}

const READ_TAKES: Duration = Duration::from_millis(5);

#[async_trait]
impl KeyStore for Shelf {
    async fn add_key(
        &self,
        _: &KeyName,
        _: &Digest,
        _: &[Scope],
        _: Option<Duration>,
    ) -> Result<bool, StoreError> {
        unreachable!("a gate only looks")
    }

    async fn key(&self, digest: &Digest) -> Result<Option<StoredKey>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(READ_TAKES).await;
        if self.is_away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("away".into()));
        }
        let stored = self.stored.lock().unwrap();
        let found = stored.as_ref().filter(|(of, _)| of == digest);
        Ok(found.map(|(_, stored)| stored.clone()))
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        unreachable!("a gate only looks")
    }

    async fn touch_key(&self, _: &Digest, _: &KeyName) -> Result<(), StoreError> {
        self.touches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn remove_key(&self, _: &KeyName) -> Result<bool, StoreError> {
        unreachable!("a gate only looks")
    }
}

impl Shelf {
    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

fn gate_with(expires_in: Option<Duration>) -> (Gate, Arc<Shelf>, Secret) {
    let (key, digest) = generate();
    let stored = StoredKey {
        name: "billing".parse().unwrap(),
        scopes: vec![Scope::Tokens],
        age: Duration::ZERO,
        expires_in,
        idle: None,
    };
    let shelf = Arc::new(Shelf::default());
    *shelf.stored.lock().unwrap() = Some((digest, stored));
    (Gate::new(shelf.clone(), TaskTracker::new()), shelf, key)
}

async fn opens(gate: &Gate, key: &Secret) -> Result<bool, StoreError> {
    let holder = gate.holder(key.expose()).await?;
    Ok(holder.is_some_and(|holder| holder.name.as_str() == "billing"))
}

#[tokio::test(start_paused = true)]
async fn a_crowd_with_one_key_is_one_read() {
    let (gate, shelf, key) = gate_with(None);
    let crowd = join_all((0..1000).map(|_| opens(&gate, &key))).await;
    assert!(crowd.iter().all(|answer| *answer == Ok(true)));
    assert_eq!(shelf.reads(), 1);
    assert_eq!(opens(&gate, &key).await, Ok(true));
    assert_eq!(shelf.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_steady_use_nobody_waits_and_the_store_is_asked_seldom() {
    let (gate, shelf, key) = gate_with(None);
    opens(&gate, &key).await.unwrap();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        assert_eq!(opens(&gate, &key).await, Ok(true));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
    assert!((11..=13).contains(&shelf.reads()), "{}", shelf.reads());
    let touches = shelf.touches.load(Ordering::Relaxed);
    assert!((1..=2).contains(&touches), "{touches} in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_removed_key_opens_nothing_ten_seconds_later() {
    for is_in_use in [true, false] {
        let (gate, shelf, key) = gate_with(None);
        assert_eq!(opens(&gate, &key).await, Ok(true));
        *shelf.stored.lock().unwrap() = None;
        let removed_at = Instant::now();
        while removed_at.elapsed() < REMEMBER_FOR {
            if is_in_use {
                opens(&gate, &key).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(opens(&gate, &key).await, Ok(false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_seen_lately_works_while_the_store_is_away_and_then_it_is_the_stores_fault()
{
    let (gate, shelf, key) = gate_with(None);
    assert_eq!(opens(&gate, &key).await, Ok(true));
    shelf.is_away.store(true, Ordering::Relaxed);
    tokio::time::sleep(REMEMBER_FOR - Duration::from_millis(100)).await;
    assert_eq!(opens(&gate, &key).await, Ok(true));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let away = Err(StoreError::Unavailable("away".into()));
    assert_eq!(opens(&gate, &key).await, away);
    shelf.is_away.store(false, Ordering::Relaxed);
    assert_eq!(opens(&gate, &key).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_key_ends_with_its_life_also_while_it_is_remembered() {
    let (gate, shelf, key) = gate_with(Some(Duration::from_secs(2)));
    assert_eq!(opens(&gate, &key).await, Ok(true));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(opens(&gate, &key).await, Ok(false));
    assert_eq!(shelf.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_key_is_not_looked_up_and_invented_keys_cost_no_more_memory() {
    let (gate, shelf, key) = gate_with(None);
    for text in ["", "admin", "oak_", &key.expose()[1..]] {
        assert_eq!(gate.holder(text).await, Ok(None));
    }
    assert_eq!(shelf.reads(), 0);
    for _ in 0..MOST_REMEMBERED + 50 {
        assert_eq!(gate.holder(generate().0.expose()).await, Ok(None));
    }
    assert_eq!(opens(&gate, &key).await, Ok(true));
    let state = gate.state();
    assert!(state.seen.len() <= MOST_REMEMBERED + 1);
    assert!(state.looking.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_invented_key_that_comes_again_is_not_looked_up_again() {
    let (gate, shelf, _) = gate_with(None);
    let (invented, _) = generate();
    for _ in 0..10 {
        assert_eq!(gate.holder(invented.expose()).await, Ok(None));
    }
    assert_eq!(shelf.reads(), 1);
}
