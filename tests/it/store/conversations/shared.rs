//! What only MongoDB can show: what time does to a document, and what becomes of an operation whose answer
//! is lost.

use std::panic::AssertUnwindSafe;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
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

/// How an answer gets lost.
#[derive(Clone, Copy)]
enum Loss {
    /// The connection breaks.
    Breaks,
    /// Nothing comes any more.
    IsSilent,
    /// It does not: what was asked comes to the server late.
    ComesAfter(Duration),
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
        Self::losing(b"findAndModify", Loss::Breaks, place).await
    }

    /// Only answers to commands in which this stands get lost, in this way.
    async fn losing(command: &'static [u8], how: Loss, place: &Place) -> Self {
        let (host, database) = place.url["mongodb://".len()..].split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mongodb://{}/{database}", listener.local_addr().unwrap());
        let (host, loses) = (host.to_owned(), Arc::new(AtomicU32::new(0)));
        let armed = loses.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&host).await.unwrap();
                tokio::spawn(pass(client, server, command, how, armed.clone()));
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
    how: Loss,
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
                if let Loss::ComesAfter(late) = how && is_write && left == Ok(1) {
                    tokio::time::sleep(late).await;
                }
                server.write_all(asked).await.unwrap();
            }
            read = server.read(&mut answered) => {
                let Ok(1..) = read else { return };
                match how {
                    Loss::Breaks if is_lost => return,
                    Loss::IsSilent if is_lost => return std::future::pending().await,
                    _ => {}
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

    let found = hold(
        lossy
            .once(alice.deliver_for(&apart(&message(1)), LONG))
            .await,
    );
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

/// Runs what depends on nothing being slow: a stall sends messages their own ways. It has to succeed once.
async fn unless_it_stalls<F: Future<Output = ()>>(case: impl Fn() -> F) {
    for _ in 0..4 {
        if AssertUnwindSafe(case()).catch_unwind().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    case().await;
}

/// As a delivery that is no common message: what it changes, by an operation of its own.
fn apart(delivery: &Delivery) -> Delivery {
    Delivery {
        is_handled: true,
        ..delivery.clone()
    }
}

/// What stands in a document: times from now on in tens of seconds, and marks and turns by the order in
/// which they appear.
fn outline(of: &Document) -> Document {
    fn value(of: &Bson, marks: &mut Vec<Bson>) -> Bson {
        match of {
            Bson::DateTime(at) => {
                let from_now = at.timestamp_millis() - DateTime::now().timestamp_millis();
                format!("in {} s", (from_now as f64 / 10_000.0).round() * 10.0).into()
            }
            Bson::Int64(0..1_000) => of.clone(),
            Bson::Int64(_) | Bson::Binary(_) => {
                let known = marks.iter().position(|mark| mark == of);
                let number = known.unwrap_or_else(|| {
                    marks.push(of.clone());
                    marks.len() - 1
                });
                format!("mark {number}").into()
            }
            Bson::Document(document) => fields(document, marks).into(),
            Bson::Array(array) => array
                .iter()
                .map(|of| value(of, marks))
                .collect::<Vec<_>>()
                .into(),
            _ => of.clone(),
        }
    }
    fn fields(of: &Document, marks: &mut Vec<Bson>) -> Document {
        let mut sorted: Vec<_> = of.iter().filter(|(name, _)| *name != "_id").collect();
        sorted.sort_by_key(|(name, _)| *name);
        let sorted = sorted.into_iter();
        sorted
            .map(|(name, of)| (name.clone(), value(of, marks)))
            .collect()
    }
    fields(of, &mut Vec::new())
}

/// What was found, less how long ago it was delivered, give or take a minute.
fn roughly(found: &Delivered) -> Delivered {
    let mut found = found.clone();
    if let Delivered::Held(held) = &mut found {
        for waiting in &mut held.waiting {
            assert!(waiting.first_seen < MINUTE, "{waiting:?}");
            waiting.first_seen = Duration::ZERO;
        }
    }
    found
}

/// What a user may have, and whether a message is a common one all the same.
fn pasts() -> Vec<(&'static str, Document, bool)> {
    let at =
        |seconds: i64| DateTime::from_millis(DateTime::now().timestamp_millis() + seconds * 1_000);
    let bytes = |length: usize| Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![7; length],
    };
    let seen = |age: i64| doc! { "first": at(-age), "deliveries": 1_i64, "last": 4_000_i64 };
    let done = |age: i64| doc! { "seen": seen(age), "turn": bytes(16), "reply": bytes(5) };
    let day = 24 * 3600;
    let key_of = |n: u8| URL_SAFE_NO_PAD.encode(digest(n).0);
    let kept = |age: i64| doc! { "kept": [{ "id": 1_i64, "reply": bytes(5), "at": at(-age) }] };
    let session = |left: i64| doc! { "session": { "value": bytes(3), "until": at(left) } };
    let moved = |age: i64| doc! { "moved": { "times": 1_i64, "latest": at(-age) } };
    let ungiven = doc! { "key": key_of(9), "due": at(20) };
    let waits = doc! { "key": key_of(9), "seen": seen(1), "message": "<xml/>" };
    let mut all = vec![
        ("nothing", doc! {}, true),
        (
            "another message done",
            doc! { "done": { key_of(9): done(5) }, "remembered": 1_i64 },
            true,
        ),
        (
            "this message done",
            doc! { "done": { key_of(1): done(5) }, "remembered": 1_i64 },
            false,
        ),
        (
            "this message, long ago",
            doc! { "done": { key_of(1): done(2 * day) } },
            false,
        ),
        (
            "a reply not given",
            doc! { "done": { key_of(9): done(5) }, "ungiven": [ungiven] },
            false,
        ),
        (
            "one that waits, abandoned",
            doc! { "waiting": [waits.clone()], "lease_until": at(-9), "turn": bytes(16) },
            false,
        ),
        (
            "one that waits, held",
            doc! { "waiting": [waits], "lease_until": at(90), "turn": bytes(16) },
            false,
        ),
        ("a session", session(60), false),
        ("a session that is over", session(-60), true),
        ("a kept answer", kept(day), false),
        ("one kept too long", kept(8 * day), true),
        ("moved a minute ago", moved(60), false),
        ("moved an hour ago", moved(3_600), true),
        ("31 remembered", doc! { "remembered": 31_i64 }, true),
        ("32 remembered", doc! { "remembered": 32_i64 }, false),
        ("has left", doc! { "left": true, "kept": [] }, true),
        (
            "windows",
            doc! { "windows": { "message": { "at": at(-60), "sent": 3_i64, "last": 5_000_i64 }, "click": { "at": at(-60), "sent": 1_i64 } } },
            true,
        ),
        ("no windows", doc! { "windows": Bson::Null }, true),
        (
            "empty fields",
            doc! { "waiting": [], "ungiven": [], "kept": [], "session": Bson::Null, "turn": Bson::Null, "lease_until": Bson::Null, "due_at": Bson::Null },
            true,
        ),
    ];
    for (_, document, _) in &mut all {
        document.insert("expires_at", at(15 * day / 2));
    }
    all.push((
        "a life that ends soon",
        doc! { "expires_at": at(6 * day) },
        false,
    ));
    all
}

#[tokio::test]
async fn a_common_message_changes_what_any_other_would() {
    unless_it_stalls(async || {
        let behind = Behind::new().await;
        let (store, count) = counted(&behind.place).await;
        let conversations = behind.collection("conversations");
        let opens = [Some(Trigger::Message), Some(Trigger::Click), None];
        let cases = opens.iter().flat_map(|opens| {
            let pasts = pasts()
                .into_iter()
                .map(|(past, document, is_common)| (past, Some(document), is_common));
            pasts
                .chain([("no document", None, true)])
                .map(move |case| (*opens, case))
        });
        for (number, (opens, (past, document, is_common))) in cases.enumerate() {
            let users = ["Quick", "Slow"].map(|way| Holder::of(&format!("o{way}{number}"), &store));
            if let Some(document) = document {
                for user in &users {
                    let mut document = document.clone();
                    document.insert("_id", user.of.as_str());
                    conversations.insert_one(document).await.unwrap();
                }
            }
            let [quick, slow] = &users;
            // Digests differ by user, as they do outside of tests; here by the case at least.
            let delivery = Delivery {
                opens,
                ..message(1)
            };
            let operations = || (count("claim"), count("deliver"));
            let before = operations();
            let found = quick.deliver_for(&delivery, LONG).await;
            let took = (operations().0 - before.0, operations().1 - before.1);
            assert_eq!(took.1 == 0, is_common, "{past}, {opens:?}: {took:?}");
            assert_eq!(took.0, 1, "{past}, {opens:?}");
            // To whoever is held it makes a difference whether the message is handled already.
            if past == "one that waits, held" {
                continue;
            }
            let expected = slow.deliver_for(&apart(&delivery), LONG).await;
            assert_eq!(roughly(&found), roughly(&expected), "{past}, {opens:?}");
            let same = async || {
                let [one, other] = [quick, slow].map(|holder| behind.conversation(holder));
                assert_eq!(
                    outline(&one.await),
                    outline(&other.await),
                    "{past}, {opens:?}"
                );
            };
            same().await;
            if let Delivered::Held(held) = found
                && held.waiting.len() == 1
            {
                let before = (count("end"), count("finish"));
                assert_eq!(quick.finish(&handled(1)).await, Finished::Written(vec![]));
                let took = (count("end") - before.0, count("finish") - before.1);
                assert_eq!(took, if is_common { (1, 0) } else { (0, 1) }, "{past}");
                // The other never claimed it.
                assert_eq!(slow.finish(&handled(1)).await, Finished::Written(vec![]));
                same().await;
                assert_eq!(quick.deliver(1).await, Delivered::Done(reply(1)));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn one_that_may_be_old_is_common_if_nothing_was_moved_in_a_day() {
    unless_it_stalls(async || {
        let behind = Behind::new().await;
        let (store, count) = counted(&behind.place).await;
        for (hours, is_common) in [(23, false), (25, true)] {
            let user = Holder::of(&format!("oUser{hours}"), &store);
            let moved_at = DateTime::now().timestamp_millis() - hours * 3_600_000;
            let moved = doc! {
                "_id": user.of.as_str(),
                "moved": { "times": 1_i64, "latest": DateTime::from_millis(moved_at) },
                "expires_at": DateTime::from_millis(i64::MAX / 2),
            };
            behind
                .collection("conversations")
                .insert_one(moved)
                .await
                .unwrap();
            let others = count("deliver");
            hold(user.deliver_for(&old(1), LONG).await);
            assert_eq!(count("deliver") == others, is_common);
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_has_more_than_a_message_is_tried_once() {
    unless_it_stalls(async || {
        let behind = Behind::new().await;
        let session = Handled {
            session: SessionChange::Set(b"session".to_vec(), LONG),
            ..handled(1)
        };
        for (number, had) in [session, handled_keeping(1, &["kept"]), not_given(1)]
            .iter()
            .enumerate()
        {
            let user = format!("oUser{number}");
            // At another instance; this one learns of it by trying.
            Holder::of(&user, &behind.place.open().await)
                .handle(had)
                .await;
            let (store, count) = counted(&behind.place).await;
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
        let alice = Holder::new(&store);
        alice.handle(&not_given(1)).await;
        alice.mark_given(1, true).await;
        for (n, tries) in [(2, 0), (3, 1)] {
            let claims = count("claim");
            alice.handle(&handled(n)).await;
            assert_eq!(count("claim"), claims + tries);
        }
    })
    .await;
}

#[tokio::test]
async fn a_crowd_that_comes_at_once_is_held_once_each() {
    const CROWD: u8 = 200;
    let behind = Behind::on(mongod::replica_set).await;
    let (one, count) = counted(&behind.place).await;
    let stores = [one, behind.place.open().await];
    let users: Vec<(u8, [Holder; 2])> = (0..CROWD)
        .map(|n| {
            (
                n,
                stores
                    .each_ref()
                    .map(|store| Holder::of(&format!("oFan{n}"), store)),
            )
        })
        .collect();
    let at_once = async || {
        let all = users
            .iter()
            .flat_map(|(n, holders)| holders.iter().map(|holder| holder.deliver(*n)));
        join_all(all).await
    };
    let delivered = at_once().await;
    let mut held = Vec::new();
    for ((n, [first, second]), delivered) in users.iter().zip(delivered.chunks(2)) {
        let is_held = [0, 1].map(|which: usize| matches!(delivered[which], Delivered::Held(_)));
        let (holder, other) = match is_held {
            [true, false] => (first, &delivered[1]),
            [false, true] => (second, &delivered[0]),
            _ => panic!("{delivered:?}"),
        };
        assert_eq!(elsewhere(other.clone()), 2);
        held.push((holder, handled(*n)));
    }
    let finish = held.iter().map(|(holder, handled)| holder.finish(handled));
    for finished in join_all(finish).await {
        assert_eq!(finished, Finished::Written(vec![]));
    }
    for (n, delivered) in (0..CROWD).flat_map(|n| [n, n]).zip(at_once().await) {
        assert_eq!(delivered, Delivered::Done(reply(n)));
    }
    let batches = count("batch");
    assert!((1..u64::from(CROWD) / 4).contains(&batches), "{batches}");
}

#[tokio::test]
async fn a_claim_and_an_end_whose_answer_is_lost_have_one_effect() {
    unless_it_stalls(async || {
        let place = Place::mongodb(mongod::standalone).await;
        let lossy = Lossy::losing(b"\x02update\0", Loss::Breaks, &place).await;
        let other = Holder::new(&place.open().await);
        let store = open(&lossy.url).await.unwrap();
        let alice = Holder::new(&store);
        let found = hold(lossy.once(alice.deliver(1)).await);
        assert_eq!((found.waiting.len(), found.waiting[0].deliveries), (1, 1));
        assert_eq!(elsewhere(other.deliver(1).await), 2);
        assert_eq!(alice.finish(&handled(1)).await, Finished::Written(vec![]));

        // It does not rest.
        let store = open(&lossy.url).await.unwrap();
        let alice = Holder::new(&store);
        hold(alice.deliver(2).await);
        let finished = lossy.once(alice.finish(&handled(2))).await;
        assert_eq!(finished, Finished::Written(vec![]));
        for n in [1, 2] {
            assert_eq!(other.deliver(n).await, Delivered::Done(reply(n)));
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_connection_holds_up_nobody_for_long() {
    unless_it_stalls(async || {
        let place = Place::mongodb(mongod::standalone).await;
        let lossy = Lossy::losing(b"\x02update\0", Loss::IsSilent, &place).await;
        let store = open(&lossy.url).await.unwrap();
        let (alice, bob) = (Holder::new(&store), Holder::of("oBob", &store));
        let after = |pause: Duration, holder: Holder| async move {
            tokio::time::sleep(pause).await;
            let began = Instant::now();
            hold(holder.deliver(1).await);
            began.elapsed()
        };
        let both = async { tokio::join!(after(Duration::ZERO, alice), after(SHORT, bob)) };
        let (hers, his) = lossy.once(both).await;
        // The ledger waits for 1.2 s.
        assert!(hers < Duration::from_millis(800), "{hers:?}");
        assert!(his < Duration::from_millis(600), "{his:?}");
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_arrives_late_has_its_whole_lease() {
    unless_it_stalls(async || {
        let behind = Behind::new().await;
        let late = Duration::from_millis(100);
        let lossy = Lossy::losing(b"\x02update\0", Loss::ComesAfter(late), &behind.place).await;
        let store = open(&lossy.url).await.unwrap();
        let alice = Holder::new(&store);
        let began = DateTime::now().timestamp_millis();
        hold(lossy.once(alice.deliver(1)).await);
        let conversation = behind.conversation(&alice).await;
        for end in ["lease_until", "due_at"] {
            let end = conversation.get_datetime(end).unwrap().timestamp_millis();
            let lasts = end - began - i64::try_from(LONG.as_millis()).unwrap();
            assert!(lasts >= 95, "{lasts}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_others_touched_is_ended_all_the_same() {
    unless_it_stalls(async || {
        let behind = Behind::new().await;
        let (one, count) = counted(&behind.place).await;
        let stores = [one, behind.place.open().await];
        let [alice, another] = stores.each_ref().map(Holder::new);
        hold(alice.deliver(1).await);
        assert_eq!(elsewhere(another.deliver(1).await), 2);
        assert_eq!(elsewhere(another.deliver(2).await), 1);
        let next = written(alice.finish(&handled(1)).await);
        assert_eq!(numbers(&next), [2]);
        assert_eq!(another.deliver(1).await, Delivered::Done(reply(1)));

        // Its lease ran out: who took it over ends it.
        let bob = Holder::of("oBob", &stores[0]);
        hold(bob.deliver_for(&message(3), SHORT).await);
        tokio::time::sleep(SHORT * 2).await;
        let next = Holder::of("oBob", &stores[1]);
        hold(next.deliver(3).await);
        assert_eq!(bob.finish(&handled(3)).await, Finished::Lost);
        assert_eq!(next.finish(&handled(3)).await, Finished::Written(vec![]));
        assert_eq!(
            (count("claim"), count("end")),
            (2, 2),
            "both ways were tried"
        );
    })
    .await;
}
