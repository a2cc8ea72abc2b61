//! `offiaccount serve`: the backend.

use std::process::ExitCode;

use offiaccount::{Bot, Config};

pub(crate) async fn run(config: Config) -> anyhow::Result<ExitCode> {
    offiaccount::serve(config, Bot::new()).await?;
    Ok(ExitCode::SUCCESS)
}
