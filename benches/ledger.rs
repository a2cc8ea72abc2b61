//! What the ledger of a common message costs on the embedded store: its delivery and its end, each message
//! of a sender of his own. `cargo bench --bench ledger`
//!
//! The time is the caller's. A thread of the store's writes what is gathered, thousands of messages in one
//! piece; `tests/load` sees the CPU time of both.

#![expect(clippy::unwrap_used, reason = "a benchmark ends with the first fault")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use divan::{AllocProfiler, Bencher};
use offiaccount::store::{
    Delivered, Delivery, Digest, Handled, SessionChange, Store, Trigger, Turn,
};
use offiaccount::telemetry::metrics::StoreMetrics;
use offiaccount::wechat::id::OpenId;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const LEASE: Duration = Duration::from_secs(4);

fn main() {
    divan::main();
}

/// The `n`th message, and what becomes of it.
fn message(n: u64) -> (OpenId, Delivery, Handled) {
    let mut key = [0; 32];
    // Digests are spread evenly.
    let spread = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key[..8].copy_from_slice(&spread.to_le_bytes());
    let key = Digest(key);
    let delivery = Delivery {
        key,
        message: "<xml>".repeat(60).into(),
        is_farewell: false,
        may_be_old: false,
        is_handled: false,
        opens: Some(Trigger::Message),
    };
    let handled = Handled {
        key,
        reply: Some(vec![b'x'; 90]),
        given: true,
        taken: vec![],
        kept: vec![],
        session: SessionChange::Unchanged,
    };
    let user = OpenId::parse(&format!("o6_bmjrPTlm6_2sgVt7hM{n:07}")).unwrap();
    (user, delivery, handled)
}

async fn handle(store: &Arc<dyn Store>, (user, delivery, handled): (OpenId, Delivery, Handled)) {
    let turn = Turn([1; 16]);
    let found = store.deliver(&user, &delivery, turn, LEASE).await;
    assert!(matches!(found, Ok(Delivered::Held(_))), "{found:?}");
    store.finish(&user, &handled, turn, LEASE).await.unwrap();
}

#[divan::bench(sample_count = 200, sample_size = 1_000)]
fn deliver_and_finish(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let metrics = StoreMetrics::register(&prometheus::Registry::new()).unwrap();
    let store = runtime
        .block_on(offiaccount::store::open(&url, metrics))
        .unwrap();
    let number = Cell::new(0);
    bencher
        .with_inputs(|| message(number.replace(number.get() + 1)))
        .bench_local_values(|message| runtime.block_on(handle(&store, message)));
    runtime.block_on(store.close());
}
