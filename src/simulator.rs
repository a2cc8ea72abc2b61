//! The WeChat platform on a laptop: its API, its web side, its pushes, and a phone to play with.
//!
//! One port serves the platform's own paths, a control side under `/_sim`, and a page at `/`. It shares
//! the typed protocol of [`crate::wechat`] with the backend and nothing else: what it accepts or
//! signs is not what the backend believes, but what the protocol says.
//!
//! State is one `Platform` behind one lock. With a seed and a moved clock the same calls give the
//! same answers.
//!
//! # Layout
//!
//! - `platform` and what it holds: `account`, `fans`, `tags`, `menu`, `qrcodes`, `agents`, `templates`,
//!   `mass`, `media`, `articles`, `comments`, `tokens`, `grants`, `quotas`, `faults`, `chat`, `sends`, `clock`,
//!   `mint`.
//! - `api`: the server API, one declaration per endpoint.
//! - `oauth`, `jssdk`: the web side. `push`: deliveries to the callback. `outbox`: events to come.
//! - `control`, `guard`, `page`: `/_sim`, who may use it, and the page. `live`: what changed, as it
//!   happens. `openapi`: all of it as a document. `glossary`: what errors mean. `framing`: whether the
//!   phone can show a page.

mod account;
mod agents;
mod api;
mod articles;
mod chat;
mod clock;
mod comments;
mod control;
mod errcode;
mod fans;
mod faults;
mod framing;
mod glossary;
mod grants;
mod guard;
mod http;
mod jssdk;
mod live;
mod mass;
mod media;
mod menu;
mod mint;
mod oauth;
mod openapi;
mod outbox;
mod page;
mod picture;
mod platform;
mod push;
mod qrcodes;
mod quotas;
mod sends;
mod tags;
mod templates;
mod tokens;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use poem::{Endpoint, Request, Response};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::account::Account;
pub use self::account::{Kind, Limits, Mode};
use self::live::{Live, Watched};
use self::platform::Platform;
use crate::secret::Secret;
use crate::server;
use crate::wechat::id::{AppId, OriginalId};

/// What a simulator starts with, and goes back to on reset.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen, `host:port`. Port 0 takes a free one.
    pub listen: String,
    /// The account's AppID.
    pub appid: String,
    /// The account's AppSecret.
    pub appsecret: Secret,
    /// 原始ID, the account's name in messages.
    pub original_id: String,
    /// The token of 服务器配置: 3 to 32 letters and digits.
    pub token: Secret,
    /// 43 characters; needed unless the mode is plain.
    pub encoding_aes_key: Option<Secret>,
    /// How messages travel.
    pub mode: Mode,
    /// 服务器地址(URL), where pushes go.
    pub callback_url: Option<String>,
    /// The type of the account.
    pub kind: Kind,
    /// Whether windows, counts and quotas refuse.
    pub limits: Limits,
    /// 网页授权域名: hosts, with a port if only that port is meant.
    pub oauth_domains: Vec<String>,
    /// JS接口安全域名, in the same form.
    pub js_domains: Vec<String>,
    /// Repeats all made-up ids and tokens; without it they cannot be guessed.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let local = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        Self {
            listen: "127.0.0.1:4000".to_owned(),
            appid: "wx0000000000000sim".to_owned(),
            appsecret: Secret::new("0".repeat(32)),
            original_id: "gh_000000000sim".to_owned(),
            token: Secret::new("simtoken2026"),
            encoding_aes_key: None,
            mode: Mode::default(),
            callback_url: None,
            kind: Kind::default(),
            limits: Limits::default(),
            oauth_domains: local.clone(),
            js_domains: local,
            seed: None,
        }
    }
}

impl Options {
    fn account(&self) -> Result<Account, SimulatorError> {
        let wrong =
            |name: &str, why: &dyn fmt::Display| SimulatorError::Options(format!("{name}: {why}"));
        let account = Account {
            appid: AppId::parse(&self.appid).map_err(|why| wrong("appid", &why))?,
            appsecret: self.appsecret.clone(),
            original_id: OriginalId::parse(&self.original_id)
                .map_err(|why| wrong("original_id", &why))?,
            token: self.token.clone(),
            encoding_aes_key: self.encoding_aes_key.clone(),
            callback_url: self.callback_url.clone(),
            mode: self.mode,
            kind: self.kind,
            limits: self.limits,
            oauth_domains: self.oauth_domains.clone(),
            js_domains: self.js_domains.clone(),
            ip_whitelist: Vec::new(),
        };
        account.check().map_err(SimulatorError::Options)?;
        Ok(account)
    }
}

/// Why a simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// An option of a wrong form, named.
    #[error("{0}")]
    Options(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address as it was given.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP client for pushes cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// Serving ended with an error of the system.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
}

/// A platform that listens and is not yet served.
pub struct Simulator {
    listener: TcpListener,
    world: Arc<World>,
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut simulator = f.debug_struct("Simulator");
        simulator.field("url", &self.url()).finish_non_exhaustive()
    }
}

/// What every request handler shares.
struct World {
    options: Options,
    listen: SocketAddr,
    origin: String,
    client: reqwest::Client,
    platform: Mutex<Platform>,
    live: Live,
    deliveries: TaskTracker,
    closing: CancellationToken,
    /// Something may have become due: an event was left in the outbox, or the clock moved.
    stirred: Notify,
    /// A delivery came to its end.
    pushed: Notify,
}

impl World {
    /// A panic in a handler leaves the state as far as it got; the others go on with it.
    fn platform(&self) -> Watched<'_> {
        let platform = self.platform.lock();
        self.live
            .watch(platform.unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the outbox be looked through.
    fn stir(&self) {
        self.stirred.notify_one();
    }

    /// As at the start, whatever `/_sim` changed.
    fn reset(&self) -> Result<(), SimulatorError> {
        let account = self.options.account()?;
        let mut platform = self.platform();
        let resets = platform.resets + 1;
        *platform = Platform::new(&self.options, account, &self.origin);
        platform.resets = resets;
        Ok(())
    }
}

impl Simulator {
    /// Checks the options and takes the address.
    ///
    /// # Errors
    ///
    /// [`SimulatorError`] for an option of a wrong form or an address that is taken.
    pub fn build(options: Options) -> Result<Self, SimulatorError> {
        let account = options.account()?;
        let listen = |source| SimulatorError::Listen {
            listen: options.listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&options.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let origin = origin(addr);
        // One provider per process; whoever comes second finds the same one there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent("Mozilla/4.0")
            .default_headers(
                [
                    (reqwest::header::ACCEPT, "*/*"),
                    (reqwest::header::PRAGMA, "no-cache"),
                ]
                .into_iter()
                .map(|(name, value)| (name, reqwest::header::HeaderValue::from_static(value)))
                .collect(),
            )
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // A kept connection may die under a push and would count as a failed try.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(SimulatorError::Client)?;
        let platform = Platform::new(&options, account, &origin);
        let world = World {
            options,
            listen: addr,
            origin,
            client,
            platform: Mutex::new(platform),
            live: Live::new(),
            deliveries: TaskTracker::new(),
            closing: CancellationToken::new(),
            stirred: Notify::new(),
            pushed: Notify::new(),
        };
        Ok(Self {
            listener,
            world: Arc::new(world),
        })
    }

    /// Sets 服务器地址(URL) before it is served, for whoever needs the simulator's address first.
    pub fn set_callback_url(&mut self, url: String) {
        // Nothing shares the world before it is served.
        if let Some(world) = Arc::get_mut(&mut self.world) {
            world.platform().account.callback_url = Some(url.clone());
            world.options.callback_url = Some(url);
        }
    }

    /// The address it listens on, the port as it was given by the system.
    pub fn addr(&self) -> SocketAddr {
        self.world.listen
    }

    /// `http://host:port`, a wildcard address read as the loopback one.
    pub fn url(&self) -> &str {
        &self.world.origin
    }

    /// Serves until `shutdown` is ready; then deliveries that run are cut off.
    ///
    /// # Errors
    ///
    /// [`SimulatorError::Serve`] when the listener breaks.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), SimulatorError> {
        let listener =
            tokio::net::TcpListener::from_std(self.listener).map_err(SimulatorError::Serve)?;
        let closing = self.world.closing.clone();
        let site = Site(self.world.clone());
        let serving = tokio::spawn(server::serve(listener, site, server::Load::new(), closing));
        let events = push::release_events(self.world.clone());
        self.world.deliveries.spawn(events);
        shutdown.await;
        self.world.closing.cancel();
        if let Err(error) = serving.await {
            tracing::error!(%error, "the simulator's server ended early");
        }
        self.world.deliveries.close();
        self.world.deliveries.wait().await;
        Ok(())
    }
}

fn origin(addr: SocketAddr) -> String {
    let host = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(host, addr.port()))
}

/// All paths of the port.
struct Site(Arc<World>);

impl Endpoint for Site {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let world = &self.0;
        let path = request.uri().path().to_owned();
        Ok(match path.as_str() {
            "/" => page::answer(world, &request),
            "/_sim" => control::answer(world, request).await,
            _ if path.starts_with("/_sim/") => control::answer(world, request).await,
            _ if path.starts_with("/sim/") => page::asset(&path),
            _ if path.starts_with("/mmopen/") => page::head_image(world, &path),
            _ if path.starts_with("/mmbiz/") => picture::answer(world, &path),
            "/connect/oauth2/authorize" => oauth::answer(world, request).await,
            _ if path.starts_with("/open/js/") => jssdk::script(world, &path).await,
            _ if path.starts_with("/sdk/") => jssdk::answer(world, request).await,
            _ => api::answer(world, request).await,
        })
    }
}
