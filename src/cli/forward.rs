//! `offiaccount forward`: the messages that were forwarded in vain, shown and sent again.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use offiaccount::config::Settings;
use offiaccount::forward::{Answer, DeadLetters, Replay, Replayed};
use offiaccount::store::DeadLetter;
use offiaccount::{Config, Message, Reply};

#[derive(clap::Subcommand)]
#[expect(
    clippy::doc_markdown,
    reason = "these texts are --help, read in a terminal"
)]
pub(crate) enum Command {
    /// Show the dead letters: id, age, openid, type and what went wrong, oldest first.
    List {
        /// Show the messages too.
        #[arg(long)]
        bodies: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Send dead letters to FORWARD_URL again, each once, under the id that they had. What is answered
    /// 200, 202 or 204 goes off the list.
    Replay(ReplayArguments),
}

#[derive(clap::Args)]
pub(crate) struct ReplayArguments {
    /// Ids, as `forward list` shows them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Vec<String>,
    /// All that are on the list, oldest first.
    #[arg(long)]
    all: bool,
    /// Say the answers to the users, as customer-service messages. Without, they are dropped.
    #[arg(long)]
    answer: bool,
    /// Show the answers.
    #[arg(long)]
    bodies: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(crate) fn settings(&self) -> &Settings {
        match self {
            Self::List { settings, .. } => settings,
            Self::Replay(arguments) => &arguments.settings,
        }
    }
}

pub(crate) async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { bodies, .. } => list(&config, bodies).await,
        Command::Replay(arguments) => replay(&config, arguments).await,
    }
}

async fn list(config: &Config, bodies: bool) -> anyhow::Result<ExitCode> {
    let letters = DeadLetters::open(config).await?;
    let shown = letters.show(|letter| print(&line_of(letter, bodies))).await;
    letters.close().await;
    if shown? == 0 {
        print("no dead letters");
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay(config: &Config, arguments: ReplayArguments) -> anyhow::Result<ExitCode> {
    let Some(forward) = &config.forward else {
        let fault = "FORWARD_URL: is missing; set it and FORWARD_SECRET to send dead letters again";
        return Ok(super::fail(&fault, super::EXIT_SETTINGS));
    };
    let mut replay = Replay::open(config, forward).await?;
    if arguments.answer {
        replay.say_answers(config)?;
    }
    let ids = (!arguments.all).then_some(&*arguments.id);
    let report = |letter: &DeadLetter, replayed: &Replayed| {
        print(&outcome_of(letter, replayed, arguments.bodies));
    };
    let tally = replay.run(ids, report).await;
    replay.close().await;
    let tally = tally?;
    for id in &tally.unknown {
        print(&format!("FAIL  {id}  is not on the list"));
    }
    print(&format!(
        "{} off the list, {} failed",
        tally.settled,
        tally.failed + tally.unknown.len()
    ));
    Ok(if tally.failed + tally.unknown.len() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line_of(letter: &DeadLetter, bodies: bool) -> String {
    let DeadLetter {
        id,
        open_id,
        reason,
        age,
        ..
    } = letter;
    let message = Message::parse(letter.message.as_bytes());
    let kind = message.as_ref().map_or("?", |message| {
        message.event_name().unwrap_or(message.msg_type())
    });
    // A terminal must not obey it.
    let kind = kind.escape_debug();
    let mut line = format!("{id}  {:>6}  {open_id}  {kind}  {reason}", rough(*age));
    if let (true, Ok(message)) = (bodies, &message) {
        line.push_str("\n      ");
        line.push_str(&message.to_json().to_string());
    }
    line
}

fn outcome_of(letter: &DeadLetter, replayed: &Replayed, bodies: bool) -> String {
    let id = &letter.id;
    let (mark, said) = match replayed {
        Replayed::Taken(Answer::Later) => {
            ("ok  ", "taken; a later answer has nowhere to go".to_owned())
        }
        Replayed::Taken(Answer::Reply(reply)) => match reply.msg_type() {
            None => ("ok  ", "taken; nothing to say".to_owned()),
            Some(kind) => ("ok  ", format!("taken; its {kind} was not said")),
        },
        Replayed::Said(reply) => {
            let kind = reply.msg_type().unwrap_or_default();
            ("ok  ", format!("taken; its {kind} was said"))
        }
        Replayed::NotSaid(_, error) => ("FAIL", format!("taken, but not said: {error}")),
        Replayed::Failed(failure) => ("FAIL", failure.to_string()),
        Replayed::Unreadable => ("FAIL", "it can't be read".to_owned()),
    };
    let mut line = format!("{mark}  {id}  {said}");
    let reply = match replayed {
        Replayed::Taken(Answer::Reply(reply))
        | Replayed::Said(reply)
        | Replayed::NotSaid(reply, _) => Some(reply),
        _ => None,
    };
    if let Some(reply) = reply.filter(|reply| bodies && **reply != Reply::None) {
        // A reply is texts and lists: nothing that JSON could not hold.
        line.push_str("\n      ");
        line.push_str(&serde_json::to_string(reply).unwrap_or_default());
    }
    line
}

/// An age in its largest unit.
fn rough(age: Duration) -> String {
    match age.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..86_400 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

fn print(line: &str) {
    // Whoever reads may have seen enough: `forward list | head`.
    let _ = writeln!(io::stdout(), "{line}");
}
