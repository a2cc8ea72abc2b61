//! What this instance has under way: the messages, and the users whose messages they are.
//!
//! Each user has a desk while anything of his is under way here. New messages stand in line at it, are
//! registered with the store in the order of their arrival, and are handled one by one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    tickets: HashMap<Digest, Arc<Ticket>>,
    desks: HashMap<OpenId, Desk>,
}

/// One user's.
#[derive(Default)]
struct Desk {
    turn: Turn,
    /// Those who work at it. With the last it goes.
    seats: usize,
    /// Messages that the store does not know yet.
    line: VecDeque<Arc<Ticket>>,
    is_registering: bool,
    /// Messages to be handled.
    todo: VecDeque<Todo>,
    is_running: bool,
    /// What was put on `todo` since the desk was opened: a list of the store's that is older than the
    /// end of a handling must not begin it anew.
    noted: HashSet<Digest>,
}

/// A message to be handled.
pub(super) enum Todo {
    /// The store knows it.
    Registered(Waiting),
    /// The store is away.
    Unregistered(Arc<Ticket>),
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

/// Whoever has it sees to the message. When he is done, by a panic too, it is no longer under way here:
/// a delivery of it asks the store.
pub(super) struct Charge {
    desks: Arc<Desks>,
    ticket: Arc<Ticket>,
    is_left: bool,
}

/// A place at a desk, which is open while there is one.
pub(super) struct Seat {
    desks: Arc<Desks>,
    pub(super) of: OpenId,
    pub(super) turn: Turn,
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

    /// Joins the message that is under way, or puts a new one in line.
    pub(super) fn enter(self: &Arc<Self>, ticket: Arc<Ticket>, of: &OpenId) -> Entered {
        let mut open = self.lock();
        if let Some(ticket) = open.tickets.get(&ticket.key) {
            return Entered::Joined(Arc::clone(ticket));
        }
        let in_line = open.desks.get(of).map_or(0, |desk| desk.line.len());
        if open.tickets.len() >= MOST_MESSAGES || in_line >= MOST_WAITING {
            return Entered::Full;
        }
        open.tickets.insert(ticket.key, Arc::clone(&ticket));
        let desk = open.desks.entry(of.clone()).or_default();
        desk.line.push_back(Arc::clone(&ticket));
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
        self.lock().tickets.get(key).cloned()
    }

    /// The charge of a message, which is under way from now on at the latest.
    pub(super) fn charge(self: &Arc<Self>, ticket: Arc<Ticket>) -> Charge {
        let ticket = Arc::clone(self.lock().tickets.entry(ticket.key).or_insert(ticket));
        let desks = Arc::clone(self);
        Charge {
            desks,
            ticket,
            is_left: false,
        }
    }
}

impl Charge {
    /// Leaves the message to whoever handles what is to be done at its desk.
    pub(super) fn leave_to_run(mut self) {
        self.is_left = true;
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
        if self.is_left {
            return;
        }
        // Whoever still waits for a reply need not: there will be none here.
        self.ticket.abandon();
        self.desks.lock().tickets.remove(&self.ticket.key);
    }
}

impl Seat {
    fn with_desk<T>(&self, work: impl FnOnce(&mut Desk) -> T) -> T {
        let mut open = self.desks.lock();
        // It is there: this seat keeps it open.
        work(open.desks.entry(self.of.clone()).or_default())
    }

    /// Another place at this desk.
    pub(super) fn beside(&self) -> Self {
        self.desks.seat(&self.of)
    }

    /// The next message to register. With none, registering has ended.
    pub(super) fn next_in_line(&self) -> Option<Arc<Ticket>> {
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

    /// Puts what the store says waits on the list, each message once. Returns whether the caller is to
    /// see that it is handled: nobody is at it.
    pub(super) fn note(&self, waiting: Vec<Waiting>) -> bool {
        self.with_desk(|desk| {
            for waiting in waiting {
                if desk.noted.insert(waiting.key) {
                    desk.todo.push_back(Todo::Registered(waiting));
                }
            }
            desk.begin()
        })
    }

    /// The same for a message that the store does not know.
    pub(super) fn note_unregistered(&self, ticket: Arc<Ticket>) -> bool {
        self.with_desk(|desk| {
            if desk.noted.insert(ticket.key) {
                desk.todo.push_back(Todo::Unregistered(ticket));
            }
            desk.begin()
        })
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
    fn begin(&mut self) -> bool {
        let begin = !self.is_running && !self.todo.is_empty();
        self.is_running |= begin;
        begin
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.desks.lock();
        if let Some(desk) = open.desks.get_mut(&self.of) {
            desk.seats -= 1;
            if desk.seats == 0 {
                open.desks.remove(&self.of);
            }
        }
    }
}
