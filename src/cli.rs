//! The subcommands, a file each.

use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod forward;
pub(crate) mod rules;
pub(crate) mod serve;
pub(crate) mod simulate;

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
