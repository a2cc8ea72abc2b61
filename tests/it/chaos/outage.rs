//! The store away, as the operator, the balancer and the fans see it; and answers of the store that are
//! lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::network::{Link, Rule, Side};
use super::site::Site;
use super::{Course, LIGHT, SHORT, expect_no_defects, seed, suffer};
use crate::helpers::eventually;

/// How soon the operator learns that the store is away.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// How soon all is well by itself, once the store is back: the election, and what the driver waits for.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// An answer, at the latest.
const ANSWERED_WITHIN_MS: u64 = 4_500;

/// What can be wrong with the store.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// No connection can be had.
    Cut,
    /// Nothing is heard of it.
    Silent,
    /// The same, and the connections of that time stay dead.
    Lost,
    /// All its processes stand still.
    Frozen,
}

impl Site {
    fn takes_away(&self, how: Away) {
        let link = match how {
            Away::Cut => Link::Cut,
            Away::Silent => Link::Silent,
            Away::Lost => Link::Lost,
            Away::Frozen => return (0..3).for_each(|member| self.set.signal(member, "STOP")),
        };
        self.network.becomes(vec![Rule {
            between: (Side::Instances, Side::Members),
            link,
        }]);
    }

    fn gives_back(&self, how: Away) {
        match how {
            Away::Frozen => (0..3).for_each(|member| self.set.signal(member, "CONT")),
            _ => self.network.heals(),
        }
    }

    /// The status of a page of the first instance.
    async fn status(&self, path: &str) -> u16 {
        let url = format!("http://{}{path}", self.instances[0].addr);
        let request = self.phones.http.get(url).timeout(TOLD_WITHIN);
        request
            .send()
            .await
            .map_or(0, |answer| answer.status().as_u16())
    }

    /// A fan writes. How the last delivery was answered: the status, the milliseconds, and the text.
    async fn is_told(&self, fan: &str, text: &str) -> (u64, u64, String) {
        let result = self.phones.write(fan, text).await;
        let attempts = result["attempts"].as_array().unwrap();
        let last = attempts.last().unwrap();
        let shown = result["shown_to_user"].as_str().unwrap().to_owned();
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        (number(&last["status"]), number(&last["ms"]), shown)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_messages_are_answered_and_the_operator_knows() {
    let site = Site::start(SHORT).await;
    let fan = |number: usize| super::load::open_id(number);
    for (number, how) in [Away::Cut, Away::Silent, Away::Lost, Away::Frozen]
        .into_iter()
        .enumerate()
    {
        while site.counters.ready_since().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (status, _, shown) = site
            .is_told(&fan(number), &format!("wait 0 #w{number}"))
            .await;
        assert_eq!(
            (status, &*shown),
            (200, &*format!("waited 0 #w{number}")),
            "{how:?}"
        );

        site.takes_away(how);
        let began = Instant::now();
        while site.status("/readyz").await != 503 {
            let ago = began.elapsed();
            assert!(ago < TOLD_WITHIN, "{how:?}: not told after {ago:?}");
        }
        assert!(
            began.elapsed() < TOLD_WITHIN,
            "{how:?}: {:?}",
            began.elapsed()
        );
        // The balancer keeps it, and it answers.
        assert_eq!(site.status("/healthz").await, 200, "{how:?}");
        let asked = format!("wait 100 #a{number}");
        let (status, ms, shown) = site.is_told(&fan(number), &asked).await;
        assert_eq!(
            (status, &*shown),
            (200, &*format!("waited 100 #a{number}")),
            "{how:?}"
        );
        let within_ms = ANSWERED_WITHIN_MS + site.longest_stall_ms();
        assert!(ms < within_ms, "{how:?}: {ms} ms");
        assert_eq!(site.status("/healthz").await, 200, "{how:?}");
        assert_eq!(site.status("/readyz").await, 503, "{how:?}");

        site.gives_back(how);
        let back = Instant::now();
        while site.status("/readyz").await != 200 {
            let ago = back.elapsed();
            assert!(ago < BACK_WITHIN, "{how:?}: not back after {ago:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprintln!("{how:?}: back after {:?}", back.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_delivery_is_answered_though_no_instance_knows_of_the_others() {
    let site = Site::start(SHORT).await;
    let fan = super::load::open_id(1);
    site.takes_away(Away::Cut);
    // Its handler waits for the session, which only the store has.
    let (status, ms, shown) = site.is_told(&fan, "count after 0 #c").await;
    assert_eq!((status, &*shown), (200, ""));
    let within_ms = ANSWERED_WITHIN_MS + site.longest_stall_ms();
    assert!(ms < within_ms, "{ms} ms");
    let passage = site.balancer.passages().remove("c").unwrap();
    let instances: BTreeSet<u32> = passage.hops.iter().map(|hop| hop.pid).collect();
    assert_eq!(instances.len(), 3, "{passage:?}");
    site.gives_back(Away::Cut);
    let heard = || async {
        let heard = site.phones.heard(&fan).await;
        heard
            .into_iter()
            .map(|bubble| bubble.shown)
            .collect::<Vec<_>>()
    };
    eventually(Duration::from_secs(30), async || !heard().await.is_empty()).await;
    // A second one would come now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(heard().await, ["count 1 #c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_store_that_is_lost_makes_nothing_happen_twice() {
    let (table, _) = suffer(SHORT, LIGHT, Course::LostAnswers(12), seed()).await;
    expect_no_defects(&table);
}
