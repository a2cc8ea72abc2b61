//! What this instance has under way: the messages, and the users whose messages they are.
//!
//! Each user has a desk while anything of his is under way here. New messages stand in line at it, are
//! registered with the store in the order of their arrival, and are handled one by one.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::{HashMap, HashSet};

use super::ticket::Ticket;
use crate::store::{Digest, MOST_WAITING, Turn, Waiting};
use crate::wechat::id::OpenId;

/// Messages under way at one instance. More are shed: each holds its text and a task.
const MOST_MESSAGES: usize = 16_384;

/// All desks of this instance.
#[derive(Default)]
pub(super) struct Desks(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// With the number of their charges.
    tickets: HashMap<Digest, (Arc<Ticket>, usize)>,
    desks: HashMap<OpenId, Desk>,
}

/// One user's.
#[derive(Default)]
struct Desk {
    turn: Turn,
    /// Those who work at it. With the last it goes.
    seats: usize,
    /// Messages that the store does not know yet.
    line: VecDeque<Charge>,
    is_registering: bool,
    /// Messages to be handled.
    todo: VecDeque<Todo>,
    is_running: bool,
    /// What was put on `todo` since the desk was opened: a list of the store's that is older than the
    /// end of a handling must not begin it anew.
    noted: HashSet<Digest>,
    /// The last that was delivered here is that the user has left.
    has_left: bool,
}

/// A message to be handled.
pub(super) enum Todo {
    /// The store knows it. With its charge where it was delivered here.
    Registered(Waiting, Option<Charge>),
    /// The store is away.
    Unregistered(Charge),
}

impl Todo {
    /// Which message.
    pub(super) fn key(&self) -> &Digest {
        match self {
            Self::Registered(waiting, _) => &waiting.key,
            Self::Unregistered(charge) => &charge.key,
        }
    }
}

/// What a delivery found.
pub(super) enum Entered {
    /// Its message is under way.
    Joined(Arc<Ticket>),
    /// It is the first here, and stands in line. With a seat, if the caller is to begin registering.
    New(Arc<Ticket>, Option<Seat>),
    /// Too much is under way.
    Full,
}

/// Whoever has it sees to the message. When the last one is done, by a panic too, it is no longer under
/// way here: a delivery of it asks the store.
pub(super) struct Charge {
    desks: Arc<Desks>,
    ticket: Arc<Ticket>,
}

/// A place at a desk, which is open while there is one.
pub(super) struct Seat {
    desks: Arc<Desks>,
    pub(super) of: OpenId,
    pub(super) turn: Turn,
}

impl Open {
    /// The desk of somebody who has a seat at it, which keeps it open.
    fn desk(&mut self, of: &OpenId) -> &mut Desk {
        self.desks.entry(of.clone()).or_default()
    }
}

impl Desks {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of messages that are being handled, and of those that wait for it.
    pub(super) fn in_progress(&self) -> (usize, usize) {
        let open = self.lock();
        let desks = open.desks.values();
        desks.fold((0, 0), |(handled, waiting), desk| {
            (
                handled + usize::from(desk.is_running),
                waiting + desk.line.len() + desk.todo.len(),
            )
        })
    }

    /// The desks at which messages are handled or wait for it.
    pub(super) fn busy(&self) -> Vec<(OpenId, Turn)> {
        let open = self.lock();
        let busy = open
            .desks
            .iter()
            .filter(|(_, desk)| desk.is_running || desk.is_registering);
        busy.map(|(of, desk)| (of.clone(), desk.turn)).collect()
    }

    /// The number of messages under way that the store does not know.
    pub(super) fn not_stored(&self) -> usize {
        let open = self.lock();
        let tickets = open.tickets.values();
        tickets.filter(|(ticket, _)| !ticket.is_stored()).count()
    }

    /// Joins the message that is under way, or puts a new one in line.
    pub(super) fn enter(self: &Arc<Self>, ticket: Arc<Ticket>, of: &OpenId) -> Entered {
        let mut open = self.lock();
        if let Some((ticket, _)) = open.tickets.get(&ticket.key) {
            return Entered::Joined(Arc::clone(ticket));
        }
        let in_line = open.desks.get(of).map_or(0, |desk| desk.line.len());
        if open.tickets.len() >= MOST_MESSAGES || in_line >= MOST_WAITING {
            return Entered::Full;
        }
        let charge = self.charge_in(&mut open, Arc::clone(&ticket));
        let desk = open.desks.entry(of.clone()).or_default();
        desk.has_left = ticket.message.is_farewell();
        desk.line.push_back(charge);
        if desk.is_registering {
            return Entered::New(ticket, None);
        }
        desk.is_registering = true;
        desk.seats += 1;
        let turn = desk.turn;
        drop(open);
        let seat = Seat {
            desks: Arc::clone(self),
            of: of.clone(),
            turn,
        };
        Entered::New(ticket, Some(seat))
    }

    /// A place at a user's desk.
    pub(super) fn seat(self: &Arc<Self>, of: &OpenId) -> Seat {
        let mut open = self.lock();
        let desk = open.desks.entry(of.clone()).or_default();
        desk.seats += 1;
        Seat {
            desks: Arc::clone(self),
            of: of.clone(),
            turn: desk.turn,
        }
    }

    /// The message, if it is under way.
    pub(super) fn find(&self, key: &Digest) -> Option<Arc<Ticket>> {
        let open = self.lock();
        open.tickets.get(key).map(|(ticket, _)| Arc::clone(ticket))
    }

    /// A charge of the message: of the one under way, or of this one from now on.
    pub(super) fn charge(self: &Arc<Self>, ticket: Arc<Ticket>) -> Charge {
        self.charge_in(&mut self.lock(), ticket)
    }

    fn charge_in(self: &Arc<Self>, open: &mut Open, ticket: Arc<Ticket>) -> Charge {
        let (ticket, charges) = open.tickets.entry(ticket.key).or_insert((ticket, 0));
        *charges += 1;
        Charge {
            desks: Arc::clone(self),
            ticket: Arc::clone(ticket),
        }
    }
}

impl Deref for Charge {
    type Target = Arc<Ticket>;

    fn deref(&self) -> &Arc<Ticket> {
        &self.ticket
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut open = self.desks.lock();
        let Some((_, charges)) = open.tickets.get_mut(&self.ticket.key) else {
            return;
        };
        *charges -= 1;
        if *charges == 0 {
            open.tickets.remove(&self.ticket.key);
            drop(open);
            // Whoever still waits for a reply need not: there will be none here.
            self.ticket.abandon();
        }
    }
}

impl Seat {
    fn with_desk<T>(&self, work: impl FnOnce(&mut Desk) -> T) -> T {
        work(self.desks.lock().desk(&self.of))
    }

    /// Another place at this desk.
    pub(super) fn beside(&self) -> Self {
        self.desks.seat(&self.of)
    }

    /// The next message to register. With none, registering has ended.
    pub(super) fn next_in_line(&self) -> Option<Charge> {
        self.with_desk(|desk| {
            let next = desk.line.pop_front();
            desk.is_registering = next.is_some();
            next
        })
    }

    /// Ends registering if nobody stands in line.
    pub(super) fn stop_registering(&self) -> bool {
        self.with_desk(|desk| {
            desk.is_registering = !desk.line.is_empty();
            !desk.is_registering
        })
    }

    /// Puts what the store says waits on the list, each message once, with a charge if it was delivered
    /// here. The caller may hand in its own. Returns whether it is to see that all is handled: nobody is
    /// at it.
    pub(super) fn note(&self, waiting: Vec<Waiting>, charge: Option<Charge>) -> bool {
        let mut spare: Vec<Charge> = Vec::new();
        let mut open = self.desks.lock();
        for waiting in waiting {
            let ticket = open.tickets.get(&waiting.key);
            let ticket = ticket.map(|(ticket, _)| Arc::clone(ticket));
            if let Some(ticket) = &ticket {
                // Now, and not when its turn comes: until then the third delivery may be here.
                ticket.count_elsewhere(waiting.deliveries, waiting.first_seen);
            }
            let charge = ticket.map(|ticket| self.desks.charge_in(&mut open, ticket));
            spare.extend(open.desk(&self.of).put(waiting, charge));
        }
        let begin = open.desk(&self.of).begin();
        drop(open);
        // Last, so that no message is ever without. The end of a charge takes the lock.
        drop((charge, spare));
        begin
    }

    /// The same for a message that the store does not know. Gives the charge back if it was on the list
    /// before.
    pub(super) fn note_unregistered(&self, charge: Charge) -> (bool, Option<Charge>) {
        self.with_desk(|desk| {
            let mut charge = Some(charge);
            if let Some(new) = charge.take_if(|charge| desk.noted.insert(charge.key)) {
                desk.todo.push_back(Todo::Unregistered(new));
            }
            (desk.begin(), charge)
        })
    }

    /// Whether the user has left, as far as it is known here.
    pub(super) fn has_left(&self) -> bool {
        self.with_desk(|desk| desk.has_left)
    }

    /// The message may be put on the list again: it was not handled here.
    pub(super) fn forget(&self, key: &Digest) {
        self.with_desk(|desk| desk.noted.remove(key));
    }

    /// The next message to handle. With none, handling has ended.
    pub(super) fn next_to_do(&self) -> Option<Todo> {
        self.with_desk(|desk| {
            let next = desk.todo.pop_front();
            desk.is_running = next.is_some();
            next
        })
    }
}

impl Desk {
    /// Puts a message on the list unless it was there before. Gives the charge back if there is no use for
    /// it.
    fn put(&mut self, waiting: Waiting, charge: Option<Charge>) -> Option<Charge> {
        if self.noted.insert(waiting.key) {
            self.todo.push_back(Todo::Registered(waiting, charge));
            return None;
        }
        let listed = self.todo.iter_mut().find_map(|todo| match todo {
            Todo::Registered(listed, charge) if listed.key == waiting.key => Some(charge),
            _ => None,
        });
        match listed {
            // It was delivered to another instance first, and now here.
            Some(none @ None) => {
                *none = charge;
                None
            }
            _ => charge,
        }
    }

    fn begin(&mut self) -> bool {
        let begin = !self.is_running && !self.todo.is_empty();
        self.is_running |= begin;
        begin
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.desks.lock();
        let Some(desk) = open.desks.get_mut(&self.of) else {
            return;
        };
        desk.seats -= 1;
        if desk.seats == 0 {
            let left = open.desks.remove(&self.of);
            drop(open);
            // The charges in it take the lock.
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::super::ticket::Waited;
    use super::*;
    use crate::wechat::Message;

    fn ticket(msg_id: u64) -> Arc<Ticket> {
        let xml = format!(
            "<xml><ToUserName>gh_1</ToUserName><FromUserName>oFan</FromUserName><CreateTime>1</CreateTime>\
             <MsgType>text</MsgType><Content>hi</Content><MsgId>{msg_id}</MsgId></xml>"
        );
        Arc::new(Ticket::new(Arc::new(
            Message::parse(xml.as_bytes()).unwrap(),
        )))
    }

    fn waiting(ticket: &Ticket, deliveries: u32) -> Waiting {
        Waiting {
            key: ticket.key,
            message: None,
            deliveries,
            first_seen: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn a_message_that_waits_behind_another_knows_its_deliveries_elsewhere() {
        let desks = Arc::new(Desks::default());
        let of = OpenId::parse("oFan").unwrap();
        let hurrying = CancellationToken::new();
        hurrying.cancel();
        for (deliveries, is_last) in [(2, false), (3, true)] {
            let (first, second) = (ticket(1), ticket(2));
            let Entered::New(_, Some(seat)) = desks.enter(Arc::clone(&second), &of) else {
                panic!("it is new");
            };
            let mut delivery = second.deliver(1);
            let charge = seat.next_in_line().unwrap();
            let waiting = vec![waiting(&first, 1), waiting(&second, deliveries)];
            assert!(seat.note(waiting, Some(charge)), "something is to be run");
            let waited = delivery.wait(true, &hurrying).await;
            assert_eq!(matches!(waited, Waited::Last), is_last, "{deliveries}");
        }
    }
}
