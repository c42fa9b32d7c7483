//! What the engine measures of itself: one-second samples in a ring, and totals since the start.
//!
//! `/telemetry`, `/metrics`, the dashboard and the load generator all read from here, so they cannot disagree. A sample is
//! closed once a second by a thread of its own; requests and batches are recorded into the open one under a lock that is
//! held for a few additions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Timeline;

mod process;
mod sample;
mod window;

use process::ProcessClock;
pub use sample::{Gauges, Sample, StageSample, WorkerSample};
pub use window::Totals;
use window::Window;

/// Ten minutes: long enough for a benchmark to read a whole run at its end.
const RING: usize = 600;
const TICK: Duration = Duration::from_secs(1);

/// Where the sampler reads the gauges.
pub(crate) trait Sources: Send + Sync {
    /// Rows and tokens that wait for a worker.
    fn queued(&self) -> (usize, usize);
    /// Tokens of all requests inside.
    fn admitted_tokens(&self) -> usize;
    /// Requests inside.
    fn in_flight(&self) -> usize;
}

/// One batch, as its worker saw it.
pub(crate) struct BatchRecord {
    pub(crate) worker: usize,
    pub(crate) rows: usize,
    pub(crate) tokens: usize,
    pub(crate) computed_tokens: usize,
    pub(crate) busy: Duration,
}

/// The engine's counters, histograms and samples.
pub struct Telemetry {
    state: Mutex<State>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

struct State {
    window: Window,
    totals: Totals,
    ring: VecDeque<Arc<Sample>>,
    next_seq: u64,
}

impl Telemetry {
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        let state = State {
            window: Window::new(workers),
            totals: Totals::new(workers),
            ring: VecDeque::new(),
            next_seq: 0,
        };
        Arc::new(Self { state: Mutex::new(state), stop: Mutex::new(false), stopped: Condvar::new() })
    }

    /// Records an answered request, once its reply stage has ended.
    pub fn answered(&self, timeline: &Timeline, pairs: usize, tokens: usize) {
        self.state().window.answered(timeline, pairs, tokens);
    }

    /// Records a request that got an error, under the error's [`crate::EngineError::label`] or the adapter's own word.
    pub fn failed(&self, label: &'static str) {
        *self.state().window.failures.entry(label).or_insert(0) += 1;
    }

    pub(crate) fn batch(&self, record: &BatchRecord) {
        self.state().window.batch(record);
    }

    /// Closed samples with a sequence number of at least `seq`, oldest first. Ten minutes are kept.
    pub fn samples_since(&self, seq: u64) -> Vec<Arc<Sample>> {
        let state = self.state();
        let skip = state.ring.partition_point(|sample| sample.seq < seq);
        state.ring.iter().skip(skip).cloned().collect()
    }

    /// Everything since the start, the open sample included.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let mut totals = state.totals.clone();
        totals.add(&state.window);
        totals
    }

    /// Tokens answered a second, over the last ten samples that had any.
    pub(crate) fn recent_tokens_per_second(&self) -> f64 {
        let state = self.state();
        let busy = state.ring.iter().rev().filter(|sample| sample.tokens > 0).take(10);
        let (tokens, seconds) =
            busy.fold((0, 0.0), |(tokens, seconds), s| (tokens + s.tokens, seconds + s.seconds));
        if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
    }

    /// Starts the thread that closes a sample every second, until `sources` are gone.
    pub(crate) fn start_sampling(self: &Arc<Self>, sources: Weak<dyn Sources>) {
        let telemetry = Arc::clone(self);
        std::thread::Builder::new()
            .name("rerank-telemetry".to_owned())
            .spawn(move || telemetry.sample_until_gone(&sources))
            .expect("the operating system grants a few threads at start");
    }

    fn sample_until_gone(&self, sources: &Weak<dyn Sources>) {
        let mut process = ProcessClock::start();
        let mut opened = Instant::now();
        let mut due = opened + TICK;
        loop {
            let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = due.saturating_duration_since(Instant::now());
            let (stop, _) = self
                .stopped
                .wait_timeout_while(stop, wait, |stop| !*stop)
                .unwrap_or_else(PoisonError::into_inner);
            if *stop {
                return;
            }
            drop(stop);
            let Some(sources) = sources.upgrade() else { return };
            let (queued_rows, queued_tokens) = sources.queued();
            let now = Instant::now();
            let seconds = (now - opened).as_secs_f64();
            let usage = process.tick();
            let gauges = Gauges {
                queued_rows,
                queued_tokens,
                admitted_tokens: sources.admitted_tokens(),
                in_flight: sources.in_flight(),
                resident_bytes: usage.as_ref().map(|usage| usage.resident_bytes),
                cpu_cores: usage.as_ref().map(|usage| usage.cpu.as_secs_f64() / seconds),
            };
            self.close_sample(seconds, gauges);
            opened = now;
            // Late by more than a tick (a stopped process): start over rather than close a burst of empty samples.
            due = if now > due + TICK { now + TICK } else { due + TICK };
        }
    }

    fn close_sample(&self, seconds: f64, gauges: Gauges) {
        let unix_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut state = self.state();
        let workers = state.window.workers.len();
        let window = std::mem::replace(&mut state.window, Window::new(workers));
        let seq = state.next_seq;
        state.next_seq += 1;
        state.totals.add(&window);
        drop(state);
        // Summaries are computed outside the lock: quantiles walk whole histograms.
        let sample = Arc::new(Sample::close(seq, unix_ms, seconds, &window, gauges));
        let mut state = self.state();
        if state.ring.len() == RING {
            state.ring.pop_front();
        }
        state.ring.push_back(sample);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        *self.stop.get_mut().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }
}

/// Failures by label.
pub(crate) type Failures = BTreeMap<&'static str, u64>;
