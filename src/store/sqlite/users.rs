//! Table `users`: grants and profiles by openid.

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row};

use super::{Sqlite, Survives, between, conversations, damaged, millis};
use crate::store::{OAuthGrant, Sealed, StoreError, StoredUser, UserStore};
use crate::wechat::id::{OpenId, UnionId};

#[async_trait]
impl UserStore for Sqlite {
    async fn user(&self, open_id: &OpenId) -> Result<Option<StoredUser>, StoreError> {
        let open_id = open_id.clone();
        self.read("user", move |db, now| {
            db.prepare_cached(
                "SELECT unionid, profile, scope,
                        access_token, access_expires_at, refresh_token, refresh_expires_at
                 FROM users WHERE openid = ?1",
            )?
            .query_row([open_id.as_str()], |row| user(row, 0, open_id.clone(), now))
            .optional()
        })
        .await
    }

    async fn save_grant(
        &self,
        open_id: &OpenId,
        union_id: Option<&UnionId>,
        grant: &OAuthGrant,
    ) -> Result<(), StoreError> {
        let (open_id, union_id, grant) = (open_id.clone(), union_id.cloned(), grant.clone());
        self.write("save_grant", Survives::PowerLoss, move |db, now| {
            db.prepare_cached(
                "INSERT INTO users (openid, unionid, scope,
                     access_token, access_expires_at, refresh_token, refresh_expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (openid) DO UPDATE SET
                     unionid = ifnull(excluded.unionid, unionid),
                     scope = excluded.scope,
                     access_token = excluded.access_token,
                     access_expires_at = excluded.access_expires_at,
                     refresh_token = excluded.refresh_token,
                     refresh_expires_at = excluded.refresh_expires_at",
            )?
            .execute((
                open_id.as_str(),
                union_id.as_ref().map(UnionId::as_str),
                &grant.scope,
                &grant.access_token.0,
                now + millis(grant.access_expires_in),
                &grant.refresh_token.0,
                now + millis(grant.refresh_expires_in),
            ))
            .map(drop)
        })
        .await
    }

    async fn renew_grant(&self, open_id: &OpenId, grant: &OAuthGrant) -> Result<bool, StoreError> {
        let (open_id, grant) = (open_id.clone(), grant.clone());
        self.write("renew_grant", Survives::PowerLoss, move |db, now| {
            let renewed = db
                .prepare_cached(
                    "UPDATE users SET scope = ?2,
                         access_token = ?3, access_expires_at = ?4,
                         refresh_token = ?5, refresh_expires_at = ?6
                     WHERE openid = ?1",
                )?
                .execute((
                    open_id.as_str(),
                    &grant.scope,
                    &grant.access_token.0,
                    now + millis(grant.access_expires_in),
                    &grant.refresh_token.0,
                    now + millis(grant.refresh_expires_in),
                ))?;
            Ok(renewed == 1)
        })
        .await
    }

    async fn save_profile(
        &self,
        open_id: &OpenId,
        profile: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let (open_id, profile) = (open_id.clone(), profile.to_string());
        self.write("save_profile", Survives::PowerLoss, move |db, _| {
            db.prepare_cached("UPDATE users SET profile = ?2 WHERE openid = ?1")?
                .execute((open_id.as_str(), profile))
                .map(drop)
        })
        .await
    }

    async fn forget_user(&self, open_id: &OpenId) -> Result<(), StoreError> {
        self.converse("forget_user", Survives::PowerLoss, open_id, |tables, of| {
            for delete in [
                "DELETE FROM users WHERE openid = ?1",
                "DELETE FROM sessions WHERE openid = ?1",
            ] {
                tables.db.prepare_cached(delete)?.execute([of.as_str()])?;
            }
            conversations::forget(tables, of)
        })
        .await
    }
}

/// The columns `unionid, profile` and those of the grant, from the column `first` on.
pub(super) fn user(
    row: &Row<'_>,
    first: usize,
    open_id: OpenId,
    now: i64,
) -> rusqlite::Result<StoredUser> {
    let union_id: Option<String> = row.get(first)?;
    let profile: Option<String> = row.get(first + 1)?;
    Ok(StoredUser {
        open_id,
        union_id: union_id
            .map(|text| UnionId::parse(&text).map_err(|error| damaged(first, error)))
            .transpose()?,
        grant: grant(row, first + 2, now)?,
        profile: profile
            .map(|text| serde_json::from_str(&text).map_err(|error| damaged(first + 1, error)))
            .transpose()?,
    })
}

/// The columns from `scope` on.
fn grant(row: &Row<'_>, first: usize, now: i64) -> rusqlite::Result<Option<OAuthGrant>> {
    let Some(scope) = row.get(first)? else {
        return Ok(None);
    };
    Ok(Some(OAuthGrant {
        scope,
        access_token: Sealed(row.get(first + 1)?),
        access_expires_in: between(now, row.get(first + 2)?),
        refresh_token: Sealed(row.get(first + 3)?),
        refresh_expires_in: between(now, row.get(first + 4)?),
    }))
}
