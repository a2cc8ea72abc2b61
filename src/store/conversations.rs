//! The ledger of messages, a user's conversation at a time.
//!
//! All that concerns one user's conversation is one record, and each operation changes it in one atomic
//! step: one MongoDB document, one SQLite transaction. It holds the messages delivered lately and their
//! replies, the answers kept for his next message, the session of the handlers, and the windows for
//! customer-service messages.
//!
//! One instance at a time *holds* a conversation, under a lease. It handles all that waits in it, in the
//! order in which it was delivered to any instance. Whoever looks at a conversation whose lease ran out
//! takes it over.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Digest, StoreError};
use crate::wechat::id::OpenId;

/// How long a message that was handled and its reply are remembered: far longer than a signature is fresh
/// (300 s) and a retry can come (15 s). One that waits is not lost, however long nobody was there to
/// handle it.
pub const REMEMBER_MESSAGES: Duration = Duration::from_secs(24 * 3600);
/// How long an answer waits for the user's next message.
pub const KEEP_ANSWERS: Duration = Duration::from_secs(7 * 24 * 3600);
/// Messages of one user that may wait behind the one being handled.
pub const MOST_WAITING: usize = 20;
/// Answers kept for one user. The oldest goes when one more comes.
pub const MOST_KEPT: usize = 20;
/// After this long since the first delivery no delivery carries the answer any more: the platform
/// delivers three times, every 5 s.
pub const DELIVERIES_END: Duration = Duration::from_secs(16);

/// Under which a conversation is held: new each time an instance begins to hold one, so that a holder
/// that was paused past its lease can't write over its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(pub [u8; 16]);

impl Turn {
    /// A new one.
    pub fn new() -> Self {
        Self(rand::random())
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

/// A delivery as the store needs to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What makes it the same message at each delivery.
    pub key: Digest,
    /// The message as XML, remembered until it is handled, so that any instance can.
    pub message: Arc<str>,
    /// The user leaves: from now on nothing is said to him, until he says something himself.
    pub is_farewell: bool,
    /// It was not made just now, so it may be one that was handled long ago: worth another look where
    /// the store remembers old messages elsewhere. The next message of a quick writer is not.
    pub may_be_old: bool,
    /// It was handled already, while the store was away. Where another holds the conversation nothing is
    /// stored: he would handle it again.
    pub is_handled: bool,
    /// Which window for customer-service messages it opens.
    pub opens: Option<Trigger>,
}

/// What the user did that lets the account write to him (WeChat: 客服消息).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// He wrote.
    Message,
    /// He tapped a menu button, or an item of a `msgmenu`.
    Click,
    /// He followed.
    Follow,
    /// He scanned a QR code.
    Scan,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Message, Self::Click, Self::Follow, Self::Scan];

    /// A word for stores, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Click => "click",
            Self::Follow => "follow",
            Self::Scan => "scan",
        }
    }
}

/// What a delivery, or a look, finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivered {
    /// The caller holds the conversation: it handles what waits, this message among it.
    Held(Conversation),
    /// Another holds the conversation, or the reply comes from outside: look again.
    Elsewhere {
        /// Deliveries counted, this one included.
        deliveries: u32,
        /// Since the first delivery.
        first_seen: Duration,
    },
    /// It was handled; the reply as it was stored. Who gives it notes that, by
    /// [`mark_given`](ConversationStore::mark_given).
    Done(Vec<u8>),
    /// Nothing was stored: too many messages of this user wait, or the message
    /// [is handled](Delivery::is_handled) and another holds the conversation.
    Full,
}

/// A conversation that the caller holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The messages to handle, in the order of their first delivery.
    pub waiting: Vec<Waiting>,
    /// The handlers' session, unless its time is over.
    pub session: Option<Vec<u8>>,
    /// The answers to be given with a next message, oldest first, those left out that are being sent.
    pub kept: Vec<KeptAnswer>,
}

impl Conversation {
    /// Of somebody who has nothing but this message, just delivered for the first time.
    pub(super) fn of_new(key: &Digest) -> Self {
        let waiting = Waiting {
            key: *key,
            message: None,
            deliveries: 1,
            first_seen: Duration::ZERO,
        };
        Self {
            waiting: vec![waiting],
            ..Self::default()
        }
    }
}

/// A message that was delivered and not handled.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Which.
    pub key: Digest,
    /// As XML. `None` for the message that the caller has just handed in itself.
    pub message: Option<String>,
    /// Deliveries counted.
    pub deliveries: u32,
    /// Since the first delivery.
    pub first_seen: Duration,
}

/// An answer that no delivery carried.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptAnswer {
    /// Its name within the conversation.
    pub id: AnswerId,
    /// As it was stored.
    pub reply: Vec<u8>,
}

/// Names a kept answer within its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerId(pub i64);

/// How a message was handled.
#[derive(Clone, Debug, PartialEq)]
pub struct Handled {
    /// Which message.
    pub key: Digest,
    /// The reply, or `None` where it comes from outside, by [`answer`](ConversationStore::answer).
    pub reply: Option<Vec<u8>>,
    /// A delivery carries the reply. Else the conversation falls due at [`DELIVERIES_END`].
    pub given: bool,
    /// Kept answers that stand in the reply: no longer kept.
    pub taken: Vec<AnswerId>,
    /// More answers, to be kept behind the others.
    pub kept: Vec<Vec<u8>>,
    /// What the handlers did to the session.
    pub session: SessionChange,
}

/// What a handler did to the session.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SessionChange {
    /// Nothing.
    #[default]
    Unchanged,
    /// A new value, for so long.
    Set(Vec<u8>, Duration),
    /// It is over.
    Cleared,
}

/// The answer to [`ConversationStore::finish`].
#[derive(Clone, Debug, PartialEq)]
pub enum Finished {
    /// All of it was written. What waits next; the lease goes on if there is something, else it ended.
    Written(Vec<Waiting>),
    /// The lease ran out and another holds the conversation, or has handled the message. Nothing was
    /// written.
    Lost,
    /// An answer in `taken` is no longer to be had. Nothing was written; these are to be had.
    KeptChanged(Vec<KeptAnswer>),
}

/// The answer to [`ConversationStore::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It is the message's reply now.
    Taken {
        /// Since the first delivery.
        first_seen: Duration,
    },
    /// The message has its reply.
    Already,
    /// There is no such message (any more).
    Unknown,
}

/// A conversation of which something is overdue, as it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overdue {
    /// Set if messages wait and the caller holds the conversation now.
    pub held: Option<Conversation>,
    /// Messages whose reply no delivery carried, and none will.
    pub not_given: Vec<Digest>,
}

/// A window for customer-service messages, open or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What opened it.
    pub trigger: Trigger,
    /// Since it was opened, by the last gesture of its kind.
    pub age: Duration,
    /// Customer-service messages that were counted in it.
    pub sent: u32,
}

/// Conversations: one handling, one reply and one place in the order for each message.
#[async_trait]
pub trait ConversationStore: Send + Sync {
    /// Counts a delivery. A message that is new is added behind those that wait, and opens its window.
    /// The conversation is taken if it is free, if its lease is over, or if `turn` holds it already; its
    /// lease lasts `lease` from now then.
    async fn deliver(
        &self,
        of: &OpenId,
        delivery: &Delivery,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError>;

    /// Looks again at a message that was delivered. As [`deliver`](Self::deliver), but counts nothing. A
    /// message that is not known is `Elsewhere` with no deliveries.
    async fn look(
        &self,
        of: &OpenId,
        key: &Digest,
        turn: Turn,
        lease: Duration,
    ) -> Result<Delivered, StoreError>;

    /// For each of these messages, whether it waits while somebody holds its conversation: a
    /// [`look`](Self::look) at it would find nothing new. One question for all that an instance follows.
    async fn still_waiting(&self, messages: &[(OpenId, Digest)]) -> Result<Vec<bool>, StoreError>;

    /// Makes one's own lease last `lease` from now. Returns whether it was still one's own.
    async fn renew(&self, of: &OpenId, turn: Turn, lease: Duration) -> Result<bool, StoreError>;

    /// Writes down how a message was handled, all of it or nothing. To be repeated after an error:
    /// written twice it has one effect.
    async fn finish(
        &self,
        of: &OpenId,
        handled: &Handled,
        turn: Turn,
        lease: Duration,
    ) -> Result<Finished, StoreError>;

    /// Ends one's own lease, so that what waits is handled elsewhere at once.
    async fn release(&self, of: &OpenId, turn: Turn) -> Result<(), StoreError>;

    /// Notes whether a delivery has carried the message's reply. That one has is not taken back: two
    /// instances may have deliveries of it, and know of their own alone.
    async fn mark_given(&self, of: &OpenId, key: &Digest, given: bool) -> Result<(), StoreError>;

    /// Stores the reply of a message that comes from outside: of one that was finished without, or is
    /// still being handled (its handler's own reply wins then). The first one stored stays.
    async fn answer(&self, of: &OpenId, key: &Digest, reply: &[u8])
    -> Result<Answered, StoreError>;

    /// Makes a reply that no delivery carried a kept answer, behind the others. Returns whether it did:
    /// not if it was given meanwhile, or the user has left. No delivery counts as carrying it after that.
    async fn keep_answer(&self, of: &OpenId, key: &Digest) -> Result<bool, StoreError>;

    /// Takes the oldest kept answer to be sent as a customer-service message. While that lasts, `lease`
    /// at most, nobody else gets one of this user's: they would overtake each other.
    async fn begin_sending(
        &self,
        of: &OpenId,
        lease: Duration,
    ) -> Result<Option<KeptAnswer>, StoreError>;

    /// Ends it: sent, then it is no longer kept; or not, then it is given with the next message.
    async fn end_sending(
        &self,
        of: &OpenId,
        answer: AnswerId,
        sent: bool,
    ) -> Result<(), StoreError>;

    /// The windows for customer-service messages that were ever opened, and not yet forgotten.
    async fn windows(&self, of: &OpenId) -> Result<Vec<Window>, StoreError>;

    /// Counts a customer-service message in the window of this kind.
    async fn count_sent(&self, of: &OpenId, trigger: Trigger) -> Result<(), StoreError>;

    /// Conversations of which something is overdue, at most `limit`: messages wait and nobody holds it,
    /// or a reply was carried by no delivery until some seconds after [`DELIVERIES_END`].
    async fn overdue(&self, limit: usize) -> Result<Vec<OpenId>, StoreError>;

    /// Takes over what is overdue of a conversation, if it still is.
    async fn take_overdue(
        &self,
        of: &OpenId,
        turn: Turn,
        lease: Duration,
    ) -> Result<Overdue, StoreError>;
}
