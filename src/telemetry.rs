//! What an operator sees of the process: logs and metrics.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;

mod fields;
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
            .fmt_fields(fields::TextFields)
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

/// Something worth a log line, but not one each time: due at first, and again after a second.
#[derive(Debug, Default)]
pub(crate) struct Occasionally(Mutex<Option<Instant>>);

impl Occasionally {
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_in_a_second() {
        let line = Occasionally::default();
        assert!(line.is_due());
        assert!(!line.is_due());
        *line.0.lock().unwrap() = Instant::now().checked_sub(Duration::from_secs(1));
        assert!(line.is_due());
    }
}
