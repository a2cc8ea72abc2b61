//! Authorised calls: with the account's `access_token`, renewed when refused, repeated when safe.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::{ApiError, Call, Class, Transport};
use crate::secret::Secret;
use crate::token::{Kind, TokenCentre};

/// Tries of a call that may be repeated, the first included.
const TRIES: u32 = 3;

/// The account's API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    tokens: TokenCentre,
}

impl Client {
    /// A client that takes its tokens from `tokens`.
    pub fn new(transport: Transport, tokens: TokenCentre) -> Self {
        Self { transport, tokens }
    }

    /// Makes a call that only reads, so it may be repeated: on -1, on a broken connection, on nonsense,
    /// all within the call's deadline.
    ///
    /// # Errors
    ///
    /// The last try's error. See [`ApiError::class`].
    pub async fn read<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        // No token: the centre has tried again already.
        let mut token = self.tokens.get(Kind::AccessToken).await?.value;
        let give_up_at = Instant::now() + call.deadline;
        let mut tries = 1;
        loop {
            let left = give_up_at.saturating_duration_since(Instant::now());
            match self.send(&call.clone().within(left), token).await {
                Err(error)
                    if error.class() == Class::Retry
                        && error.errcode() != Some(45011)
                        && tries < TRIES
                        && Instant::now() < give_up_at =>
                {
                    let pause = Duration::from_millis(rand::random_range(100..300)) * tries;
                    tokio::time::sleep(pause).await;
                    token = self.tokens.get(Kind::AccessToken).await?.value;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Makes a call that writes. It is repeated only when the token was refused: then the platform did
    /// not run it.
    ///
    /// # Errors
    ///
    /// See [`ApiError::class`].
    pub async fn write<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        let token = self.tokens.get(Kind::AccessToken).await?.value;
        self.send(call, token).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        token: Secret,
    ) -> Result<T, ApiError> {
        match self.transport.send(&with_token(call, token.expose())).await {
            Err(error) if error.class() == Class::RenewToken => {
                let token = self
                    .tokens
                    .renew_refused(Kind::AccessToken, &token)
                    .await?
                    .value;
                self.transport.send(&with_token(call, token.expose())).await
            }
            outcome => outcome,
        }
    }

    /// The token centre that this client uses.
    pub fn tokens(&self) -> &TokenCentre {
        &self.tokens
    }
}

fn with_token<'a>(call: &Call<'a>, token: &'a str) -> Call<'a> {
    let mut call = call.clone();
    call.query.insert(0, ("access_token", token));
    call
}
