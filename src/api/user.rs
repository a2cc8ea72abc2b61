//! Followers: `user/get` and `user/info/batchget`.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ApiError, Call, Client};

/// `user/info/batchget` takes this many.
const BATCH: usize = 100;
/// Batches under way at once: a full page is a hundred of them.
const CONCURRENCY: usize = 4;

/// One page of `user/get`: 10,000 openids at most.
#[derive(Clone, Debug, Deserialize)]
pub struct FollowerPage {
    /// All followers of the account.
    pub total: u64,
    /// Those on this page.
    pub count: u64,
    /// They; absent when there are none.
    #[serde(default)]
    pub data: FollowerIds,
    /// The last one on this page, after which the next begins.
    #[serde(default)]
    pub next_openid: String,
}

/// The openids of a page.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct FollowerIds {
    /// They.
    #[serde(default)]
    pub openid: Vec<String>,
}

/// A page of followers with their records.
#[derive(Clone, Debug, Serialize)]
pub struct Followers {
    /// All followers of the account.
    pub total: u64,
    /// Those on this page.
    pub count: u64,
    /// The last one on this page; empty after the last page.
    pub next_openid: String,
    /// Their records, in the page's order, as the platform wrote them.
    pub user_info_list: Vec<Value>,
}

#[derive(Deserialize)]
struct Batch {
    user_info_list: Vec<Value>,
}

impl Client {
    /// The followers after `next_openid`, or from the first.
    ///
    /// # Errors
    ///
    /// 40003 when `next_openid` is no follower; see [`ApiError::class`] for the rest.
    pub async fn followers(&self, next_openid: Option<&str>) -> Result<Followers, ApiError> {
        let query: Vec<_> = next_openid
            .map(|openid| ("next_openid", openid))
            .into_iter()
            .collect();
        let page: FollowerPage = self.read(&Call::get("/cgi-bin/user/get", &query)).await?;
        let batches: Vec<_> = page
            .data
            .openid
            .chunks(BATCH)
            .map(|openids| self.user_info_batch(openids.to_vec()))
            .collect();
        let batches: Vec<Vec<Value>> = stream::iter(batches)
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(Followers {
            total: page.total,
            count: page.count,
            next_openid: page.next_openid,
            user_info_list: batches.concat(),
        })
    }

    async fn user_info_batch(&self, openids: Vec<String>) -> Result<Vec<Value>, ApiError> {
        let user_list: Vec<_> = openids
            .iter()
            .map(|openid| json!({"openid": openid, "lang": "zh_CN"}))
            .collect();
        let call = Call::post(
            "/cgi-bin/user/info/batchget",
            json!({"user_list": user_list}),
        );
        Ok(self.read::<Batch>(&call).await?.user_info_list)
    }
}
