//! Tables `sign_ins` and `sessions`.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row};

use super::{Sqlite, Survives, damaged, millis};
use crate::store::{Digest, Exchange, Sealed, Session, SignIn, SignInStore, StoreError};
use crate::wechat::id::OpenId;

#[async_trait]
impl SignInStore for Sqlite {
    async fn create_sign_in(
        &self,
        state: &Digest,
        sign_in: &SignIn,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let (state, sign_in) = (*state, sign_in.clone());
        self.write("create_sign_in", Survives::PowerLoss, move |db, now| {
            db.prepare_cached(
                "INSERT INTO sign_ins (state, browser, scope, next, id, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (state) DO NOTHING",
            )?
            .execute((
                state.0,
                sign_in.browser.0,
                &sign_in.scope,
                &sign_in.next,
                &sign_in.id,
                now + millis(ttl),
            ))
            .map(drop)
        })
        .await
    }

    async fn begin_exchange(
        &self,
        state: &Digest,
        browser: &Digest,
        code: &Digest,
        lease: Duration,
    ) -> Result<Exchange, StoreError> {
        let (state, browser, code) = (*state, *browser, *code);
        self.write("begin_exchange", Survives::PowerLoss, move |db, now| {
            let found = db
                .prepare_cached(
                    "SELECT browser, scope, next, id, outcome, lease_until FROM sign_ins
                     WHERE state = ?1 AND browser = ?2 AND expires_at > ?3
                       AND (code IS NULL OR code = ?4)",
                )?
                .query_row((state.0, browser.0, now, code.0), |row| {
                    let outcome: Option<Vec<u8>> = row.get(4)?;
                    Ok((sign_in(row)?, outcome, row.get::<_, i64>(5)?))
                })
                .optional()?;
            let Some((sign_in, outcome, lease_until)) = found else {
                return Ok(Exchange::Refused);
            };
            if let Some(outcome) = outcome {
                return Ok(Exchange::Finished(sign_in, Sealed(outcome)));
            }
            if lease_until > now {
                return Ok(Exchange::Running(sign_in));
            }
            db.prepare_cached("UPDATE sign_ins SET code = ?2, lease_until = ?3 WHERE state = ?1")?
                .execute((state.0, code.0, now + millis(lease)))?;
            Ok(Exchange::Begun(sign_in))
        })
        .await
    }

    async fn finish_exchange(&self, state: &Digest, outcome: &Sealed) -> Result<(), StoreError> {
        let (state, outcome) = (*state, outcome.clone());
        self.write("finish_exchange", Survives::PowerLoss, move |db, _| {
            db.prepare_cached(
                "UPDATE sign_ins SET outcome = ?2 WHERE state = ?1 AND outcome IS NULL",
            )?
            .execute((state.0, &outcome.0))
            .map(drop)
        })
        .await
    }

    async fn sign_in(
        &self,
        state: &Digest,
        browser: &Digest,
    ) -> Result<Option<SignIn>, StoreError> {
        let (state, browser) = (*state, *browser);
        self.read("sign_in", move |db, now| {
            db.prepare_cached(
                "SELECT browser, scope, next, id FROM sign_ins
                 WHERE state = ?1 AND browser = ?2 AND expires_at > ?3",
            )?
            .query_row((state.0, browser.0, now), sign_in)
            .optional()
        })
        .await
    }

    async fn create_session(
        &self,
        id: &Digest,
        session: &Session,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let (id, session) = (*id, session.clone());
        self.write("create_session", Survives::PowerLoss, move |db, now| {
            db.prepare_cached(
                "INSERT INTO sessions (id, openid, scope, expires_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute((
                id.0,
                session.open_id.as_str(),
                &session.scope,
                now + millis(ttl),
            ))
            .map(drop)
        })
        .await
    }

    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError> {
        let id = *id;
        self.read("session", move |db, now| {
            db.prepare_cached(
                "SELECT openid, scope FROM sessions WHERE id = ?1 AND expires_at > ?2",
            )?
            .query_row((id.0, now), |row| {
                let open_id: String = row.get(0)?;
                Ok(Session {
                    open_id: OpenId::parse(&open_id).map_err(|error| damaged(0, error))?,
                    scope: row.get(1)?,
                })
            })
            .optional()
        })
        .await
    }

    async fn delete_session(&self, id: &Digest) -> Result<(), StoreError> {
        let id = *id;
        self.write("delete_session", Survives::PowerLoss, move |db, _| {
            db.prepare_cached("DELETE FROM sessions WHERE id = ?1")?
                .execute([id.0])
                .map(drop)
        })
        .await
    }
}

/// The columns `browser, scope, next, id`.
fn sign_in(row: &Row<'_>) -> rusqlite::Result<SignIn> {
    Ok(SignIn {
        browser: Digest(row.get(0)?),
        scope: row.get(1)?,
        next: row.get(2)?,
        id: row.get(3)?,
    })
}
