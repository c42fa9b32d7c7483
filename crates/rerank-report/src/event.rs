//! What the load generator prints with `--json`: one object a line, progress first, the result last.

use serde::{Deserialize, Serialize};

use crate::serving::{Identity, Load, Run, Workload};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A phase begins.
    Phase {
        /// `prepare`, `warm_up`, `measure` or `drain`.
        name: String,
        /// How long it takes, where that is known.
        seconds: Option<f64>,
    },
    /// A second of the current phase is over.
    Second {
        /// Seconds since the phase began.
        second: u64,
        /// Pairs answered in it.
        pairs: u64,
        /// Mean latency of its requests.
        latency_ms: Option<f64>,
        /// Requests that failed in it.
        errors: u64,
    },
    /// The last line.
    Result(Box<LoadResult>),
}

/// One run, with what it was run against and what was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadResult {
    /// What the server said it is; `None` when it was reached without its HTTP side.
    pub identity: Option<Identity>,
    /// The load.
    pub load: Load,
    /// What was sent.
    pub workload: Workload,
    /// What was measured.
    pub run: Run,
}
