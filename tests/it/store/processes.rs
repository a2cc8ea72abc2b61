//! Processes on one embedded file: killed, standing still, two at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use offiaccount::store::{Delivery, Finished, Handled, SessionChange, Trigger, Turn};
use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// Under which a process of these tests finds the file.
const FILE: &str = "OFFIACCOUNT_TEST_FILE";
const LEASE: Duration = Duration::from_secs(4);

fn fan(n: u32) -> OpenId {
    open_id(&format!("oFan{n}"))
}

fn key(n: u32) -> Digest {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    Digest(key)
}

fn reply(n: u32) -> Vec<u8> {
    format!("reply to {n}").into_bytes()
}

fn done(n: u32) -> Delivered {
    Delivered::Done(reply(n))
}

async fn deliver(store: &Arc<dyn Store>, n: u32, turn: Turn) -> Delivered {
    let delivery = Delivery {
        key: key(n),
        message: format!("<xml>{n}</xml>").into(),
        is_farewell: false,
        may_be_old: false,
        is_handled: false,
        opens: Some(Trigger::Message),
    };
    store
        .deliver(&fan(n), &delivery, turn, LEASE)
        .await
        .unwrap()
}

async fn finish(store: &Arc<dyn Store>, n: u32, turn: Turn) -> Finished {
    let handled = Handled {
        key: key(n),
        reply: Some(reply(n)),
        given: true,
        taken: vec![],
        kept: vec![],
        session: SessionChange::Unchanged,
    };
    store.finish(&fan(n), &handled, turn, LEASE).await.unwrap()
}

/// The other end of [`Process`]: does what its input says. No test.
#[tokio::test]
#[ignore = "other tests start it as a process of its own"]
async fn a_process_on_the_file() {
    let store = open(&std::env::var(FILE).unwrap()).await.unwrap();
    let turn = Turn::new();
    let say = |text: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "> {text}").unwrap();
        out.flush().unwrap();
    };
    say("open");
    let (lines, mut asked) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            lines.send(line.unwrap()).unwrap();
        }
    });
    while let Some(line) = asked.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: usize| words[word].parse::<u32>().unwrap();
        match words[0] {
            "deliver" => match deliver(&store, number(1), turn).await {
                Delivered::Held(_) => say("held"),
                Delivered::Done(_) => say("done"),
                Delivered::Elsewhere { .. } => say("elsewhere"),
                Delivered::Full => say("full"),
            },
            "finish" => match finish(&store, number(1), turn).await {
                Finished::Lost => say("lost"),
                _ => say("written"),
            },
            // Each is delivered and finished.
            "handle" => {
                let mut held = Vec::new();
                for n in number(1)..number(2) {
                    if matches!(deliver(&store, n, turn).await, Delivered::Held(_)) {
                        held.push(n.to_string());
                        finish(&store, n, turn).await;
                    }
                }
                say(&held.join(","));
            }
            // Stands still at once, with a message claimed and another one's end in memory.
            "freeze" => {
                deliver(&store, number(2), turn).await;
                let held = deliver(&store, number(1), turn).await;
                finish(&store, number(2), turn).await;
                assert!(matches!(held, Delivered::Held(_)), "{held:?}");
                let mut last = Instant::now();
                kill_process(rustix::process::getpid(), Signal::STOP).unwrap();
                // It may take a moment until it does. Then at once: before any other thread has noticed.
                loop {
                    let now = Instant::now();
                    if now - last >= SHORT * 5 {
                        break;
                    }
                    last = now;
                }
                match finish(&store, number(1), turn).await {
                    Finished::Lost => say("lost"),
                    _ => say("written"),
                }
            }
            other => panic!("{other}"),
        }
    }
    store.close().await;
}

/// A process that has the file open.
struct Process {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Process {
    fn on(place: &Place) -> Self {
        let name = "store::processes::a_process_on_the_file";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--ignored", "--nocapture"])
            .env(FILE, &place.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, asks, says };
        assert_eq!(process.says(), "open");
        process
    }

    fn asks(&mut self, what: &str) {
        writeln!(self.asks, "{what}").unwrap();
        self.asks.flush().unwrap();
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.says.read_line(&mut line).unwrap(), 0, "it has ended");
            // The test harness says something as well.
            if let Some((_, said)) = line.trim_end_matches('\n').split_once("> ") {
                return said.to_owned();
            }
        }
    }

    fn does(&mut self, what: &str) -> String {
        self.asks(what);
        self.says()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn goes_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes it in good order.
    fn ends(mut self) {
        drop(self.asks);
        assert!(self.child.wait().unwrap().success());
    }
}

#[tokio::test]
async fn what_was_finished_before_a_kill_is_known_after_it() {
    let place = Place::sqlite();
    let mut process = Process::on(&place);
    let held = process.does("handle 0 500");
    assert_eq!(held.split(',').count(), 500);
    assert_eq!(process.does("deliver 900"), "held");
    // What is written a little later is written then; what is held a little longer is in the tables.
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.kill();
    for _ in 0..2 {
        let store = place.open().await;
        for n in 0..500 {
            assert_eq!(deliver(&store, n, Turn::new()).await, done(n), "{n}");
        }
        let found = store.look(&fan(900), &key(900), Turn::new(), LEASE).await;
        let is_known = |found: &Delivered| match found {
            Delivered::Elsewhere { deliveries, .. } => *deliveries == 1,
            Delivered::Held(found) => found.waiting[0].message.is_some(),
            _ => false,
        };
        assert!(is_known(found.as_ref().unwrap()), "{found:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn after_a_kill_nobody_has_to_wait() {
    let place = Place::sqlite();
    let mut process = Process::on(&place);
    assert_eq!(process.does("handle 0 1"), "0");
    process.kill();
    let began = Instant::now();
    let mut next = Process::on(&place);
    assert_eq!(next.does("handle 10 11"), "10");
    next.kill();
    let store = place.open().await;
    assert!(matches!(
        deliver(&store, 20, Turn::new()).await,
        Delivered::Held(_)
    ));
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn of_two_processes_one_handles_each_message() {
    let place = Place::sqlite();
    let mut processes = [Process::on(&place), Process::on(&place)];
    for burst in 0..10 {
        let (from, to) = (burst * 100, burst * 100 + 100);
        // Both get all of them; now and then one begins alone.
        if burst % 3 == 0 {
            let alone = processes[(burst / 3) as usize % 2].does(&format!("handle {from} {to}"));
            assert_eq!(alone.split(',').count(), 100, "{alone}");
        }
        for process in &mut processes {
            process.asks(&format!("handle {from} {to}"));
        }
        let mut handled: Vec<u32> = Vec::new();
        for process in &mut processes {
            let said = process.says();
            handled.extend(said.split(',').filter_map(|n| n.parse::<u32>().ok()));
        }
        handled.sort_unstable();
        let expected: Vec<u32> = if burst % 3 == 0 {
            vec![]
        } else {
            (from..to).collect()
        };
        assert_eq!(handled, expected);
    }
    let [one, mut other] = processes;
    one.ends();
    assert_eq!(other.does("deliver 5"), "done");
    other.ends();
    let store = place.open().await;
    for n in 0..1000 {
        assert_eq!(deliver(&store, n, Turn::new()).await, done(n), "{n}");
    }
}

#[tokio::test]
async fn a_process_that_stood_still_finds_itself_replaced() {
    let place = Place::sqlite();
    let mut frozen = Process::on(&place);
    frozen.asks("freeze 1 2");
    tokio::time::sleep(SHORT * 2).await;
    let store = place.open().await;
    let began = Instant::now();
    let turn = Turn::new();
    // It does not answer; after a second one goes on without it. If it stopped before its claim was in the
    // tables, nobody knows of that.
    let found = deliver(&store, 1, turn).await;
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(matches!(found, Delivered::Held(_)), "{found:?}");
    assert!(matches!(deliver(&store, 3, turn).await, Delivered::Held(_)));
    assert_eq!(finish(&store, 1, turn).await, Finished::Written(vec![]));

    frozen.goes_on();
    assert_eq!(frozen.says(), "lost");
    assert_eq!(frozen.does("finish 1"), "lost");
    assert_eq!(frozen.does("deliver 3"), "elsewhere");
    // What it had in memory was not lost, and ours is the reply.
    assert_eq!(frozen.does("deliver 4"), "held");
    assert_eq!(deliver(&store, 2, turn).await, done(2));
    assert_eq!(deliver(&store, 1, turn).await, done(1));
    assert!(matches!(
        deliver(&store, 4, turn).await,
        Delivered::Elsewhere { deliveries: 2, .. }
    ));
    frozen.ends();
}
