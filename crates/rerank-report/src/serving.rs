//! Schema of a serving result: servers under test, the loads put on them, and what client and server recorded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{environment::Environment, histogram::DurationHistogram, parity::Parity, result::Experiment};

/// All cells of one experiment: every server under every load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingResult {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What was run.
    pub experiment: Experiment,
    /// Where it was run.
    pub environment: Environment,
    /// Backend that the others are compared with, when it was among those measured.
    pub yardstick: Option<String>,
    /// Servers under test, in the order in which each round ran them.
    pub servers: Vec<ServerUnderTest>,
    /// Measured cells, load by load.
    pub cells: Vec<Cell>,
}

/// One configuration of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerUnderTest {
    /// Unique within the result: what was asked for (`candle`, `candle dtype=bf16`).
    pub label: String,
    /// Backend that the build contains.
    pub backend: String,
    /// Flags that the server was started with.
    pub command: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Whether a server came up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// It served; everything here comes from the running server, nothing from the flags.
    Served {
        /// What `/info` said.
        identity: Box<Identity>,
        /// Scores against the reference, checked before the first round.
        parity: Parity,
    },
    /// It refused to start: an option that this machine or backend cannot honour.
    Refused {
        /// The server's own words.
        reason: String,
    },
}

/// What the running server says it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Server version.
    pub version: String,
    /// Backend that scores.
    pub backend: String,
    /// Device in use.
    pub device: String,
    /// The device's own name.
    pub device_name: String,
    /// Arithmetic type.
    pub dtype: String,
    /// Compute threads of one worker.
    pub threads: u64,
    /// Number of workers.
    pub workers: u64,
    /// Model name as loaded.
    pub model: String,
    /// SHA-256 of the weights as loaded.
    pub model_sha256: String,
    /// Longest row in tokens.
    pub max_length: u64,
    /// Whatever else `/info` states, flattened to `key = value`.
    pub details: BTreeMap<String, String>,
}

/// One server under one load, repeated in several rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Label of the server.
    pub server: String,
    /// The load.
    pub load: Load,
    /// What was sent.
    pub workload: Workload,
    /// One entry a round, in order.
    pub runs: Vec<Run>,
}

/// How requests were issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// `grpc` or `http`.
    pub protocol: String,
    /// Pairs in each request.
    pub rows: usize,
    /// What decides when the next request is sent.
    pub pace: Pace,
}

/// What decides when a request is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pace {
    /// Closed loop: so many requests in flight, the next sent when one returns. Slows down with the server.
    Closed {
        /// Requests in flight.
        concurrency: usize,
    },
    /// Open loop: arrivals on a schedule that does not wait for the server; latency counts from the scheduled start.
    Open {
        /// Scheduled requests a second.
        rate: f64,
        /// `poisson` or `constant`.
        arrivals: String,
    },
}

impl Load {
    /// The seed's column "Conc": requests in flight, or the scheduled rate.
    pub fn concurrency(&self) -> String {
        match &self.pace {
            Pace::Closed { concurrency } => concurrency.to_string(),
            Pace::Open { rate, arrivals } => format!("{arrivals} {rate}/s"),
        }
    }

    /// `batch=32, conc=1`.
    pub fn describe(&self) -> String {
        format!("batch={}, conc={}", self.rows, self.concurrency())
    }
}

/// What was sent, by content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Name as given: a file name, `fixed:128`, `lognormal:90`.
    pub name: String,
    /// SHA-256 of the request pool, each request as one JSON line `{"query", "documents"}`.
    pub sha256: String,
    /// Distinct requests in the pool; the load goes round it.
    pub distinct_requests: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Tokens of a pair as the server tokenises it, over all pairs of the pool; `None` when the server has no `/tokenize`.
    pub tokens: Option<TokenStats>,
}

/// Token-length histogram of the pairs sent, special tokens and truncation included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenStats {
    /// Number of pairs.
    pub n: u64,
    /// Mean length.
    pub mean: f64,
    /// `[tokens, pairs]`, ascending.
    pub counts: Vec<(u64, u64)>,
}

impl TokenStats {
    /// Counts the lengths; `None` when there are none.
    pub fn new(lengths: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut counts = BTreeMap::<u64, u64>::new();
        for length in lengths {
            *counts.entry(length).or_default() += 1;
        }
        let n: u64 = counts.values().sum();
        let tokens: u64 = counts.iter().map(|(length, count)| length * count).sum();
        (n > 0).then(|| Self { n, mean: tokens as f64 / n as f64, counts: counts.into_iter().collect() })
    }

    /// Percentile `p` of the lengths. The whole pool is known, so every percentile is exact.
    pub fn percentile(&self, p: f64) -> u64 {
        let rank = ((p * self.n as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (length, count) in &self.counts {
            below += count;
            if below >= rank {
                return *length;
            }
        }
        self.max()
    }

    /// Longest pair.
    pub fn max(&self) -> u64 {
        self.counts.last().map_or(0, |(length, _)| *length)
    }
}

/// One round of one cell. Warm-up lies before it and is in none of its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Round, from 1.
    pub round: usize,
    /// When the first request was sent, UTC, RFC 3339.
    pub started: String,
    /// From the first request sent to the last answer received.
    pub seconds: f64,
    /// Answered requests.
    pub requests: u64,
    /// Scored pairs of the answered requests.
    pub pairs: u64,
    /// Tokens of those pairs; `None` where they could not be counted.
    pub tokens: Option<u64>,
    /// Requests that failed, by code.
    pub errors: BTreeMap<String, u64>,
    /// Latency of every answered request that was sent in the run, also of those answered after the last window.
    pub latency: DurationHistogram,
    /// Consecutive windows of one second; the first, in which the pipeline fills, is left out.
    pub windows: Vec<Window>,
    /// The load generator's own cost.
    pub client: ClientSide,
    /// What the server recorded; `None` when it was reached without its HTTP side.
    pub server: Option<ServerSide>,
}

/// One second of steady state, by completion time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Start of the window, in seconds since the run began.
    pub second: u64,
    /// Requests answered in it.
    pub requests: u64,
    /// Their pairs.
    pub pairs: u64,
    /// Their tokens.
    pub tokens: Option<u64>,
    /// Mean latency of those requests.
    pub latency_ms: Option<f64>,
    /// Requests that failed in it.
    pub errors: u64,
}

/// What the load generator itself used, so that a slow client shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSide {
    /// CPU time over wall time, in cores.
    pub cpu_cores: f64,
    /// Threads that the client could run on.
    pub threads: usize,
    /// Most requests in flight at once.
    pub max_in_flight: usize,
    /// Open loop: how late requests were really sent.
    pub send_lag: Option<DurationHistogram>,
}

/// What the server recorded about exactly the requests of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSide {
    /// Receive to reply, measured as one interval.
    pub total: DurationHistogram,
    /// Disjoint intervals of the same clock, in a request's order.
    pub stages: Vec<Stage>,
    /// One entry a worker.
    pub workers: Vec<Worker>,
    /// One-second samples that lie wholly inside the measured window.
    pub samples: Vec<Sample>,
    /// Tokens of real rows given to the backend.
    pub tokens: u64,
    /// Tokens that the backend computed, padding included.
    pub computed_tokens: u64,
}

/// One stage of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// `receive`, `parse`, `tokenise`, `queue`, `compute`, `reply`.
    pub name: String,
    /// Its durations, one a request.
    pub durations: DurationHistogram,
}

/// One worker over the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Index of the worker.
    pub id: u64,
    /// Backend calls.
    pub batches: u64,
    /// Pairs scored.
    pub pairs: u64,
    /// Time inside the backend.
    pub busy_ns: u64,
    /// Duration of the backend calls, where the server keeps it for each worker.
    pub batch_durations: Option<DurationHistogram>,
}

/// One second, as the server sampled itself. What the server cannot know is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Unix time of the sample's end, in seconds.
    pub time: f64,
    /// Pairs scored in this second.
    pub pairs: u64,
    /// CPU of the server's process with all its threads, in cores.
    pub cpu_cores: Option<f64>,
    /// Resident memory of the server.
    pub rss_mib: Option<f64>,
    /// GPU memory, from the driver.
    pub gpu_memory_mib: Option<f64>,
    /// GPU utilisation, from the driver.
    pub gpu_utilisation: Option<f64>,
    /// Share of the second that workers spent inside the backend, over all workers.
    pub busy_share: Option<f64>,
    /// Tokens waiting in the queue at the end of the second.
    pub queue_tokens: Option<f64>,
    /// Mean tokenising time of requests answered in this second.
    pub tokenise_ms: Option<f64>,
    /// Mean queueing time.
    pub queue_ms: Option<f64>,
    /// Mean compute time.
    pub compute_ms: Option<f64>,
    /// Mean rows of a batch.
    pub batch_rows: Option<f64>,
    /// Share of computed tokens that were padding.
    pub padding_waste: Option<f64>,
}

impl ServingResult {
    /// The identity of a server that came up.
    pub fn identity(&self, label: &str) -> Option<&Identity> {
        self.servers.iter().find(|server| server.label == label).and_then(|server| match &server.outcome {
            Outcome::Served { identity, .. } => Some(identity.as_ref()),
            Outcome::Refused { .. } => None,
        })
    }
}
