//! The conversation's state: a small typed value of the user's, with a time-out.
//!
//! It is read with the message and written with the ledger's entry of it, in one step: a message whose
//! handler changed it counts once, whatever dies meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::SetOnce;

use super::BotError;
use crate::store::SessionChange;

/// What the store holds, once that is known, and what the handlers make of it.
#[derive(Default)]
pub(crate) struct Session {
    stored: SetOnce<Option<Vec<u8>>>,
    change: Mutex<SessionChange>,
}

impl Session {
    /// Tells what is stored.
    pub(crate) fn load(&self, stored: Option<Vec<u8>>) {
        // Told before: it is the same, since one instance at a time holds the conversation.
        let _ = self.stored.set(stored);
    }

    /// What the handlers changed.
    pub(crate) fn take_change(&self) -> SessionChange {
        std::mem::take(&mut *self.change())
    }

    /// The value as the handlers see it. Waits while the store is away.
    pub(super) async fn get<T: DeserializeOwned>(&self) -> Result<Option<T>, BotError> {
        let stored = self.stored.wait().await;
        let bytes = match &*self.change() {
            SessionChange::Unchanged => stored.clone(),
            SessionChange::Set(bytes, _) => Some(bytes.clone()),
            SessionChange::Cleared => None,
        };
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            // Where it went wrong, not what is in it.
            format!(
                "the session is of another type: {:?} error",
                error.classify()
            )
            .into()
        })
    }

    pub(super) fn set<T: Serialize>(&self, value: &T, timeout: Duration) -> Result<(), BotError> {
        *self.change() = SessionChange::Set(serde_json::to_vec(value)?, timeout);
        Ok(())
    }

    pub(super) fn clear(&self) {
        *self.change() = SessionChange::Cleared;
    }

    fn change(&self) -> std::sync::MutexGuard<'_, SessionChange> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
