//! Collection `messages`, the ledger:
//! `{_id: key, owner, turn, lease_until, deliveries, first_seen, expires_at, reply}`.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Binary, Bson, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{
    alive, binary, digest, elapsed, from_now, is_null, is_over, literal, merge, millis,
};
use super::schema::MESSAGES;
use super::{Change, Mongo};
use crate::store::{Claim, Digest, InstanceId, MessageStore, StoreError};

#[derive(Deserialize)]
struct Claimed {
    turn: Option<Binary>,
    deliveries: i64,
    first_seen: i64,
    reply: Option<Binary>,
}

#[derive(Deserialize)]
struct Finished {
    owner: Option<String>,
    reply: Option<Binary>,
}

#[async_trait]
impl MessageStore for Mongo {
    async fn claim_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        lease: Duration,
        keep: Duration,
    ) -> Result<Claim, StoreError> {
        self.claim("claim_message", (key, owner), lease, keep, 1)
            .await
    }

    async fn reclaim_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        lease: Duration,
        keep: Duration,
    ) -> Result<Claim, StoreError> {
        self.claim("reclaim_message", (key, owner), lease, keep, 0)
            .await
    }

    async fn renew_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let renew = Change::update(
            doc! {
                "_id": digest(key),
                "owner": owner.0.as_str(),
                "reply": Bson::Null,
                "$expr": alive(),
            },
            merge([doc! { "lease_until": from_now(lease) }.into()]),
        );
        self.change::<IgnoredAny>("renew_message", MESSAGES, renew)
            .await
            .map(|found| found.is_some())
    }

    async fn finish_message(
        &self,
        key: &Digest,
        owner: &InstanceId,
        reply: &[u8],
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let mine = literal(owner.0.as_str());
        let answered = literal(binary(reply));
        let gone = doc! {
            "owner": mine.clone(),
            "turn": Bson::Null,
            "lease_until": "$$NOW",
            "deliveries": 1,
            "first_seen": "$$NOW",
            "expires_at": from_now(keep),
            "reply": answered.clone(),
        };
        let is_open_and_mine = doc! {
            "$and": [is_null("$reply"), { "$eq": ["$owner", mine] }],
        };
        let finish = doc! {
            "$switch": {
                "branches": [
                    { "case": is_over("$expires_at"), "then": gone },
                    { "case": is_open_and_mine, "then": { "reply": answered } },
                ],
                "default": {},
            },
        };
        let change = Change::upsert(digest(key), merge([finish.into()])).returning(doc! {
            "_id": 0,
            "owner": 1,
            "reply": 1,
        });
        let found: Option<Finished> = self.change("finish_message", MESSAGES, change).await?;
        Ok(found.is_some_and(|found| {
            found.owner.as_deref() == Some(owner.0.as_str())
                && found.reply.is_some_and(|stored| stored.bytes == reply)
        }))
    }

    async fn release_message(&self, key: &Digest, owner: &InstanceId) -> Result<(), StoreError> {
        let release = Change::update(
            doc! { "_id": digest(key), "owner": owner.0.as_str(), "reply": Bson::Null },
            doc! { "$set": { "owner": Bson::Null, "lease_until": Bson::Null } },
        );
        self.change::<IgnoredAny>("release_message", MESSAGES, release)
            .await
            .map(drop)
    }
}

impl Mongo {
    /// Claims a message, counting `delivered` deliveries if its entry lives.
    async fn claim(
        &self,
        operation: &'static str,
        (key, owner): (&Digest, &InstanceId),
        lease: Duration,
        keep: Duration,
        delivered: i32,
    ) -> Result<Claim, StoreError> {
        // Tells one's own claim from another's in what comes back, and from itself when it is sent twice.
        let turn: [u8; 16] = rand::random();
        let taken = doc! {
            "owner": literal(owner.0.as_str()),
            "turn": binary(turn),
            "lease_until": from_now(lease),
        };
        let counted = doc! { "deliveries": { "$add": ["$deliveries", delivered] } };
        let mut new = doc! {
            "deliveries": 1,
            "first_seen": "$$NOW",
            "expires_at": from_now(keep),
            "reply": Bson::Null,
        };
        new.extend(taken.clone());
        let mut taken_over = counted.clone();
        taken_over.extend(taken);
        let is_done_or_mine = doc! {
            "$or": [{ "$not": [is_null("$reply")] }, { "$eq": ["$turn", binary(turn)] }],
        };
        let claim = doc! {
            "$switch": {
                "branches": [
                    { "case": is_over("$expires_at"), "then": new },
                    { "case": is_done_or_mine, "then": {} },
                    { "case": is_over("$lease_until"), "then": taken_over },
                ],
                "default": counted,
            },
        };
        let change = Change::upsert(digest(key), merge([claim.into()])).returning(doc! {
            "_id": 0,
            "turn": 1,
            "deliveries": 1,
            "first_seen": elapsed("$first_seen"),
            "reply": 1,
        });
        let found: Option<Claimed> = self.change(operation, MESSAGES, change).await?;
        let Some(found) = found else {
            return Err(StoreError::Unusable("an upsert returned nothing".into()));
        };
        if let Some(reply) = found.reply {
            return Ok(Claim::Done(reply.bytes));
        }
        let is_mine = found.turn.is_some_and(|stored| stored.bytes == turn);
        let deliveries = u32::try_from(found.deliveries).unwrap_or(u32::MAX);
        let first_seen = millis(found.first_seen);
        Ok(match (is_mine, deliveries) {
            (true, 1) if delivered > 0 => Claim::New,
            (true, _) => Claim::TakenOver {
                deliveries,
                first_seen,
            },
            (false, _) => Claim::Running {
                deliveries,
                first_seen,
            },
        })
    }
}
