//! Collection `users`: `{_id: openid, unionid, grant: {…}, profile}`. The profile is a text of JSON:
//! its field names are WeChat's to choose.

use async_trait::async_trait;
use mongodb::bson::{Binary, Document, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::expression::{binary, from_now, literal, merge, millis, remaining};
use super::schema::{SESSIONS, USERS};
use super::{Change, Mongo, conversations};
use crate::store::{OAuthGrant, Sealed, StoreError, StoredUser, UserStore};
use crate::wechat::id::{OpenId, UnionId};

#[derive(Deserialize)]
struct Found {
    unionid: Option<UnionId>,
    grant: Option<FoundGrant>,
    access_expires_in: i64,
    refresh_expires_in: i64,
    profile: Option<String>,
}

#[derive(Deserialize)]
struct FoundGrant {
    scope: String,
    access_token: Binary,
    refresh_token: Binary,
}

fn fields() -> Document {
    doc! {
        "_id": 0,
        "unionid": 1,
        "grant": { "scope": 1, "access_token": 1, "refresh_token": 1 },
        "access_expires_in": remaining("$grant.access_expires_at"),
        "refresh_expires_in": remaining("$grant.refresh_expires_at"),
        "profile": 1,
    }
}

#[async_trait]
impl UserStore for Mongo {
    async fn user(&self, open_id: &OpenId) -> Result<Option<StoredUser>, StoreError> {
        let filter = doc! { "_id": open_id.as_str() };
        let found: Option<Found> = self.find("user", USERS, filter, fields()).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let profile = found
            .profile
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| StoreError::Unusable("a record can't be read".into()))?;
        Ok(Some(StoredUser {
            open_id: open_id.clone(),
            union_id: found.unionid,
            grant: found.grant.map(|grant| OAuthGrant {
                scope: grant.scope,
                access_token: Sealed(grant.access_token.bytes),
                access_expires_in: millis(found.access_expires_in),
                refresh_token: Sealed(grant.refresh_token.bytes),
                refresh_expires_in: millis(found.refresh_expires_in),
            }),
            profile,
        }))
    }

    async fn save_grant(
        &self,
        open_id: &OpenId,
        union_id: Option<&UnionId>,
        grant: &OAuthGrant,
    ) -> Result<(), StoreError> {
        let mut saved = doc! { "grant": granted(grant) };
        if let Some(union_id) = union_id {
            saved.insert("unionid", literal(union_id.as_str()));
        }
        let save = Change::upsert(open_id.as_str(), merge([saved.into()]));
        self.change::<IgnoredAny>("save_grant", USERS, save)
            .await
            .map(drop)
    }

    async fn renew_grant(&self, open_id: &OpenId, grant: &OAuthGrant) -> Result<bool, StoreError> {
        let renew = Change::update(
            doc! { "_id": open_id.as_str() },
            merge([doc! { "grant": granted(grant) }.into()]),
        );
        self.change::<IgnoredAny>("renew_grant", USERS, renew)
            .await
            .map(|found| found.is_some())
    }

    async fn save_profile(
        &self,
        open_id: &OpenId,
        profile: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let save = Change::update(
            doc! { "_id": open_id.as_str() },
            doc! { "$set": { "profile": profile.to_string() } },
        );
        self.change::<IgnoredAny>("save_profile", USERS, save)
            .await
            .map(drop)
    }

    async fn forget_user(&self, open_id: &OpenId) -> Result<(), StoreError> {
        let open_id = open_id.clone();
        self.run("forget_user", move |database| {
            let open_id = open_id.clone();
            async move {
                // The tokens first: they are what must go. An error after that is the caller's to
                // repeat, and the user's document being gone already does not matter then.
                database
                    .collection::<IgnoredAny>(USERS)
                    .delete_one(doc! { "_id": open_id.as_str() })
                    .await?;
                database
                    .collection::<IgnoredAny>(SESSIONS)
                    .delete_many(doc! { "openid": open_id.as_str() })
                    .await?;
                conversations::forget(&database, &open_id).await
            }
        })
        .await
    }
}

fn granted(grant: &OAuthGrant) -> Document {
    doc! {
        "scope": literal(grant.scope.as_str()),
        "access_token": literal(binary(grant.access_token.0.as_slice())),
        "access_expires_at": from_now(grant.access_expires_in),
        "refresh_token": literal(binary(grant.refresh_token.0.as_slice())),
        "refresh_expires_at": from_now(grant.refresh_expires_in),
    }
}
