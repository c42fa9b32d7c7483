//! What is recorded: the sample that is open, and the totals that closed ones are added to.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{BatchRecord, Failures};
use crate::{Stage, Timeline};

/// Nanoseconds, three significant digits; grows as far as the longest duration asks.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three significant digits are allowed")
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// A distribution of durations and their exact sum.
#[derive(Clone, Debug)]
pub struct Durations {
    /// The distribution, in nanoseconds.
    pub histogram: Histogram<u64>,
    /// The exact sum, in nanoseconds.
    pub sum_ns: u64,
}

impl Durations {
    fn new() -> Self {
        Self { histogram: histogram(), sum_ns: 0 }
    }

    fn record(&mut self, duration: Duration) {
        let ns = nanoseconds(duration);
        self.sum_ns += ns;
        // Zero is below what a histogram resolves; its lowest bucket stands for it.
        self.histogram.record(ns.max(1)).expect("an auto-resizing histogram takes every value");
    }

    fn add(&mut self, other: &Self) {
        self.sum_ns += other.sum_ns;
        self.histogram.add(&other.histogram).expect("an auto-resizing histogram takes every value");
    }
}

/// What one worker did.
#[derive(Clone, Debug)]
pub struct WorkerTotals {
    /// Batches scored, failed ones included.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Tokens in them, padding not counted.
    pub tokens: u64,
    /// Tokens in them, padding counted.
    pub computed_tokens: u64,
    /// Time in batches: the sum is the worker's busy time.
    pub busy: Durations,
}

/// Counters and distributions since some start.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Requests answered with scores.
    pub requests: u64,
    /// Pairs in them.
    pub pairs: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Requests that got an error, by label.
    pub failures: Failures,
    /// Time in each stage, in [`Stage::ALL`]'s order; as many as requests.
    pub stages: Vec<Durations>,
    /// From first byte to reply.
    pub total: Durations,
    /// Rows a batch.
    pub batch_rows: Histogram<u64>,
    /// Each worker's part.
    pub workers: Vec<WorkerTotals>,
}

/// The open sample records what the totals add up.
pub(super) type Window = Totals;

impl Totals {
    pub(super) fn new(workers: usize) -> Self {
        let worker =
            WorkerTotals { batches: 0, rows: 0, tokens: 0, computed_tokens: 0, busy: Durations::new() };
        Self {
            requests: 0,
            pairs: 0,
            tokens: 0,
            failures: Failures::new(),
            stages: vec![Durations::new(); Stage::ALL.len()],
            total: Durations::new(),
            batch_rows: histogram(),
            workers: vec![worker; workers],
        }
    }

    pub(super) fn answered(&mut self, timeline: &Timeline, pairs: usize, tokens: usize) {
        self.requests += 1;
        self.pairs += pairs as u64;
        self.tokens += tokens as u64;
        for (durations, stage) in self.stages.iter_mut().zip(Stage::ALL) {
            durations.record(timeline.stage(stage));
        }
        self.total.record(timeline.total());
    }

    pub(super) fn batch(&mut self, record: &BatchRecord) {
        let worker = &mut self.workers[record.worker];
        worker.batches += 1;
        worker.rows += record.rows as u64;
        worker.tokens += record.tokens as u64;
        worker.computed_tokens += record.computed_tokens as u64;
        worker.busy.record(record.busy);
        self.batch_rows.record(record.rows as u64).expect("an auto-resizing histogram takes every value");
    }

    pub(super) fn add(&mut self, window: &Self) {
        self.requests += window.requests;
        self.pairs += window.pairs;
        self.tokens += window.tokens;
        for (label, count) in &window.failures {
            *self.failures.entry(label).or_insert(0) += count;
        }
        for (mine, theirs) in self.stages.iter_mut().zip(&window.stages) {
            mine.add(theirs);
        }
        self.total.add(&window.total);
        self.batch_rows.add(&window.batch_rows).expect("an auto-resizing histogram takes every value");
        for (mine, theirs) in self.workers.iter_mut().zip(&window.workers) {
            mine.batches += theirs.batches;
            mine.rows += theirs.rows;
            mine.tokens += theirs.tokens;
            mine.computed_tokens += theirs.computed_tokens;
            mine.busy.add(&theirs.busy);
        }
    }
}
