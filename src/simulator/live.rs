//! What changed, told as it happens: server-sent events at `/_sim/events`.
//!
//! An event says how far each list has come, and the reader fetches what is new. All readers share that
//! one value: a slow one misses steps and never the end, keeps nothing in memory and holds nobody up.
//! No stream lives long, and the connection loop cuts off whoever does not read, so that none is kept
//! for ever; an `EventSource` comes back by itself.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use futures_util::stream;
use poem::http::StatusCode;
use poem::{Body, Response};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::http;
use super::platform::Platform;

/// More open streams than this are refused; their pages ask again and again instead.
const MAX_STREAMS: usize = 64;
/// Shorter than the connection loop allows a connection to be silent or to lag behind.
const STREAM_FOR: Duration = Duration::from_secs(60);
/// A line now and then shows whether the reader is still there.
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// Between two events: under load one tells of many changes.
const PAUSE: Duration = Duration::from_millis(50);

/// How far everything has come. Each number only grows, until a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) resets: u64,
    pub(crate) chat: u64,
    pub(crate) pushes: u64,
    pub(crate) requests: u64,
    pub(crate) jssdk: u64,
    pub(crate) oauth: u64,
    /// Account, fans, faults and clock, as `/_sim` changed them.
    pub(crate) settings: u64,
}

/// Tells readers of changes.
pub(crate) struct Live {
    latest: watch::Sender<Revision>,
    places: Arc<Semaphore>,
}

/// The locked platform; what changed meanwhile is told when it is let go.
pub(crate) struct Watched<'a> {
    platform: MutexGuard<'a, Platform>,
    live: &'a Live,
}

struct Reader {
    latest: watch::Receiver<Revision>,
    closing: CancellationToken,
    until: Instant,
    told_at: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self {
            latest: watch::Sender::default(),
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    pub(crate) fn watch<'a>(&'a self, platform: MutexGuard<'a, Platform>) -> Watched<'a> {
        Watched {
            platform,
            live: self,
        }
    }

    /// `GET /_sim/events`: the revision now, and after each change.
    pub(crate) fn answer(&self, closing: CancellationToken) -> Response {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = json!({"error": "too many open streams: ask for the lists instead"});
            return http::json(StatusCode::SERVICE_UNAVAILABLE, &why);
        };
        let mut latest = self.latest.subscribe();
        latest.mark_changed();
        let reader = Reader {
            latest,
            closing,
            until: Instant::now() + STREAM_FOR,
            told_at: None,
            _place: place,
        };
        let events = stream::unfold(reader, |mut reader| async {
            let event = reader.next().await?;
            Some((Ok::<_, std::io::Error>(event), reader))
        });
        http::answer(
            StatusCode::OK,
            "text/event-stream; charset=utf-8",
            Body::from_bytes_stream(events),
        )
    }
}

impl Reader {
    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        if let Some(told_at) = self.told_at {
            sleep_until(told_at + PAUSE).await;
        }
        let beat = Instant::now() + BEAT_EVERY;
        let changed = tokio::select! {
            changed = self.latest.changed() => Some(changed.ok()?),
            () = sleep_until(beat) => None,
            () = sleep_until(self.until) => return None,
            () = self.closing.cancelled() => return None,
        };
        let is_first = self.told_at.replace(Instant::now()).is_none();
        let retry = if is_first { "retry: 1000\n" } else { "" };
        Some(match changed {
            Some(()) => {
                let revision = self.latest.borrow_and_update().to_json();
                format!("{retry}event: revision\ndata: {revision}\n\n")
            }
            None => ":\n\n".to_owned(),
        })
    }
}

impl Revision {
    pub(crate) fn of(platform: &Platform) -> Self {
        Self {
            resets: platform.resets,
            chat: platform.chat.last_id(),
            pushes: platform.pushes.revision()
                + platform.under_way.revision()
                + platform.sends.revision(),
            requests: platform.requests.revision(),
            jssdk: platform.jssdk.revision(),
            oauth: platform.oauth.revision(),
            settings: platform.settings,
        }
    }

    pub(crate) fn to_json(self) -> serde_json::Value {
        json!({
            "resets": self.resets,
            "chat": self.chat,
            "pushes": self.pushes,
            "requests": self.requests,
            "jssdk": self.jssdk,
            "oauth": self.oauth,
            "settings": self.settings,
        })
    }
}

impl Deref for Watched<'_> {
    type Target = Platform;

    fn deref(&self) -> &Platform {
        &self.platform
    }
}

impl DerefMut for Watched<'_> {
    fn deref_mut(&mut self) -> &mut Platform {
        &mut self.platform
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let now = Revision::of(&self.platform);
        self.live.latest.send_if_modified(|told| {
            let is_news = *told != now;
            *told = now;
            is_news
        });
    }
}
