//! The handling of one user's messages, one by one, and what becomes of each answer.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::compose::{compose, parts};
use super::desk::{Charge, Seat, Todo};
use super::ticket::{Published, Ticket};
use super::{Inner, LEASE, STORE_WITHIN, Said, label, within};
use crate::bot::Context;
use crate::privacy;
use crate::store::{
    AnswerId, Delivered, Finished, Handled, KeptAnswer, MOST_KEPT, SessionChange, StoreError,
    Waiting,
};
use crate::wechat::{Message, Reply};

const RENEW_EVERY: Duration = Duration::from_millis(1_300);
/// While the store is away, how often it is asked again.
pub(super) const ASK_AGAIN_EVERY: Duration = Duration::from_millis(400);
/// How long what the store does not take is remembered here.
pub(super) const REMEMBER_FOR: Duration = Duration::from_secs(600);

/// How a conversation stands when the handling of a message begins: its session and its kept answers.
pub(super) type Standing = (Option<Vec<u8>>, Vec<KeptAnswer>);

/// What is to be run at a desk: its first message, and how the conversation stands for it if that is known.
pub(super) struct Begun {
    pub(super) first: Todo,
    pub(super) standing: Option<Standing>,
}

/// What the bot made of a message.
struct Outcome {
    /// `None`: it comes later, from outside.
    reply: Option<Reply>,
    session: SessionChange,
    at: Instant,
}

/// What is known of the conversation while a message of it is handled.
enum Ledger {
    /// The store knows the message and we hold the conversation.
    Held(Vec<KeptAnswer>),
    /// The store is away.
    Away,
}

impl Inner {
    /// Handles what is to be done at a desk, until there is nothing more.
    pub(super) async fn run(self: Arc<Self>, seat: Seat, begun: Begun) {
        let mut next = Some((begun.first, begun.standing));
        while let Some((todo, standing)) = next
            .take()
            .or_else(|| seat.next_to_do().map(|todo| (todo, None)))
        {
            // The first message's is the task's own.
            let span = match &standing {
                Some(_) => tracing::Span::current(),
                None => Self::span(todo.key()),
            };
            let seeing_to = self.see_to(&seat, todo, standing).instrument(span);
            if AssertUnwindSafe(seeing_to).catch_unwind().await.is_err() {
                tracing::error!("the handling of a message panicked");
            }
        }
    }

    async fn see_to(self: &Arc<Self>, seat: &Seat, todo: Todo, known: Option<Standing>) {
        let (charge, is_registered) = match todo {
            Todo::Registered(charge) => (charge, true),
            Todo::Unregistered(charge) => (charge, false),
            Todo::Elsewhere(waiting) => match charge_of(seat, *waiting) {
                Some(charge) => (charge, true),
                None => return,
            },
        };
        let standing = match known {
            None if is_registered => match Box::pin(self.look_again(seat, &charge)).await {
                Ok(standing) => Some(standing),
                Err(Ok(Delivered::Done(said))) => {
                    self.metrics.count_repeat("kept");
                    return Box::pin(self.publish_found(seat.of(), &charge, &said)).await;
                }
                Err(Ok(_)) => return self.follow(seat, charge),
                Err(Err(_)) => None,
            },
            known => known,
        };
        self.handle(seat, charge, standing).await;
    }

    /// Sees to it that what waits is handled.
    fn take_up(self: &Arc<Self>, seat: &Seat, waiting: Vec<Waiting>) {
        if let Some(first) = seat.note(waiting, None) {
            let standing = None;
            let run = Arc::clone(self).run(seat.beside(), Begun { first, standing });
            self.tasks.spawn(run);
        }
    }

    /// How the conversation stands now that the message before was handled.
    async fn look_again(
        self: &Arc<Self>,
        seat: &Seat,
        ticket: &Ticket,
    ) -> Result<Standing, Result<Delivered, StoreError>> {
        let store = &self.services.store;
        let look = store.look(seat.of(), &ticket.key, seat.turn, LEASE);
        match within(STORE_WITHIN, look).await {
            Ok(Delivered::Held(held)) => {
                self.take_up(seat, held.waiting);
                Ok((held.session, held.kept))
            }
            other => Err(other),
        }
    }

    async fn handle(self: &Arc<Self>, seat: &Seat, charge: Charge, standing: Option<Standing>) {
        let ctx = Context::new(Arc::clone(&charge.message), Arc::clone(&self.services));
        let is_registered = AtomicBool::new(standing.is_some());
        let mut ledger = Ledger::Away;
        if let Some((session, kept)) = standing {
            ctx.load_session(session);
            ledger = Ledger::Held(kept);
        }
        let outcome = match self.run_and_hold(seat, &charge, &ctx, &is_registered).await {
            Ok(outcome) => outcome,
            // The store is back, and another instance has the message: that one's reply counts.
            Err(Delivered::Done(said)) => {
                self.metrics.count_repeat("kept");
                return Box::pin(self.publish_found(seat.of(), &charge, &said)).await;
            }
            Err(_) => return self.follow(seat, charge),
        };
        if matches!(ledger, Ledger::Away) && is_registered.load(Ordering::Relaxed) {
            ledger = Ledger::Held(vec![]);
        }
        self.conclude(seat, charge, outcome, ledger).await;
    }

    /// Runs the bot, and keeps the hold on the conversation meanwhile. What it is to another instance, if
    /// that turns out to have the message.
    async fn run_and_hold(
        self: &Arc<Self>,
        seat: &Seat,
        ticket: &Ticket,
        ctx: &Context,
        is_registered: &AtomicBool,
    ) -> Result<Outcome, Delivered> {
        let mut running = pin!(self.run_bot(ctx));
        // Most handlers end without any waiting: nothing has to be kept up for them.
        if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await {
            return Ok(outcome);
        }
        let keeping = Box::pin(self.keep_hold(seat, ticket, ctx, is_registered));
        tokio::select! {
            outcome = running => Ok(outcome),
            elsewhere = keeping => Err(elsewhere),
        }
    }

    /// Renews the lease while a handler runs; registers the message first where the store was away.
    /// Returns if another instance turns out to have the message.
    async fn keep_hold(
        self: &Arc<Self>,
        seat: &Seat,
        ticket: &Ticket,
        ctx: &Context,
        is_registered: &AtomicBool,
    ) -> Delivered {
        loop {
            if is_registered.load(Ordering::Relaxed) {
                tokio::time::sleep(RENEW_EVERY).await;
                let renewing = self.services.store.renew(seat.of(), seat.turn, LEASE);
                match within(STORE_WITHIN, renewing).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!("another instance has taken the conversation over");
                        return std::future::pending().await;
                    }
                    Err(error) => tracing::debug!(%error, "the lease could not be renewed"),
                }
            } else {
                tokio::time::sleep(ASK_AGAIN_EVERY).await;
                match self.register_again(seat, ticket, false).await {
                    Ok(Delivered::Held(held)) => {
                        self.take_up(seat, held.waiting);
                        ctx.load_session(held.session);
                        is_registered.store(true, Ordering::Relaxed);
                    }
                    Ok(Delivered::Full) | Err(_) => {}
                    Ok(elsewhere) => return elsewhere,
                }
            }
        }
    }

    /// Runs the bot. Whatever happens in it, there is an outcome.
    async fn run_bot(&self, ctx: &Context) -> Outcome {
        let began = Instant::now();
        let message = ctx.message();
        let (kind, is_event) = (label(message), message.is_event());
        let running = AssertUnwindSafe(self.bot.run(ctx.clone())).catch_unwind();
        let (reply, counted) = match running.await {
            Ok(Ok(_)) if ctx.is_answered_later() => (None, "later"),
            Ok(Ok(reply)) if reply.is_silent() || message.is_farewell() => {
                (Some(Reply::None), "silent")
            }
            Ok(Ok(reply)) => (Some(reply), "answered"),
            Ok(Err(error)) => {
                tracing::error!(msg.kind = kind, %error, "the handler of a {kind} failed");
                ctx.take_session_change();
                let fallback = if is_event {
                    Reply::None
                } else {
                    Reply::Text(self.texts.fallback.clone())
                };
                (Some(fallback), "failed")
            }
            Err(_panic) => {
                self.metrics.count_panic();
                tracing::error!(msg.kind = kind, "the handler of a {kind} panicked");
                ctx.take_session_change();
                (Some(Reply::None), "panicked")
            }
        };
        let mut session = ctx.take_session_change();
        // Last, so that the handler still finds whom it says farewell to.
        if privacy::forget_if_demanded(&*self.services.store, message).await {
            session = SessionChange::Cleared;
        }
        let at = Instant::now();
        let elapsed = at.duration_since(began);
        self.metrics.count_handled(kind, counted, elapsed);
        tracing::debug!(
            msg.kind = kind,
            outcome = counted,
            elapsed_ms = elapsed.as_millis(),
            "handled a {kind}"
        );
        Outcome { reply, session, at }
    }

    /// Writes down how a message was handled, and has the answer take the first step it can.
    async fn conclude(
        self: &Arc<Self>,
        seat: &Seat,
        charge: Charge,
        outcome: Outcome,
        ledger: Ledger,
    ) {
        let (kept, is_away) = match ledger {
            Ledger::Held(kept) => (kept, false),
            Ledger::Away => (vec![], true),
        };
        let (said, mut handled) = self.plan(seat, &charge, &outcome, &kept, outcome.at);
        let planned = if !handled.is_plain() {
            Some((said, handled))
        } else if publish(&charge, said, &mut handled, outcome.at, is_away) {
            return self.write_down(seat, charge, handled, is_away).await;
        } else {
            None
        };
        let concluding = self.conclude_slowly(seat, charge, outcome, kept, is_away, planned);
        Box::pin(concluding).await;
    }

    /// The same where more than the answer's own entry depends on it, or no delivery carries it any more.
    async fn conclude_slowly(
        self: &Arc<Self>,
        seat: &Seat,
        charge: Charge,
        outcome: Outcome,
        mut kept: Vec<KeptAnswer>,
        mut is_away: bool,
        mut planned: Option<(Option<Said>, Handled)>,
    ) {
        let mut now = outcome.at;
        loop {
            let plan = || self.plan(seat, &charge, &outcome, &kept, now);
            let (said, mut handled) = planned.take().unwrap_or_else(plan);
            if is_away && handled.session != SessionChange::Unchanged {
                // The user's next message waits, which else would find the session of before.
                match self.register_until_known(seat, &charge).await {
                    Ok(Delivered::Held(held)) => {
                        self.take_up(seat, held.waiting);
                        kept = held.kept;
                        is_away = false;
                        now = Instant::now();
                        continue;
                    }
                    Ok(Delivered::Done(said)) => {
                        self.note_handled_twice();
                        return self.publish_found(seat.of(), &charge, &said).await;
                    }
                    Ok(_) => {
                        self.note_handled_twice();
                        return self.follow(seat, charge);
                    }
                    Err(error) => return give_up(seat, &charge, &error),
                }
            }
            if !handled.is_plain() && !is_away {
                match self.finish_until_known(seat, &handled).await {
                    Ok(Finished::Written(next)) => {
                        self.take_up(seat, next);
                        for _ in &handled.taken {
                            self.metrics.count_late("given");
                        }
                        return self.give(seat, charge, said, handled).await;
                    }
                    Ok(Finished::KeptChanged(new)) => {
                        kept = new;
                        now = Instant::now();
                        continue;
                    }
                    Ok(Finished::Lost) => {
                        self.note_handled_twice();
                        return self.follow(seat, charge);
                    }
                    Err(error) => return give_up(seat, &charge, &error),
                }
            }
            if publish(&charge, said, &mut handled, now, is_away) {
                return self.write_down(seat, charge, handled, is_away).await;
            }
        }
    }

    /// Writes down how a message was handled, where more than its own entry depends on it. The answer, and
    /// the user's next message, wait until that is known to have happened: else a kept answer might be
    /// given twice or not at all, and the next message would find the session of before.
    async fn finish_until_known(
        &self,
        seat: &Seat,
        handled: &Handled,
    ) -> Result<Finished, StoreError> {
        let finish = || {
            let store = &self.services.store;
            within(
                STORE_WITHIN,
                store.finish(seat.of(), handled, seat.turn, LEASE),
            )
        };
        until_known(finish).await
    }

    /// Registers a message that was handled while the store was away, if nobody else has it.
    async fn register_until_known(
        &self,
        seat: &Seat,
        ticket: &Ticket,
    ) -> Result<Delivered, StoreError> {
        let register = || async {
            match self.register_again(seat, ticket, true).await {
                Ok(Delivered::Full) => Err(held_elsewhere()),
                found => found,
            }
        };
        until_known(register).await
    }

    /// What is said `now`, and what is written about it.
    fn plan(
        &self,
        seat: &Seat,
        ticket: &Ticket,
        outcome: &Outcome,
        kept: &[KeptAnswer],
        now: Instant,
    ) -> (Option<Said>, Handled) {
        let mut handled = Handled {
            key: ticket.key,
            reply: None,
            given: false,
            taken: vec![],
            kept: vec![],
            session: outcome.session.clone(),
        };
        let Some(mut reply) = outcome.reply.clone() else {
            return (None, handled);
        };
        let has_left = seat.has_left();
        if has_left {
            // He was here when he asked.
            reply = Reply::None;
        }
        let (say, keep) = if ticket.is_over(now) {
            // No delivery carries anything now: all of it goes down the ladder.
            (Reply::None, parts(reply))
        } else {
            let kept: Vec<(AnswerId, Reply)> = if takes_kept(&ticket.message) && !has_left {
                let read = |answer: &KeptAnswer| (answer.id, self.decode(&answer.reply).reply);
                kept.iter().map(read).collect()
            } else {
                vec![]
            };
            let composed = compose(&kept, reply);
            handled.taken = composed.taken;
            let is_event = ticket.message.is_event();
            (self.fit(composed.say, is_event), composed.keep)
        };
        if !keep.is_empty() && !say.is_silent() {
            tracing::info!(more = keep.len(), "the rest of an answer follows");
        }
        let mut said = self.say(say);
        said.holds_kept = !handled.taken.is_empty();
        handled.reply = Some(self.encode(&said));
        handled.given = said.reply.is_silent() || ticket.has_carrier_for(STORE_WITHIN, now);
        handled.kept = keep
            .into_iter()
            .take(MOST_KEPT)
            .map(|reply| self.encode(&self.say(reply)))
            .collect();
        (Some(said), handled)
    }

    /// Gives a reply that is written down.
    async fn give(
        self: &Arc<Self>,
        seat: &Seat,
        charge: Charge,
        said: Option<Said>,
        mut handled: Handled,
    ) {
        let Some(said) = said else {
            return self.follow(seat, charge);
        };
        let is_silent = said.reply.is_silent();
        let given = charge.publish(said, Instant::now()) == Published::Carried || is_silent;
        if given != handled.given {
            // A delivery has come or gone while it was written.
            self.note_given(seat.of(), &charge).await;
            handled.given = given;
        }
        self.see_given(seat, charge, &handled);
    }

    /// Writes down how a message was handled, and sees to it that the answer reaches the user. While the
    /// store is away that goes on in a task of its own.
    async fn write_down(
        self: &Arc<Self>,
        seat: &Seat,
        charge: Charge,
        handled: Handled,
        is_away: bool,
    ) {
        let error = match self.write_once(seat, &charge, &handled, is_away).await {
            Ok(()) => return self.see_written(seat, charge, &handled),
            Err(error) => error,
        };
        tracing::warn!(%error, "a reply is kept in memory until the store takes it");
        let (inner, seat) = (Arc::clone(self), seat.beside());
        let key = charge.key;
        self.spawn(&key, async move {
            let write = || inner.write_once(&seat, &charge, &handled, true);
            match until_known(write).await {
                Ok(()) => inner.see_written(&seat, charge, &handled),
                Err(error) => give_up(&seat, &charge, &error),
            }
        });
    }

    fn see_written(self: &Arc<Self>, seat: &Seat, charge: Charge, handled: &Handled) {
        if handled.reply.is_some() {
            self.see_given(seat, charge, handled);
        } else {
            self.follow(seat, charge);
        }
    }

    /// Writes down how a message was handled, registered first where the store was away.
    async fn write_once(
        self: &Arc<Self>,
        seat: &Seat,
        ticket: &Arc<Ticket>,
        handled: &Handled,
        is_away: bool,
    ) -> Result<(), StoreError> {
        if is_away {
            match Box::pin(self.register_again(seat, ticket, true)).await? {
                Delivered::Held(held) => self.take_up(seat, held.waiting),
                // It was written before.
                Delivered::Done(reply) if Some(&reply) == handled.reply.as_ref() => return Ok(()),
                Delivered::Done(reply) => {
                    self.note_handled_twice();
                    if ticket.is_carried() && !self.decode(&reply).holds_kept {
                        // The other's is not given as well.
                        Box::pin(self.note_given(seat.of(), ticket)).await;
                    }
                    return Ok(());
                }
                // It comes from outside, whoever handled the message.
                Delivered::Elsewhere { .. } if handled.reply.is_none() => return Ok(()),
                // Who holds the conversation handles the message too, or leaves it to us.
                Delivered::Elsewhere { .. } | Delivered::Full => return Err(held_elsewhere()),
            }
        }
        let finishing = self
            .services
            .store
            .finish(seat.of(), handled, seat.turn, LEASE);
        match within(STORE_WITHIN, finishing).await? {
            Finished::Written(next) => self.take_up(seat, next),
            Finished::Lost | Finished::KeptChanged(_) => return Err(held_elsewhere()),
        }
        Ok(())
    }

    fn note_handled_twice(&self) {
        self.metrics.count_repeat("twice");
        tracing::warn!("another instance has handled the message too");
    }
}

/// Hands a reply to the deliveries that wait `now`, before it is written down, and notes whether one
/// carries it. A retry finds it here until it is written. Returns false if no delivery will carry it: then
/// it is to be planned anew.
fn publish(
    ticket: &Ticket,
    said: Option<Said>,
    handled: &mut Handled,
    now: Instant,
    is_away: bool,
) -> bool {
    let Some(said) = said else {
        return true;
    };
    let is_silent = said.reply.is_silent();
    match ticket.publish(said, now) {
        Published::Over if !is_silent && !is_away => return false,
        Published::Carried => handled.given = true,
        _ => handled.given = is_silent,
    }
    true
}

/// The charge of a message that was delivered elsewhere. It may be under way here by now.
fn charge_of(seat: &Seat, waiting: Waiting) -> Option<Charge> {
    let ticket = match seat.find(&waiting.key) {
        Some(ticket) => ticket,
        None => match Message::parse(waiting.message?.as_bytes()) {
            Ok(message) => {
                let message = message.known_as(waiting.key.0);
                Arc::new(Ticket::new(Arc::new(message), Instant::now()))
            }
            Err(error) => {
                tracing::error!(%error, "a message that another instance left can't be read");
                return None;
            }
        },
    };
    let charge = seat.charge(ticket);
    charge.note_stored();
    charge.count_elsewhere(waiting.deliveries, waiting.first_seen);
    Some(charge)
}

/// Asks the store until it answers, for as long as it is worth it.
async fn until_known<T, F>(mut ask: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let give_up_at = Instant::now() + REMEMBER_FOR;
    loop {
        match ask().await {
            Err(error) if Instant::now() < give_up_at => {
                tracing::debug!(%error, "what was handled waits for the store");
                tokio::time::sleep(ASK_AGAIN_EVERY).await;
            }
            known => return known,
        }
    }
}

/// The store was away for too long. If it knows the message, whoever looks for what is overdue handles it
/// when it is back.
fn give_up(seat: &Seat, ticket: &Ticket, error: &StoreError) {
    seat.forget(&ticket.key);
    tracing::error!(%error, "how a message was handled was not written down: the store is away too long");
}

fn held_elsewhere() -> StoreError {
    StoreError::Unavailable("another instance holds the conversation, or too much waits".into())
}

impl Handled {
    /// Nothing but the ledger's own entry depends on it, so the answer need not wait for it.
    fn is_plain(&self) -> bool {
        self.session == SessionChange::Unchanged && self.taken.is_empty() && self.kept.is_empty()
    }
}

/// Whether kept answers are given with the answer to it: the user has turned to the account.
fn takes_kept(message: &Message) -> bool {
    !message.is_event()
        || matches!(
            message.event_name(),
            Some("CLICK" | "SCAN" | "scancode_waitmsg")
        )
}

#[cfg(test)]
mod tests {
    use super::super::desk::Desks;
    use super::*;
    use crate::store::Digest;
    use crate::wechat::id::OpenId;

    #[test]
    fn a_message_left_under_another_key_keeps_it() {
        let seat = Arc::new(Desks::default()).seat(&OpenId::parse("oFan").unwrap());
        let xml = "<xml><ToUserName>gh_1</ToUserName><FromUserName>oFan</FromUserName>\
                   <CreateTime>1</CreateTime><MsgType>text</MsgType><Content>hi</Content>\
                   <MsgId>1</MsgId></xml>";
        let waiting = Waiting {
            key: Digest([7; 32]),
            message: Some(xml.into()),
            deliveries: 1,
            first_seen: Duration::ZERO,
        };
        let charge = charge_of(&seat, waiting).unwrap();
        assert_eq!(charge.key, Digest([7; 32]));
        assert_eq!(charge.message.ledger_key(), [7; 32]);
    }
}
