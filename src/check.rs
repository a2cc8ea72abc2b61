//! What `offiaccount check` finds: whether settings, store and platform work together, and what to
//! mend in the account's console.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::api::{ApiError, Call, Client, Skew, Transport, advice};
use crate::app::{StartError, store_key};
use crate::config::Config;
use crate::rules;
use crate::store::{self, InstanceId, Vault};
use crate::telemetry::metrics::Metrics;
use crate::token::{Kind, TokenCentre};

/// The platform refuses deliveries' signatures of ours beyond this.
const WORST_SKEW_S: i64 = 300;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen, and what to do about it.
    pub detail: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Good,
    /// It works, and is not what it should be.
    Risky,
    /// It does not work.
    Bad,
}

impl Finding {
    fn good(subject: &'static str, detail: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Good,
            detail: detail.into(),
        }
    }

    fn risky(subject: &'static str, detail: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Risky,
            detail: detail.into(),
        }
    }

    fn bad(subject: &'static str, detail: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Bad,
            detail: detail.into(),
        }
    }
}

#[derive(Deserialize)]
struct CallbackIps {
    ip_list: Vec<String>,
}

/// Looks at everything that can be looked at from here.
///
/// # Errors
///
/// When not even the HTTP client can be built.
pub async fn check(config: &Config) -> Result<Vec<Finding>, StartError> {
    let metrics = Metrics::new()?;
    let mut findings = vec![Finding::good(
        "settings",
        format!("complete, for {}", config.account.app_id),
    )];
    findings.extend(
        config
            .warnings()
            .into_iter()
            .map(|warning| Finding::risky("settings", warning)),
    );

    if let Some(path) = &config.replies {
        findings.extend(rules(path));
    }

    let store = match store::open(config.store.url.expose(), metrics.store.clone()).await {
        Ok(store) => store,
        Err(error) => {
            findings.push(Finding::bad("store", format!("{error} (DATABASE_URL)")));
            return Ok(findings);
        }
    };
    match store.ping().await {
        Ok(()) => findings.push(Finding::good(
            "store",
            format!("{} can be written to", store.name()),
        )),
        Err(error) => findings.push(Finding::bad("store", format!("{error} (DATABASE_URL)"))),
    }

    let skew = Arc::new(Skew::default());
    let transport = Transport::new(
        config.platform.api_url.clone(),
        Arc::clone(&skew),
        metrics.api.clone(),
    )?;
    let vault = Vault::new(&store_key(config)?, config.store.key_previous.as_ref());
    let owner = InstanceId(format!("check-{:08x}", rand::random::<u32>()));
    let tokens = TokenCentre::new(
        &config.account,
        transport.clone(),
        Arc::clone(&store),
        vault,
        owner,
        metrics.credentials.clone(),
    );
    let api = Client::new(transport, tokens.clone());
    // A stored token outlives a secret that has become wrong.
    let token = match tokens.try_secret().await {
        Ok(()) => tokens.get(Kind::AccessToken).await,
        Err(error) => Err(error),
    };
    match token {
        Ok(token) => {
            findings.push(Finding::good(
                "access_token",
                format!("good for {} s", token.expires_in().as_secs()),
            ));
            findings.push(callback_ips(&api).await);
            findings.push(jsapi_ticket(&tokens).await);
        }
        Err(error) => findings.push(Finding::bad("access_token", explain(&error))),
    }
    if let Some(seconds) = skew.seconds() {
        findings.push(match seconds.abs() {
            0..=30 => Finding::good("clock", format!("{seconds} s from WeChat's")),
            31..=WORST_SKEW_S => {
                Finding::risky("clock", format!("{seconds} s from WeChat's: set it by NTP"))
            }
            _ => Finding::bad(
                "clock",
                format!("{seconds} s from WeChat's: set it by NTP, or deliveries are refused"),
            ),
        });
    }
    tokens.close().await;
    let _ = tokio::time::timeout(Duration::from_secs(2), store.close()).await;
    Ok(findings)
}

fn rules(path: &Path) -> Vec<Finding> {
    let reading = rules::read(path);
    let mut findings = match reading.rules {
        Ok(rules) => vec![Finding::good("rules", format!("{rules} (REPLIES)"))],
        Err(faults) => faults
            .iter()
            .map(|fault| Finding::bad("rules", fault.to_string()))
            .collect(),
    };
    let warnings = reading.warnings.iter();
    findings.extend(warnings.map(|warning| Finding::risky("rules", warning.to_string())));
    findings
}

async fn callback_ips(api: &Client) -> Finding {
    match api
        .read::<CallbackIps>(&Call::get("/cgi-bin/getcallbackip", &[]))
        .await
    {
        Ok(ips) => Finding::good(
            "callback IPs",
            format!(
                "{} addresses, let them through your firewall",
                ips.ip_list.len()
            ),
        ),
        Err(error) => Finding::bad("callback IPs", explain(&error)),
    }
}

async fn jsapi_ticket(tokens: &TokenCentre) -> Finding {
    match tokens.get(Kind::JsapiTicket).await {
        Ok(ticket) => Finding::good(
            "jsapi_ticket",
            format!("good for {} s", ticket.expires_in().as_secs()),
        ),
        Err(error) => Finding::risky(
            "jsapi_ticket",
            format!("no JS-SDK for this account: {}", explain(&error)),
        ),
    }
}

fn explain(error: &ApiError) -> String {
    match error.errcode().and_then(advice) {
        Some(advice) => format!("{error}: {advice}"),
        None => error.to_string(),
    }
}
