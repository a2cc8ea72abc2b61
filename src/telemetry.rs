//! What an operator sees of the process: logs and metrics.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;

pub mod metrics;

/// Libraries that log whole requests below `info`: URLs with tokens, bodies with messages.
const TALKATIVE: &[&str] = &[
    "hyper",
    "hyper_util",
    "h2",
    "reqwest",
    "rustls",
    "mongodb",
    "hickory",
];

/// Writes logs to standard error, at the levels of `RUST_LOG` or `info`. The first call in a process
/// counts.
pub fn init(format: LogFormat) {
    let levels = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let lines = match format {
        LogFormat::Pretty => fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .boxed(),
    };
    // Whatever RUST_LOG asks for, a secret is not logged.
    let discreet = filter_fn(|metadata| {
        let library = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= tracing::Level::INFO
            || !TALKATIVE
                .iter()
                .any(|talkative| library.starts_with(talkative))
    });
    // A program may have set its own subscriber: then its own rules hold.
    let _ = tracing_subscriber::registry()
        .with(levels)
        .with(lines.with_filter(discreet))
        .try_init();
}
