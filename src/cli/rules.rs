//! `offiaccount rules`: whether a file of rules is sound, and which of them answers what.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use offiaccount::rules::{Fault, Rulebook, Trial, read};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Look whether a file of rules is sound, and name all its faults with line and column.
    Check {
        /// The file.
        #[arg(env = "REPLIES", hide_env_values = true)]
        file: Option<String>,
    },
    /// Say which rule answers a message, and why. Nothing is sent or uploaded.
    Try(Try),
}

#[derive(clap::Args)]
#[expect(
    clippy::doc_markdown,
    reason = "these texts are --help, read in a terminal"
)]
pub(crate) struct Try {
    /// What the user writes.
    text: Option<String>,
    /// The file of rules.
    #[arg(long, env = "REPLIES", hide_env_values = true, value_name = "FILE")]
    replies: Option<String>,
    /// An event instead of a text: subscribe, SCAN, CLICK, …
    #[arg(long)]
    event: Option<String>,
    /// The event's EventKey: a menu button's. Alone it is a CLICK.
    #[arg(long)]
    key: Option<String>,
    /// The scene of a QR code. Alone it is a SCAN.
    #[arg(long)]
    scene: Option<String>,
    /// A message of another type: image, voice, location, …
    #[arg(long = "type", value_name = "TYPE")]
    msg_type: Option<String>,
    /// When, in the time of the rules: "2026-11-20 09:30". Now, if not given.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Who: an openid.
    #[arg(long, value_name = "OPENID")]
    from: Option<String>,
}

pub(crate) fn run(command: Command) -> ExitCode {
    match command {
        Command::Check { file } => check(file),
        Command::Try(arguments) => try_message(arguments),
    }
}

fn check(file: Option<String>) -> ExitCode {
    let (file, rules) = match sound(file) {
        Ok(sound) => sound,
        Err(code) => return code,
    };
    println(&format!("{}: {rules}, no fault", file.display()));
    ExitCode::SUCCESS
}

fn try_message(arguments: Try) -> ExitCode {
    let (_, rules) = match sound(arguments.replies) {
        Ok(sound) => sound,
        Err(code) => return code,
    };
    let trial = Trial {
        text: arguments.text,
        msg_type: arguments.msg_type,
        event: arguments.event,
        key: arguments.key,
        scene: arguments.scene,
        from: arguments.from,
        at: arguments.at,
    };
    match trial.message(&rules, unix_seconds()) {
        Ok(message) => {
            print(&rules.explain(&message));
            ExitCode::SUCCESS
        }
        Err(why) => super::fail(&why, 2),
    }
}

/// The rules. Else it was said what is wrong with them, and this is how the program ends.
fn sound(file: Option<String>) -> Result<(PathBuf, Rulebook), ExitCode> {
    // Empty counts as none, as in a `.env` that is still to be filled in.
    let Some(file) = file.filter(|file| !file.trim().is_empty()) else {
        return Err(super::fail(
            &"which file of rules? Name it, or set REPLIES",
            2,
        ));
    };
    let file = PathBuf::from(file);
    let reading = read(&file);
    for warning in &reading.warnings {
        println(&format!("warning: {warning}"));
    }
    match reading.rules {
        Ok(rules) => Ok((file, rules)),
        Err(faults) => {
            faults
                .iter()
                .map(Fault::to_string)
                .for_each(|fault| println(&fault));
            Err(ExitCode::FAILURE)
        }
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

fn println(line: &str) {
    print(&format!("{line}\n"));
}

#[expect(clippy::print_stdout, reason = "it is the command's output")]
fn print(text: &str) {
    print!("{text}");
}
