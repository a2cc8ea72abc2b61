//! The command line: one subcommand for each way of running the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use offiaccount::Config;
use offiaccount::config::Settings;

mod cli;

/// Most of what a request costs us is memory that is taken and given back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The backend of a WeChat Official Account (公众号), and a simulator of the platform.
///
/// Without a subcommand it serves.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Try it: simulator and backend in one process, no account, no set-up.
    Demo(cli::demo::Arguments),
    /// Run the backend, with the settings of the environment and of .env.
    Serve {
        #[command(flatten)]
        settings: Settings,
    },
    /// Run the simulated platform alone, for a backend in any language.
    Simulate(cli::simulate::Arguments),
    /// Look whether settings, store and platform work, and say what to mend.
    Check {
        #[command(flatten)]
        settings: Settings,
    },
    /// Keys for other programs: make, show or remove them.
    #[command(subcommand)]
    Keys(cli::keys::Command),
    /// Show who used the management routes, and which keys were made and removed.
    Audit(cli::audit::Arguments),
    /// Reply rules: check a file of them, or try what it answers.
    #[command(subcommand)]
    Rules(cli::rules::Command),
    /// Messages that were forwarded in vain: show them, or send them again.
    #[command(subcommand)]
    Forward(cli::forward::Command),
}

fn main() -> ExitCode {
    // Before any thread starts, and before clap reads the environment. `demo` needs none of it.
    let dotenv = Settings::load_dotenv();
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve {
        settings: arguments.settings,
    });
    if let (Err(error), false) = (dotenv, matches!(command, Command::Demo(_))) {
        return cli::fail(&error, cli::EXIT_SETTINGS);
    }
    match command {
        Command::Demo(arguments) => cli::run(cli::demo::run(arguments)),
        Command::Simulate(arguments) => cli::run(cli::simulate::run(arguments)),
        Command::Rules(command) => cli::rules::run(command),
        Command::Serve { settings } => run_configured(&settings, cli::serve::run),
        Command::Check { settings } => run_configured(&settings, cli::check::run),
        Command::Keys(command) => run_configured(&command.settings().clone(), |config| {
            cli::keys::run(command, config)
        }),
        Command::Audit(arguments) => run_configured(&arguments.settings().clone(), |config| {
            cli::audit::run(arguments, config)
        }),
        Command::Forward(command) => run_configured(&command.settings().clone(), |config| {
            cli::forward::run(command, config)
        }),
    }
}

/// Runs a command that needs the settings, or names all that is wrong with them.
fn run_configured<C>(settings: &Settings, command: impl FnOnce(Config) -> C) -> ExitCode
where
    C: Future<Output = anyhow::Result<ExitCode>>,
{
    match Config::from_settings(settings) {
        Ok(config) => cli::run(command(config)),
        Err(error) => cli::fail(&error, cli::EXIT_SETTINGS),
    }
}
