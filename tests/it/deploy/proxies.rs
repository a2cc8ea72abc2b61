//! nginx and Caddy themselves, under the files of `templates/deploy`, in front of instances.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use offiaccount::Bot;
use reqwest::{Client, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::file;
use crate::forward::downstream::Downstream;
use crate::helpers::*;
use crate::mongod::free_port;
use crate::parts::part;

const HOST: &str = "wx.example.com";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Nginx,
    Caddy,
}

macro_rules! behind_each {
    ($($case:ident)+) => {
        mod nginx {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Kind::Nginx).await;
            })+
        }
        mod caddy {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Kind::Caddy).await;
            })+
        }
    };
}

behind_each! {
    messages_pass_and_what_is_inside_stays_inside
    what_was_delivered_is_not_delivered_again
    a_refused_connection_is_tried_elsewhere
    no_log_shows_a_query
    a_client_that_hangs_up_is_seen_by_the_instance
    a_rolling_restart_loses_nothing
}

/// A proxy that runs, with a folder for all that it writes.
struct Proxy {
    url: String,
    /// nginx's own that leads to https.
    plain_port: u16,
    http: Client,
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the proxy wrote:\n{}", self.written());
        }
    }
}

impl Proxy {
    /// In front of these; `None` on a machine without.
    async fn start(kind: Kind, backends: &[String]) -> Option<Self> {
        let program = part(match kind {
            Kind::Nginx => "nginx",
            Kind::Caddy => "caddy",
        })?;
        let folder = tempfile::tempdir().unwrap();
        let (port, plain_port) = (free_port(), free_port());
        let mut command = Command::new(program);
        let (url, http) = match kind {
            Kind::Nginx => {
                configure_nginx(folder.path(), [port, plain_port], backends);
                let conf = folder.path().join("nginx.conf");
                command.arg("-p").arg(folder.path()).arg("-c").arg(conf);
                let _ = rustls::crypto::ring::default_provider().install_default();
                let http = Client::builder()
                    .no_proxy()
                    .redirect(reqwest::redirect::Policy::none())
                    .tls_danger_accept_invalid_certs(true)
                    .resolve(HOST, SocketAddr::from(([127, 0, 0, 1], port)));
                (format!("https://{HOST}:{port}"), http.build().unwrap())
            }
            Kind::Caddy => {
                let url = format!("http://127.0.0.1:{port}");
                // Its control port is one for all Caddys of a machine.
                let text = file("Caddyfile").replacen("\n{\n", "\n{\n\tadmin off\n", 1);
                let conf = folder.path().join("Caddyfile");
                std::fs::write(&conf, text).unwrap();
                command
                    .args(["run", "--adapter", "caddyfile", "--config"])
                    .arg(conf)
                    .env("HOME", folder.path())
                    .env("SITE", &url)
                    .env("BACKENDS", backends.join(" "));
                (url, client())
            }
        };
        let log = std::fs::File::create(folder.path().join("output")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut proxy = Self {
            url,
            plain_port,
            http,
            folder,
            child,
        };
        let listens = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        let ended = proxy.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}");
        eventually(Duration::from_secs(10), listens).await;
        Some(proxy)
    }

    async fn get(&self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.url));
        request.send().await.unwrap()
    }

    /// A signed delivery of a text.
    fn deliver(&self, text: &str) -> reqwest::RequestBuilder {
        self.deliver_again(&message(text))
    }

    /// A signed delivery of this message.
    fn deliver_again(&self, message: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/wechat?{}", self.url, signed_query());
        self.http.post(url).body(message.to_owned())
    }

    /// All that it wrote: logs, and what it said.
    fn written(&self) -> String {
        let mut all = String::new();
        for name in [
            "output",
            "main.log",
            "access.log",
            "offiaccount.log",
            "offiaccount-error.log",
        ] {
            all += &std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        }
        all
    }
}

/// A text of a user who says nothing else.
fn message(text: &str) -> String {
    let user = format!("o{:027}", rand::random::<u64>());
    text_xml(text).replace("oFan0000000000000000000000001", &user)
}

/// The file as it is, but for addresses, certificate and folders.
fn configure_nginx(folder: &Path, [port, plain_port]: [u16; 2], backends: &[String]) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", &format!("/CN={HOST}")])
        .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
        .arg("-keyout")
        .arg(folder.join("site.key"))
        .arg("-out")
        .arg(folder.join("site.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");

    let here = folder.display().to_string();
    let mut site = file("nginx.conf");
    let those = regex::Regex::new(r"(?m)(?:^    server [0-9.]+:\d+ (.*;)\n)+").unwrap();
    let servers = |found: &regex::Captures<'_>| -> String {
        let options = &found[1];
        let each = backends.iter();
        each.map(|backend| format!("    server {backend} {options}\n"))
            .collect()
    };
    site = those.replace_all(&site, servers).into_owned();
    for (from, to) in [
        ("listen 80;", format!("listen 127.0.0.1:{plain_port};")),
        ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
        ("/etc/ssl/wx.example.com.", format!("{here}/site.")),
        ("/var/log/nginx/", format!("{here}/")),
    ] {
        assert!(site.contains(from), "{from}");
        site = site.replace(from, &to);
    }
    std::fs::write(folder.join("site.conf"), site).unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|each| format!("{each}_temp_path {here}/{each};\n"))
        .collect();
    let main = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/main.log;\n\
         events {{}}\nhttp {{\naccess_log {here}/access.log;\n{temporary}\
         include {here}/site.conf;\n}}\n"
    );
    std::fs::write(folder.join("nginx.conf"), main).unwrap();
}

/// An instance that answers every message so, and is well.
async fn answering(status: StatusCode) -> Downstream {
    Downstream::start(move |received| async move {
        match &*received.path {
            "/healthz" => StatusCode::OK.into(),
            _ => status.into(),
        }
    })
    .await
}

fn messages(of: &Downstream) -> usize {
    let received = of.received();
    received.iter().filter(|each| each.method == "POST").count()
}

async fn messages_pass_and_what_is_inside_stays_inside(kind: Kind) {
    let world = World::start().await;
    let other = App::start(&world.settings, Bot::new(), CancellationToken::new()).await;
    let backends = [world.app.addr.to_string(), other.addr.to_string()];
    let Some(proxy) = Proxy::start(kind, &backends).await else {
        return;
    };
    for text in ["一", "二", "三", "四"] {
        let answer = proxy.deliver(text).send().await.unwrap();
        let answer = answer.text().await.unwrap();
        assert!(answer.contains(&format!("Hello {text}")), "{answer}");
    }
    let refused = proxy.get("/wechat").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(proxy.get("/healthz").await.status(), StatusCode::OK);
    let large = proxy.deliver("").body("a".repeat(70_000));
    let large = large.send().await.unwrap();
    // Caddy may find its connection closed before it has read the instance's 413.
    let is_refused = large.status() == StatusCode::PAYLOAD_TOO_LARGE
        || (kind == Kind::Caddy && large.status() == StatusCode::BAD_GATEWAY);
    assert!(is_refused, "{}", large.status());
    for path in [
        "/metrics",
        "/metrics?a=b",
        "/%6detrics",
        "//metrics",
        "/metrics/",
        "/readyz",
        "/readyz?a",
        "/%72eadyz",
    ] {
        let answer = proxy.get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        let answer = answer.text().await.unwrap();
        assert!(!answer.contains("offiaccount_"), "{path}: {answer}");
    }
    other.stop().await;
}

async fn what_was_delivered_is_not_delivered_again(kind: Kind) {
    let refusing = [
        answering(StatusCode::SERVICE_UNAVAILABLE).await,
        answering(StatusCode::SERVICE_UNAVAILABLE).await,
    ];
    let backends = refusing.each_ref().map(Downstream::address);
    let Some(proxy) = Proxy::start(kind, &backends).await else {
        return;
    };
    for _ in 0..10 {
        let answer = proxy.deliver("a").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(refusing.iter().map(messages).sum::<usize>(), 10);

    let taken = Arc::new(AtomicUsize::new(0));
    let dying = || {
        let taken = Arc::clone(&taken);
        raw_instance(move |_| {
            taken.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        })
    };
    let proxy = Proxy::start(kind, &[dying().await, dying().await]).await;
    let answer = proxy.unwrap().deliver("a").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(taken.load(Ordering::Relaxed), 1, "by one instance, once");
}

/// An instance that is well, and does this with the connection of a message that it has read.
async fn raw_instance<F, A>(with_message: F) -> String
where
    F: Fn(TcpStream) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let with_message = with_message.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let n = stream.read(&mut request).await.unwrap_or(0);
                if request[..n].starts_with(b"POST") {
                    with_message(stream).await;
                } else {
                    let well = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = stream.write_all(well).await;
                }
            });
        }
    });
    address
}

async fn a_refused_connection_is_tried_elsewhere(kind: Kind) {
    let both = [
        answering(StatusCode::OK).await,
        answering(StatusCode::OK).await,
    ];
    let backends = both.each_ref().map(Downstream::address);
    let Some(proxy) = Proxy::start(kind, &backends).await else {
        return;
    };
    let taken = || both.iter().map(messages).sum::<usize>();
    let [stopped, well] = &both;
    while messages(stopped) == 0 {
        let answer = proxy.deliver("a").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let before = (taken(), messages(well));
    stopped.stop().await;
    // At once: no look at its health has told the proxy yet.
    let deliveries = (0..20).map(|_| proxy.deliver("a").send());
    for answer in futures_util::future::join_all(deliveries).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(taken(), before.0 + 20, "each once");
    assert!(messages(well) > before.1);
}

#[tokio::test]
async fn caddy_sends_nothing_to_an_instance_that_says_it_drains() {
    let drains = Arc::new(AtomicBool::new(false));
    let draining = Downstream::start({
        let drains = Arc::clone(&drains);
        move |received| {
            let is_over = received.path == "/healthz" && drains.load(Ordering::Relaxed);
            std::future::ready(match is_over {
                true => StatusCode::SERVICE_UNAVAILABLE.into(),
                false => StatusCode::OK.into(),
            })
        }
    })
    .await;
    let well = answering(StatusCode::OK).await;
    let backends = [draining.address(), well.address()];
    let Some(proxy) = Proxy::start(Kind::Caddy, &backends).await else {
        return;
    };
    let is_passed_by = async || {
        let before = messages(&draining);
        for _ in 0..10 {
            let answer = proxy.deliver("a").send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
        messages(&draining) == before
    };
    assert!(!is_passed_by().await, "both get their share");
    drains.store(true, Ordering::Relaxed);
    // Within the second in which it still takes what comes.
    eventually(Duration::from_secs(1), is_passed_by).await;
}

async fn no_log_shows_a_query(kind: Kind) {
    let world = World::start().await;
    let backends = [world.app.addr.to_string()];
    let Some(proxy) = Proxy::start(kind, &backends).await else {
        return;
    };
    let call = || {
        let url = format!("{}/wxCallback?code=canary&state=canary", proxy.url);
        let request = proxy.http.get(url);
        let request = request.header("referer", "https://wx.example.com/?openid=canary");
        request.header("cookie", "session=canary").send()
    };
    assert_eq!(call().await.unwrap().status(), StatusCode::FORBIDDEN);
    if kind == Kind::Nginx {
        let plain = format!("http://127.0.0.1:{}/a?code=canary", proxy.plain_port);
        let answer = proxy.http.get(plain).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(
            answer.headers()["location"],
            "https://wx.example.com/a?code=canary"
        );
    }
    world.app.stop.cancel();
    let is_gone = async || call().await.unwrap().status().is_server_error();
    eventually(Duration::from_secs(15), is_gone).await;
    // Caddy tells of errors alone, nginx of every request.
    let written = proxy.written();
    assert!(written.contains("/wxCallback"), "{written}");
    assert!(!written.contains("canary"), "{written}");
}

async fn a_client_that_hangs_up_is_seen_by_the_instance(kind: Kind) {
    let hung_up = Arc::new(AtomicUsize::new(0));
    let backend = raw_instance({
        let hung_up = Arc::clone(&hung_up);
        move |mut stream: TcpStream| {
            let hung_up = Arc::clone(&hung_up);
            async move {
                let mut rest = vec![];
                let _ = stream.read_to_end(&mut rest).await;
                hung_up.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let Some(proxy) = Proxy::start(kind, &[backend]).await else {
        return;
    };
    let delivery = proxy.deliver("a").timeout(Duration::from_secs(1));
    assert!(delivery.send().await.unwrap_err().is_timeout());
    let is_seen = async || hung_up.load(Ordering::Relaxed) == 1;
    eventually(Duration::from_secs(3), is_seen).await;
}

async fn a_rolling_restart_loses_nothing(kind: Kind) {
    let world = World::start().await;
    let start = async |address: &String| {
        let mut settings = world.settings.clone();
        settings.listen = Some(address.clone());
        App::start(&settings, Bot::new(), Default::default()).await
    };
    // Hosts of their own: at 127.0.0.1 another's connection may take the port between stop and start.
    let backends = [1, 2, 3].map(|host| {
        let network: u16 = rand::random();
        let [a, b] = network.to_be_bytes();
        format!("127.{a}.{b}.{host}:3000")
    });
    let mut instances = vec![];
    for address in &backends {
        instances.push(start(address).await);
    }
    let Some(proxy) = Proxy::start(kind, &backends).await else {
        return;
    };
    let proxy = Arc::new(proxy);
    let (over, passed) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..6)
        .map(|_| {
            let (proxy, over, passed) = (Arc::clone(&proxy), over.clone(), Arc::clone(&passed));
            tokio::spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                let (mut messages, mut deliveries) = (0, 0);
                while !over.is_cancelled() {
                    pace.tick().await;
                    let message = message("a");
                    // As the platform does: three times at most.
                    for delivery in 1..=3 {
                        let answer = proxy.deliver_again(&message).send().await.unwrap();
                        let status = answer.status();
                        let text = answer.text().await.unwrap();
                        deliveries += 1;
                        if text.contains("Hello a") {
                            break;
                        }
                        assert!(delivery < 3, "lost: {status} {text}");
                    }
                    messages += 1;
                    passed.fetch_add(1, Ordering::Relaxed);
                }
                (messages, deliveries)
            })
        })
        .collect();
    for (address, instance) in backends.iter().zip(instances) {
        instance.stop().await;
        let before = passed.load(Ordering::Relaxed);
        let go_on = async || passed.load(Ordering::Relaxed) > before + 50;
        eventually(Duration::from_secs(10), go_on).await;
        let again = start(address).await;
        // The next one when this one has its share again.
        let is_used = async || {
            let metrics = client().get(format!("{}/metrics", again.url)).send();
            let metrics = metrics.await.unwrap().text().await.unwrap();
            !metrics.contains("offiaccount_deliveries_total{answer=\"reply\"} 0\n")
        };
        eventually(Duration::from_secs(10), is_used).await;
    }
    over.cancel();
    let (mut messages, mut deliveries) = (0, 0);
    for sender in senders {
        let sent = sender.await.unwrap();
        messages += sent.0;
        deliveries += sent.1;
    }
    assert!(messages > 100, "{messages}");
    // One that the system takes in the very moment in which an instance closes its door is reset.
    let again = deliveries - messages;
    assert!(again <= 2, "{again} of {messages} came again");
}
