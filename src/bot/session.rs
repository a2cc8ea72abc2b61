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

/// The most that a session may hold, in bytes of JSON. It is read with each message of the user and
/// written again; a record of MongoDB's, which holds more than that, may have 16 MiB.
pub const MAX_SESSION_BYTES: usize = 64 * 1024;

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
        let bytes = serde_json::to_vec(value)?;
        if bytes.len() > MAX_SESSION_BYTES {
            return Err(format!(
                "the session is too large: {} bytes of JSON, and at most {MAX_SESSION_BYTES} are kept; keep \
                 what is large in a database of your own, and its key in the session",
                bytes.len()
            )
            .into());
        }
        *self.change() = SessionChange::Set(bytes, timeout);
        Ok(())
    }

    pub(super) fn clear(&self) {
        *self.change() = SessionChange::Cleared;
    }

    fn change(&self) -> std::sync::MutexGuard<'_, SessionChange> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_session_that_is_too_large_is_refused_and_changes_nothing() {
        let session = Session::default();
        session.load(None);
        // Two more are its quotation marks.
        let most = "x".repeat(MAX_SESSION_BYTES - 2);
        session.set(&most, LONG).unwrap();
        let refusal = session.set(&format!("{most}y"), LONG).unwrap_err();
        let text = refusal.to_string();
        assert!(
            text.contains("65537") && text.contains("database of your own"),
            "{text}"
        );
        assert_eq!(session.get().await.unwrap(), Some(most));
    }
}
