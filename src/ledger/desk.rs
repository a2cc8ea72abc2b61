//! What this instance has under way: the messages, and the users whose messages they are.
//!
//! Each user has a desk while anything of his is under way here. New messages stand in line at it, are
//! registered with the store in the order of their arrival, and are handled one by one.
//!
//! A desk is looked for once for each message, when it comes: whoever works at it or sees to a message holds
//! it.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::mem;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::{HashMap, HashSet};

use super::ticket::Ticket;
use crate::store::{Digest, MOST_WAITING, Turn, Waiting};
use crate::wechat::id::OpenId;

/// Messages under way at one instance. More are shed: each holds its text and a task.
const MOST_MESSAGES: usize = 16_384;

/// All desks of this instance.
#[derive(Default)]
pub(super) struct Desks {
    open: Mutex<HashMap<OpenId, Arc<Desk>>>,
    /// Under way at all of them.
    messages: AtomicUsize,
}

/// One user's. It is open while somebody works at it or sees to a message of his. Its state is locked after
/// the table of all desks, never before.
struct Desk {
    of: OpenId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turn: Turn,
    /// Those who work at it. With the last one all but the tickets goes.
    seats: usize,
    /// The messages under way, each with the number of its charges.
    tickets: Vec<(Arc<Ticket>, usize)>,
    /// Messages that the store does not know yet.
    line: VecDeque<Charge>,
    is_registering: bool,
    /// Messages to be handled.
    todo: VecDeque<Todo>,
    is_running: bool,
    noted: Noted,
    /// The last that was delivered here is that the user has left.
    has_left: bool,
}

/// What was to be handled at a desk: a list of the store's that is older than the end of a handling must not
/// begin it anew.
#[derive(Default)]
struct Noted {
    /// Most desks see no other.
    first: Option<Digest>,
    others: HashSet<Digest>,
}

/// A message to be handled.
pub(super) enum Todo {
    /// It was delivered here, and the store knows it.
    Registered(Charge),
    /// It was delivered here, and the store is away.
    Unregistered(Charge),
    /// It was delivered elsewhere alone, and the store knows it.
    Elsewhere(Box<Waiting>),
}

impl Todo {
    /// Which message.
    pub(super) fn key(&self) -> &Digest {
        match self {
            Self::Registered(charge) | Self::Unregistered(charge) => &charge.key,
            Self::Elsewhere(waiting) => &waiting.key,
        }
    }
}

/// What a delivery found.
pub(super) enum Entered {
    /// Its message is under way.
    Joined(Arc<Ticket>),
    /// It is the first here, and stands in line.
    InLine(Arc<Ticket>),
    /// It is the first here, and there is no line: the caller is to begin registering.
    First(Arc<Ticket>, Seat, Charge),
    /// Too much is under way.
    Full,
}

/// Whoever has it sees to the message. When the last one is done, by a panic too, it is no longer under
/// way here: a delivery of it asks the store.
pub(super) struct Charge {
    desks: Arc<Desks>,
    desk: Arc<Desk>,
    ticket: Arc<Ticket>,
}

/// A place at a desk, which is open while there is one.
pub(super) struct Seat {
    desks: Arc<Desks>,
    desk: Arc<Desk>,
    pub(super) turn: Turn,
}

impl Desks {
    fn lock(&self) -> MutexGuard<'_, HashMap<OpenId, Arc<Desk>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum(&self, of_desk: impl Fn(&State) -> usize) -> usize {
        let open = self.lock();
        open.values().map(|desk| of_desk(&desk.lock())).sum()
    }

    /// The number of messages that are being handled, and of those that wait for it.
    pub(super) fn in_progress(&self) -> (usize, usize) {
        let handled = self.sum(|desk| usize::from(desk.is_running));
        let waiting = self.sum(|desk| desk.line.len() + desk.todo.len());
        (handled, waiting)
    }

    /// The desks at which messages are handled or wait for it.
    pub(super) fn busy(&self) -> Vec<(OpenId, Turn)> {
        let open = self.lock();
        let busy = open.values().filter_map(|desk| {
            let state = desk.lock();
            (state.is_running || state.is_registering).then(|| (desk.of.clone(), state.turn))
        });
        busy.collect()
    }

    /// The number of messages under way that the store does not know.
    pub(super) fn not_stored(&self) -> usize {
        let is_not_stored = |(ticket, _): &&(Arc<Ticket>, usize)| !ticket.is_stored();
        self.sum(|desk| desk.tickets.iter().filter(is_not_stored).count())
    }

    /// Joins the message that is under way, or puts a new one in line.
    pub(super) fn enter(self: &Arc<Self>, ticket: Arc<Ticket>) -> Entered {
        let is_full = self.messages.load(Ordering::Relaxed) >= MOST_MESSAGES;
        let mut open = self.lock();
        let desk = match open.entry(ticket.message.from.clone()) {
            Entry::Occupied(desk) => Arc::clone(desk.get()),
            Entry::Vacant(_) if is_full => return Entered::Full,
            Entry::Vacant(place) => {
                let desk = Desk::new(place.key());
                Arc::clone(place.insert(desk))
            }
        };
        let mut state = desk.lock();
        drop(open);
        if let Some(ticket) = state.find(&ticket.key) {
            return Entered::Joined(Arc::clone(ticket));
        }
        if is_full || state.line.len() >= MOST_WAITING {
            return Entered::Full;
        }
        state.has_left = ticket.message.is_farewell();
        let charge = self.charge_at(&desk, &mut state, ticket);
        let ticket = Arc::clone(&charge);
        if state.is_registering {
            state.line.push_back(charge);
            return Entered::InLine(ticket);
        }
        state.is_registering = true;
        let seat = self.seat_at(&desk, &mut state);
        Entered::First(ticket, seat, charge)
    }

    /// A place at a user's desk.
    pub(super) fn seat(self: &Arc<Self>, of: &OpenId) -> Seat {
        let mut open = self.lock();
        let desk = desk_of(&mut open, of);
        let mut state = desk.lock();
        self.seat_at(&desk, &mut state)
    }

    /// The message of a user, if it is under way.
    pub(super) fn find(&self, of: &OpenId, key: &Digest) -> Option<Arc<Ticket>> {
        let open = self.lock();
        open.get(of)?.lock().find(key).cloned()
    }

    /// A charge of the message: of the one under way, or of this one from now on.
    pub(super) fn charge(self: &Arc<Self>, ticket: Arc<Ticket>) -> Charge {
        let mut open = self.lock();
        let desk = desk_of(&mut open, &ticket.message.from);
        let mut state = desk.lock();
        self.charge_at(&desk, &mut state, ticket)
    }

    fn charge_at(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        state: &mut State,
        ticket: Arc<Ticket>,
    ) -> Charge {
        let mut tickets = state.tickets.iter_mut();
        let ticket = match tickets.find(|(known, _)| known.key == ticket.key) {
            Some((known, charges)) => {
                *charges += 1;
                Arc::clone(known)
            }
            None => {
                self.messages.fetch_add(1, Ordering::Relaxed);
                state.tickets.push((Arc::clone(&ticket), 1));
                ticket
            }
        };
        Charge {
            desks: Arc::clone(self),
            desk: Arc::clone(desk),
            ticket,
        }
    }

    fn seat_at(self: &Arc<Self>, desk: &Arc<Desk>, state: &mut State) -> Seat {
        state.seats += 1;
        Seat {
            desks: Arc::clone(self),
            desk: Arc::clone(desk),
            turn: state.turn,
        }
    }

    /// Closes a desk at which nothing is any more.
    fn close(&self, desk: &Desk) {
        let mut open = self.lock();
        // Another may be open by now, or this one in use again.
        let is_unused = |open: &Arc<Desk>| std::ptr::eq(&**open, desk) && open.lock().is_unused();
        if open.get(&desk.of).is_some_and(is_unused) {
            open.remove(&desk.of);
        }
    }
}

/// The user's desk, opened if it is not.
fn desk_of(open: &mut HashMap<OpenId, Arc<Desk>>, of: &OpenId) -> Arc<Desk> {
    let desk = open.entry(of.clone()).or_insert_with(|| Desk::new(of));
    Arc::clone(desk)
}

impl Desk {
    fn new(of: &OpenId) -> Arc<Self> {
        Arc::new(Self {
            of: of.clone(),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.desk.lock();
        let tickets = &mut state.tickets;
        let Some(at) = tickets.iter().position(|(of, _)| of.key == self.ticket.key) else {
            return;
        };
        tickets[at].1 -= 1;
        if tickets[at].1 > 0 {
            return;
        }
        tickets.swap_remove(at);
        let is_unused = state.is_unused();
        drop(state);
        self.desks.messages.fetch_sub(1, Ordering::Relaxed);
        if is_unused {
            self.desks.close(&self.desk);
        }
        // Whoever still waits for a reply need not: there will be none here.
        self.ticket.abandon();
    }
}

impl Seat {
    /// Whose desk it is.
    pub(super) fn of(&self) -> &OpenId {
        &self.desk.of
    }

    /// Another place at this desk.
    pub(super) fn beside(&self) -> Self {
        self.desks.seat_at(&self.desk, &mut self.desk.lock())
    }

    /// The user's message, if it is under way.
    pub(super) fn find(&self, key: &Digest) -> Option<Arc<Ticket>> {
        self.desk.lock().find(key).cloned()
    }

    /// A charge of a message of the user's: of the one under way, or of this one from now on.
    pub(super) fn charge(&self, ticket: Arc<Ticket>) -> Charge {
        self.desks
            .charge_at(&self.desk, &mut self.desk.lock(), ticket)
    }

    /// The next message to register. With none, registering has ended.
    pub(super) fn next_in_line(&self) -> Option<Charge> {
        let mut state = self.desk.lock();
        let next = state.line.pop_front();
        state.is_registering = next.is_some();
        next
    }

    /// Ends registering if nobody stands in line.
    pub(super) fn stop_registering(&self) -> bool {
        let mut state = self.desk.lock();
        state.is_registering = !state.line.is_empty();
        !state.is_registering
    }

    /// Puts what the store says waits on the list, each message once, with a charge if it was delivered
    /// here. The caller may hand in its own. Returns the first to be handled if nobody is at it: the caller
    /// is to see that all is.
    pub(super) fn note(&self, waiting: Vec<Waiting>, mut charge: Option<Charge>) -> Option<Todo> {
        let mut first = None;
        let mut spare: Vec<Charge> = Vec::new();
        let mut state = self.desk.lock();
        for waiting in waiting {
            let own = charge.take_if(|charge| charge.key == waiting.key);
            let charge = own.or_else(|| {
                let ticket = Arc::clone(state.find(&waiting.key)?);
                Some(self.desks.charge_at(&self.desk, &mut state, ticket))
            });
            if let Some(ticket) = &charge {
                ticket.note_stored();
                // Now, and not when its turn comes: until then the third delivery may be here.
                ticket.count_elsewhere(waiting.deliveries, waiting.first_seen);
            }
            if state.noted.insert(waiting.key) {
                let todo = match charge {
                    Some(charge) => Todo::Registered(charge),
                    None => Todo::Elsewhere(Box::new(waiting)),
                };
                let begun = state.list(todo);
                first = first.or(begun);
            } else {
                spare.extend(charge.and_then(|charge| state.charge_listed(charge)));
            }
        }
        drop(state);
        // Last, so that no message is ever without. The end of a charge takes the lock.
        drop((charge, spare));
        first
    }

    /// The same for a message that the store does not know. Gives the charge back if it was on the list
    /// before.
    pub(super) fn note_unregistered(&self, charge: Charge) -> (Option<Todo>, Option<Charge>) {
        let mut state = self.desk.lock();
        if state.noted.insert(charge.key) {
            return (state.list(Todo::Unregistered(charge)), None);
        }
        (None, Some(charge))
    }

    /// Whether the user has left, as far as it is known here.
    pub(super) fn has_left(&self) -> bool {
        self.desk.lock().has_left
    }

    /// The message may be put on the list again: it was not handled here.
    pub(super) fn forget(&self, key: &Digest) {
        self.desk.lock().noted.remove(key);
    }

    /// The next message to handle. With none, handling has ended.
    pub(super) fn next_to_do(&self) -> Option<Todo> {
        let mut state = self.desk.lock();
        let next = state.todo.pop_front();
        state.is_running = next.is_some();
        next
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        state.seats -= 1;
        if state.seats > 0 {
            return;
        }
        let is_unused = state.is_unused();
        // Whoever sits down next begins anew, under another turn.
        let left = (!is_unused).then(|| state.clear());
        drop(state);
        // The charges in it take the lock.
        drop(left);
        if is_unused {
            self.desks.close(&self.desk);
        }
    }
}

impl State {
    fn find(&self, key: &Digest) -> Option<&Arc<Ticket>> {
        let mut tickets = self.tickets.iter().map(|(ticket, _)| ticket);
        tickets.find(|ticket| ticket.key == *key)
    }

    fn is_unused(&self) -> bool {
        self.seats == 0 && self.tickets.is_empty()
    }

    /// Takes out all but the tickets.
    fn clear(&mut self) -> Self {
        let tickets = mem::take(&mut self.tickets);
        let fresh = Self {
            tickets,
            ..Self::default()
        };
        mem::replace(self, fresh)
    }

    /// Puts a message on the list, or gives it back if nobody is at the list: then the caller is.
    fn list(&mut self, todo: Todo) -> Option<Todo> {
        if mem::replace(&mut self.is_running, true) {
            self.todo.push_back(todo);
            return None;
        }
        Some(todo)
    }

    /// Has a message on the list know its charge: it was delivered to another instance first, and now here.
    /// Gives the charge back if there is no use for it.
    fn charge_listed(&mut self, charge: Charge) -> Option<Charge> {
        let is_listed = |todo: &&mut Todo| matches!(todo, Todo::Elsewhere(waiting) if waiting.key == charge.key);
        match self.todo.iter_mut().find(is_listed) {
            Some(listed) => {
                *listed = Todo::Registered(charge);
                None
            }
            None => Some(charge),
        }
    }
}

impl Noted {
    /// Returns whether it was not noted before.
    fn insert(&mut self, key: Digest) -> bool {
        match self.first {
            None => !self.others.contains(&key) && self.first.replace(key).is_none(),
            Some(first) => first != key && self.others.insert(key),
        }
    }

    fn remove(&mut self, key: &Digest) {
        if self.first.take_if(|first| first == key).is_none() {
            self.others.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio_util::sync::CancellationToken;

    use super::super::ticket::Waited;
    use super::*;
    use crate::wechat::Message;

    fn ticket(msg_id: u64) -> Arc<Ticket> {
        let xml = format!(
            "<xml><ToUserName>gh_1</ToUserName><FromUserName>oFan</FromUserName><CreateTime>1</CreateTime>\
             <MsgType>text</MsgType><Content>hi</Content><MsgId>{msg_id}</MsgId></xml>"
        );
        let message = Message::parse(xml.as_bytes()).unwrap();
        Arc::new(Ticket::new(Arc::new(message), Instant::now()))
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
        let hurrying = CancellationToken::new();
        hurrying.cancel();
        for (deliveries, is_last) in [(2, false), (3, true)] {
            let (first, second) = (ticket(1), ticket(2));
            let Entered::First(_, seat, charge) = desks.enter(Arc::clone(&second)) else {
                panic!("it is new");
            };
            let mut delivery = second.deliver(1, Instant::now());
            let waiting = vec![waiting(&first, 1), waiting(&second, deliveries)];
            let to_run = seat.note(waiting, Some(charge));
            assert!(to_run.is_some(), "something is to be run");
            let waited = delivery.wait(true, &hurrying).await;
            assert_eq!(matches!(waited, Waited::Last), is_last, "{deliveries}");
        }
    }
}
