//! The engine's front: admits requests, hands them to the threads behind it, and says how they are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rerank_core::{BackendFactory, BackendInfo, LoadSpec, ModelConfig};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use crate::admission::Admission;
use crate::pool::TokenizerPool;
use crate::queue::Queue;
use crate::request::Pending;
use crate::telemetry::Sources;
use crate::worker::{THREADS, Worker};
use crate::{
    BatchPolicy, EngineError, EngineOptions, PairTokenizer, RerankRequest, ScoreRequest, Scored, Stage,
    Telemetry, Texts, Timeline, Truncation,
};

/// A running engine. Clones are handles to the same one; when the last is dropped, its threads end.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    pool: TokenizerPool,
    tokenizer: Arc<PairTokenizer>,
    /// Closed when the workers' threads have ended.
    workers_ended: watch::Receiver<()>,
}

/// What the engine's threads share.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    pub(crate) telemetry: Arc<Telemetry>,
    admission: Arc<Admission>,
    in_flight: AtomicUsize,
    health: Mutex<Health>,
    status: watch::Sender<Status>,
    /// Told whenever the last request in flight leaves.
    idle: watch::Sender<()>,
    pub(crate) workers: watch::Sender<Workers>,
    pub(crate) options: EngineOptions,
    pub(crate) spec: LoadSpec,
}

/// Workers by what they do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Workers {
    /// Without a backend: the first load, another, or the wait for it.
    pub(crate) loading: usize,
    /// With a backend.
    pub(crate) serving: usize,
}

#[derive(Default)]
struct Health {
    up: usize,
    loaded: bool,
    failed: Option<EngineError>,
    draining: bool,
    info: Option<EngineInfo>,
}

/// Whether the engine takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Workers are loading the model for the first time.
    Loading,
    /// At least one worker serves.
    Ready,
    /// No worker serves: the first load failed for good, or a lost backend is being loaded again.
    Unready {
        /// What happened.
        reason: String,
    },
    /// [`Engine::drain`] was called.
    Draining,
}

/// What really runs, as the loaded backend reported it.
#[derive(Clone, Debug, Serialize)]
pub struct EngineInfo {
    /// What reports call the model.
    pub model: String,
    /// SHA-256 of the model's weights as loaded.
    pub model_sha256: String,
    /// Size of the model's weights as stored, in bytes.
    pub model_bytes: u64,
    /// The model's sizes and kinds.
    pub config: ModelConfig,
    /// The longest row, in tokens.
    pub max_length: usize,
    /// What the backend chose.
    pub backend: BackendInfo,
    /// How the engine runs.
    pub options: EngineOptions,
}

impl Engine {
    /// Starts the engine's threads and returns at once; the workers load the model on theirs. See [`Engine::ready`].
    ///
    /// Options that cannot work together are [`EngineError::Options`].
    pub fn start(
        options: EngineOptions,
        factory: &'static dyn BackendFactory,
        spec: LoadSpec,
        tokenizer: PairTokenizer,
    ) -> Result<Self, EngineError> {
        let limits = tokenizer.limits();
        options.check(limits.max_length)?;
        if limits.max_length > spec.max_length {
            return Err(EngineError::options(format!(
                "the tokenizer makes rows of up to {} tokens, the model is loaded for {}",
                limits.max_length, spec.max_length
            )));
        }
        // Replaced by the backend's own layout when it is loaded; until then nothing is queued.
        let policy = BatchPolicy {
            max_tokens: options.max_batch_tokens,
            max_rows: options.max_batch_rows.unwrap_or(usize::MAX),
            look_ahead: options.look_ahead,
            layout: rerank_core::Layout::Packed,
            shapes: rerank_core::ShapePolicy::Dynamic,
        };
        let shared = Arc::new(Shared {
            queue: Queue::new(policy, options.max_wait),
            telemetry: Telemetry::new(options.workers),
            admission: Admission::new(options.queue_tokens),
            in_flight: AtomicUsize::new(0),
            health: Mutex::default(),
            status: watch::Sender::new(Status::Loading),
            idle: watch::Sender::new(()),
            workers: watch::Sender::default(),
            options,
            spec,
        });
        shared.telemetry.start_sampling(Arc::downgrade(&shared) as std::sync::Weak<dyn Sources>);
        let tokenizer = Arc::new(tokenizer);
        let pool = TokenizerPool::start(shared.options.tokenizer_threads, &tokenizer, &shared.queue);
        let workers = (0..shared.options.workers)
            .map(|index| Worker { index, factory, limits, shared: Arc::clone(&shared) }.spawn())
            .collect();
        let workers_ended = after(workers);
        Ok(Self { handle: Arc::new(Handle { shared, pool, tokenizer, workers_ended }) })
    }

    /// Waits until every worker has loaded the model, or one failed to: then its error. [`EngineError::Draining`] if the end
    /// came first.
    pub async fn ready(&self) -> Result<(), EngineError> {
        let mut status = self.shared().status.subscribe();
        // The sender lives in `self`, so the wait ends with a status.
        let _ = status.wait_for(|status| *status != Status::Loading).await;
        let health = self.shared().health();
        match &health.failed {
            Some(error) => Err(error.clone()),
            None if health.loaded => Ok(()),
            None => Err(EngineError::Draining),
        }
    }

    /// Whether requests are taken.
    pub fn status(&self) -> Status {
        self.shared().status.borrow().clone()
    }

    /// Requests inside: admitted or about to be, and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.shared().in_flight.load(Ordering::SeqCst)
    }

    /// Follows the status, for health services.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.shared().status.subscribe()
    }

    /// What really runs; `None` until the first worker has loaded.
    pub fn info(&self) -> Option<EngineInfo> {
        self.shared().health().info.clone()
    }

    /// Counters, histograms and one-second samples.
    pub fn telemetry(&self) -> &Telemetry {
        &self.shared().telemetry
    }

    /// The tokenizer, for counting tokens without scoring.
    pub fn tokenizer(&self) -> &PairTokenizer {
        &self.handle.tokenizer
    }

    /// Scores every document against the query. Dropping the future cancels what has not been computed.
    pub async fn rerank(&self, request: RerankRequest) -> Result<Scored, EngineError> {
        let RerankRequest { query, documents, truncation, deadline, timeline } = request;
        if query.is_empty() {
            return Err(EngineError::invalid("the query is empty"));
        }
        if documents.is_empty() {
            return Err(EngineError::invalid("there are no documents to rank"));
        }
        self.submit(Texts::Rerank { query, documents }, truncation, deadline, timeline).await
    }

    /// Scores arbitrary pairs. Dropping the future cancels what has not been computed.
    pub async fn score(&self, request: ScoreRequest) -> Result<Scored, EngineError> {
        let ScoreRequest { pairs, truncation, deadline, timeline } = request;
        if pairs.is_empty() {
            return Err(EngineError::invalid("there are no pairs to score"));
        }
        if let Some(index) = pairs.iter().position(|(query, _)| query.is_empty()) {
            return Err(EngineError::invalid(format!("the query of pair {index} is empty")));
        }
        self.submit(Texts::Pairs(pairs), truncation, deadline, timeline).await
    }

    /// Takes no new requests, waits for those in flight, and ends the workers. Returns when their threads have ended, since a
    /// backend's libraries may not survive that the process ends while it is being dropped. A load in progress, which may
    /// take minutes, is not waited for: then it returns when no worker holds a backend.
    pub async fn drain(&self) {
        let shared = self.shared();
        shared.health().draining = true;
        shared.status.send_replace(Status::Draining);
        let mut idle = shared.idle.subscribe();
        while shared.in_flight.load(Ordering::SeqCst) > 0 {
            // The sender lives in `self`; a missed notice cannot be: the count is read after subscribing.
            let _ = idle.changed().await;
        }
        shared.queue.close();
        let mut workers = shared.workers.subscribe();
        let mut ended = self.handle.workers_ended.clone();
        tokio::select! {
            // Nothing is ever sent: the wait ends with the sender.
            _ = ended.changed() => {}
            _ = workers.wait_for(|workers| workers.serving == 0 && workers.loading > 0) => {}
        }
    }

    async fn submit(
        &self,
        texts: Texts,
        truncation: Truncation,
        deadline: Option<Instant>,
        mut timeline: Timeline,
    ) -> Result<Scored, EngineError> {
        timeline.end(Stage::Parse);
        let shared = self.shared();
        let in_flight = InFlight::enter(shared, deadline);
        match &*shared.status.borrow() {
            Status::Ready => {}
            Status::Draining => return in_flight.leave(Err(EngineError::Draining)),
            Status::Loading => {
                let reason = "the model is loading".to_owned();
                return in_flight.leave(Err(EngineError::NotReady { reason }));
            }
            Status::Unready { reason } => {
                return in_flight.leave(Err(EngineError::NotReady { reason: reason.clone() }));
            }
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return in_flight.leave(Err(EngineError::DeadlineExceeded));
        }
        let bound = (0..texts.len())
            .map(|index| self.handle.tokenizer.bound(texts.query(index).len(), texts.document(index).len()))
            .sum();
        let Some(reservation) = shared.admission.admit(bound) else {
            return in_flight.leave(Err(EngineError::Overloaded { retry_after: shared.retry_after() }));
        };
        let (reply, answer) = oneshot::channel();
        self.handle.pool.submit(Pending::new(texts, truncation, deadline, timeline, reservation, reply));
        let answer = answer.await.unwrap_or_else(|_| {
            // Only a thread that died with the request in its hands drops it unanswered.
            let reason = "the request was lost with the thread that worked on it".to_owned();
            Err(EngineError::NotReady { reason })
        });
        in_flight.leave(answer)
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

/// A channel that closes when these threads have ended, thread-local destructors included.
fn after(threads: Vec<JoinHandle<()>>) -> watch::Receiver<()> {
    let (running, ended) = watch::channel(());
    let join = move || {
        for thread in threads {
            // A worker that panicked has ended too; its requests were told by what they wait on.
            let _ = thread.join();
        }
        drop(running);
    };
    std::thread::Builder::new().name("rerank-join".to_owned()).spawn(join).expect(THREADS);
    ended
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// Counts a request while it is inside. One that leaves without an answer was cancelled by its sender, unless its
/// deadline passed: then whoever kept the time answers, and counts.
struct InFlight<'a> {
    shared: &'a Shared,
    deadline: Option<Instant>,
    answered: bool,
}

impl<'a> InFlight<'a> {
    fn enter(shared: &'a Shared, deadline: Option<Instant>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { shared, deadline, answered: false }
    }

    fn leave<T>(mut self, answer: T) -> T {
        self.answered = true;
        answer
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.answered && self.deadline.is_none_or(|deadline| deadline > Instant::now()) {
            self.shared.telemetry.failed("cancelled");
        }
        if self.shared.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.idle.send_replace(());
        }
    }
}

impl Shared {
    pub(crate) fn worker_up(&self, backend: &BackendInfo, policy: BatchPolicy) {
        self.queue.worker_up(policy);
        let model = &self.spec.model;
        // Hashed before the lock is taken: a large checkpoint takes a while.
        let model_sha256 = model.weights.sha256().to_owned();
        let mut health = self.health();
        health.up += 1;
        health.info.get_or_insert_with(|| EngineInfo {
            model: model.name.clone(),
            model_sha256,
            model_bytes: model.weights.bytes(),
            config: model.config.clone(),
            max_length: self.spec.max_length,
            backend: backend.clone(),
            options: self.options.clone(),
        });
        // At first everything must stand; later, one worker is enough to serve.
        health.loaded |= health.up == self.options.workers;
        if health.loaded && health.failed.is_none() && !health.draining {
            self.status.send_replace(Status::Ready);
        }
    }

    pub(crate) fn worker_down(&self, reason: &str) {
        let mut health = self.health();
        health.up -= 1;
        if health.up == 0 && !health.draining {
            self.status.send_replace(Status::Unready { reason: reason.to_owned() });
        }
        drop(health);
        self.queue.worker_down(reason);
    }

    pub(crate) fn first_load_failed(&self, error: EngineError) {
        let mut health = self.health();
        let reason = error.to_string();
        health.failed.get_or_insert(error);
        if !health.draining {
            self.status.send_replace(Status::Unready { reason });
        }
    }

    /// How long what is admitted will take at the rate of the last seconds; a second where nothing is known.
    fn retry_after(&self) -> Duration {
        let rate = self.telemetry.recent_tokens_per_second();
        if rate <= 0.0 {
            return Duration::from_secs(1);
        }
        Duration::from_secs_f64((self.admission.taken() as f64 / rate).clamp(1.0, 60.0))
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sources for Shared {
    fn queued(&self) -> (usize, usize) {
        self.queue.depth()
    }

    fn admitted_tokens(&self) -> usize {
        self.admission.taken()
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}
