//! `offiaccount simulate`: the simulated platform alone.

use std::process::ExitCode;

use offiaccount::app::shutdown_signal;
use offiaccount::config::LogFormat;
use offiaccount::secret::Secret;
use offiaccount::simulator::{Kind, Limits, Mode, Options, Simulator};
use offiaccount::telemetry;

#[derive(clap::Args)]
#[expect(
    clippy::doc_markdown,
    reason = "these texts are --help, read in a terminal"
)]
pub(crate) struct Arguments {
    /// The address to listen on.
    #[arg(
        long,
        env = "LISTEN",
        hide_env_values = true,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:4000"
    )]
    listen: String,
    /// 服务器地址(URL): where messages are pushed, e.g. http://127.0.0.1:3000/wechat.
    #[arg(long, value_name = "URL")]
    callback: Option<String>,
    /// AppID [default: wx0000000000000sim].
    #[arg(long, env = "WECHAT_APPID", hide_env_values = true)]
    appid: Option<String>,
    /// AppSecret [default: 32 zeros].
    #[arg(long, env = "WECHAT_APPSECRET", hide_env_values = true)]
    appsecret: Option<String>,
    /// Token (令牌) [default: simtoken2026].
    #[arg(long, env = "WECHAT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// EncodingAESKey, 43 characters. Needed in the modes compatible and safe.
    #[arg(long, env = "WECHAT_ENCODING_AES_KEY", hide_env_values = true)]
    encoding_aes_key: Option<String>,
    /// plain (明文), compatible (兼容) or safe (安全) [default: safe with a key, else plain].
    #[arg(long)]
    mode: Option<Mode>,
    /// service, subscription, unverified or sandbox.
    #[arg(long, default_value = "service")]
    kind: Kind,
    /// real: windows, counts and quotas refuse calls. relaxed: they are kept and refuse nothing.
    #[arg(long, default_value = "real")]
    limits: Limits,
    /// Repeats all made-up ids and tokens.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    telemetry::init(LogFormat::Pretty);
    // Empty counts as none, as in a `.env` that is still to be filled in.
    let given = |value: Option<String>| value.filter(|value| !value.trim().is_empty());
    let encoding_aes_key = given(arguments.encoding_aes_key);
    let has_key = encoding_aes_key.is_some();
    let usual = Options::default();
    let options = Options {
        listen: given(Some(arguments.listen)).unwrap_or(usual.listen),
        callback_url: arguments.callback,
        appid: given(arguments.appid).unwrap_or(usual.appid),
        appsecret: given(arguments.appsecret).map_or(usual.appsecret, Secret::new),
        token: given(arguments.token).map_or(usual.token, Secret::new),
        encoding_aes_key: encoding_aes_key.map(Secret::new),
        mode: arguments
            .mode
            .unwrap_or(if has_key { Mode::Safe } else { Mode::Plain }),
        kind: arguments.kind,
        limits: arguments.limits,
        seed: arguments.seed,
        ..usual
    };
    let simulator = Simulator::build(options)?;
    let shutdown = shutdown_signal();
    announce(simulator.url());
    simulator.run_until(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the address is the command's output")]
fn announce(url: &str) {
    println!("simulator  {url}");
}
