//! Figures derived from what was recorded: of one run, and of all rounds of a cell together.

use std::collections::BTreeMap;

use crate::{
    histogram::DurationHistogram,
    serving::{Cell, Run, Window},
    stats::{Interval, Series},
};

impl Run {
    /// Completed pairs of each window.
    pub fn window_pairs(&self) -> Series {
        Series::new(self.windows.iter().map(|window| window.pairs as f64))
    }

    /// Mean throughput in pairs/s over the steady windows.
    pub fn throughput(&self) -> Option<f64> {
        self.window_pairs().mean()
    }

    /// Mean tokens/s over the steady windows.
    pub fn token_throughput(&self) -> Option<f64> {
        let tokens: Option<Vec<f64>> =
            self.windows.iter().map(|window| Some(window.tokens? as f64)).collect();
        Series::new(tokens?).mean()
    }
}

impl Cell {
    /// Latencies of all rounds together.
    pub fn latency(&self) -> DurationHistogram {
        let mut all = DurationHistogram::default();
        self.runs.iter().for_each(|run| all.merge(&run.latency));
        all
    }

    /// Windows of all rounds together.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.runs.iter().flat_map(|run| &run.windows)
    }

    /// Completed pairs of each window, all rounds.
    pub fn window_pairs(&self) -> Series {
        Series::new(self.windows().map(|window| window.pairs as f64))
    }

    /// Mean pairs/s of each round.
    pub fn throughputs(&self) -> Series {
        Series::new(self.runs.iter().filter_map(Run::throughput))
    }

    /// Mean pairs/s over the rounds. Its interval is never narrower than one request more or less in a round: windows
    /// count whole requests, so slow rounds can agree to the last digit without being known to it.
    pub fn throughput(&self) -> Option<Interval> {
        let windows = self.runs.iter().map(|run| run.windows.len()).min().filter(|windows| *windows > 0)?;
        let resolution = self.load.rows as f64 / windows as f64;
        let interval = self.throughputs().interval()?;
        Some(Interval { half_width: interval.half_width.map(|half| half.max(resolution)), ..interval })
    }

    /// Mean latency in ms of each round.
    pub fn mean_latencies(&self) -> Series {
        Series::new(self.runs.iter().filter_map(|run| run.latency.mean_ms()))
    }

    /// Mean tokens/s over the rounds.
    pub fn token_throughput(&self) -> Option<f64> {
        Series::new(self.runs.iter().filter_map(Run::token_throughput)).mean()
    }

    /// Scored pairs, all rounds.
    pub fn pairs(&self) -> u64 {
        self.runs.iter().map(|run| run.pairs).sum()
    }

    /// Measured seconds, all rounds.
    pub fn seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.seconds).sum()
    }

    /// Failed requests, all rounds, by code.
    pub fn errors(&self) -> BTreeMap<&str, u64> {
        let mut errors = BTreeMap::new();
        for (code, count) in self.runs.iter().flat_map(|run| &run.errors) {
            *errors.entry(code.as_str()).or_default() += count;
        }
        errors
    }
}
