//! Rules in service: they answer messages, and are read again when their file changes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::condition::Subject;
use super::file::{Reading, read};
use super::template::Values;
use super::uploads::Uploads;
use super::watch::Watch;
use super::{Fault, Rulebook, join};
use crate::api::{Client, Skew};
use crate::bot::{BotError, Context};
use crate::store::{Store, StoreError, StoredUser};
use crate::telemetry::metrics::RuleMetrics;
use crate::wechat::Reply;

/// Reading a profile on the way to an answer.
const STORE_WITHIN: Duration = Duration::from_millis(1_200);
/// How often files are looked at that may have to be uploaded again.
const MAKE_READY_EVERY: Duration = Duration::from_secs(600);
/// Faults of one reading that are logged; `rules check` tells them all.
const MOST_LOGGED: usize = 20;

/// The rules of the file at `REPLIES`. A message is answered by the rules that were in service when it
/// came; a file that is broken leaves the last good one in service.
pub(crate) struct Rules {
    path: PathBuf,
    book: RwLock<Arc<Rulebook>>,
    watch: Watch,
    uploads: Uploads,
    metrics: RuleMetrics,
    changed: Notify,
}

/// What rules in service need.
pub(crate) struct Parts {
    pub(crate) path: PathBuf,
    pub(crate) api: Client,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) skew: Arc<Skew>,
    pub(crate) metrics: RuleMetrics,
    /// What the end of the process waits for.
    pub(crate) tasks: TaskTracker,
}

impl Rules {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub(crate) fn load(parts: Parts) -> Result<Arc<Self>, Vec<Fault>> {
        let watch = Watch::of(&parts.path);
        let reading = read(&parts.path);
        let watch = watch.turn_to(&parts.path, &reading.named);
        log_warnings(&reading);
        let book = reading.rules?;
        Ok(Arc::new(Self {
            uploads: Uploads::new(parts.api, parts.store, parts.skew, parts.tasks),
            path: parts.path,
            book: RwLock::new(Arc::new(book)),
            watch,
            metrics: parts.metrics,
            changed: Notify::new(),
        }))
    }

    /// What the rules say to a message; `None` where they leave it to others.
    ///
    /// # Errors
    ///
    /// A file can't be uploaded.
    pub(crate) async fn answer(&self, ctx: &Context) -> Result<Option<Reply>, BotError> {
        let book = self.book();
        let decision = book.decide(&Subject::new(ctx.message()), |_, _| {});
        for fitting in decision.fitting() {
            self.metrics.count_fit(&fitting.rule.label());
        }
        let saying = decision.saying();
        if saying.is_empty() {
            return Ok(None);
        }
        let user = if saying.iter().any(|(_, saying)| saying.needs_user()) {
            user(ctx).await
        } else {
            None
        };
        let mut replies = Vec::with_capacity(saying.len());
        for (fitting, saying) in saying {
            let values = Values {
                message: ctx.message(),
                captures: &fitting.captures,
                user: user.as_ref(),
            };
            let media_id = match saying.file() {
                Some(file) => {
                    let media_id = self.uploads.media_id(file).await;
                    Some(media_id.map_err(|error| format!("{}: {error}", fitting.rule))?)
                }
                None => None,
            };
            let chance = rand::random_range(0..saying.choices().max(1));
            replies.push(saying.say(&values, media_id.as_deref(), chance));
        }
        Ok(Some(join(replies)))
    }

    /// The id to use in place of one that the platform no longer knows (40007), if it was a file of the
    /// rules: the file is uploaded again.
    pub(crate) async fn renew_media(&self, media_id: &str) -> Option<String> {
        self.uploads.renew(media_id).await
    }

    /// Looks after the rules until the tasks are dropped: reads the file again when it changes, and
    /// uploads what rules send before it is needed.
    pub(crate) fn look_after(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(self).reload_on_change());
        tasks.spawn(Arc::clone(self).keep_ready());
        tasks
    }

    fn book(&self) -> Arc<Rulebook> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&book)
    }

    async fn reload_on_change(self: Arc<Self>) {
        let mut watch = self.watch.clone();
        loop {
            watch = watch.changed().await;
            let path = self.path.clone();
            let reading = tokio::task::spawn_blocking(move || read(&path)).await;
            let Ok(reading) = reading else {
                // Only a process that ends gives no answer.
                return;
            };
            watch = watch.turn_to(&self.path, &reading.named);
            log_warnings(&reading);
            match reading.rules {
                Ok(book) => self.put_in_service(book),
                Err(faults) => {
                    self.metrics.count_reload("failed");
                    for fault in faults.iter().take(MOST_LOGGED) {
                        tracing::error!("{fault}");
                    }
                    tracing::error!(
                        faults = faults.len(),
                        "the rules were not read again: the last good ones stay in service"
                    );
                }
            }
        }
    }

    fn put_in_service(&self, book: Rulebook) {
        self.metrics.count_reload("ok");
        tracing::info!("the rules were read again: {book}");
        let labels = |book: &Rulebook| book.rules.iter().map(super::Rule::label).collect();
        let (before, after): (Vec<String>, Vec<String>) = (labels(&self.book()), labels(&book));
        for gone in before.iter().filter(|label| !after.contains(label)) {
            self.metrics.forget(gone);
        }
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
        self.changed.notify_one();
    }

    async fn keep_ready(self: Arc<Self>) {
        loop {
            self.uploads.make_ready(&self.book().files).await;
            let pause = MAKE_READY_EVERY.mul_f64(rand::random_range(0.5..1.5));
            let _ = tokio::time::timeout(pause, self.changed.notified()).await;
        }
    }
}

/// What is stored of the sender. Without it a text has what it says for those who never signed in.
async fn user(ctx: &Context) -> Option<StoredUser> {
    let reading = tokio::time::timeout(STORE_WITHIN, ctx.store().user(ctx.sender())).await;
    match reading.unwrap_or(Err(StoreError::Timeout)) {
        Ok(user) => user,
        Err(error) => {
            tracing::warn!(%error, "answering without the user's profile");
            None
        }
    }
}

fn log_warnings(reading: &Reading) {
    for warning in reading.warnings.iter().take(MOST_LOGGED) {
        tracing::warn!("{warning}");
    }
}
