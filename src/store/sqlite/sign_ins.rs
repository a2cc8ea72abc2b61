//! Tables `sign_ins` and `sessions`.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension as _, Row, Statement};

use super::{Sqlite, Survives, damaged, millis, users};
use crate::store::{Digest, Exchange, Sealed, Session, SignIn, SignInStore, SignedIn, StoreError};
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
            .query_row((id.0, now), session)
            .optional()
        })
        .await
    }

    /// One statement: a second job, or a second look at the file, would cost as much as all the rest.
    async fn signed_in(&self, id: &Digest) -> Result<Option<SignedIn>, StoreError> {
        let id = *id;
        self.read("signed_in", move |db, now| {
            signed_in(&mut *db.prepare_cached(SIGNED_IN)?, &id, now)
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

const SIGNED_IN: &str = "SELECT s.openid, s.scope, u.openid, u.unionid, u.profile, u.scope,
         u.access_token, u.access_expires_at, u.refresh_token, u.refresh_expires_at
     FROM sessions AS s LEFT JOIN users AS u ON u.openid = s.openid
     WHERE s.id = ?1 AND s.expires_at > ?2";

fn signed_in(
    statement: &mut Statement<'_>,
    id: &Digest,
    now: i64,
) -> rusqlite::Result<Option<SignedIn>> {
    let found = statement.query_row((id.0, now), |row| {
        let session = session(row)?;
        let user = match row.get_ref(2)? {
            ValueRef::Null => None,
            _ => Some(users::user(row, 3, session.open_id.clone(), now)?),
        };
        Ok(SignedIn { session, user })
    });
    found.optional()
}

/// The columns `openid, scope`.
fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let open_id: String = row.get(0)?;
    Ok(Session {
        open_id: OpenId::parse(&open_id).map_err(|error| damaged(0, error))?,
        scope: row.get(1)?,
    })
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

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use rusqlite::StatementStatus;

    use super::*;
    use crate::telemetry::metrics::StoreMetrics;

    #[tokio::test]
    async fn whoever_is_asked_for_the_statement_is_compiled_once() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = StoreMetrics::register(&Registry::new()).unwrap();
        let path = folder.path().join("store.db");
        let store = Sqlite::open(path, metrics).await.unwrap();
        let session = Session {
            open_id: OpenId::parse("oAlice").unwrap(),
            scope: "snsapi_base".into(),
        };
        for n in 0..3 {
            store
                .create_session(&Digest([n; 32]), &session, Duration::from_secs(60))
                .await
                .unwrap();
        }
        let asking = store.read("test", |db, now| {
            let mut statement = db.prepare_cached(SIGNED_IN)?;
            for n in 0..3 {
                let found = signed_in(&mut statement, &Digest([n; 32]), now + i64::from(n))?;
                assert_eq!(found.unwrap().session.open_id.as_str(), "oAlice");
            }
            Ok(statement.get_status(StatementStatus::RePrepare))
        });
        assert_eq!(asking.await, Ok(0));
    }
}
