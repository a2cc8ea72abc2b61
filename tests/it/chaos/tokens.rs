//! Another program of the company's, which has the account's token from the instances and calls the
//! platform with it; and the books of who fetched one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;
use reqwest::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::balancer::Balancer;
use super::site::Site;
use crate::helpers::{ADMIN_TOKEN, control};
use crate::instances::Phones;

const CALL_EVERY: Duration = Duration::from_millis(250);
/// The platform remembers the last 500 calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const TOKEN_CALL: &str = "/cgi-bin/stable_token";

/// A fetch that the platform answered with a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    pub(crate) at_ms: u64,
}

#[derive(Default)]
struct State {
    last: Option<String>,
    good_since: Option<Instant>,
    bad_at: Option<Instant>,
    /// By the ids of the platform's books.
    fetches: BTreeMap<u64, Fetch>,
    looked_until: u64,
}

/// The program.
pub(crate) struct TokenUser {
    http: Client,
    phones: Phones,
    balancer: Arc<Balancer>,
    state: Mutex<State>,
}

impl TokenUser {
    pub(crate) fn start(site: &Site, stop: &CancellationToken) -> Arc<Self> {
        let user = Arc::new(Self {
            http: site.phones.http.clone(),
            phones: site.phones.clone(),
            balancer: Arc::clone(&site.balancer),
            state: Mutex::default(),
        });
        let calling = Arc::clone(&user).call_and_call();
        tokio::spawn(stop.clone().run_until_cancelled_owned(calling));
        let looking = Arc::clone(&user).keep_books();
        tokio::spawn(stop.clone().run_until_cancelled_owned(looking));
        user
    }

    /// Since when every call was good, if the last was.
    pub(crate) fn good_since(&self) -> Option<Instant> {
        self.state.lock().unwrap().good_since
    }

    /// When a call was refused, or no token to be had.
    pub(crate) fn bad_at(&self) -> Option<Instant> {
        self.state.lock().unwrap().bad_at
    }

    /// The token it has.
    pub(crate) fn last(&self) -> Option<String> {
        self.state.lock().unwrap().last.clone()
    }

    /// All fetches of the instances.
    pub(crate) async fn fetches(&self) -> Vec<Fetch> {
        self.look().await;
        self.state
            .lock()
            .unwrap()
            .fetches
            .values()
            .copied()
            .collect()
    }

    async fn call_and_call(self: Arc<Self>) {
        loop {
            let token = self.token(None).await;
            let is_good = match token {
                Some(token) if self.is_taken(&token).await => true,
                // As the README asks of programs: report it, and call again.
                Some(dead) => {
                    self.note(None, false);
                    self.token(Some(&dead)).await.is_some()
                }
                None => false,
            };
            self.note(None, is_good);
            tokio::time::sleep(CALL_EVERY).await;
        }
    }

    fn note(&self, token: Option<String>, is_good: bool) {
        let mut state = self.state.lock().unwrap();
        if token.is_some() {
            state.last = token;
        } else if is_good {
            state.good_since.get_or_insert_with(Instant::now);
        } else {
            state.good_since = None;
            state.bad_at = Some(Instant::now());
        }
    }

    /// A token from any instance, after this one has `failed`. Others are asked where one does not answer.
    async fn token(&self, failed: Option<&str>) -> Option<String> {
        let mut instances = self.balancer.able();
        instances.shuffle(&mut rand::rng());
        for addr in instances {
            let request = match failed {
                None => self.http.get(format!("http://{addr}/getTokens")),
                Some(failed) => {
                    let request = self.http.post(format!("http://{addr}/refreshTokens"));
                    request.json(&json!({"access_token": failed}))
                }
            };
            let request = request.bearer_auth(ADMIN_TOKEN);
            let request = request.timeout(Duration::from_secs(8));
            let Ok(answer) = request.send().await else {
                continue;
            };
            let answer: Value = answer.json().await.unwrap_or_default();
            if let Some(token) = answer["access_token"].as_str() {
                self.note(Some(token.to_owned()), true);
                return Some(token.to_owned());
            }
        }
        None
    }

    async fn is_taken(&self, token: &str) -> bool {
        let url = format!("{}/cgi-bin/getcallbackip", self.phones.sim);
        let request = self.http.get(url).query(&[("access_token", token)]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["ip_list"].is_array()
    }

    async fn keep_books(self: Arc<Self>) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) {
        let requests = control(&self.http, &self.phones.sim, "requests", None).await;
        let mut state = self.state.lock().unwrap();
        let until = state.looked_until;
        for request in requests.as_array().unwrap() {
            let id = request["id"].as_u64().unwrap();
            state.looked_until = state.looked_until.max(id);
            let is_ours = request["query"]["by"].is_null();
            let has_token = request["status"] == 200
                && request["errcode"].as_i64().unwrap_or(0) == 0
                && request["response_body"]
                    .as_str()
                    .is_some_and(|body| body.contains("expires_in"));
            if id > until && request["path"] == TOKEN_CALL && is_ours && has_token {
                let at_ms = request["at"].as_u64().unwrap();
                state.fetches.insert(id, Fetch { at_ms });
            }
        }
        if until > 0 {
            let oldest = requests.as_array().unwrap().last();
            let oldest = oldest.map_or(0, |oldest| oldest["id"].as_u64().unwrap());
            assert!(
                oldest <= until + 1,
                "calls were forgotten before they were read"
            );
        }
    }
}
