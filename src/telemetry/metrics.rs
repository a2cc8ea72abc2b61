//! The metrics of `GET /metrics`, in a registry of the application's own.
//!
//! One small struct per concern, handed to the part that it measures.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::api::ApiError;
use crate::server::Load;
use crate::token::Kind;

/// What [`MessageMetrics::count_delivery`] counts.
const ANSWERS: &[&str] = &["reply", "success", "thinking", "held", "abandoned", "shed"];
/// What [`MessageMetrics::count_repeat`] counts.
const FOUND: &[&str] = &["joined", "kept", "twice"];
/// What [`MessageMetrics::count_late`] counts.
const STEPS: &[&str] = &["customer_service", "kept", "given", "dropped"];
/// What [`MessageMetrics::count_refused`] counts.
const REFUSALS: &[&str] = &[
    "query",
    "signature",
    "stale",
    "not_encrypted",
    "encrypted",
    "decryption",
    "envelope",
    "replay",
    "malformed",
];
/// What [`CustomerServiceMetrics::count`] counts.
const SENDINGS: &[&str] = &[
    "sent",
    "refused_window",
    "refused_count",
    "not_allowed",
    "unsendable",
    "failed",
    "unclear",
];
/// What [`ForwardMetrics::count_call`] counts: three kinds of answers, then the failures.
const FORWARDED: &[&str] = &[
    "reply",
    "nothing",
    "later",
    "unreachable",
    "unavailable",
    "crowded",
    "timeout",
    "tls",
    "broken",
    "redirect",
    "loop",
    "status",
    "too_large",
    "not_json",
    "bad_json",
    "bad_reply",
];
/// What [`ForwardMetrics::count_retry`] and [`ForwardMetrics::count_dead_letter`] count.
const FORWARD_FAILURES: &[&str] = FORWARDED.split_at(3).1;
/// What [`CredentialMetrics::count_refresh`] and [`RuleMetrics::count_reload`] count.
const RENEWALS: &[&str] = &["ok", "failed"];
/// What [`AuditMetrics::count`] counts.
const ENTRIES: &[&str] = &["written", "lost"];

/// All metrics of one application.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages and their handling.
    pub messages: MessageMetrics,
    /// Customer-service messages.
    pub customer_service: CustomerServiceMetrics,
    /// The rules of `REPLIES`.
    pub rules: RuleMetrics,
    /// Calls to the platform.
    pub api: ApiMetrics,
    /// Calls to `FORWARD_URL`.
    pub forward: ForwardMetrics,
    /// The token centre.
    pub credentials: CredentialMetrics,
    /// The audit list.
    pub audit: AuditMetrics,
    /// The store.
    pub store: StoreMetrics,
    /// The HTTP server.
    pub http: HttpMetrics,
    clock_skew: Gauge,
}

impl Metrics {
    /// Registers every family.
    ///
    /// # Errors
    ///
    /// Never, unless two families share a name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let build = IntGauge::with_opts(
            Opts::new("offiaccount_build_info", "1, labelled with the version.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        let clock_skew = Gauge::new(
            "offiaccount_clock_skew_seconds",
            "WeChat's clock less this machine's, by the Date of its answers.",
        )?;
        registry.register(Box::new(clock_skew.clone()))?;
        Ok(Self {
            messages: MessageMetrics::register(&registry)?,
            customer_service: CustomerServiceMetrics::register(&registry)?,
            rules: RuleMetrics::register(&registry)?,
            api: ApiMetrics::register(&registry)?,
            forward: ForwardMetrics::register(&registry)?,
            credentials: CredentialMetrics::register(&registry)?,
            audit: AuditMetrics::register(&registry)?,
            store: StoreMetrics::register(&registry)?,
            http: HttpMetrics::register(&registry)?,
            clock_skew,
            registry,
        })
    }

    /// The Prometheus text, version 0.0.4.
    ///
    /// # Errors
    ///
    /// When a family has no samples of its own kind, which the registry rules out.
    pub fn encode(&self, skew_seconds: Option<i64>) -> prometheus::Result<String> {
        if let Some(seconds) = skew_seconds {
            // A skew is far below 2^52 seconds.
            #[expect(
                clippy::cast_precision_loss,
                reason = "a skew is far below 2^52 seconds"
            )]
            self.clock_skew.set(seconds as f64);
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// A counter with one label, whose values are all known. Each is there from the start, at zero: of a
/// series that begins with its first count Prometheus sees no increase, and an alarm would miss it.
#[derive(Clone, Debug)]
struct Words {
    counter: IntCounterVec,
    known: &'static [&'static str],
}

impl Words {
    fn register(
        registry: &Registry,
        name: &str,
        help: &str,
        label: &str,
        known: &'static [&'static str],
    ) -> prometheus::Result<Self> {
        let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
        for word in known {
            counter.with_label_values(&[word]);
        }
        registry.register(Box::new(counter.clone()))?;
        Ok(Self { counter, known })
    }

    fn count(&self, word: &str) {
        self.count_many(word, 1);
    }

    fn count_many(&self, word: &str, times: u64) {
        debug_assert!(
            self.known.contains(&word),
            "{word} is not in {:?}",
            self.known
        );
        self.counter.with_label_values(&[word]).inc_by(times);
    }
}

/// How messages end.
#[derive(Clone, Debug)]
pub struct MessageMetrics {
    handled: IntCounterVec,
    seconds: HistogramVec,
    deliveries: Words,
    repeats: Words,
    late: Words,
    refused: Words,
    panics: IntCounter,
    in_progress: IntGaugeVec,
}

impl MessageMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            handled: IntCounterVec::new(
                Opts::new(
                    "offiaccount_messages_total",
                    "Messages handled, by kind and outcome.",
                ),
                &["kind", "outcome"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "offiaccount_message_seconds",
                    "Time of handlers, by kind. WeChat waits 5 s for an answer, three times.",
                )
                .buckets(vec![
                    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 4.5, 5.0, 10.0, 14.5, 30.0, 60.0,
                ]),
                &["kind"],
            )?,
            deliveries: Words::register(
                registry,
                "offiaccount_deliveries_total",
                "Deliveries, by what each was answered.",
                "answer",
                ANSWERS,
            )?,
            repeats: Words::register(
                registry,
                "offiaccount_deliveries_repeated_total",
                "Deliveries of a message that was delivered before, by what they found.",
                "found",
                FOUND,
            )?,
            late: Words::register(
                registry,
                "offiaccount_late_answers_total",
                "Answers that no delivery of their message carried, by the step that they took.",
                "step",
                STEPS,
            )?,
            refused: Words::register(
                registry,
                "offiaccount_deliveries_refused_total",
                "Deliveries refused before any handling, by cause.",
                "cause",
                REFUSALS,
            )?,
            panics: IntCounter::new(
                "offiaccount_handler_panics_total",
                "Handlers that panicked.",
            )?,
            in_progress: IntGaugeVec::new(
                Opts::new(
                    "offiaccount_messages_in_progress",
                    "Messages at this instance that are being handled, or wait for their turn.",
                ),
                &["state"],
            )?,
        };
        registry.register(Box::new(this.handled.clone()))?;
        registry.register(Box::new(this.seconds.clone()))?;
        registry.register(Box::new(this.panics.clone()))?;
        registry.register(Box::new(this.in_progress.clone()))?;
        Ok(this)
    }

    /// Counts a handled message. `kind` is a `MsgType`, or `event` and the event's name, of the known ones.
    pub fn count_handled(&self, kind: &str, outcome: &'static str, elapsed: Duration) {
        self.handled.with_label_values(&[kind, outcome]).inc();
        self.seconds
            .with_label_values(&[kind])
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a delivery by its answer: `reply`, `success`, `thinking`, `held` for none, so that the
    /// platform delivers again, `abandoned` for 503 as no reply comes from here, `shed` for too many.
    pub fn count_delivery(&self, answer: &'static str) {
        self.deliveries.count(answer);
    }

    /// Counts a delivery that was not the message's first: it `joined` the running handler, or got the
    /// `kept` reply.
    pub fn count_repeat(&self, how: &'static str) {
        self.repeats.count(how);
    }

    /// Counts an answer that no delivery of its message carried, by the step that it took.
    pub fn count_late(&self, step: &'static str) {
        self.late.count(step);
    }

    /// Counts a delivery that was refused.
    pub fn count_refused(&self, cause: &'static str) {
        self.refused.count(cause);
    }

    /// Counts a handler's panic.
    pub fn count_panic(&self) {
        self.panics.inc();
    }

    /// Sets the gauges of messages that are `handled` at the moment, and of those `waiting` behind one
    /// of the same user.
    pub fn set_in_progress(&self, handled: usize, waiting: usize) {
        for (state, messages) in [("handled", handled), ("waiting", waiting)] {
            self.in_progress
                .with_label_values(&[state])
                .set(i64::try_from(messages).unwrap_or(i64::MAX));
        }
    }
}

/// Customer-service messages.
#[derive(Clone, Debug)]
pub struct CustomerServiceMetrics {
    messages: Words,
}

impl CustomerServiceMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let messages = Words::register(
            registry,
            "offiaccount_customer_service_messages_total",
            "Customer-service messages, by outcome. Refused and not allowed: mostly before any call.",
            "outcome",
            SENDINGS,
        )?;
        Ok(Self { messages })
    }

    /// Counts a message: `sent`; `refused_window` or `refused_count` by the user's windows,
    /// `not_allowed` to the account, `unsendable` by its kind; `failed`, or `unclear` without an answer.
    pub fn count(&self, outcome: &'static str) {
        self.messages.count(outcome);
    }
}

/// The rules of `REPLIES`.
#[derive(Clone, Debug)]
pub struct RuleMetrics {
    fits: IntCounterVec,
    reloads: Words,
}

impl RuleMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            fits: IntCounterVec::new(
                Opts::new(
                    "offiaccount_rule_fits_total",
                    "Messages that a rule fitted, by the rule's name or number.",
                ),
                &["rule"],
            )?,
            reloads: Words::register(
                registry,
                "offiaccount_rules_reloads_total",
                "Changes of the file of rules: ok, or failed and the last good rules stayed.",
                "outcome",
                RENEWALS,
            )?,
        };
        registry.register(Box::new(this.fits.clone()))?;
        Ok(this)
    }

    /// Counts a message that a rule fitted. The rules are those of one file, so their names are few.
    pub fn count_fit(&self, rule: &str) {
        self.fits.with_label_values(&[rule]).inc();
    }

    /// Lets go of a rule that is gone from the file.
    pub fn forget(&self, rule: &str) {
        // It may never have fitted.
        let _ = self.fits.remove_label_values(&[rule]);
    }

    /// Counts a change of the file: `ok` or `failed`.
    pub fn count_reload(&self, outcome: &'static str) {
        self.reloads.count(outcome);
    }
}

/// Calls to the platform.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
}

impl ApiMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            calls: IntCounterVec::new(
                Opts::new(
                    "offiaccount_api_calls_total",
                    "Calls to WeChat, by path and errcode (or timeout, network, nonsense).",
                ),
                &["path", "errcode"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "offiaccount_api_seconds",
                    "Time of calls to WeChat, by path.",
                )
                .buckets(vec![
                    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0,
                ]),
                &["path"],
            )?,
        };
        registry.register(Box::new(this.calls.clone()))?;
        registry.register(Box::new(this.seconds.clone()))?;
        Ok(this)
    }

    /// Counts one call.
    pub fn observe(&self, path: &'static str, error: Option<&ApiError>, elapsed: Duration) {
        let errcode = match error {
            None => "0".to_owned(),
            Some(ApiError::Refused { errcode, .. }) => errcode.to_string(),
            Some(ApiError::Timeout) => "timeout".to_owned(),
            Some(ApiError::Unreachable(_) | ApiError::Network(_)) => "network".to_owned(),
            Some(ApiError::Nonsense(_)) => "nonsense".to_owned(),
            Some(ApiError::Store(_)) => "store".to_owned(),
        };
        self.calls.with_label_values(&[path, &errcode]).inc();
        self.seconds
            .with_label_values(&[path])
            .observe(elapsed.as_secs_f64());
    }
}

/// Calls to `FORWARD_URL`.
#[derive(Clone, Debug)]
pub struct ForwardMetrics {
    calls: Words,
    retries: Words,
    dead_letters: Words,
    seconds: Histogram,
}

impl ForwardMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            calls: Words::register(
                registry,
                "offiaccount_forward_calls_total",
                "Messages forwarded, by outcome: reply, nothing, later, or the cause of a failure.",
                "outcome",
                FORWARDED,
            )?,
            retries: Words::register(
                registry,
                "offiaccount_forward_retries_total",
                "Tries of a call that were followed by another, by cause.",
                "cause",
                FORWARD_FAILURES,
            )?,
            dead_letters: Words::register(
                registry,
                "offiaccount_dead_letters_total",
                "Messages that were forwarded in vain, by cause.",
                "cause",
                FORWARD_FAILURES,
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "offiaccount_forward_seconds",
                    "Time from forwarding a message to its answer, all tries together.",
                )
                .buckets(vec![
                    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 4.5, 10.0, 14.5, 30.0, 60.0,
                ]),
            )?,
        };
        registry.register(Box::new(this.seconds.clone()))?;
        Ok(this)
    }

    /// Counts a call that ended, by the word of its answer or its failure.
    pub fn count_call(&self, outcome: &'static str, elapsed: Duration) {
        self.calls.count(outcome);
        self.seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts a try that another follows.
    pub fn count_retry(&self, cause: &'static str) {
        self.retries.count(cause);
    }

    /// Counts a message that was forwarded in vain.
    pub fn count_dead_letter(&self, cause: &'static str) {
        self.dead_letters.count(cause);
    }
}

/// The token centre.
#[derive(Clone, Debug)]
pub struct CredentialMetrics {
    refreshes: IntCounterVec,
    expires_in: GaugeVec,
    age: GaugeVec,
}

impl CredentialMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            refreshes: IntCounterVec::new(
                Opts::new(
                    "offiaccount_credential_refreshes_total",
                    "Fetches of a credential, by outcome.",
                ),
                &["credential", "outcome"],
            )?,
            expires_in: GaugeVec::new(
                Opts::new(
                    "offiaccount_credential_expires_in_seconds",
                    "What is left of the life of the credential in use.",
                ),
                &["credential"],
            )?,
            age: GaugeVec::new(
                Opts::new(
                    "offiaccount_credential_age_seconds",
                    "Since this instance first saw the credential in use.",
                ),
                &["credential"],
            )?,
        };
        for kind in Kind::ALL {
            for outcome in RENEWALS {
                this.refreshes.with_label_values(&[kind.name(), outcome]);
            }
        }
        registry.register(Box::new(this.refreshes.clone()))?;
        registry.register(Box::new(this.expires_in.clone()))?;
        registry.register(Box::new(this.age.clone()))?;
        Ok(this)
    }

    /// Counts a fetch: `ok` or `failed`.
    pub fn count_refresh(&self, credential: &'static str, outcome: &'static str) {
        self.refreshes
            .with_label_values(&[credential, outcome])
            .inc();
    }

    /// Sets the gauges of a credential that is in use.
    pub fn set_life(&self, credential: &'static str, expires_in: Duration, age: Duration) {
        self.expires_in
            .with_label_values(&[credential])
            .set(expires_in.as_secs_f64());
        self.age
            .with_label_values(&[credential])
            .set(age.as_secs_f64());
    }
}

/// The audit list.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    uses: Words,
    failures: IntCounter,
}

impl AuditMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            uses: Words::register(
                registry,
                "offiaccount_audit_uses_total",
                "Uses of the management routes, by what became of their audit entry: written or lost.",
                "outcome",
                ENTRIES,
            )?,
            failures: IntCounter::new(
                "offiaccount_audit_write_failures_total",
                "Tries to write audit entries that failed; they are tried again.",
            )?,
        };
        registry.register(Box::new(this.failures.clone()))?;
        Ok(this)
    }

    /// Counts uses whose entry was `written` or `lost`.
    pub fn count(&self, outcome: &'static str, uses: u64) {
        self.uses.count_many(outcome, uses);
    }

    /// Counts a write that failed.
    pub fn count_failure(&self) {
        self.failures.inc();
    }
}

/// How long store operations take and how they end.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    latency: HistogramVec,
}

impl StoreMetrics {
    /// Registers the family `offiaccount_store_seconds`.
    ///
    /// # Errors
    ///
    /// When the registry holds a family of that name already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let latency = HistogramVec::new(
            HistogramOpts::new(
                "offiaccount_store_seconds",
                "Time of store operations, by operation and outcome.",
            )
            .buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.2, 5.0,
            ]),
            &["operation", "outcome"],
        )?;
        registry.register(Box::new(latency.clone()))?;
        Ok(Self { latency })
    }

    /// Counts one operation.
    pub fn observe(&self, operation: &'static str, outcome: &'static str, elapsed: Duration) {
        self.latency
            .with_label_values(&[operation, outcome])
            .observe(elapsed.as_secs_f64());
    }
}

/// The HTTP server.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    load: Load,
}

impl HttpMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "offiaccount_http_requests_total",
                    "HTTP requests, by route and status.",
                ),
                &["route", "status"],
            )?,
            load: Load::new(),
        };
        registry.register(Box::new(this.requests.clone()))?;
        registry.register(Box::new(this.load.connections.clone()))?;
        registry.register(Box::new(this.load.shed.clone()))?;
        Ok(this)
    }

    /// Counts an answered request. `route` is a path of the route table, never the request's own.
    pub fn count_request(&self, route: &'static str, status: u16) {
        self.requests
            .with_label_values(&[route, &status.to_string()])
            .inc();
    }

    /// What the connection loop counts.
    pub(crate) fn load(&self) -> Load {
        self.load.clone()
    }
}
