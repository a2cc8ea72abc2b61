//! How each credential is fetched from the platform.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::obtain::{LEASE, Need};
use super::{Credential, Kind, TokenCentre};
use crate::api::{ApiError, Call, Class, Number};
use crate::config::TokenMode;
use crate::secret::Secret;

/// One try of a fetch.
const FETCH_DEADLINE: Duration = Duration::from_secs(3);
/// The shortest time between two values forced from the platform: it allows one in 30 s, 20 a day.
const FORCE_EVERY: Duration = Duration::from_secs(30);
/// The platform never promises more.
const LONGEST_LIFE: Duration = Duration::from_secs(7200);
const TRIES: u32 = 2;

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: Number,
}

#[derive(Deserialize)]
struct TicketAnswer {
    ticket: String,
    expires_in: Number,
}

impl TokenCentre {
    /// Fetches one value: two tries within the lease, the second only if the first may pass. After a
    /// pause of the process the lease may be another's: in classic mode one more fetch would end what he
    /// has given to all.
    pub(super) async fn fetch(&self, kind: Kind, need: &Need) -> Result<Credential, ApiError> {
        let began = Instant::now();
        let mut tries = 1;
        loop {
            let fetched = match kind {
                Kind::AccessToken => self.fetch_access_token(need).await,
                Kind::JsapiTicket => self.fetch_ticket("jsapi").await,
                Kind::WxCardTicket => self.fetch_ticket("wx_card").await,
            };
            match fetched {
                // 45011 passes with the minute, not with a pause.
                Err(error)
                    if error.class() == Class::Retry
                        && error.errcode() != Some(45011)
                        && tries < TRIES
                        && began.elapsed() + FETCH_DEADLINE < LEASE =>
                {
                    tracing::debug!(credential = kind.name(), %error, "fetching the {} once more", kind.name());
                    tokio::time::sleep(Duration::from_millis(rand::random_range(100..400))).await;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn fetch_access_token(&self, need: &Need) -> Result<Credential, ApiError> {
        match self.0.mode {
            TokenMode::Classic => {
                let query = [
                    ("grant_type", "client_credential"),
                    ("appid", self.0.app_id.as_str()),
                    ("secret", self.0.app_secret.expose()),
                ];
                self.ask_token(&Call::get("/cgi-bin/token", &query)).await
            }
            TokenMode::Stable => {
                let fetched = self.ask_token(&self.stable_token_call(false)).await?;
                // In normal mode the platform hands out the same token while it thinks it good. One
                // that was refused all the same must be forced out.
                match need {
                    Need::OtherThan { value, .. }
                        if fetched.value == *value && self.may_force() =>
                    {
                        let forced = self.ask_token(&self.stable_token_call(true)).await?;
                        self.slot(Kind::AccessToken).known().forced_at = Some(Instant::now());
                        Ok(forced)
                    }
                    _ => Ok(fetched),
                }
            }
        }
    }

    fn stable_token_call(&self, force_refresh: bool) -> Call<'static> {
        let body = json!({
            "grant_type": "client_credential",
            "appid": self.0.app_id.as_str(),
            "secret": self.0.app_secret.expose(),
            "force_refresh": force_refresh,
        });
        Call::post("/cgi-bin/stable_token", body)
    }

    fn may_force(&self) -> bool {
        let known = self.slot(Kind::AccessToken).known();
        known.forced_at.is_none_or(|at| at.elapsed() >= FORCE_EVERY)
    }

    async fn ask_token(&self, call: &Call<'_>) -> Result<Credential, ApiError> {
        let asked_at = Instant::now();
        let answer: TokenAnswer = self
            .0
            .transport
            .send(&call.clone().within(FETCH_DEADLINE))
            .await?;
        credential(answer.access_token, answer.expires_in.0, asked_at)
    }

    /// A ticket follows the token: a dead token is renewed and the ticket asked for again.
    async fn fetch_ticket(&self, ticket_type: &'static str) -> Result<Credential, ApiError> {
        let token = self.get_boxed(Kind::AccessToken).await?.value;
        match self.ask_ticket(ticket_type, &token).await {
            Err(error) if error.class() == Class::RenewToken => {
                let token = self.renew_boxed(Kind::AccessToken, &token).await?.value;
                self.ask_ticket(ticket_type, &token).await
            }
            outcome => outcome,
        }
    }

    async fn ask_ticket(&self, ticket_type: &str, token: &Secret) -> Result<Credential, ApiError> {
        let asked_at = Instant::now();
        let query = [("access_token", token.expose()), ("type", ticket_type)];
        let call = Call::get("/cgi-bin/ticket/getticket", &query).within(FETCH_DEADLINE);
        let answer: TicketAnswer = self.0.transport.send(&call).await?;
        credential(answer.ticket, answer.expires_in.0, asked_at)
    }
}

fn credential(value: String, expires_in: u64, asked_at: Instant) -> Result<Credential, ApiError> {
    if value.is_empty() || expires_in == 0 {
        return Err(ApiError::Nonsense(
            "an empty token, or one without a life".into(),
        ));
    }
    let life = Duration::from_secs(expires_in).min(LONGEST_LIFE);
    Ok(Credential {
        value: value.into(),
        expires_at: asked_at + life,
    })
}
