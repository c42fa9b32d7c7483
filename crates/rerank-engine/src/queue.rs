//! Where rows wait for a worker: the batcher behind a lock, and condition variables to wake on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::request::Pending;
use crate::{BatchPolicy, Batcher, EngineError, Pick};

/// The queue between the tokenizer pool and the workers.
///
/// Workers pull: a batch is put together at the moment a worker is free, so that it holds everything that arrived by
/// then. An idle worker starts at once; batches grow only while all are busy, or for `max_wait` if an operator asks.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// For idle workers: there are rows, or it is over.
    wake: Condvar,
    /// For workers that sleep between loads. Apart from `wake`: a notice to one of them would be lost on it.
    end: Condvar,
    max_wait: Duration,
}

struct State {
    batcher: Batcher<Arc<Pending>>,
    /// Workers with a loaded backend. None: nothing is taken in.
    workers: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(policy: BatchPolicy, max_wait: Duration) -> Arc<Self> {
        let state = State { batcher: Batcher::new(policy), workers: 0, closed: false };
        Arc::new(Self { state: Mutex::new(state), wake: Condvar::new(), end: Condvar::new(), max_wait })
    }

    /// Appends a tokenised request.
    pub(crate) fn push(&self, pending: &Arc<Pending>) {
        let mut state = self.lock();
        if state.workers == 0 {
            drop(state);
            pending.fail(EngineError::NotReady { reason: "no worker has a loaded model".to_owned() });
            return;
        }
        state.batcher.push(Arc::clone(pending), pending.rows().lens());
        drop(state);
        self.wake.notify_one();
    }

    /// The next batch, when there is one; `None` once the queue is closed. Blocks.
    pub(crate) fn next(&self) -> Option<Vec<Pick<Arc<Pending>>>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let rejected = reject(&mut state.batcher);
            if !rejected.is_empty() {
                drop(state);
                for pending in rejected {
                    pending.fail(EngineError::DeadlineExceeded);
                }
                state = self.lock();
                continue;
            }
            let wait = match state.batcher.oldest() {
                None => None,
                Some(_) if state.batcher.is_full() => Some(Duration::ZERO),
                Some(oldest) => {
                    let queued = oldest.queued.get().expect("a request enters the queue with its time");
                    Some(self.max_wait.saturating_sub(queued.elapsed()))
                }
            };
            state = match wait {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let batch = state.batcher.next_batch();
                    if state.batcher.rows() > 0 {
                        self.wake.notify_one();
                    }
                    return Some(batch);
                }
                Some(wait) => self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// A worker has loaded a backend.
    pub(crate) fn worker_up(&self, policy: BatchPolicy) {
        let mut state = self.lock();
        state.workers += 1;
        state.batcher.set_policy(policy);
    }

    /// A worker has lost its backend. If it was the last, everything that waits fails.
    pub(crate) fn worker_down(&self, reason: &str) {
        let mut state = self.lock();
        state.workers -= 1;
        let stranded = if state.workers == 0 { state.batcher.reject(|_| false) } else { Vec::new() };
        drop(state);
        for pending in stranded {
            pending.fail(EngineError::NotReady { reason: reason.to_owned() });
        }
    }

    /// Ends every worker after its present batch.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let stranded = state.batcher.reject(|_| false);
        drop(state);
        self.wake.notify_all();
        self.end.notify_all();
        for pending in stranded {
            pending.fail(EngineError::Draining);
        }
    }

    /// Waits until the queue is closed, at most `timeout`; says whether it is.
    pub(crate) fn wait_closed(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .end
            .wait_timeout_while(state, timeout, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.closed
    }

    /// Rows and tokens waiting.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.batcher.rows(), state.batcher.tokens())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out requests that nobody waits for and those whose time is over; returns the latter, to be told.
fn reject(batcher: &mut Batcher<Arc<Pending>>) -> Vec<Arc<Pending>> {
    let now = Instant::now();
    let mut rejected = batcher.reject(|pending| !pending.is_closed() && !pending.is_late(now));
    rejected.retain(|pending| !pending.is_closed());
    rejected
}
