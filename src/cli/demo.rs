//! `offiaccount demo`: simulator and backend in one process, with nothing to set up.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use anyhow::Context as _;
use offiaccount::app::shutdown_signal;
use offiaccount::config::{LogFormat, Settings};
use offiaccount::simulator::{Options, Simulator};
use offiaccount::{Application, Bot, Config, telemetry};
use tokio_util::sync::CancellationToken;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The backend's port on 127.0.0.1. A free one if it is taken.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The simulator's port on 127.0.0.1. A free one if it is taken.
    #[arg(long, default_value_t = 4000)]
    simulator_port: u16,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    telemetry::init(LogFormat::Pretty);
    // From here on a signal can't leave the folder behind.
    let shutdown = shutdown_signal();
    let folder = tempfile::Builder::new()
        .prefix("offiaccount-demo-")
        .tempdir()
        .context("a temporary folder")?;
    let mut simulator = Simulator::build(Options {
        listen: local(arguments.simulator_port).to_string(),
        ..Options::default()
    })?;

    let account = Options::default();
    let settings = Settings {
        wechat_appid: Some(account.appid),
        wechat_appsecret: Some(account.appsecret.expose().to_owned()),
        wechat_token: Some(account.token.expose().to_owned()),
        wechat_api_url: Some(simulator.url().to_owned()),
        wechat_open_url: Some(simulator.url().to_owned()),
        wechat_jssdk_url: Some(format!("{}/open/js/jweixin-1.6.0.js", simulator.url())),
        listen: Some(local(arguments.port).to_string()),
        database_url: Some(format!(
            "sqlite://{}",
            folder.path().join("demo.db").display()
        )),
        admin_token: Some(format!("demo-{:016x}", rand::random::<u64>())),
        ..Settings::default()
    };
    let config = Config::from_settings(&settings)?;
    let backend = Application::build_demo(config, Bot::new(), simulator.url().to_owned()).await?;
    let url = backend.public_url().origin().to_owned();
    simulator.set_callback_url(format!("{url}/wechat"));
    announce(&url, simulator.url());

    let stop = CancellationToken::new();
    let simulating = tokio::spawn(simulator.run_until(stop.clone().cancelled_owned()));
    backend.run_until(shutdown).await;
    stop.cancel();
    simulating.await.context("the simulator")??;
    Ok(ExitCode::SUCCESS)
}

/// This machine's address with the port, or with a free one where it is taken.
fn local(port: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the addresses are the command's output"
)]
fn announce(backend: &str, simulator: &str) {
    println!("Open these two in a browser:\n");
    println!("  demo page  {backend}/");
    println!("  simulator  {simulator}/   (a phone: chat with the account as a fan)\n");
    println!("Everything is kept in a temporary folder and gone at the end. Stop with Ctrl-C.");
}
