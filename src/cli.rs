//! The subcommands, a file each.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use offiaccount::Config;
use offiaccount::store::{self, Store};
use offiaccount::telemetry::metrics::Metrics;

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod forward;
pub(crate) mod keys;
pub(crate) mod rules;
pub(crate) mod serve;
pub(crate) mod simulate;
mod time;

/// The settings can't be used.
pub(crate) const EXIT_SETTINGS: u8 = 2;

/// Runs a subcommand to its end, on all cores.
pub(crate) fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let code = match runtime.block_on(command) {
        Ok(code) => code,
        Err(error) => fail(&in_one_line(&error), 1),
    };
    // Not waiting for blocking calls: a name that does not resolve takes longer than a stop may.
    runtime.shutdown_background();
    code
}

/// An error with its causes, those left out that it quotes itself.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| {
        let cause = cause.to_string();
        match line.as_str() {
            "" => cause,
            _ if line.contains(&cause) => line,
            _ => format!("{line}: {cause}"),
        }
    })
}

/// Says on standard error why it can't go on.
#[expect(
    clippy::print_stderr,
    reason = "what the person at the terminal reads; logs may not be set up yet"
)]
pub(crate) fn fail(error: &dyn Display, code: u8) -> ExitCode {
    eprintln!("offiaccount: {error}");
    ExitCode::from(code)
}

/// Says on standard error what is worth knowing, and goes on.
#[expect(clippy::print_stderr, reason = "it is no part of the command's output")]
fn warn(text: &str) {
    eprintln!("offiaccount: {text}");
}

fn print(text: &str) {
    // Whoever reads may have seen enough: `audit | head`.
    let _ = write!(io::stdout(), "{text}");
}

/// The store of the settings, which a server may use at the same time.
async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let metrics = Metrics::new()?;
    let opened = store::open(config.store.url.expose(), metrics.store).await;
    opened.context("DATABASE_URL")
}
