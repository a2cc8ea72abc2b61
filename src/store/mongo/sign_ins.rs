//! Collections `sign_ins`,
//! `{_id: state, browser, scope, next, id, expires_at, code, lease: {turn, until}, outcome}`,
//! and `sessions`, `{_id: id, openid, scope, expires_at}`.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Binary, Bson, Document, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{alive, binary, digest, from_now, is_null, is_over, literal, merge, when};
use super::schema::{SESSIONS, SIGN_INS};
use super::{Change, Mongo};
use crate::store::{Digest, Exchange, Sealed, Session, SignIn, SignInStore, StoreError};
use crate::wechat::id::OpenId;

#[derive(Deserialize)]
struct Found {
    scope: String,
    next: Option<String>,
    id: Option<String>,
    outcome: Option<Binary>,
    lease: Option<FoundLease>,
}

#[derive(Deserialize)]
struct FoundLease {
    turn: Binary,
}

fn fields() -> Document {
    doc! { "_id": 0, "scope": 1, "next": 1, "id": 1, "outcome": 1, "lease.turn": 1 }
}

#[derive(Deserialize)]
struct FoundSession {
    openid: OpenId,
    scope: String,
}

#[async_trait]
impl SignInStore for Mongo {
    async fn create_sign_in(
        &self,
        state: &Digest,
        sign_in: &SignIn,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let created = doc! {
            "browser": digest(&sign_in.browser),
            "scope": literal(sign_in.scope.as_str()),
            "next": literal(sign_in.next.clone()),
            "id": literal(sign_in.id.clone()),
            "expires_at": from_now(ttl),
        };
        self.create("create_sign_in", SIGN_INS, state, created)
            .await
    }

    async fn begin_exchange(
        &self,
        state: &Digest,
        browser: &Digest,
        code: &Digest,
        lease: Duration,
    ) -> Result<Exchange, StoreError> {
        // Tells one's own turn from another's in what comes back.
        let turn: [u8; 16] = rand::random();
        let filter = doc! {
            "_id": digest(state),
            "browser": digest(browser),
            "code": { "$in": [Bson::Null, digest(code)] },
            "$expr": alive(),
        };
        let free = doc! { "$and": [is_null("$outcome"), is_over("$lease.until")] };
        let taken = doc! {
            "code": digest(code),
            "lease": { "turn": binary(turn), "until": from_now(lease) },
        };
        let begin = Change::update(filter, merge([when(free, taken)])).returning(fields());
        let found: Option<Found> = self.change("begin_exchange", SIGN_INS, begin).await?;
        let Some(found) = found else {
            return Ok(Exchange::Refused);
        };
        let is_mine = found.lease.is_some_and(|lease| lease.turn.bytes == turn);
        let sign_in = SignIn {
            browser: *browser,
            scope: found.scope,
            next: found.next,
            id: found.id,
        };
        Ok(match found.outcome {
            Some(outcome) => Exchange::Finished(sign_in, Sealed(outcome.bytes)),
            None if is_mine => Exchange::Begun(sign_in),
            None => Exchange::Running(sign_in),
        })
    }

    async fn finish_exchange(&self, state: &Digest, outcome: &Sealed) -> Result<(), StoreError> {
        let finish = Change::update(
            doc! { "_id": digest(state), "outcome": Bson::Null },
            doc! { "$set": { "outcome": binary(outcome.0.as_slice()) } },
        );
        self.change::<IgnoredAny>("finish_exchange", SIGN_INS, finish)
            .await
            .map(drop)
    }

    async fn sign_in(
        &self,
        state: &Digest,
        browser: &Digest,
    ) -> Result<Option<SignIn>, StoreError> {
        let filter = doc! {
            "_id": digest(state),
            "browser": digest(browser),
            "$expr": alive(),
        };
        let found: Option<Found> = self.find("sign_in", SIGN_INS, filter, fields()).await?;
        Ok(found.map(|found| SignIn {
            browser: *browser,
            scope: found.scope,
            next: found.next,
            id: found.id,
        }))
    }

    async fn create_session(
        &self,
        id: &Digest,
        session: &Session,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let created = doc! {
            "openid": literal(session.open_id.as_str()),
            "scope": literal(session.scope.as_str()),
            "expires_at": from_now(ttl),
        };
        self.create("create_session", SESSIONS, id, created).await
    }

    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError> {
        let filter = doc! { "_id": digest(id), "$expr": alive() };
        let fields = doc! { "_id": 0, "openid": 1, "scope": 1 };
        let found: Option<FoundSession> = self.find("session", SESSIONS, filter, fields).await?;
        Ok(found.map(|found| Session {
            open_id: found.openid,
            scope: found.scope,
        }))
    }

    async fn delete_session(&self, id: &Digest) -> Result<(), StoreError> {
        let id = *id;
        self.run("delete_session", move |database| async move {
            database
                .collection::<IgnoredAny>(SESSIONS)
                .delete_one(doc! { "_id": digest(&id) })
                .await
                .map(drop)
        })
        .await
    }
}

impl Mongo {
    /// Inserts a document, or leaves the one that is there. Not an insert: its times are the server's.
    async fn create(
        &self,
        operation: &'static str,
        collection: &'static str,
        id: &Digest,
        created: Document,
    ) -> Result<(), StoreError> {
        let create = Change::upsert(digest(id), merge([when(is_null("$expires_at"), created)]));
        self.change::<IgnoredAny>(operation, collection, create)
            .await
            .map(drop)
    }
}
