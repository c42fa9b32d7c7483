//! The thread that owns one loaded backend: load, score batches, and load again when the device is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rerank_core::{Backend, BackendError, BackendFactory, BackendInfo, RowLimits, TokenBatch};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::engine::{Shared, Workers};
use crate::request::Pending;
use crate::telemetry::BatchRecord;
use crate::{BatchPolicy, EngineError, Pick};

pub(crate) const THREADS: &str = "the operating system grants a few threads at start";
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) factory: &'static dyn BackendFactory,
    pub(crate) limits: RowLimits,
    pub(crate) shared: Arc<Shared>,
}

/// Why a worker stopped serving.
enum Stop {
    Closed,
    Lost(String),
}

/// Counts a worker among those that do what it does, until it is dropped.
struct Counted<'a> {
    workers: &'a watch::Sender<Workers>,
    among: fn(&mut Workers) -> &mut usize,
}

impl<'a> Counted<'a> {
    fn enter(workers: &'a watch::Sender<Workers>, among: fn(&mut Workers) -> &mut usize) -> Self {
        workers.send_modify(|workers| *among(workers) += 1);
        Self { workers, among }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.workers.send_modify(|workers| *(self.among)(workers) -= 1);
    }
}

impl Worker {
    pub(crate) fn spawn(self) -> JoinHandle<()> {
        let name = format!("rerank-{}-{}", self.factory.name(), self.index);
        std::thread::Builder::new().name(name).spawn(move || self.run()).expect(THREADS)
    }

    fn run(self) {
        let mut retry = FIRST_RETRY;
        let mut loaded_before = false;
        loop {
            let loading = Counted::enter(&self.shared.workers, |workers| &mut workers.loading);
            match self.load() {
                Ok(backend) => {
                    let _serving = Counted::enter(&self.shared.workers, |workers| &mut workers.serving);
                    drop(loading);
                    // Moved to be dropped first: whoever waits for the workers wants the backend gone.
                    let mut backend = backend;
                    (retry, loaded_before) = (FIRST_RETRY, true);
                    self.shared.worker_up(backend.info(), self.policy(backend.info()));
                    match self.serve(&mut *backend) {
                        Stop::Closed => return,
                        Stop::Lost(reason) => {
                            error!(worker = self.index, reason, "the backend is lost, loading it again");
                            self.shared.worker_down(&reason);
                        }
                    }
                }
                Err(error) if !loaded_before => {
                    self.shared.first_load_failed(error.into());
                    return;
                }
                Err(error) => {
                    warn!(worker = self.index, %error, "loading again failed, next try in {} s", retry.as_secs());
                    if self.shared.queue.wait_closed(retry) {
                        return;
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn load(&self) -> Result<Box<dyn Backend>, BackendError> {
        let started = Instant::now();
        self.shared.spec.refuse_unknown_options(self.factory)?;
        let mut backend = guard(|| self.factory.load(&self.shared.spec))?;
        if self.shared.options.warm_up {
            let policy = self.policy(backend.info());
            let len = self.limits.max_length.min(128);
            let rows = (policy.max_tokens / len).min(policy.max_rows).clamp(1, 32);
            for rows in [1, rows] {
                guard(|| backend.warm_up(&TokenBatch::filler(self.limits, rows, len)?)).map_err(
                    |error| match error {
                        BackendError::OutOfMemory { .. } => BackendError::load(format!(
                            "no memory is left to warm up with {rows} rows of {len} tokens: lower --max-batch-tokens, or choose \
                             a smaller dtype or model"
                        )),
                        other => other,
                    },
                )?;
            }
        }
        info!(worker = self.index, seconds = started.elapsed().as_secs_f64(), "loaded");
        Ok(backend)
    }

    fn policy(&self, info: &BackendInfo) -> BatchPolicy {
        let options = &self.shared.options;
        BatchPolicy::new(info, options.max_batch_tokens, options.max_batch_rows, options.look_ahead)
    }

    fn serve(&self, backend: &mut dyn Backend) -> Stop {
        while let Some(mut picks) = self.shared.queue.next() {
            let started = Instant::now();
            let Some(batch) = self.assemble(&mut picks, started) else { continue };
            let answer = score(backend, &batch);
            let finished = Instant::now();
            let shape = batch.shape();
            self.shared.telemetry.batch(&BatchRecord {
                worker: self.index,
                rows: shape.rows,
                tokens: shape.tokens,
                computed_tokens: backend.info().computed_tokens(shape),
                busy: finished - started,
            });
            match answer {
                Ok(logits) => deliver(&picks, &logits, finished),
                Err(error) => {
                    let lost = matches!(error, BackendError::DeviceLost { .. }).then(|| error.to_string());
                    error!(worker = self.index, %error, rows = shape.rows, tokens = shape.tokens, "a batch failed");
                    fail(&picks, &error.into());
                    if let Some(reason) = lost {
                        return Stop::Lost(reason);
                    }
                }
            }
        }
        Stop::Closed
    }

    /// Copies the picked rows into one batch. A row that the model cannot take fails its own request and is left out.
    fn assemble(&self, picks: &mut Vec<Pick<Arc<Pending>>>, now: Instant) -> Option<TokenBatch> {
        let mut builder = TokenBatch::builder(self.limits);
        picks.retain(|pick| {
            let rows = pick.request.rows();
            match builder.push(rows.ids(pick.row), rows.type_ids(pick.row)) {
                Ok(()) => {
                    pick.request.started(now);
                    true
                }
                Err(error) => {
                    pick.request.fail(error.into());
                    false
                }
            }
        });
        builder.finish().ok()
    }
}

/// Scores a batch; one that does not fit is halved, once.
fn score(backend: &mut dyn Backend, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
    match score_whole(backend, batch) {
        Err(BackendError::OutOfMemory { shape }) => {
            let Some((first, second)) = batch.halves() else {
                return Err(BackendError::OutOfMemory { shape });
            };
            warn!(rows = shape.rows, tokens = shape.tokens, "out of memory, scoring the batch in two halves");
            let mut logits = score_whole(backend, &first)?;
            logits.extend(score_whole(backend, &second)?);
            Ok(logits)
        }
        answer => answer,
    }
}

fn score_whole(backend: &mut dyn Backend, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
    let logits = guard(|| backend.score(batch))?;
    if logits.len() != batch.rows() {
        return Err(BackendError::inference(format!(
            "the backend answered {} logits for {} rows",
            logits.len(),
            batch.rows()
        )));
    }
    Ok(logits)
}

/// Runs backend code; a panic leaves its state unknown, so it counts as a lost device.
fn guard<T>(call: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(BackendError::DeviceLost { what: format!("the backend panicked: {message}"), source: None })
    })
}

/// Hands every request its logits. One that is not finite fails its own request, not its neighbours'.
fn deliver(picks: &[Pick<Arc<Pending>>], logits: &[f32], now: Instant) {
    let answered: Vec<(&Pick<Arc<Pending>>, f32)> = picks.iter().zip(logits.iter().copied()).collect();
    let mut run = Vec::new();
    for group in answered.chunk_by(|a, b| Arc::ptr_eq(&a.0.request, &b.0.request)) {
        let pending = &group[0].0.request;
        if let Some((pick, logit)) = group.iter().find(|(_, logit)| !logit.is_finite()) {
            pending.fail(EngineError::from(BackendError::inference(format!(
                "the logit of document {} is {logit}",
                pick.row
            ))));
            continue;
        }
        run.clear();
        run.extend(group.iter().map(|&(pick, logit)| (pick.row, logit)));
        pending.scored(&run, now);
    }
}

fn fail(picks: &[Pick<Arc<Pending>>], error: &EngineError) {
    for pick in picks {
        pick.request.fail(error.clone());
    }
}
