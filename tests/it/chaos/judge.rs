//! The judge: what became of every message, by the platform's books, the balancer's and the instances'.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::balancer::{Hop, Passage, Passed};
use super::fault::{Fault, Strike};
use super::load::{Sent, open_id};
use super::site::Site;
use super::tokens::Fetch;
use crate::helpers::control;
use crate::instances::{Bubble, Stall};

/// Every answer, and every third delivery, is over by then.
const IN_TIME_MS: u64 = 4_500;
/// After the last fault every answer is there within this time.
const SETTLED: Duration = Duration::from_secs(75);
/// Longer than a message is delivered.
const DELIVERIES_MS: u64 = 16_000;
/// A table shows so many of what should not be.
const SHOWN: usize = 5;

/// All that was written down.
pub(crate) struct Books {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) sent: Vec<Sent>,
    pub(crate) strikes: Vec<Strike>,
    pub(crate) heard: HashMap<usize, Vec<Bubble>>,
    passages: HashMap<String, Passage>,
    handlings: HashMap<String, Handled>,
    stalls: Vec<Stall>,
    fetches: Vec<Fetch>,
    counted_twice: u64,
}

/// What the journal says of a message.
#[derive(Clone, Debug, Default)]
struct Handled {
    by: Vec<u32>,
    ended: usize,
}

impl Books {
    /// Closes the books, once all that is late is there.
    pub(crate) async fn close(
        site: &Site,
        seed: u64,
        took: Duration,
        sent: Vec<Sent>,
        strikes: Vec<Strike>,
        fetches: Vec<Fetch>,
    ) -> Self {
        let heard = hear_all(site, &sent).await;
        let mut handlings: HashMap<String, Handled> = HashMap::new();
        for (what, pid, tag) in site.journal.lines() {
            let handled = handlings.entry(tag).or_default();
            match what.as_str() {
                "begun" => handled.by.push(pid),
                _ => handled.ended += 1,
            }
        }
        let total = |sample: &str| site.counters.total(sample);
        Self {
            seed,
            took,
            sent,
            heard,
            passages: site.balancer.passages(),
            handlings,
            stalls: stalls(site, &strikes),
            fetches,
            counted_twice: total("offiaccount_deliveries_repeated_total{found=\"twice\"}"),
            strikes,
        }
    }

    /// What became of all of it.
    pub(crate) fn judge(&self) -> Table {
        let mut table = Table {
            sent: self.sent.len(),
            stalls: self.stalls.len(),
            longest_stall_ms: self.stalls.iter().map(Stall::ms).max().unwrap_or(0),
            counted_twice: self.counted_twice,
            ..Table::default()
        };
        for sent in &self.sent {
            self.judge_message(sent, &mut table);
        }
        self.judge_counts(&mut table);
        self.judge_tokens(&mut table);
        table
    }

    fn judge_message(&self, sent: &Sent, table: &mut Table) {
        let passage = self.passages.get(&sent.tag).cloned().unwrap_or_default();
        let handled = self.handlings.get(&sent.tag).cloned().unwrap_or_default();
        let bubbles: Vec<&Bubble> = self
            .heard
            .get(&sent.fan)
            .into_iter()
            .flatten()
            .filter(|bubble| bubble.tags().any(|tag| tag == sent.tag))
            .collect();
        let told = || {
            format!(
                "#{} from {}: {:?}, {bubbles:?}, {handled:?}, {:?}",
                sent.tag, sent.from_ms, sent.attempts, passage.hops
            )
        };
        table.delivered += usize::from(!handled.by.is_empty());
        if sent.shown.contains(&format!("#{}", sent.tag)) {
            table.in_time += 1;
        } else if bubbles.iter().any(|bubble| bubble.is_custom) {
            table.sent_later += 1;
        } else if !bubbles.is_empty() {
            table.with_a_next += 1;
        } else {
            table.lost.push(told());
        }
        table.given_up += usize::from(sent.is_given_up);
        let struck = self.is_struck(sent, &passage.hops, &handled);
        if handled.ended > 1 {
            if self.store_was_away(sent) {
                table.twice_in_outage += 1;
            } else if struck {
                table.twice_struck += 1;
            } else {
                table.twice.push(told());
            }
        }
        if bubbles.len() > 1 {
            if self.store_was_away(sent) {
                table.said_twice_in_outage.push(told());
            } else {
                table.said_twice.push(told());
            }
        }
        self.judge_times(sent, &passage.hops, table);
        for hop in &passage.hops {
            if let Passed::Broken(_) = hop.passed
                && !self.befell(&[Fault::KillInstance], hop)
            {
                table.reset.push(told());
            }
        }
    }

    fn judge_times(&self, sent: &Sent, hops: &[Hop], table: &mut Table) {
        let mut at_ms = sent.from_ms;
        for (number, (status, ms)) in sent.attempts.iter().enumerate() {
            let span = (at_ms, at_ms + ms);
            at_ms += ms;
            let is_third = number == 2;
            let is_answer = *status == 200;
            if is_answer {
                table.worst_answer_ms = table.worst_answer_ms.max(*ms);
            }
            if is_third {
                table.thirds += 1;
                if is_answer {
                    table.worst_third_ms = table.worst_third_ms.max(*ms);
                }
            }
            let is_late = is_answer && *ms > IN_TIME_MS;
            let is_missed = is_third && !is_answer;
            if !is_late && !is_missed {
                continue;
            }
            let told = format!(
                "#{}, delivery {}: {status} after {ms} ms, {hops:?}",
                sent.tag,
                number + 1
            );
            let overlaps = |hop: &&Hop| hop.from_ms <= span.1 && span.0 <= hop.to_ms;
            let mut there = hops.iter().filter(overlaps);
            let excuses = [Fault::KillInstance, Fault::FreezeInstance];
            if there.any(|hop| self.befell(&excuses, hop)) {
                table.struck_deliveries += 1;
            } else if is_late && self.stalled(span) + IN_TIME_MS >= *ms {
                table.stalled_answers += 1;
            } else if is_late {
                table.late.push(told);
            } else {
                table.missed_thirds.push(told);
            }
        }
    }

    /// Every counting message of a fan is there once, up to the last.
    fn judge_counts(&self, table: &mut Table) {
        for (fan, bubbles) in &self.heard {
            let his = self
                .sent
                .iter()
                .filter(|sent| sent.fan == *fan && sent.counts);
            let counted = his.count();
            let texts = bubbles.iter().map(|bubble| bubble.shown.as_str());
            let mut counts: Vec<usize> = texts.flat_map(counts).collect();
            counts.sort_unstable();
            counts.dedup();
            if !counts.iter().copied().eq(1..=counted) {
                let missing: Vec<usize> = (1..=counted).filter(|n| !counts.contains(n)).collect();
                let last = counts.last().copied().unwrap_or(0);
                table.miscounted.push(format!(
                    "fan {fan}: {counted} messages count, up to {last}, without {missing:?}"
                ));
            }
        }
    }

    /// The first token, and one for each that died; more only where a fetch itself was struck.
    fn judge_tokens(&self, table: &mut Table) {
        table.fetches = self.fetches.len();
        let within = |strike: &Strike| {
            let fetches = self.fetches.iter();
            fetches
                .filter(|fetch| (strike.from_ms..=strike.to_ms).contains(&fetch.at_ms))
                .count()
        };
        let mut explained = usize::from(!self.fetches.is_empty());
        for strike in &self.strikes {
            let found = within(strike);
            let deaths = usize::from(strike.killed_token);
            table.deaths += deaths;
            explained += found;
            // A slow platform's first answer may come too late for whoever asked.
            let most = if strike.fault == Fault::SlowPlatform {
                3
            } else {
                deaths
            };
            if found > most || found < deaths {
                table.fetched_wrongly.push(format!(
                    "{found} fetches for {deaths} dead tokens: {:?} at {}",
                    strike.fault, strike.from_ms
                ));
            }
        }
        if table.fetches > explained {
            let more = table.fetches - explained;
            table
                .fetched_wrongly
                .push(format!("{more} fetches for nothing"));
        }
    }

    /// Whether one of these befell the instance while it had the delivery.
    fn befell(&self, faults: &[Fault], hop: &Hop) -> bool {
        let mut strikes = self.strikes.iter();
        strikes.any(|strike| {
            faults.contains(&strike.fault) && strike.hit(hop.pid, hop.from_ms, hop.to_ms)
        })
    }

    /// Whether an instance that had the message was struck meanwhile.
    fn is_struck(&self, sent: &Sent, hops: &[Hop], handled: &Handled) -> bool {
        let had = hops
            .iter()
            .map(|hop| hop.pid)
            .chain(handled.by.iter().copied());
        let until = sent.to_ms + DELIVERIES_MS;
        let had: BTreeSet<u32> = had.collect();
        let mut strikes = self.strikes.iter();
        strikes.any(|strike| {
            let mut had = had.iter();
            had.any(|pid| strike.hit(*pid, sent.from_ms, until))
        })
    }

    /// Whether an instance may have been without the store while the message was under way.
    fn store_was_away(&self, sent: &Sent) -> bool {
        let mut outages = self
            .strikes
            .iter()
            .filter(|strike| strike.fault.is_of_store());
        let until = sent.to_ms + DELIVERIES_MS;
        outages.any(|strike| strike.from_ms <= until && sent.from_ms <= strike.to_ms)
    }

    /// For how long somebody had no time in this span, by the log.
    fn stalled(&self, (from_ms, to_ms): (u64, u64)) -> u64 {
        let within = |stall: &Stall| {
            let (from, to) = (stall.from_ms.max(from_ms), stall.to_ms.min(to_ms));
            to.saturating_sub(from)
        };
        self.stalls.iter().map(within).max().unwrap_or(0)
    }

    /// From its beginning until all was well, by kinds of faults.
    fn recoveries(&self) -> BTreeMap<Fault, Vec<Duration>> {
        let mut recoveries: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for strike in &self.strikes {
            recoveries
                .entry(strike.fault)
                .or_default()
                .push(strike.recovery);
        }
        recoveries
    }

    /// As Markdown.
    pub(crate) fn markdown(&self, table: &Table, title: &str) -> String {
        let mut lines = vec![format!("| {title} | |"), "| --- | --- |".to_owned()];
        let mut row = |name: &str, value: String| lines.push(format!("| {name} | {value} |"));
        row("seed", self.seed.to_string());
        row("time", format!("{} s", self.took.as_secs()));
        row("faults", self.strikes.len().to_string());
        row("messages sent", table.sent.to_string());
        row("of them delivered", table.delivered.to_string());
        row("answered in a delivery", table.in_time.to_string());
        row(
            "answered later",
            format!(
                "{}: {} by customer-service message, {} with the next message",
                table.sent_later + table.with_a_next,
                table.sent_later,
                table.with_a_next
            ),
        );
        row("**lost**", table.lost.len().to_string());
        row(
            "handled twice",
            format!(
                "{} while the store was away (instances counted {}), {} as their instance was struck, **{} without a reason**",
                table.twice_in_outage,
                table.counted_twice,
                table.twice_struck,
                table.twice.len()
            ),
        );
        row(
            "answered twice",
            format!(
                "{} while the store was away, **{} without a reason**",
                table.said_twice_in_outage.len(),
                table.said_twice.len()
            ),
        );
        row(
            "**counted wrongly in a session**",
            table.miscounted.len().to_string(),
        );
        row("worst answer", format!("{} ms", table.worst_answer_ms));
        row(
            "worst third delivery",
            format!("{} ms, of {}", table.worst_third_ms, table.thirds),
        );
        row(
            "**later than 4.5 s**",
            format!(
                "{} answers, {} third deliveries without one (besides {} at an instance that was struck then, {} while the machine stood still)",
                table.late.len(),
                table.missed_thirds.len(),
                table.struck_deliveries,
                table.stalled_answers
            ),
        );
        row(
            "**connections reset**",
            format!("{}, of instances that nobody killed", table.reset.len()),
        );
        row(
            "token fetches",
            format!(
                "{}: the first, and {} for tokens that died; **{} wrong**",
                table.fetches,
                table.deaths,
                table.fetched_wrongly.len()
            ),
        );
        row(
            "the machine stood still",
            format!(
                "{} times over 0.1 s, {} ms at most",
                table.stalls, table.longest_stall_ms
            ),
        );
        if !self.strikes.is_empty() {
            lines.push(String::new());
            lines.push("| fault | times | until all was well again, median and worst |".to_owned());
            lines.push("| --- | --- | --- |".to_owned());
            for (fault, mut took) in self.recoveries() {
                took.sort_unstable();
                lines.push(format!(
                    "| {} | {} | {:.1} s, {:.1} s |",
                    fault.name(),
                    took.len(),
                    took[took.len() / 2].as_secs_f64(),
                    took[took.len() - 1].as_secs_f64()
                ));
            }
        }
        lines.join("\n") + "\n"
    }
}

/// When a process had no time, though nobody had stopped it.
fn stalls(site: &Site, strikes: &[Strike]) -> Vec<Stall> {
    let mut stalls = site.all_stalls();
    let mut freezes = strikes.to_vec();
    freezes.retain(|strike| strike.fault == Fault::FreezeInstance);
    stalls.retain(|stall| {
        let mut freezes = freezes.iter();
        !freezes.any(|freeze| freeze.from_ms <= stall.to_ms && stall.from_ms <= freeze.to_ms)
    });
    stalls
}

impl Strike {
    /// Whether it befell this process in that time.
    fn hit(&self, pid: u32, from_ms: u64, to_ms: u64) -> bool {
        self.pid == Some(pid) && self.from_ms <= to_ms && from_ms <= self.to_ms
    }
}

/// What the judge found.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) sent: usize,
    pub(crate) delivered: usize,
    pub(crate) in_time: usize,
    pub(crate) sent_later: usize,
    pub(crate) with_a_next: usize,
    /// The platform gave them up, and told the fan that the account is out of order.
    pub(crate) given_up: usize,
    pub(crate) lost: Vec<String>,
    pub(crate) twice_in_outage: usize,
    pub(crate) twice_struck: usize,
    pub(crate) twice: Vec<String>,
    pub(crate) counted_twice: u64,
    pub(crate) said_twice_in_outage: Vec<String>,
    pub(crate) said_twice: Vec<String>,
    pub(crate) miscounted: Vec<String>,
    pub(crate) worst_answer_ms: u64,
    pub(crate) thirds: usize,
    pub(crate) worst_third_ms: u64,
    pub(crate) late: Vec<String>,
    pub(crate) missed_thirds: Vec<String>,
    pub(crate) struck_deliveries: usize,
    pub(crate) stalled_answers: usize,
    pub(crate) reset: Vec<String>,
    pub(crate) fetches: usize,
    pub(crate) deaths: usize,
    pub(crate) fetched_wrongly: Vec<String>,
    pub(crate) stalls: usize,
    pub(crate) longest_stall_ms: u64,
}

impl Table {
    /// All that must not be, each with some examples.
    pub(crate) fn defects(&self) -> Vec<String> {
        let defects = [
            ("lost", &self.lost),
            ("handled twice", &self.twice),
            ("answered twice", &self.said_twice),
            ("counted wrongly", &self.miscounted),
            ("late", &self.late),
            ("third deliveries without an answer", &self.missed_thirds),
            ("connections reset", &self.reset),
            ("fetched wrongly", &self.fetched_wrongly),
        ];
        let found = defects.into_iter().filter(|(_, found)| !found.is_empty());
        found
            .map(|(name, found)| {
                let some: Vec<&str> = found.iter().take(SHOWN).map(String::as_str).collect();
                format!("{name}: {}, such as\n  {}", found.len(), some.join("\n  "))
            })
            .collect()
    }
}

/// What each fan has heard in the end: late answers are waited for, and those that were kept are given
/// with one more message.
async fn hear_all(site: &Site, sent: &[Sent]) -> HashMap<usize, Vec<Bubble>> {
    let mut expected: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for sent in sent {
        expected.entry(sent.fan).or_default().insert(&sent.tag);
    }
    let until = Instant::now() + SETTLED;
    for round in 0.. {
        let heard = hear(site).await;
        let mut is_whole = true;
        for (fan, tags) in &expected {
            let bubbles = heard.get(fan).into_iter().flatten();
            let answered: BTreeSet<&str> = bubbles.flat_map(Bubble::tags).collect();
            if !tags.is_subset(&answered) {
                is_whole = false;
                // Late answers come by themselves. What was kept instead comes with the next message.
                if round % 10 == 9 {
                    let text = format!("wait 0 #again{round}");
                    site.phones.write(&open_id(*fan), &text).await;
                }
            }
        }
        if is_whole || Instant::now() > until {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // What would come a second time comes now.
    tokio::time::sleep(Duration::from_secs(4)).await;
    hear(site).await
}

/// What the account has said to all fans, by the simulator's books.
async fn hear(site: &Site) -> HashMap<usize, Vec<Bubble>> {
    let path = "chat?from=account";
    let chat = control(&site.phones.http, &site.phones.sim, path, None).await;
    let mut heard: HashMap<usize, Vec<Bubble>> = HashMap::new();
    for bubble in chat["messages"].as_array().unwrap() {
        let fan = bubble["openid"].as_str().unwrap().strip_prefix("oFan");
        let Some(fan) = fan.and_then(|number| number.parse().ok()) else {
            continue;
        };
        heard.entry(fan).or_default().push(of_chat(bubble));
    }
    heard
}

fn of_chat(bubble: &Value) -> Bubble {
    Bubble {
        shown: bubble["shown"].as_str().unwrap().to_owned(),
        is_custom: !bubble["message"]["custom"].is_null(),
    }
}

/// The numbers of all `count N` in a text.
fn counts(text: &str) -> impl Iterator<Item = usize> {
    text.lines().filter_map(|line| {
        let count = line.strip_prefix("count ")?.split(' ').next()?;
        count.parse().ok()
    })
}
