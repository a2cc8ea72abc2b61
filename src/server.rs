//! The connection loop: poem's endpoints over hyper's HTTP/1.
//!
//! poem's own server has no time-out for a request's head, leaves `TCP_NODELAY` off, and refuses new
//! connections the moment it stops. This loop closes slow senders, and on shutdown goes on accepting
//! until the balancer has noticed, so that no client sees a reset.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, IntoResponse as _};
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// From a request's first byte to the end of its head, and from a connection to its first request: 5 s.
const HEAD_WITHIN: Sweeps = Sweeps(10);
/// Between two requests, 75 s: longer than the usual 60 s of a proxy, so that the proxy closes first.
const IDLE_FOR: Sweeps = Sweeps(150);
/// How often connections are looked over.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Request line and headers. Beyond: 431.
const MAX_HEAD_BYTES: usize = 32 << 10;
const MAX_HEADERS: usize = 64;
/// An answer that is no longer is written in one piece, which costs less than two.
const GLUE_UP_TO: usize = 2 << 10;
/// Requests under way at once. Beyond: 503 at once, while those under way are still answered in time.
const MAX_REQUESTS: usize = 8_192;
/// After the signal, new connections are taken this long: a balancer needs a look at `/healthz`.
const ACCEPT_FOR: Duration = Duration::from_secs(1);
/// And no longer than this, however many come.
const EMPTY_WITHIN: Duration = Duration::from_secs(2);
/// A connection that was just made gets this long to send its request, before it is closed for a stop.
const FIRST_WITHIN: Duration = Duration::from_millis(250);
/// After the signal, what is still under way is answered 503.
const ANSWER_WITHIN: Duration = Duration::from_millis(3_500);
/// After the signal, what is still open is cut off.
const STOP_WITHIN: Duration = Duration::from_millis(3_800);

/// What the loop counts. Register them, or leave them alone.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Open connections.
    pub(crate) connections: IntGauge,
    /// Requests answered 503 because too many were under way.
    pub(crate) shed: IntCounter,
}

impl Load {
    #[expect(clippy::expect_used, reason = "both names are well-formed")]
    pub(crate) fn new() -> Self {
        let connections = IntGauge::new("offiaccount_http_connections", "Open connections.");
        let shed = IntCounter::new(
            "offiaccount_http_shed_total",
            "Requests answered 503 because too many were under way.",
        );
        Self {
            connections: connections.expect("a well-formed name"),
            shed: shed.expect("a well-formed name"),
        }
    }
}

/// Serves `endpoint` until `shutdown`, then drains: answers carry `Connection: close`, the backlog is
/// emptied, requests under way are finished.
pub(crate) async fn serve<E>(
    listener: TcpListener,
    endpoint: E,
    load: Load,
    shutdown: CancellationToken,
) where
    E: Endpoint + 'static,
{
    take_all_open_files();
    let server = Arc::new(Server {
        endpoint,
        load,
        shutdown: shutdown.clone(),
        connections: Mutex::default(),
        requests: AtomicUsize::new(0),
        clock: Arc::default(),
    });
    let tasks = TaskTracker::new();
    let sweeper = tokio::spawn(Arc::clone(&server).sweep());
    let mut next_id = 0;
    let mut accept = |accepted: io::Result<(TcpStream, SocketAddr)>| match accepted {
        Ok((stream, peer)) => {
            next_id += 1;
            // Entered before the task runs: a stop must find it.
            let connection = server.enter(next_id);
            tasks.spawn(Arc::clone(&server).connection(next_id, connection, stream, peer));
            true
        }
        Err(error) => {
            tracing::warn!(%error, "a connection was not accepted");
            false
        }
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => if !accept(accepted) {
                // Out of file descriptors, most likely: a pause lets some be closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
            },
            () = shutdown.cancelled() => break,
        }
    }
    let signalled = tokio::time::Instant::now();
    let empty_by = signalled + EMPTY_WITHIN;
    let accept_until = tokio::time::sleep(ACCEPT_FOR);
    tokio::pin!(accept_until);
    while tokio::time::Instant::now() < empty_by {
        tokio::select! {
            biased;
            accepted = listener.accept() => if !accept(accepted) { break },
            () = &mut accept_until => break,
        }
    }
    // What the system has taken by now and nobody has told us of: it would be reset.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            accept(stream.map(|stream| (stream, peer)));
        }
    }
    server.each_connection(|connection| connection.tell(FINISH));
    tasks.close();
    let ended_by = async |after| {
        tokio::time::timeout_at(signalled + after, tasks.wait())
            .await
            .is_ok()
    };
    if !ended_by(ANSWER_WITHIN).await {
        server.each_connection(|connection| connection.hurry.notify_one());
        if !ended_by(STOP_WITHIN).await {
            tracing::warn!(
                connections = tasks.len(),
                "cutting off connections that did not end in time"
            );
            server.each_connection(|connection| connection.tell(CUT));
            tasks.wait().await;
        }
    }
    sweeper.abort();
}

/// Raises the process's limit of open files to what it may be without asking anybody: each connection is
/// one, and the usual limit of 1,024 is less than the requests that are taken.
fn take_all_open_files() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}

struct Server<E> {
    endpoint: E,
    load: Load,
    shutdown: CancellationToken,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    requests: AtomicUsize,
    clock: Arc<Clock>,
}

/// Time as the connections are timed: in sweeps. While the process stands still nobody can be read from,
/// and no time passes.
#[derive(Default)]
struct Clock(AtomicU64);

/// That many times [`SWEEP_EVERY`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sweeps(u64);

impl Clock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn since(&self, then: u64) -> Sweeps {
        Sweeps(self.now().saturating_sub(then))
    }
}

/// What the sweeper sees of a connection.
#[derive(Default)]
struct Connection {
    phase: AtomicU8,
    /// When the phase began.
    since: AtomicU64,
    /// What it was told to do and has not looked at.
    orders: AtomicU8,
    /// That there are orders. One for all of them: a connection asks for it whenever it has to wait.
    told: Notify,
    /// Answer 503 to the request under way: there is no more time for it.
    hurry: Notify,
}

/// Finish the request under way, then close.
const FINISH: u8 = 1;
/// Close if the sender is still too slow.
const OVERDUE: u8 = 2;
/// Close now.
const CUT: u8 = 4;

/// Nothing has arrived yet.
const FRESH: u8 = 0;
/// A request's head is arriving.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;
/// Between two requests.
const IDLE: u8 = 3;

impl Connection {
    fn tell(&self, order: u8) {
        self.orders.fetch_or(order, Ordering::Release);
        self.told.notify_one();
    }

    fn enter(&self, phase: u8, clock: &Clock) {
        self.since.store(clock.now(), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn is_overdue(&self, clock: &Clock) -> bool {
        let limit = match self.phase.load(Ordering::Relaxed) {
            FRESH | HEAD => HEAD_WITHIN,
            IDLE => IDLE_FOR,
            _ => return false,
        };
        clock.since(self.since.load(Ordering::Relaxed)) > limit
    }
}

impl<E> Server<E> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, id: u64) -> Arc<Connection> {
        let connection = Arc::new(Connection::default());
        connection.enter(FRESH, &self.clock);
        self.lock().insert(id, Arc::clone(&connection));
        self.load.connections.inc();
        connection
    }

    fn each_connection(&self, act: impl Fn(&Connection)) {
        self.lock().values().for_each(|connection| act(connection));
    }

    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.clock.0.fetch_add(1, Ordering::Relaxed);
            self.each_connection(|connection| {
                if connection.is_overdue(&self.clock) {
                    connection.tell(OVERDUE);
                }
            });
        }
    }
}

impl<E: Endpoint> Server<E> {
    async fn connection(
        self: Arc<Self>,
        id: u64,
        connection: Arc<Connection>,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        // Small answers must not wait for an acknowledgement. Where the option fails, they do.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);

        let service = hyper::service::service_fn({
            let (server, connection) = (&self, &connection);
            move |request: hyper::Request<Incoming>| async move {
                connection.enter(BUSY, &server.clock);
                let response = server
                    .respond(request, local, peer, &connection.hurry)
                    .await;
                connection.enter(IDLE, &server.clock);
                Ok::<hyper::Response<_>, Infallible>(response.into())
            }
        });
        let stream = WatchedStream {
            stream,
            connection: Arc::clone(&connection),
            clock: Arc::clone(&self.clock),
            glued: Vec::new(),
        };
        let serving = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        loop {
            tokio::select! {
                // First: a request that has arrived is answered before the connection is told to end.
                biased;
                // A client that broke the protocol or went away is no news.
                _ = &mut serving => break,
                () = connection.told.notified() => {
                    let orders = connection.orders.swap(0, Ordering::Acquire);
                    // What it waited for may have arrived since it was looked at.
                    let is_overdue = orders & OVERDUE != 0 && connection.is_overdue(&self.clock);
                    if is_overdue || orders & CUT != 0 {
                        break;
                    }
                    if orders & FINISH == 0 {
                        continue;
                    }
                    if connection.phase.load(Ordering::Relaxed) == FRESH {
                        // Its request is on its way: closed now, it would be reset.
                        let arriving = tokio::time::timeout(FIRST_WITHIN, &mut serving);
                        if arriving.await.is_ok() {
                            break;
                        }
                    }
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
        self.load.connections.dec();
        self.lock().remove(&id);
    }

    async fn respond(
        &self,
        request: hyper::Request<Incoming>,
        local: SocketAddr,
        peer: SocketAddr,
        hurry: &Notify,
    ) -> poem::Response {
        let _under_way = UnderWay::enter(&self.requests);
        let mut response = if self.requests.load(Ordering::Relaxed) > MAX_REQUESTS {
            self.load.shed.inc();
            unavailable()
        } else {
            let local = LocalAddr(Addr::SocketAddr(local));
            let peer = RemoteAddr(Addr::SocketAddr(peer));
            let request = (request, local, peer, Scheme::HTTP).into();
            tokio::select! {
                biased;
                response = self.endpoint.call(request) => match response {
                    Ok(response) => response.into_response(),
                    Err(error) => error.into_response(),
                },
                () = hurry.notified() => unavailable(),
            }
        };
        if self.shutdown.is_cancelled() {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// 503 (RFC 9110, section 15.6.4).
fn unavailable() -> poem::Response {
    poem::http::StatusCode::SERVICE_UNAVAILABLE
        .with_header("Retry-After", "1")
        .into_response()
}

/// Counts a request until it is answered or its connection is gone.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that tells when a request begins to arrive.
struct WatchedStream {
    stream: TcpStream,
    connection: Arc<Connection>,
    clock: Arc<Clock>,
    /// Head and body of a small answer.
    glued: Vec<u8>,
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let phase = self.connection.phase.load(Ordering::Relaxed);
        if polled.is_ready() && phase == IDLE {
            self.connection.enter(HEAD, &self.clock);
        } else if polled.is_ready() && phase == FRESH {
            // Its time runs from the connection on.
            self.connection.phase.store(HEAD, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().map(|buf| buf.len()).sum::<usize>() > GLUE_UP_TO {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let Self { stream, glued, .. } = &mut *self;
        glued.clear();
        bufs.iter().for_each(|buf| glued.extend_from_slice(buf));
        Pin::new(stream).poll_write(cx, glued)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use poem::endpoint::make;
    use poem::http::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    const SHED_WITHIN: Duration = Duration::from_secs(1);

    async fn ask(addr: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn too_many_requests_are_shed_at_once_and_those_under_way_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let go_on = Arc::new(Semaphore::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let endpoint = make({
            let (go_on, waiting) = (Arc::clone(&go_on), Arc::clone(&waiting));
            move |_| {
                let (go_on, waiting) = (Arc::clone(&go_on), Arc::clone(&waiting));
                async move {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    let _ = go_on.acquire().await;
                    StatusCode::OK
                }
            }
        });
        let (load, shutdown) = (Load::new(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, endpoint, load.clone(), shutdown.clone()));

        let mut under_way = Vec::new();
        for _ in 0..MAX_REQUESTS {
            under_way.push(ask(addr).await);
        }
        while waiting.load(Ordering::Relaxed) < MAX_REQUESTS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..20 {
            let answering = answer(ask(addr).await);
            let answer = tokio::time::timeout(SHED_WITHIN, answering).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
        }
        assert_eq!(load.shed.get(), 20);

        go_on.close();
        for stream in under_way {
            let answer = answer(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        shutdown.cancel();
        serving.await.unwrap();
    }
}
