//! The command line: one subcommand for each way of running the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use offiaccount::config::{ConfigError, Settings};

mod cli;

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
        Command::Serve { settings } => match configured(&settings) {
            Ok(config) => cli::run(cli::serve::run(config)),
            Err(error) => cli::fail(&error, cli::EXIT_SETTINGS),
        },
        Command::Simulate(arguments) => cli::run(cli::simulate::run(arguments)),
        Command::Keys(command) => match configured(command.settings()) {
            Ok(config) => cli::run(cli::keys::run(command, config)),
            Err(error) => cli::fail(&error, cli::EXIT_SETTINGS),
        },
        Command::Audit(arguments) => match configured(arguments.settings()) {
            Ok(config) => cli::run(cli::audit::run(arguments, config)),
            Err(error) => cli::fail(&error, cli::EXIT_SETTINGS),
        },
        Command::Rules(command) => cli::rules::run(command),
        Command::Check { settings } => match configured(&settings) {
            Ok(config) => cli::run(cli::check::run(config)),
            Err(error) => cli::fail(&error, cli::EXIT_SETTINGS),
        },
        Command::Forward(command) => match configured(command.settings()) {
            Ok(config) => cli::run(cli::forward::run(command, config)),
            Err(error) => cli::fail(&error, cli::EXIT_SETTINGS),
        },
    }
}

fn configured(settings: &Settings) -> Result<offiaccount::Config, ConfigError> {
    offiaccount::Config::from_settings(settings)
}
