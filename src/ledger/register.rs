//! From the line to the store: each message is registered in the order of its arrival, and then handled
//! here, or followed while another instance handles it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;

use super::desk::{Charge, Seat};
use super::handle::{ASK_AGAIN_EVERY, Begun, REMEMBER_FOR};
use super::ticket::{Published, Ticket};
use super::{Inner, LEASE, STORE_WITHIN, within};
use crate::customer_service;
use crate::store::{Delivered, Delivery, StoreError};
use crate::wechat::id::OpenId;

/// A message made longer ago than this, in seconds, may have been handled long ago.
const FRESH_SECONDS: i64 = 60;

impl Inner {
    /// Registers a message, and what stands in line behind it at its desk.
    pub(super) async fn register(self: Arc<Self>, seat: Seat, first: Charge) {
        let mut next = Some(first);
        while let Some(charge) = next.take().or_else(|| seat.next_in_line()) {
            let registering = AssertUnwindSafe(self.register_one(&seat, charge));
            let begun = match registering.catch_unwind().await {
                Ok(Some(begun)) => begun,
                Ok(None) => continue,
                Err(_panic) => {
                    tracing::error!("registering a message panicked");
                    continue;
                }
            };
            if seat.stop_registering() {
                return self.run(seat, begun).await;
            }
            let (inner, seat) = (Arc::clone(&self), seat.beside());
            self.tasks.spawn(inner.run(seat, begun));
        }
    }

    /// Registers one message. Returns what the caller is to run, if nobody else does.
    async fn register_one(self: &Arc<Self>, seat: &Seat, charge: Charge) -> Option<Begun> {
        match self.deliver_to_store(seat, &charge, false).await {
            Ok(Delivered::Held(held)) => {
                let first = seat.note(held.waiting, Some(charge))?;
                Some(Begun {
                    first,
                    standing: Some((held.session, held.kept)),
                })
            }
            Ok(Delivered::Elsewhere {
                deliveries,
                first_seen,
            }) => {
                charge.count_elsewhere(deliveries, first_seen);
                self.follow(seat, charge);
                None
            }
            Ok(Delivered::Done(said)) => {
                self.metrics.count_repeat("kept");
                Box::pin(self.publish_found(seat.of(), &charge, &said)).await;
                None
            }
            Ok(Delivered::Full) => {
                charge.refuse();
                None
            }
            // A message must be answered while the store is away: from this instance's memory.
            Err(error) => {
                tracing::warn!(%error, "handling a message without the ledger");
                let (first, known) = seat.note_unregistered(charge);
                if let Some(charge) = known {
                    // It is handled here, or was: its reply is in the store, or soon will be.
                    self.look_out(seat, charge);
                }
                let standing = None;
                first.map(|first| Begun { first, standing })
            }
        }
    }

    /// Registers a message that the store may know or not, since it was away. That is no delivery, and does
    /// not count as one if it does. One that `is_handled` is not left to another instance.
    pub(super) async fn register_again(
        &self,
        seat: &Seat,
        ticket: &Ticket,
        is_handled: bool,
    ) -> Result<Delivered, StoreError> {
        let store = &self.services.store;
        let look = store.look(seat.of(), &ticket.key, seat.turn, LEASE);
        match within(STORE_WITHIN, look).await? {
            Delivered::Elsewhere { deliveries: 0, .. } => {
                self.deliver_to_store(seat, ticket, is_handled).await
            }
            found => {
                ticket.note_stored();
                Ok(found)
            }
        }
    }

    async fn deliver_to_store(
        &self,
        seat: &Seat,
        ticket: &Ticket,
        is_handled: bool,
    ) -> Result<Delivered, StoreError> {
        let message = &*ticket.message;
        let age = self.skew.now().saturating_sub(message.create_time);
        let delivery = Delivery {
            key: ticket.key,
            message: message.shared_xml(),
            is_farewell: message.is_farewell(),
            may_be_old: age.abs() > FRESH_SECONDS,
            is_handled,
            opens: customer_service::trigger(message),
        };
        let store = &self.services.store;
        let deliver = store.deliver(seat.of(), &delivery, seat.turn, LEASE);
        let found = within(STORE_WITHIN, deliver).await?;
        if found != Delivered::Full {
            ticket.note_stored();
        }
        Ok(found)
    }

    /// Hands on a reply that the store has. Whoever made it sends it on its further way unless it was noted
    /// by then that a delivery carries it.
    pub(super) async fn publish_found(
        self: &Arc<Self>,
        of: &OpenId,
        ticket: &Arc<Ticket>,
        said: &[u8],
    ) {
        let said = self.decode(said);
        if ticket.publish(said, Instant::now()) == Published::Carried {
            self.note_given(of, ticket).await;
        }
    }

    /// Notes whether a delivery has carried the reply. While the store is away that goes on in a task of
    /// its own: what is not noted as given is sent again when it is overdue.
    pub(super) async fn note_given(self: &Arc<Self>, of: &OpenId, ticket: &Arc<Ticket>) {
        let Err(error) = self.note_given_once(of, ticket).await else {
            return;
        };
        tracing::debug!(%error, "whether a reply was given is noted when the store is back");
        let (inner, of) = (Arc::clone(self), of.clone());
        let charge = self.desks.charge(Arc::clone(ticket));
        self.spawn(&ticket.key, async move {
            let give_up_at = Instant::now() + REMEMBER_FOR;
            loop {
                tokio::time::sleep(ASK_AGAIN_EVERY).await;
                match inner.note_given_once(&of, &charge).await {
                    Ok(()) => return,
                    Err(_) if Instant::now() < give_up_at => {}
                    Err(error) => {
                        return tracing::warn!(%error, "whether a reply was given was not noted");
                    }
                }
            }
        });
    }

    async fn note_given_once(&self, of: &OpenId, ticket: &Ticket) -> Result<(), StoreError> {
        let store = &self.services.store;
        // As it is now: of two that are late the last one must not tell what was.
        let noting = store.mark_given(of, &ticket.key, ticket.is_carried());
        within(STORE_WITHIN, noting).await
    }
}
