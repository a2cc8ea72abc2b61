//! Files of rules at the platform: uploaded when first needed, and again before their three days end.
//!
//! What was uploaded is remembered in the store under the digest of the bytes, so that no instance and no
//! restart uploads again what is still there. However many messages need a file at once, it goes up once.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::TaskTracker;

use super::media::{MediaFile, digest};
use crate::api::{
    ApiError, Class, Client, MediaKind, Skew, TEMPORARY_MEDIA_LIVES, UploadedMedia, advice,
};
use crate::store::{Digest, UploadStore, within};

/// One that lives no longer than this is not given to anybody.
const TOO_OLD_BELOW: Duration = Duration::from_secs(600);
/// One that lives no longer than this is uploaded again, while it is still in use.
const RENEW_BELOW: Duration = Duration::from_secs(12 * 3600);
/// After a refusal that waiting won't mend.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Ids of one file that are remembered: kept answers live for a week, uploads for three days.
const MOST_EARLIER: usize = 4;
/// Each store operation. Without the store a file is uploaded once more.
const STORE_WITHIN: Duration = Duration::from_millis(1_200);

type Upload = Arc<
    dyn Fn(MediaKind, String, Vec<u8>) -> BoxFuture<'static, Result<UploadedMedia, ApiError>>
        + Send
        + Sync,
>;

/// The files at the platform. Cheap to clone.
#[derive(Clone)]
pub(super) struct Uploads(Arc<Inner>);

struct Inner {
    upload: Upload,
    store: Arc<dyn UploadStore>,
    skew: Arc<Skew>,
    /// Seconds that the platform's clock is ahead of this machine's, as the last upload told.
    ahead_s: AtomicI64,
    known: Mutex<HashMap<Digest, Known>>,
    tasks: TaskTracker,
}

/// What is known here of one file.
struct Known {
    file: Arc<MediaFile>,
    uploaded: Option<Uploaded>,
    /// Ids of earlier uploads, the newest last: answers that were kept may still have them.
    earlier: Vec<String>,
    flight: Option<Flight>,
    failed: Option<(Instant, UploadError)>,
    /// The platform doesn't know it any more, whatever the store says.
    dead: Option<String>,
}

#[derive(Clone, Debug)]
struct Uploaded {
    media_id: String,
    until: Instant,
    /// The same on the platform's clock, Unix seconds.
    until_s: i64,
}

type Flight = Shared<BoxFuture<'static, Result<String, UploadError>>>;

/// Why a file can't be sent.
#[derive(Clone, Debug)]
pub(super) struct UploadError {
    file: String,
    cause: Cause,
}

#[derive(Clone, Debug)]
enum Cause {
    File(String),
    Api(ApiError),
    Stopped,
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` can't be uploaded: ", self.file)?;
        match &self.cause {
            Cause::File(error) => f.write_str(error),
            Cause::Api(error) => match error.errcode().and_then(advice) {
                Some(advice) => write!(f, "{error}: {advice}"),
                None => error.fmt(f),
            },
            Cause::Stopped => f.write_str("the process ends"),
        }
    }
}

impl std::error::Error for UploadError {}

impl UploadError {
    /// How long it is not tried again.
    fn holds_for(&self) -> Duration {
        match &self.cause {
            Cause::Api(error) if error.class() != Class::Retry => TRY_AGAIN_AFTER,
            _ => Duration::ZERO,
        }
    }
}

impl Uploads {
    pub(super) fn new(
        api: Client,
        store: Arc<dyn UploadStore>,
        skew: Arc<Skew>,
        tasks: TaskTracker,
    ) -> Self {
        let upload: Upload = Arc::new(move |kind, name, bytes| {
            let api = api.clone();
            Box::pin(async move { api.upload_media(kind, &name, bytes).await })
        });
        Self::through(upload, store, skew, tasks)
    }

    fn through(
        upload: Upload,
        store: Arc<dyn UploadStore>,
        skew: Arc<Skew>,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            upload,
            store,
            skew,
            ahead_s: AtomicI64::new(0),
            known: Mutex::default(),
            tasks,
        }))
    }

    /// The id under which the platform has the file; uploads it if need be.
    pub(super) async fn media_id(&self, file: &Arc<MediaFile>) -> Result<String, UploadError> {
        let flight = {
            let mut known = self.0.lock();
            let known = known
                .entry(file.digest)
                .or_insert_with(|| Known::new(Arc::clone(file)));
            // Of the platform's clock the store knows nothing.
            known.bury(|uploaded| self.0.left(uploaded) <= TOO_OLD_BELOW);
            if let Some(uploaded) = &known.uploaded {
                let media_id = uploaded.media_id.clone();
                if self.0.left(uploaded) < RENEW_BELOW && !known.has_failed() {
                    // It goes on by itself.
                    drop(self.fly(known, file));
                }
                return Ok(media_id);
            }
            if known.flight.is_none()
                && let Some((_, error)) = known.failed.as_ref().filter(|_| known.has_failed())
            {
                return Err(error.clone());
            }
            self.fly(known, file)
        };
        flight.await
    }

    /// Sees to it that all these files are at the platform, before anybody needs them.
    pub(super) async fn make_ready(&self, files: &[Arc<MediaFile>]) {
        for file in files {
            if let Err(error) = self.media_id(file).await {
                tracing::warn!("{error}");
            }
        }
    }

    /// The id to use in place of one that the platform no longer knows (40007), if a file of the rules
    /// was uploaded under it here.
    pub(super) async fn renew(&self, media_id: &str) -> Option<String> {
        let file = {
            let mut known = self.0.lock();
            let known = known.values_mut().find(|known| known.had(media_id))?;
            known.bury(|uploaded| uploaded.media_id == media_id);
            Arc::clone(&known.file)
        };
        match self.media_id(&file).await {
            Ok(media_id) => Some(media_id),
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        }
    }

    /// The flight that is under way, or a new one. It goes on whoever waits for it.
    fn fly(&self, known: &mut Known, file: &Arc<MediaFile>) -> Flight {
        if let Some(flight) = &known.flight {
            return flight.clone();
        }
        let (inner, owned) = (Arc::clone(&self.0), Arc::clone(file));
        let dead = known.dead.clone();
        let task = self.0.tasks.spawn(async move {
            let outcome = inner.obtain(&owned, dead.as_deref()).await;
            inner.land(&owned, outcome)
        });
        let stopped = UploadError {
            file: file.written.clone(),
            cause: Cause::Stopped,
        };
        let flight = async move { task.await.unwrap_or(Err(stopped)) };
        let flight = flight.boxed().shared();
        known.flight = Some(flight.clone());
        flight
    }
}

impl Known {
    fn new(file: Arc<MediaFile>) -> Self {
        Self {
            file,
            uploaded: None,
            earlier: Vec::new(),
            flight: None,
            failed: None,
            dead: None,
        }
    }

    fn had(&self, media_id: &str) -> bool {
        let uploaded = self.uploaded.iter().map(|uploaded| &uploaded.media_id);
        uploaded.chain(&self.earlier).any(|id| id == media_id)
    }

    /// Gives the upload up if it is dead.
    fn bury(&mut self, is_dead: impl Fn(&Uploaded) -> bool) {
        if let Some(uploaded) = self.uploaded.take_if(|uploaded| is_dead(uploaded)) {
            self.dead = Some(uploaded.media_id.clone());
            self.remember(uploaded.media_id);
        }
    }

    fn remember(&mut self, media_id: String) {
        if self.earlier.len() >= MOST_EARLIER {
            self.earlier.remove(0);
        }
        self.earlier.push(media_id);
    }

    fn has_failed(&self) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|(at, error)| at.elapsed() < error.holds_for())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The platform's clock, Unix seconds.
    fn now_s(&self) -> i64 {
        let told = unix_seconds().saturating_add(self.ahead_s.load(Ordering::Relaxed));
        self.skew.now().max(told)
    }

    /// What is left of its life by the clock on which less is.
    fn left(&self, uploaded: &Uploaded) -> Duration {
        let here = uploaded.until.saturating_duration_since(Instant::now());
        let there = uploaded.until_s.saturating_sub(self.now_s());
        here.min(Duration::from_secs(u64::try_from(there).unwrap_or(0)))
    }

    /// Notes how a flight ended.
    fn land(
        &self,
        file: &Arc<MediaFile>,
        outcome: Result<Uploaded, UploadError>,
    ) -> Result<String, UploadError> {
        let mut known = self.lock();
        let known = known
            .entry(file.digest)
            .or_insert_with(|| Known::new(Arc::clone(file)));
        known.flight = None;
        match outcome {
            Ok(uploaded) => {
                let media_id = uploaded.media_id.clone();
                if let Some(before) = known.uploaded.replace(uploaded) {
                    known.remember(before.media_id);
                }
                known.failed = None;
                known.dead = None;
                Ok(media_id)
            }
            Err(error) => {
                known.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Takes another's upload out of the store, or uploads.
    async fn obtain(
        &self,
        file: &Arc<MediaFile>,
        dead: Option<&str>,
    ) -> Result<Uploaded, UploadError> {
        let stored = match within(STORE_WITHIN, self.store.upload(&file.digest)).await {
            Ok(stored) => stored.filter(|(id, left)| Some(&**id) != dead && *left > TOO_OLD_BELOW),
            Err(error) => {
                tracing::debug!(%error, "the store can't tell whether a file was uploaded");
                None
            }
        };
        let stored = stored.map(|(media_id, left)| self.alive(media_id, left));
        if let Some(stored) = &stored
            && self.left(stored) >= RENEW_BELOW
        {
            return Ok(stored.clone());
        }
        match (self.upload(file).await, stored) {
            (Err(error), Some(stored)) => {
                tracing::warn!("{error}; its last upload is still good");
                Ok(stored)
            }
            (outcome, _) => outcome,
        }
    }

    async fn upload(&self, file: &Arc<MediaFile>) -> Result<Uploaded, UploadError> {
        let failed = |cause| UploadError {
            file: file.written.clone(),
            cause,
        };
        let reading = Arc::clone(file);
        let read = tokio::task::spawn_blocking(move || reading.bytes()).await;
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(failed(Cause::File(error.to_string()))),
            Err(_) => return Err(failed(Cause::Stopped)),
        };
        // It may have changed since the rules were read.
        let digest = digest(file.kind, &bytes);
        let uploaded = (self.upload)(file.kind, file.upload_name(), bytes)
            .await
            .map_err(|error| failed(Cause::Api(error)))?;
        tracing::info!(file = file.written, "uploaded a file of the rules");
        if let Ok(created_at) = i64::try_from(uploaded.created_at) {
            let ahead = created_at.saturating_sub(unix_seconds());
            self.ahead_s.store(ahead, Ordering::Relaxed);
        }
        let media_id = uploaded.media_id;
        let saving = self
            .store
            .save_upload(&digest, &media_id, TEMPORARY_MEDIA_LIVES);
        if let Err(error) = within(STORE_WITHIN, saving).await {
            tracing::debug!(%error, "an upload was not noted: another instance uploads again");
        }
        Ok(self.alive(media_id, TEMPORARY_MEDIA_LIVES))
    }

    fn alive(&self, media_id: String, left: Duration) -> Uploaded {
        Uploaded {
            media_id,
            until: Instant::now() + left,
            until_s: self.now_s().saturating_add(left.as_secs().cast_signed()),
        }
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests;
