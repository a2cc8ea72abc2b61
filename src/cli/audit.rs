//! `offiaccount audit`: who used the management routes.

use std::process::ExitCode;
use std::time::Duration;

use offiaccount::Config;
use offiaccount::audit::KEEP;
use offiaccount::config::Settings;
use offiaccount::store::{AuditEntry, AuditQuery, Store};
use serde_json::json;

use super::time::{parse_span, utc};
use super::{open_store, print, warn};

#[derive(clap::Args)]
#[expect(
    clippy::doc_markdown,
    reason = "these texts are --help, read in a terminal"
)]
pub(crate) struct Arguments {
    /// Only what was done with this key, and to it. ADMIN_TOKEN is a name too.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Only what is no older: a number and s, m, h or d. Entries are kept for 90 days.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = parse_span)]
    since: Duration,
    /// So many of the newest at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Arguments {
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

pub(crate) async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let store = open_store(&config).await?;
    let outcome = list(&*store, arguments).await;
    store.close().await;
    outcome
}

async fn list(store: &dyn Store, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let query = AuditQuery {
        key: arguments.key,
        since: arguments.since.min(KEEP),
        // One more tells whether there are more.
        limit: limit.saturating_add(1),
    };
    let mut entries = store.audit(&query).await?;
    if entries.len() > limit {
        entries.truncate(limit);
        warn(&format!(
            "these are the newest {limit}; there are more: --limit"
        ));
    }
    // The newest is what is read first in a terminal: at its end.
    for entry in entries.iter().rev() {
        print(&if arguments.json {
            format!("{}\n", object(entry))
        } else {
            line(entry)
        });
    }
    if entries.is_empty() && !arguments.json {
        warn("there is no such entry");
    }
    Ok(ExitCode::SUCCESS)
}

fn at(entry: &AuditEntry) -> String {
    utc(-entry.age.as_secs().cast_signed())
}

fn line(entry: &AuditEntry) -> String {
    let mut line = format!("{}  {:<20}  {:<19}", at(entry), entry.key, entry.action);
    let is_http = entry.request.is_some();
    line += &match (entry.status, is_http) {
        (Some(status), _) => format!("  {status}"),
        (None, true) => "  hung up".to_owned(),
        (None, false) => String::new(),
    };
    if let Some(errcode) = entry.errcode {
        line += &format!("  errcode {errcode}");
    }
    if let Some(request) = &entry.request {
        line += &format!("  {request}");
    }
    if entry.times > 1 {
        line += &format!("  and {} like it", entry.times - 1);
    }
    format!("{}\n", line.trim_end())
}

fn object(entry: &AuditEntry) -> serde_json::Value {
    json!({
        "at": at(entry),
        "key": entry.key,
        "action": entry.action,
        "status": entry.status,
        "errcode": entry.errcode,
        "request_id": entry.request,
        "times": entry.times,
    })
}
