//! The calls of web OAuth (网页授权), under `/sns/`. They carry the user's own token.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::transport::{Call, Transport};
use super::{ApiError, Number};
use crate::secret::Secret;
use crate::wechat::id::{OpenId, UnionId};

/// What a code or a refresh_token is exchanged for.
#[derive(Clone, Debug)]
pub struct SnsGrant {
    /// The user's web access_token.
    pub access_token: Secret,
    /// Its life from now, in the platform's word.
    pub expires_in: Duration,
    /// Gives new access tokens for 30 days.
    pub refresh_token: Secret,
    /// Who consented.
    pub open_id: OpenId,
    /// The scopes granted, by commas.
    pub scope: String,
    /// The same person in the owner's other accounts, where known.
    pub union_id: Option<UnionId>,
    /// A snapshot (快照页): the openid is virtual and must not be kept.
    pub is_snapshot_user: bool,
}

/// A profile, as the platform wrote it.
#[derive(Clone, Debug)]
pub struct SnsProfile {
    /// Whose.
    pub open_id: OpenId,
    /// All its fields.
    pub fields: Value,
}

#[derive(Deserialize)]
struct GrantAnswer {
    access_token: String,
    expires_in: Number,
    refresh_token: String,
    openid: OpenId,
    scope: String,
    unionid: Option<UnionId>,
    is_snapshotuser: Option<Number>,
}

impl From<GrantAnswer> for SnsGrant {
    fn from(answer: GrantAnswer) -> Self {
        Self {
            access_token: answer.access_token.into(),
            expires_in: Duration::from_secs(answer.expires_in.0),
            refresh_token: answer.refresh_token.into(),
            open_id: answer.openid,
            scope: answer.scope,
            union_id: answer.unionid,
            is_snapshot_user: answer.is_snapshotuser == Some(Number(1)),
        }
    }
}

impl Transport {
    /// Exchanges a code. Never repeated: a code is good once.
    pub(crate) async fn sns_access_token(
        &self,
        app_id: &str,
        app_secret: &Secret,
        code: &str,
    ) -> Result<SnsGrant, ApiError> {
        let query = [
            ("appid", app_id),
            ("secret", app_secret.expose()),
            ("code", code),
            ("grant_type", "authorization_code"),
        ];
        self.send::<GrantAnswer>(&Call::get("/sns/oauth2/access_token", &query))
            .await
            .map(SnsGrant::from)
    }

    /// Gives a new web access_token for a refresh_token.
    pub(crate) async fn sns_refresh_token(
        &self,
        app_id: &str,
        refresh_token: &Secret,
    ) -> Result<SnsGrant, ApiError> {
        let query = [
            ("appid", app_id),
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
        ];
        self.send::<GrantAnswer>(&Call::get("/sns/oauth2/refresh_token", &query))
            .await
            .map(SnsGrant::from)
    }

    /// The user's profile.
    pub(crate) async fn sns_userinfo(
        &self,
        access_token: &Secret,
        open_id: &OpenId,
    ) -> Result<SnsProfile, ApiError> {
        let query = [
            ("access_token", access_token.expose()),
            ("openid", open_id.as_str()),
            ("lang", "zh_CN"),
        ];
        let fields: Value = self.send(&Call::get("/sns/userinfo", &query)).await?;
        let open_id = fields["openid"]
            .as_str()
            .and_then(|id| OpenId::parse(id).ok());
        let open_id =
            open_id.ok_or_else(|| ApiError::Nonsense("a profile without an openid".into()))?;
        Ok(SnsProfile { open_id, fields })
    }
}
