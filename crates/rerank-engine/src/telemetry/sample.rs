//! A closed one-second sample, as `/telemetry` shows it.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2Serializer};
use serde::Serialize;

use super::Failures;
use super::window::{Durations, Window};
use crate::Stage;

/// What happened in one second.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Counts up from 0 since the start of the process.
    pub seq: u64,
    /// When it was closed, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// How long it was open, in seconds.
    pub seconds: f64,
    /// Requests answered with scores.
    pub requests: u64,
    /// Pairs in them.
    pub pairs: u64,
    /// Tokens in them, padding not counted.
    pub tokens: u64,
    /// Requests that got an error, by label.
    pub failures: Failures,
    /// Time in each stage, in order; every answered request is in each of them.
    pub stages: Vec<StageSample>,
    /// From first byte to reply; the stages' sums add up to this one's.
    pub total: StageSample,
    /// Rows a batch, as a base64 HdrHistogram.
    pub batch_rows: String,
    /// Each worker's part.
    pub workers: Vec<WorkerSample>,
    /// Read once, when the sample was closed.
    pub gauges: Gauges,
}

/// A distribution of durations.
#[derive(Clone, Debug, Serialize)]
pub struct StageSample {
    /// The stage's name.
    pub stage: &'static str,
    /// How many durations.
    pub count: u64,
    /// Their exact sum, in nanoseconds.
    pub sum_ns: u64,
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 95th percentile, in microseconds.
    pub p95_us: f64,
    /// 99th percentile, in microseconds.
    pub p99_us: f64,
    /// The longest, in microseconds.
    pub max_us: f64,
    /// The distribution itself, in nanoseconds: HdrHistogram's V2 encoding in base64.
    pub histogram: String,
}

/// What one worker did.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerSample {
    /// Its index.
    pub worker: usize,
    /// Batches scored.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Tokens in them, padding not counted.
    pub tokens: u64,
    /// Tokens in them, padding counted.
    pub computed_tokens: u64,
    /// Time in each batch.
    pub busy: StageSample,
}

/// The state of things at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gauges {
    /// Rows that wait for a worker.
    pub queued_rows: usize,
    /// Tokens in them.
    pub queued_tokens: usize,
    /// Tokens of all requests inside, those not tokenised yet at their upper bound.
    pub admitted_tokens: usize,
    /// Requests inside.
    pub in_flight: usize,
    /// Resident memory of the process, in bytes, where the operating system tells.
    pub resident_bytes: Option<u64>,
    /// Cores that the process kept busy, all its threads, over the sample, where the operating system tells.
    pub cpu_cores: Option<f64>,
}

impl Sample {
    pub(super) fn close(seq: u64, unix_ms: u64, seconds: f64, window: &Window, gauges: Gauges) -> Self {
        let workers = window.workers.iter().enumerate().map(|(worker, totals)| WorkerSample {
            worker,
            batches: totals.batches,
            rows: totals.rows,
            tokens: totals.tokens,
            computed_tokens: totals.computed_tokens,
            busy: StageSample::of("busy", &totals.busy),
        });
        Self {
            seq,
            unix_ms,
            seconds,
            requests: window.requests,
            pairs: window.pairs,
            tokens: window.tokens,
            failures: window.failures.clone(),
            stages: Stage::ALL
                .iter()
                .zip(&window.stages)
                .map(|(stage, durations)| StageSample::of(stage.name(), durations))
                .collect(),
            total: StageSample::of("total", &window.total),
            batch_rows: encode(&window.batch_rows),
            workers: workers.collect(),
            gauges,
        }
    }
}

impl StageSample {
    fn of(stage: &'static str, durations: &Durations) -> Self {
        let histogram = &durations.histogram;
        let microseconds = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            stage,
            count: histogram.len(),
            sum_ns: durations.sum_ns,
            p50_us: microseconds(0.50),
            p95_us: microseconds(0.95),
            p99_us: microseconds(0.99),
            max_us: histogram.max() as f64 / 1e3,
            histogram: encode(histogram),
        }
    }
}

fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("writing to memory cannot fail");
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
