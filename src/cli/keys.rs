//! `offiaccount keys`: the named keys of other programs.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use offiaccount::Config;
use offiaccount::audit;
use offiaccount::config::Settings;
use offiaccount::keys::{KeyName, Scope, generate};
use offiaccount::store::{Store, StoredKey};

use super::time::{day, rough, utc};
use super::{open_store, print};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key and print it, once: only its SHA-256 is kept. It works at once, at every instance.
    Add(Add),
    /// Show the keys: names, scopes, when they were made, end and were used. Never the keys themselves.
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Remove a key. It stops working within 10 seconds at every instance.
    Remove {
        /// The name of the key.
        name: KeyName,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(clap::Args)]
pub(crate) struct Add {
    /// Whose key it is: 1 to 64 letters, digits, `.`, `_` and `-`.
    name: KeyName,
    /// What it opens; may be given several times. tokens: GET /getTokens and POST /refreshTokens.
    /// tickets: GET /getTickets. followers: GET /getFollowers.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// The days that it lives. If not given, it lives until it is removed.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires: Option<u32>,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(crate) fn settings(&self) -> &Settings {
        match self {
            Self::Add(Add { settings, .. })
            | Self::List { settings }
            | Self::Remove { settings, .. } => settings,
        }
    }
}

pub(crate) async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    let store = open_store(&config).await?;
    let code = match &command {
        Command::Add(arguments) => add(&*store, arguments).await,
        Command::List { .. } => list(&*store).await,
        Command::Remove { name, .. } => remove(&*store, name).await,
    };
    store.close().await;
    code
}

async fn add(store: &dyn Store, arguments: &Add) -> anyhow::Result<ExitCode> {
    let name = &arguments.name;
    let lifetime = arguments
        .expires
        .map(|days| Duration::from_secs(u64::from(days) * 86_400));
    let (key, digest) = generate();
    if !store
        .add_key(name, &digest, &arguments.scopes, lifetime)
        .await?
    {
        let taken = format!(
            "the name {name} is taken: choose another, or free it by `offiaccount keys remove {name}`"
        );
        return Ok(super::fail(&taken, 1));
    }
    // It can't be shown again.
    if let Err(error) = writeln!(io::stdout(), "{}", key.expose()) {
        store.remove_key(name).await?;
        let undone = format!("the key could not be printed ({error}), so it was removed again");
        return Ok(super::fail(&undone, 1));
    }
    note(store, name, "keys add").await
}

async fn list(store: &dyn Store) -> anyhow::Result<ExitCode> {
    let keys = store.keys().await?;
    if keys.is_empty() {
        print("There are no keys. Make one: offiaccount keys add NAME --scope tokens\n");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["NAME", "SCOPES", "MADE", "ENDS", "LAST USED"].map(str::to_owned)];
    rows.extend(keys.iter().map(row));
    let widths: [usize; 5] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        print(&format!("{}\n", line.trim_end()));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(key: &StoredKey) -> [String; 5] {
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
    let ends = match key.expires_in {
        None => "never".to_owned(),
        Some(Duration::ZERO) => "over".to_owned(),
        Some(left) => day(&utc(left.as_secs().cast_signed())).to_owned(),
    };
    let made = utc(-key.age.as_secs().cast_signed());
    let used = key
        .idle
        .map_or_else(|| "never".to_owned(), |idle| format!("{} ago", rough(idle)));
    let name = key.name.as_str().to_owned();
    [name, scopes.join(","), day(&made).to_owned(), ends, used]
}

async fn remove(store: &dyn Store, name: &KeyName) -> anyhow::Result<ExitCode> {
    if !store.remove_key(name).await? {
        let missing =
            format!("there is no key {name}: `offiaccount keys list` shows those there are");
        return Ok(super::fail(&missing, 1));
    }
    print(&format!(
        "removed {name}; it stops working within 10 seconds at every instance\n"
    ));
    note(store, name, "keys remove").await
}

async fn note(store: &dyn Store, name: &KeyName, action: &str) -> anyhow::Result<ExitCode> {
    if let Err(error) = audit::write(store, name.as_str(), action).await {
        let unnoted = format!("it was done, and could not be noted in the audit list: {error}");
        return Ok(super::fail(&unnoted, 1));
    }
    Ok(ExitCode::SUCCESS)
}
