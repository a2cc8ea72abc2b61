//! What only MongoDB can show: what time does to a document, and what becomes of an operation whose answer
//! is lost.

use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::{Collection, Database};
use offiaccount::store::DeadLetter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::shared::database;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A MongoDB server of the tests with an empty database on it, and what is behind the store's back there.
struct Behind {
    place: Place,
    database: Database,
}

impl Behind {
    async fn new() -> Self {
        Self::on(mongod::standalone).await
    }

    async fn on(server: fn() -> &'static str) -> Self {
        let place = Place::mongodb(server).await;
        let database = database(&place).await;
        Self { place, database }
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    async fn conversation(&self, holder: &Holder) -> Document {
        let of = doc! { "_id": holder.of.as_str() };
        let found = self.collection("conversations").find_one(of).await;
        found.unwrap().unwrap()
    }

    /// What the document of a conversation remembers.
    async fn remembered(&self, holder: &Holder) -> usize {
        let conversation = self.conversation(holder).await;
        let remembered = conversation.get_document("done").unwrap().len();
        let counted = conversation.get_i64("remembered").unwrap();
        assert_eq!(usize::try_from(counted), Ok(remembered));
        remembered
    }

    /// Waits until messages were moved out of it so often.
    async fn moved(&self, holder: &Holder, times: i64) {
        eventually(|| async {
            let conversation = self.conversation(holder).await;
            let moved = conversation.get_document("moved").ok()?;
            (moved.get_i64("times").ok() == Some(times)).then_some(())
        })
        .await;
    }

    /// Makes everything in the database so much older.
    async fn age(&self, by: Duration) {
        for name in ["conversations", "handled"] {
            let collection = self.collection(name);
            let mut all = collection.find(doc! {}).await.unwrap();
            while all.advance().await.unwrap() {
                let mut document = all.deserialize_current().unwrap();
                for (_, value) in document.iter_mut() {
                    age(value, by);
                }
                let id = doc! { "_id": document.get("_id").unwrap() };
                collection.replace_one(id, document).await.unwrap();
            }
        }
    }
}

fn age(value: &mut Bson, by: Duration) {
    match value {
        Bson::DateTime(at) => {
            let by = i64::try_from(by.as_millis()).unwrap();
            *at = DateTime::from_millis(at.timestamp_millis() - by);
        }
        Bson::Document(document) => document.iter_mut().for_each(|(_, value)| age(value, by)),
        Bson::Array(array) => array.iter_mut().for_each(|value| age(value, by)),
        _ => {}
    }
}

/// A store, and how often each of its operations went to the server.
async fn counted(place: &Place) -> (Arc<dyn Store>, impl Fn(&str) -> u64) {
    let registry = Registry::new();
    let metrics = StoreMetrics::register(&registry).unwrap();
    let store = store::open(&place.url, metrics).await.unwrap();
    let count = move |operation: &str| {
        let families = registry.gather();
        let samples = families.iter().flat_map(|family| family.get_metric());
        let of_it = samples.filter(|sample| {
            let mut labels = sample.get_label().iter();
            labels.any(|label| label.value() == operation)
        });
        of_it
            .map(|sample| sample.get_histogram().get_sample_count())
            .sum()
    };
    (store, count)
}

fn old(n: u8) -> Delivery {
    Delivery {
        may_be_old: true,
        ..message(n)
    }
}

fn not_given(n: u8) -> Handled {
    Handled {
        given: false,
        ..handled(n)
    }
}

#[tokio::test]
async fn a_reply_that_nobody_was_given_is_overdue_some_seconds_after_the_deliveries() {
    let behind = Behind::new().await;
    let store = behind.place.open().await;
    let (alice, bob) = (Holder::of("oAlice", &store), Holder::of("oBob", &store));
    alice.handle(&not_given(1)).await;
    alice.handle(&handled(2)).await;
    alice.handle(&not_given(3)).await;
    alice.handle(&left_open(4)).await;
    alice.answer(4, b"from outside").await;
    alice.handle(&left_open(5)).await;
    bob.handle(&handled(1)).await;
    behind.age(Duration::from_secs(19)).await;
    assert_eq!(store.overdue(10).await, Ok(vec![]));
    bob.mark_given(1, false).await;
    behind.age(Duration::from_secs(2)).await;
    // He whose reply is due the longest comes first.
    let both = vec![alice.of.clone(), bob.of.clone()];
    assert_eq!(store.overdue(10).await, Ok(both.clone()));
    assert_eq!(store.overdue(1).await, Ok(both[..1].to_vec()));
    assert_eq!(store.overdue(0).await, Ok(vec![]));

    for _ in 0..2 {
        let taken = alice.take_overdue().await;
        let expected = Overdue {
            held: None,
            not_given: vec![digest(1), digest(3), digest(4)],
        };
        assert_eq!(taken, expected);
    }
    // Given after all, kept, gone with the user: each ends it.
    alice.mark_given(1, true).await;
    assert_eq!(alice.take_overdue().await.not_given.len(), 2);
    assert!(alice.keep_answer(3).await);
    hold(alice.deliver_for(&farewell(6), LONG).await);
    assert!(!alice.keep_answer(4).await);
    alice.finish(&handled(6)).await;
    assert_eq!(alice.take_overdue().await, Overdue::default());
    assert_eq!(bob.deliver(1).await, Delivered::Done(reply(1)));
    bob.mark_given(1, true).await;
    assert_eq!(store.overdue(10).await, Ok(vec![]));
}

#[tokio::test]
async fn what_waits_is_found_with_what_is_overdue_beside_it() {
    let behind = Behind::new().await;
    let store = behind.place.open().await;
    let (alice, another) = (Holder::new(&store), Holder::new(&store));
    alice.handle(&not_given(1)).await;
    hold(alice.deliver(2).await);
    behind.age(Duration::from_secs(21)).await;
    // It is held, an hour long, and not_given is due all the same.
    assert_eq!(store.overdue(10).await, Ok(vec![alice.of.clone()]));
    let taken = another.take_overdue().await;
    assert_eq!((taken.held, taken.not_given), (None, vec![digest(1)]));
    behind.age(LONG).await;
    let taken = another.take_overdue().await;
    assert_eq!(numbers(&taken.held.unwrap().waiting), [2]);
    assert_eq!(taken.not_given, [digest(1)]);
    // What waits is not forgotten with the day.
    behind.age(DAY).await;
    let found = hold(alice.deliver(3).await);
    assert_eq!(numbers(&found.waiting), [2, 3]);
    assert_eq!(found.waiting[0].message, Some(xml(2)));
}

#[tokio::test]
async fn the_overdue_are_found_by_an_index() {
    let behind = Behind::new().await;
    let store = behind.place.open().await;
    for n in 0..20 {
        let holder = Holder::of(&format!("oFan{n}"), &store);
        holder.handle(&handled(1)).await;
    }
    Holder::new(&store).deliver(1).await;
    let profile = |level: i32| behind.database.run_command(doc! { "profile": level });
    profile(2).await.unwrap();
    store.overdue(10).await.unwrap();
    profile(0).await.unwrap();
    let found = doc! { "op": "query", "ns": { "$regex": "conversations" } };
    let found = behind.collection("system.profile").find_one(found).await;
    let found = found.unwrap().unwrap();
    // Those of whom nothing may be overdue are not in it.
    let examined = ["keysExamined", "docsExamined"].map(|name| found.get_i32(name).unwrap());
    assert_eq!(examined, [1, 1]);
}

#[tokio::test]
async fn what_is_done_is_forgotten_after_a_day() {
    let behind = Behind::new().await;
    let store = behind.place.open().await;
    let alice = Holder::new(&store);
    alice.handle(&handled(1)).await;
    alice.handle(&left_open(2)).await;
    behind.age(DAY - MINUTE).await;
    assert_eq!(
        alice.deliver_for(&old(1), LONG).await,
        Delivered::Done(reply(1))
    );
    assert_eq!(elsewhere(alice.look(2).await), 1);
    behind.age(MINUTE).await;
    assert_eq!(elsewhere(alice.look(1).await), 0);
    assert_eq!(alice.answer(2, b"late").await, Answered::Unknown);
    let found = hold(alice.deliver_for(&old(1), LONG).await);
    assert_eq!(found.waiting[0].deliveries, 1);
    assert!(found.waiting[0].first_seen < MINUTE);
    let again = Handled {
        reply: Some(b"another".to_vec()),
        ..not_given(1)
    };
    assert_eq!(alice.finish(&again).await, Finished::Written(vec![]));
    assert!(alice.keep_answer(1).await);
    assert_eq!(alice.deliver(1).await, Delivered::Done(b"another".to_vec()));
}

#[tokio::test]
async fn a_kept_answer_is_forgotten_after_a_week() {
    let behind = Behind::new().await;
    let store = behind.place.open().await;
    let alice = Holder::new(&store);
    alice.handle(&handled_keeping(1, &["old"])).await;
    behind.age(DAY).await;
    alice.handle(&handled_keeping(2, &["young"])).await;
    behind.age(DAY * 6 - MINUTE).await;
    let kept = hold(alice.deliver(3).await).kept;
    assert_eq!(replies(&kept), ["old", "young"]);
    behind.age(MINUTE).await;
    assert_eq!(replies(&hold(alice.look(3).await).kept), ["young"]);
    let take = Handled {
        taken: vec![kept[0].id],
        ..handled(3)
    };
    assert_eq!(
        alice.finish(&take).await,
        Finished::KeptChanged(kept[1..].to_vec())
    );
    assert_eq!(alice.begin_sending(LONG).await.as_ref(), Some(&kept[1]));
    assert_eq!(alice.begin_sending(LONG).await, None);
}

#[tokio::test]
async fn a_document_outlives_all_that_is_in_it() {
    let behind = Behind::new().await;
    let store = behind.place.open().await;
    let alice = Holder::new(&store);
    let lives = async || {
        let conversation = behind.conversation(&alice).await;
        let expires_at = conversation.get_datetime("expires_at").unwrap();
        let lives = expires_at.timestamp_millis() - DateTime::now().timestamp_millis();
        Duration::from_millis(u64::try_from(lives).unwrap())
    };
    // Once a day a message makes its life longer. (An index has to follow.)
    alice.handle(&left_open(1)).await;
    assert_close(lives().await, DAY * 8);
    behind.age(DAY / 2).await;
    alice.handle(&handled(2)).await;
    assert_close(lives().await, DAY * 15 / 2);
    // Answers are kept for a week, also where they come late.
    behind.age(DAY / 2 - MINUTE).await;
    assert_close(lives().await, DAY * 7 + MINUTE);
    alice.answer(1, b"late").await;
    behind.age(MINUTE * 2).await;
    alice.mark_given(2, false).await;
    assert!(alice.keep_answer(2).await);
    assert_close(lives().await, DAY * 7);
    behind.age(DAY).await;
    alice.handle(&handled_keeping(3, &["kept"])).await;
    assert_close(lives().await, DAY * 8);
    // A session lasts as long as its handler says.
    for (n, life, expected) in [(4, DAY * 30, DAY * 30), (5, MINUTE, DAY * 30)] {
        let session = Handled {
            session: SessionChange::Set(b"session".to_vec(), life),
            ..handled(n)
        };
        alice.handle(&session).await;
        assert_close(lives().await, expected);
    }
}

#[tokio::test]
async fn what_is_done_moves_out_of_the_document_in_time() {
    moves_in_time(Behind::new().await).await;
}

#[tokio::test]
async fn what_is_done_moves_out_of_the_document_on_a_replica_set() {
    moves_in_time(Behind::on(mongod::replica_set).await).await;
}

async fn moves_in_time(behind: Behind) {
    let (store, count) = counted(&behind.place).await;
    let alice = Holder::new(&store);
    for n in 1..=31 {
        alice.handle(&handled(n)).await;
    }
    alice.handle(&left_open(32)).await;
    behind.age(MINUTE * 10).await;
    // This is the one too many; it is not given, and too young.
    alice.handle(&not_given(33)).await;
    behind.moved(&alice, 1).await;
    assert_eq!(behind.remembered(&alice).await, 1);
    let handled_ones = behind.collection("handled");
    assert_eq!(handled_ones.count_documents(doc! {}).await.unwrap(), 32);

    // An old message is found there.
    assert_eq!(
        alice.deliver_for(&old(1), LONG).await,
        Delivered::Done(reply(1))
    );
    assert_eq!(alice.look(31).await, Delivered::Done(reply(31)));
    assert_eq!(elsewhere(alice.deliver_for(&old(32), LONG).await), 1);
    // A new one that looks old is looked for, and is new. It is nobody else's either.
    let looks = count("find_moved");
    assert_eq!(
        numbers(&hold(alice.deliver_for(&old(34), LONG).await).waiting),
        [34]
    );
    assert_eq!(count("find_moved"), looks + 1);
    written(alice.finish(&handled(34)).await);
    assert_eq!(elsewhere(Holder::of("oBob", &store).look(1).await), 0);

    // One that does not look old takes one round trip.
    let before = (count("deliver"), count("find_moved"));
    hold(alice.deliver(35).await);
    assert_eq!(
        (count("deliver"), count("find_moved")),
        (before.0 + 1, before.1)
    );
    written(alice.finish(&handled(35)).await);

    // After its day it is forgotten there too, collected or not.
    behind.age(DAY - MINUTE * 11).await;
    assert_eq!(
        alice.deliver_for(&old(1), LONG).await,
        Delivered::Done(reply(1))
    );
    behind.age(MINUTE * 2).await;
    assert_eq!(
        numbers(&hold(alice.deliver_for(&old(1), LONG).await).waiting),
        [1]
    );
}

#[tokio::test]
async fn a_message_that_was_moved_is_still_answered_from_outside() {
    let behind = Behind::new().await;
    let store = behind.place.open().await;
    let alice = Holder::new(&store);
    for n in 1..=32 {
        alice.handle(&left_open(n)).await;
    }
    behind.age(MINUTE * 10).await;
    alice.handle(&handled(33)).await;
    behind.moved(&alice, 1).await;

    let answers = all_at_once(8, |n| {
        let another = Holder::new(&store);
        async move { another.answer(7, &reply(n as u8)).await }
    })
    .await;
    let is_taken = |answered: &&Answered| matches!(answered, Answered::Taken { .. });
    assert_eq!(answers.iter().filter(is_taken).count(), 1, "{answers:?}");
    assert_eq!(alice.answer(99, b"to nothing").await, Answered::Unknown);
    assert!(alice.keep_answer(7).await);
    assert!(!alice.keep_answer(7).await);
    assert_eq!(behind.remembered(&alice).await, 2);
    let done = alice.deliver_for(&old(7), LONG).await;
    assert!(matches!(done, Delivered::Done(_)), "{done:?}");

    // It is moved once more, with its reply. What nobody was given stays.
    alice.answer(8, b"from outside").await;
    for n in 34..=63 {
        alice.handle(&handled(n)).await;
    }
    behind.moved(&alice, 2).await;
    assert_eq!(behind.remembered(&alice).await, 32);
    assert_eq!(alice.deliver_for(&old(7), LONG).await, done);
    let from_outside = Delivered::Done(b"from outside".to_vec());
    assert_eq!(alice.deliver(8).await, from_outside);
    alice.mark_given(8, true).await;

    // A delivery has not carried its reply after all: also that can be said late.
    behind.age(MINUTE * 10).await;
    alice.handle(&handled(64)).await;
    behind.moved(&alice, 3).await;
    assert_eq!(behind.remembered(&alice).await, 1);
    alice.mark_given(40, false).await;
    assert!(alice.keep_answer(40).await);
    assert!(!alice.keep_answer(41).await);
    assert_eq!(alice.answer(7, b"again").await, Answered::Already);
}

#[tokio::test]
async fn of_a_crowd_all_but_the_youngest_move_and_all_are_known() {
    let behind = Behind::new().await;
    let (store, count) = counted(&behind.place).await;
    let alice = Holder::new(&store);
    let handle = async |n| {
        hold(alice.deliver(n).await);
        written(alice.finish(&handled(n)).await);
    };
    for n in 0..129 {
        handle(n).await;
    }
    behind.moved(&alice, 1).await;
    assert_eq!(behind.remembered(&alice).await, 32);
    // The platform may still deliver them again.
    for n in [0, 96, 97, 128] {
        assert_eq!(alice.deliver(n).await, Delivered::Done(reply(n)));
    }
    handle(129).await;
    // Ten minutes later it may not.
    behind.age(MINUTE * 10).await;
    let looks = count("find_moved");
    handle(130).await;
    assert_eq!(count("find_moved"), looks);
}

#[tokio::test]
async fn messages_that_are_moved_while_they_are_delivered_again_are_handled_once() {
    let behind = Behind::on(mongod::replica_set).await;
    let stores = behind.place.open_twice().await;
    let alice = Holder::new(&stores[0]);
    for n in 1..=32 {
        alice.handle(&handled(n)).await;
    }
    behind.age(MINUTE * 10).await;
    // This moves them, in the midst of the others.
    hold(alice.deliver(33).await);
    let delivered = all_at_once(32, |n| {
        let another = Holder::new(&stores[n % 2]);
        let n = n as u8 + 1;
        async move { (n, another.deliver_for(&old(n), LONG).await) }
    });
    let last = handled(33);
    let (finished, delivered) = tokio::join!(alice.finish(&last), delivered);
    assert_eq!(finished, Finished::Written(vec![]));
    for (n, delivered) in delivered {
        assert_eq!(delivered, Delivered::Done(reply(n)));
    }
    behind.moved(&alice, 1).await;
}

#[tokio::test]
async fn the_largest_messages_fit_into_the_document() {
    let store = Place::mongodb(mongod::standalone).await.open().await;
    let alice = Holder::new(&store);
    let large = "大".repeat(64 * 1024 / 3);
    for n in 0..=MOST_WAITING as u8 {
        let delivery = Delivery {
            message: large.as_str().into(),
            ..message(n)
        };
        alice.deliver_for(&delivery, LONG).await;
    }
    for n in 0..=MOST_WAITING as u8 {
        let finish = Handled {
            reply: Some(large.clone().into_bytes()),
            kept: vec![large.clone().into_bytes()],
            ..handled(n)
        };
        let left = written(alice.finish(&finish).await);
        assert!(
            left.iter()
                .all(|waiting| waiting.message.as_deref() == Some(&large))
        );
    }
    assert_eq!(alice.found_by(100).await.kept.len(), MOST_KEPT);
}

/// A way to the server on which an answer gets lost now and then: the server has done what was asked, and
/// the connection breaks.
struct Lossy {
    url: String,
    /// Of how many writes from now on the last one loses its answer.
    loses: Arc<AtomicU32>,
}

impl Lossy {
    async fn to(place: &Place) -> Self {
        Self::losing(b"findAndModify", true, place).await
    }

    /// Only answers to commands in which this stands get lost. The connection breaks, or goes silent.
    async fn losing(command: &'static [u8], breaks: bool, place: &Place) -> Self {
        let (host, database) = place.url["mongodb://".len()..].split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mongodb://{}/{database}", listener.local_addr().unwrap());
        let (host, loses) = (host.to_owned(), Arc::new(AtomicU32::new(0)));
        let armed = loses.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&host).await.unwrap();
                tokio::spawn(pass(client, server, command, breaks, armed.clone()));
            }
        });
        Self { url, loses }
    }

    /// Runs one operation that loses its answer, and is sent again then.
    async fn once<T>(&self, operation: impl Future<Output = T>) -> T {
        self.in_step(1, operation).await
    }

    /// Runs an operation of several steps; this one loses its answer.
    async fn in_step<T>(&self, step: u32, operation: impl Future<Output = T>) -> T {
        self.loses.store(step, Ordering::SeqCst);
        let outcome = operation.await;
        assert_eq!(self.loses.load(Ordering::SeqCst), 0, "nothing was lost");
        outcome
    }
}

/// Passes on what either side says, until the answer to a write is to be lost.
async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    command: &[u8],
    breaks: bool,
    loses: Arc<AtomicU32>,
) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut is_lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(1..) = read else { return };
                let asked = &asked[..read.unwrap()];
                let is_write = asked.windows(command.len()).any(|part| part == command);
                let one_less = |left: u32| left.checked_sub(u32::from(is_write));
                let left = loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
                is_lost |= is_write && left == Ok(1);
                server.write_all(asked).await.unwrap();
            }
            read = server.read(&mut answered) => {
                let Ok(1..) = read else { return };
                if is_lost && breaks {
                    return;
                }
                if is_lost {
                    return std::future::pending().await;
                }
                client.write_all(&answered[..read.unwrap()]).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_operation_whose_answer_is_lost_has_one_effect() {
    let place = Place::mongodb(mongod::standalone).await;
    let lossy = Lossy::to(&place).await;
    let store = open(&lossy.url).await.unwrap();
    let (alice, another) = (Holder::new(&store), Holder::new(&place.open().await));

    let found = hold(lossy.once(alice.deliver(1)).await);
    assert_eq!((found.waiting.len(), found.waiting[0].deliveries), (1, 1));
    for (step, deliveries) in [(1, 2), (2, 3)] {
        let found = hold(lossy.in_step(step, alice.deliver(1)).await);
        assert_eq!(found.waiting[0].deliveries, deliveries);
    }
    assert_eq!(elsewhere(another.deliver(2).await), 1);
    let found = lossy
        .once(alice.finish(&handled_keeping(1, &["a", "b"])))
        .await;
    assert_eq!(numbers(&written(found)), [2]);
    let session = Handled {
        given: false,
        session: SessionChange::Set(b"session".to_vec(), LONG),
        ..handled_keeping(2, &["c"])
    };
    // Nobody holds it afterwards, so only what was written tells whose it was.
    let finished = lossy.once(alice.finish(&session)).await;
    assert_eq!(finished, Finished::Written(vec![]));
    assert!(lossy.once(alice.keep_answer(2)).await);
    let found = hold(lossy.once(alice.deliver(3)).await);
    assert_eq!(found.session, Some(b"session".to_vec()));
    assert_eq!(replies(&found.kept), ["a", "b", "c", "reply 2"]);

    let sending = lossy.once(alice.begin_sending(LONG)).await.unwrap();
    assert_eq!(sending, found.kept[0]);
    lossy.once(alice.end_sending(&sending, true)).await;
    let count = store.count_sent(&alice.of, Trigger::Message);
    lossy.once(count).await.unwrap();
    assert_eq!(alice.windows().await[0].sent, 1);
    let take = Handled {
        taken: vec![found.kept[1].id, found.kept[2].id],
        ..left_open(3)
    };
    assert_eq!(
        lossy.once(alice.finish(&take)).await,
        Finished::Written(vec![])
    );
    assert_eq!(elsewhere(lossy.in_step(2, alice.deliver(3)).await), 2);
    let answered = lossy.once(alice.answer(3, b"from outside")).await;
    assert!(matches!(answered, Answered::Taken { .. }), "{answered:?}");
    assert_eq!(alice.answer(3, b"from outside").await, Answered::Already);

    hold(alice.deliver(4).await);
    lossy.once(alice.release()).await;
    let taken = lossy.once(another_of(&alice).take_overdue()).await;
    let held = taken.held.unwrap();
    assert_eq!(numbers(&held.waiting), [4]);
    assert_eq!(replies(&held.kept), ["reply 2"]);

    let letter = DeadLetter {
        id: "m1".into(),
        open_id: alice.of.clone(),
        message: xml(1),
        reason: "refused".into(),
        age: Duration::ZERO,
    };
    for step in [1, 2] {
        let added = lossy.in_step(step, store.add_dead_letter(&letter, LONG, 100));
        added.await.unwrap();
        assert_eq!(store.dead_letters(None, 10).await.unwrap().len(), 1);
    }
    let removed = lossy.once(store.remove_dead_letter("m1")).await;
    assert_eq!(removed, Ok(true));
    assert_eq!(store.remove_dead_letter("m1").await, Ok(false));
}

/// Another turn of the same instance.
fn another_of(holder: &Holder) -> Holder {
    Holder::new(&holder.store)
}

/// The server's time is known then, so that common messages go together.
async fn knowing_the_time(store: &Arc<dyn Store>) {
    let somebody = format!("oSomebody{}", rand::random::<u32>());
    Holder::of(&somebody, store).handle(&handled(1)).await;
}

/// As a delivery that is no common message: the same document, by an operation of its own.
fn apart(n: u8) -> Delivery {
    Delivery {
        is_handled: true,
        ..message(n)
    }
}

/// What stands in a document, less what differs by chance.
fn shape(of: &Document) -> Document {
    fn outline(value: &Bson) -> Bson {
        match value {
            Bson::DateTime(_) => "a date".into(),
            Bson::Int64(mark) if !(0..1_000).contains(mark) => "a mark".into(),
            Bson::Binary(binary) if binary.bytes.len() == 16 => "a turn".into(),
            Bson::Document(document) => shape(document).into(),
            Bson::Array(array) => array.iter().map(outline).collect::<Vec<_>>().into(),
            other => other.clone(),
        }
    }
    let mut fields: Vec<_> = of.iter().filter(|(name, _)| *name != "_id").collect();
    fields.sort_by_key(|(name, _)| *name);
    let outlined = |(name, value): (&String, &Bson)| (name.clone(), outline(value));
    fields.into_iter().map(outlined).collect()
}

#[tokio::test]
async fn a_common_message_makes_the_same_document_as_any_other() {
    let behind = Behind::new().await;
    let (store, count) = counted(&behind.place).await;
    knowing_the_time(&store).await;
    let (quick, slow) = (Holder::of("oQuick", &store), Holder::of("oSlow", &store));
    for n in 1..=2 {
        let (claims, others) = (count("claim"), count("deliver"));
        let found = hold(quick.deliver(n).await);
        assert_eq!((count("claim"), count("deliver")), (claims + 1, others));
        assert_eq!(found, hold(slow.deliver_for(&apart(n), LONG).await));
        assert_eq!((count("claim"), count("deliver")), (claims + 1, others + 1));
        let [one, other] = [&quick, &slow].map(|holder| behind.conversation(holder));
        assert_eq!(shape(&one.await), shape(&other.await));

        let (ends, others) = (count("end"), count("finish"));
        assert_eq!(quick.finish(&handled(n)).await, Finished::Written(vec![]));
        assert_eq!((count("end"), count("finish")), (ends + 1, others));
        assert_eq!(slow.finish(&handled(n)).await, Finished::Written(vec![]));
        assert_eq!((count("end"), count("finish")), (ends + 1, others + 1));
        let [one, other] = [&quick, &slow].map(|holder| behind.conversation(holder));
        assert_eq!(shape(&one.await), shape(&other.await));
        assert_eq!(quick.deliver(n).await, Delivered::Done(reply(n)));
    }
}

#[tokio::test]
async fn whoever_has_more_than_a_message_is_tried_once() {
    let behind = Behind::new().await;
    let session = Handled {
        session: SessionChange::Set(b"session".to_vec(), LONG),
        ..handled(1)
    };
    for had in [session, handled_keeping(1, &["kept"]), not_given(1)] {
        let (store, count) = counted(&behind.place).await;
        knowing_the_time(&store).await;
        let user = format!("oUser{}", rand::random::<u32>());
        // At another instance; this one learns of it by trying.
        Holder::of(&user, &behind.place.open().await)
            .handle(&had)
            .await;
        let holder = Holder::of(&user, &store);
        for (n, tries) in [(2, 1), (3, 0)] {
            let (claims, others) = (count("claim"), count("deliver"));
            let found = hold(holder.deliver(n).await);
            assert_eq!(
                found.session.is_some(),
                had.session != SessionChange::Unchanged
            );
            assert_eq!(replies(&found.kept).len(), had.kept.len());
            assert_eq!(
                (count("claim"), count("deliver")),
                (claims + tries, others + 1)
            );
            written(holder.finish(&handled(n)).await);
        }
    }
    // He who has nothing any more is common again.
    let (store, count) = counted(&behind.place).await;
    knowing_the_time(&store).await;
    let alice = Holder::new(&store);
    alice.handle(&not_given(1)).await;
    alice.mark_given(1, true).await;
    for (n, tries) in [(2, 0), (3, 1)] {
        let claims = count("claim");
        alice.handle(&handled(n)).await;
        assert_eq!(count("claim"), claims + tries);
    }
}

#[tokio::test]
async fn a_crowd_that_comes_at_once_is_held_once_each_and_goes_together() {
    let behind = Behind::on(mongod::replica_set).await;
    let (one, count) = counted(&behind.place).await;
    let stores = [one, behind.place.open().await];
    for store in &stores {
        knowing_the_time(store).await;
    }
    const CROWD: usize = 200;
    let users: Vec<[Holder; 2]> = (0..CROWD)
        .map(|n| {
            stores
                .each_ref()
                .map(|store| Holder::of(&format!("oFan{n}"), store))
        })
        .collect();
    let at_once = users.iter().flatten().map(|holder| holder.deliver(1));
    let delivered = join_all(at_once).await;
    let mut held = Vec::new();
    for (holders, delivered) in users.iter().zip(delivered.chunks(2)) {
        let is_held = |delivered: &Delivered| matches!(delivered, Delivered::Held(_));
        let [first, second] = [0, 1].map(|n| is_held(&delivered[n]));
        assert!(first != second, "{delivered:?}");
        let (holder, other) = if first { (0, 1) } else { (1, 0) };
        assert_eq!(elsewhere(delivered[other].clone()), 2);
        held.push(&holders[holder]);
    }
    let message = handled(1);
    let finished = join_all(held.iter().map(|holder| holder.finish(&message))).await;
    assert!(
        finished
            .iter()
            .all(|finished| *finished == Finished::Written(vec![]))
    );
    for delivered in join_all(users.iter().flatten().map(|holder| holder.deliver(1))).await {
        assert_eq!(delivered, Delivered::Done(reply(1)));
    }
    assert!(count("batch") < CROWD as u64 / 4, "{}", count("batch"));
}

#[tokio::test]
async fn a_claim_and_an_end_whose_answer_is_lost_have_one_effect() {
    let place = Place::mongodb(mongod::standalone).await;
    let lossy = Lossy::losing(b"\x02update\0", true, &place).await;
    let store = open(&lossy.url).await.unwrap();
    let alice = Holder::new(&store);
    knowing_the_time(&store).await;
    let found = hold(lossy.once(alice.deliver(1)).await);
    assert_eq!((found.waiting.len(), found.waiting[0].deliveries), (1, 1));
    let elsewhere = Holder::new(&place.open().await);
    assert!(!matches!(elsewhere.deliver(1).await, Delivered::Held(_)));
    assert_eq!(alice.finish(&handled(1)).await, Finished::Written(vec![]));

    // What was lost told nothing of the time either.
    knowing_the_time(&store).await;
    hold(alice.deliver(2).await);
    let finished = lossy.once(alice.finish(&handled(2))).await;
    assert_eq!(finished, Finished::Written(vec![]));
    for n in [1, 2] {
        assert_eq!(elsewhere.deliver(n).await, Delivered::Done(reply(n)));
    }
}

#[tokio::test]
async fn a_claim_that_others_touched_is_ended_all_the_same() {
    let place = Place::mongodb(mongod::standalone).await;
    let stores = place.open_twice().await;
    let [alice, another] = stores.each_ref().map(Holder::new);
    knowing_the_time(&stores[0]).await;
    hold(alice.deliver(1).await);
    assert_eq!(elsewhere(another.deliver(1).await), 2);
    assert_eq!(elsewhere(another.deliver(2).await), 1);
    let next = written(alice.finish(&handled(1)).await);
    assert_eq!(numbers(&next), [2]);
    assert_eq!(another.deliver(1).await, Delivered::Done(reply(1)));

    // Its lease ran out: who took it over ends it.
    let bob = Holder::of("oBob", &stores[0]);
    hold(bob.deliver_for(&message(1), SHORT).await);
    tokio::time::sleep(SHORT * 2).await;
    let next = Holder::of("oBob", &stores[1]);
    hold(next.deliver(1).await);
    assert_eq!(bob.finish(&handled(1)).await, Finished::Lost);
    assert_eq!(next.finish(&handled(1)).await, Finished::Written(vec![]));
}

#[tokio::test]
async fn a_silent_connection_holds_up_nobody_for_long() {
    let place = Place::mongodb(mongod::standalone).await;
    let lossy = Lossy::losing(b"\x02update\0", false, &place).await;
    let store = open(&lossy.url).await.unwrap();
    knowing_the_time(&store).await;
    let (alice, bob) = (Holder::new(&store), Holder::of("oBob", &store));
    let after = |pause: Duration, holder: Holder| async move {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        hold(holder.deliver(1).await);
        began.elapsed()
    };
    let (hers, his) = lossy
        .once(async { tokio::join!(after(Duration::ZERO, alice), after(SHORT, bob)) })
        .await;
    // The ledger waits for 1.2 s.
    assert!(hers < Duration::from_secs(1), "{hers:?}");
    assert!(his < Duration::from_millis(500), "{his:?}");
}
