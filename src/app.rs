//! The application: everything put together, on one address, until it is told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Client, Skew, Transport};
use crate::audit::Audit;
use crate::bot::{Bot, Services};
use crate::config::{Config, PublicUrl};
use crate::customer_service::CustomerService;
use crate::forward::Forwarder;
use crate::jssdk::JsSdk;
use crate::keys::{Admin, Gate};
use crate::ledger::{self, Ledger};
use crate::oauth::{BrowserKey, OAuth};
use crate::receiver::Receiver;
use crate::reply_link::ReplyLinks;
use crate::rules::{self, Fault, Rules};
use crate::store::{self, InstanceId, Store, StoreError, StoreKey, Vault};
use crate::telemetry::Occasionally;
use crate::telemetry::metrics::Metrics;
use crate::token::TokenCentre;
use crate::web::{self, Backend, Demo, Files, PagePolicy};
use crate::{key_file, server};

/// From the signal to the end of all tasks, the server's own drain included.
const STOP_WITHIN: Duration = Duration::from_millis(4_200);
/// After the signal, last deliveries are answered without their reply: before the server cuts them short.
const HURRY_AFTER: Duration = Duration::from_secs(3);
/// Closing the store after that.
const CLOSE_WITHIN: Duration = Duration::from_millis(200);
/// How often what has expired is deleted.
const COLLECT_EVERY: Duration = Duration::from_secs(600);

/// Why an application does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not this machine's.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// LISTEN.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The store can't be opened.
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
    /// The key beside the embedded store can't be read or made.
    #[error("the key file {path}: {fault}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The file of rules has changed since the settings were read, and is broken now.
    #[error("REPLIES: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Rules(Vec<Fault>),
    /// A route or a pattern of the bot is wrong.
    #[error("the bot: {0}")]
    Bot(String),
    /// The HTTP client can't be built: the system's certificates, most likely.
    #[error("the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// A metric can't be registered.
    #[error("the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A backend, bound to its address.
pub struct Application {
    listener: TcpListener,
    addr: SocketAddr,
    backend: Arc<Backend>,
    rules: Option<Arc<Rules>>,
}

impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Application")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Application {
    /// Binds the address, opens the store and puts everything together. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what to mend.
    pub async fn build(config: Config, bot: Bot) -> Result<Self, StartError> {
        Self::build_with(config, bot, None).await
    }

    /// The same for the demo, whose page knows the simulator and the admin token. It listens on this
    /// machine alone.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what to mend.
    pub async fn build_demo(
        config: Config,
        bot: Bot,
        simulator_url: String,
    ) -> Result<Self, StartError> {
        Self::build_with(config, bot, Some(Demo { simulator_url })).await
    }

    async fn build_with(
        config: Config,
        mut bot: Bot,
        demo: Option<Demo>,
    ) -> Result<Self, StartError> {
        if demo.is_none() {
            for warning in config.warnings() {
                tracing::warn!("{warning}");
            }
        }
        bot.check().map_err(StartError::Bot)?;
        let metrics = Metrics::new()?;
        let address = config.site.listen;
        let listen_error = |error| StartError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let addr = listener.local_addr().map_err(listen_error)?;
        let public_url = config.site.public_url(addr);

        // Before the key, which may lie beside it: of a missing folder the store says what to do.
        let store = store::open(config.store.url.expose(), metrics.store.clone()).await?;
        let key = store_key(&config)?;
        let key_previous = config.store.key_previous.as_ref();
        let vault = Vault::new(&key, key_previous);
        let owner = InstanceId(hex::encode(rand::random::<[u8; 8]>()));

        let skew = Arc::new(Skew::default());
        let transport = Transport::new(
            config.platform.api_url.clone(),
            Arc::clone(&skew),
            metrics.api.clone(),
        )?;
        let tokens = TokenCentre::new(
            &config.account,
            transport.clone(),
            Arc::clone(&store),
            vault.clone(),
            owner,
            metrics.credentials.clone(),
        );
        let api = Client::new(transport.clone(), tokens.clone());
        let tasks = TaskTracker::new();
        let reply_links = ReplyLinks::new(&vault, &public_url);
        if let Some(forward) = &config.forward {
            if bot.has_fallback() {
                tracing::warn!("FORWARD_URL is set, so the bot's own fallback is never reached");
            }
            let metrics = metrics.forward.clone();
            bot = bot.forwarding(Forwarder::new(
                forward,
                Arc::clone(&store),
                tasks.clone(),
                metrics,
            )?);
        }
        let mut rules = None;
        if let Some(path) = config.replies {
            let loaded = Rules::load(rules::Parts {
                path,
                api: api.clone(),
                store: Arc::clone(&store),
                skew: Arc::clone(&skew),
                metrics: metrics.rules.clone(),
                tasks: tasks.clone(),
            });
            let loaded = loaded.map_err(StartError::Rules)?;
            bot = bot.ruled_by(Arc::clone(&loaded));
            rules = Some(loaded);
        }
        let services = Services {
            api: api.clone(),
            store: Arc::clone(&store),
            customer_service: CustomerService::new(
                api.clone(),
                Arc::clone(&store),
                metrics.customer_service.clone(),
            ),
            reply_links: reply_links.clone(),
            rules: rules.clone(),
        };
        let ledger = Ledger::new(ledger::Parts {
            bot,
            services: services.into(),
            texts: config.texts,
            slow_answers: config.slow_answers,
            skew: Arc::clone(&skew),
            metrics: metrics.messages.clone(),
        });
        let oauth = OAuth::new(
            &config.account,
            config.platform.open_url.clone(),
            public_url.join("/wxCallback"),
            transport,
            Arc::clone(&store),
            vault,
        );
        let jssdk_hosts = config
            .site
            .jssdk_domains
            .unwrap_or_else(|| vec![public_url.host().to_owned()]);
        let shutdown = CancellationToken::new();
        let backend = Backend {
            gate: Gate::new(store.clone(), tasks.clone()),
            audit: Audit::new(
                store.clone(),
                metrics.audit.clone(),
                tasks.clone(),
                shutdown.clone(),
            ),
            receiver: Receiver::new(&config.account, Arc::clone(&skew)),
            ledger,
            oauth,
            browser_key: BrowserKey::new(&key, key_previous),
            jssdk: JsSdk::new(config.account.app_id, jssdk_hosts, tokens),
            api,
            reply_links,
            store,
            skew,
            metrics,
            admin: config.admin_token.map(Admin::new),
            public_url,
            policy: PagePolicy::new(&config.platform),
            jssdk_url: config.platform.jssdk_url,
            files: Files::new(config.site.static_dir),
            demo,
            verified: Occasionally::default(),
            tasks,
            shutdown,
        };
        Ok(Self {
            listener,
            addr,
            backend: Arc::new(backend),
            rules,
        })
    }

    /// The address that was bound; the port is real where `LISTEN` said 0.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address that users' phones see.
    pub fn public_url(&self) -> &PublicUrl {
        &self.backend.public_url
    }

    /// Serves until `shutdown`, then drains: within 4.5 s answers under way are given, handlers end or
    /// leave their message to another instance, and the store is closed.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) {
        let backend = self.backend;
        let load = backend.metrics.http.load();
        let routes = web::routes(Arc::clone(&backend));
        let serving = tokio::spawn(server::serve(
            self.listener,
            routes,
            load,
            backend.shutdown.clone(),
        ));
        let collecting = tokio::spawn(collect_garbage(Arc::clone(&backend.store)));
        let looking_after = self.rules.map(|rules| rules.look_after());
        backend.ledger.watch_for_overdue();
        tracing::info!(addr = %self.addr, public_url = backend.public_url.origin(), store = backend.store.name(), "serving");

        shutdown.await;
        let stop_at = tokio::time::Instant::now() + STOP_WITHIN;
        tracing::info!("shutting down: answering what is under way");
        backend.shutdown.cancel();
        collecting.abort();
        drop(looking_after);
        let ledger = backend.ledger.clone();
        let hurrying = tokio::spawn(async move {
            tokio::time::sleep(HURRY_AFTER).await;
            ledger.hurry();
        });
        if let Err(error) = serving.await {
            tracing::error!(%error, "the server ended early");
        }
        hurrying.abort();
        backend.tasks.close();
        let ending = async {
            backend.tasks.wait().await;
            backend.api.tokens().close().await;
        };
        // What does not end in time is finished by the next delivery, holder or click elsewhere.
        let ending = tokio::time::timeout_at(stop_at, ending);
        let _ = futures_util::future::join(ending, backend.ledger.close(stop_at)).await;
        let _ = tokio::time::timeout(CLOSE_WITHIN, backend.store.close()).await;
        tracing::info!("stopped");
    }
}

/// `STORE_KEY`, or the key beside the embedded store, made at the first start.
pub(crate) fn store_key(config: &Config) -> Result<StoreKey, StartError> {
    if let Some(key) = &config.store.key {
        return Ok(key.clone());
    }
    let path = format!(
        "{}.key",
        config.store.url.expose().trim_start_matches("sqlite://")
    );
    key_file::read_or_make(path.as_ref()).map_err(|fault| StartError::Key { path, fault })
}

async fn collect_garbage(store: Arc<dyn Store>) {
    loop {
        tokio::time::sleep(COLLECT_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
        if let Err(error) = store.collect_garbage().await {
            tracing::warn!(%error, "what has expired was not deleted; trying again later");
        }
    }
}

/// Serves `bot` until SIGTERM or Ctrl-C, with logs as the settings say: all a `main` needs.
///
/// # Errors
///
/// [`StartError`] says what to mend.
pub async fn serve(config: Config, bot: Bot) -> Result<(), StartError> {
    crate::telemetry::init(config.log_format);
    Application::build(config, bot)
        .await?
        .run_until(shutdown_signal())
        .await;
    Ok(())
}

/// Waits for SIGTERM or Ctrl-C. A second signal ends the process at once.
///
/// It listens from the call on, not from the first await: what must be cleaned up can be begun after.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
            tracing::error!("signals can't be listened to: the process ends only by SIGKILL");
            return std::future::pending().await;
        };
        let mut next = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tokio::spawn(async move {
            next().await;
            tracing::warn!("a second signal: stopping at once");
            std::process::exit(130);
        });
    }
}
