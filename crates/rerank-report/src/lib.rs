//! Benchmark results: the versioned schema of `result.json`, the statistics that may be drawn from it, and the pages
//! rendered from it. `result.json` is the source of truth; everything else can be made from it again.
//!
//! On purpose absent: measuring, sockets and processes. This crate reads and writes files and does nothing else.

mod checks;
mod compare;
mod environment;
mod error;
mod event;
mod figures;
mod forward;
mod histogram;
mod parity;
mod render;
mod result;
mod serving;
pub mod stats;

pub use checks::{Problem, check_run};
pub use compare::{Change, Versus, changes, versus_yardstick};
pub use environment::Environment;
pub use error::ReportError;
pub use event::{Event, LoadResult};
pub use forward::{ForwardResult, ForwardRound, ForwardSubject};
pub use histogram::DurationHistogram;
pub use parity::{
    ComparedQuery, Parity, RankingAgreement, RankingBounds, RankingFigures, logit_tolerance, max_abs_diff,
    ndcg_at_10, ranks_alike, same_top, spearman, top_tie_tolerance,
};
pub use render::{Table, compare_results, significant, summary_table, write_all};
pub use result::{BenchResult, Experiment, SCHEMA_VERSION};
pub use serving::{
    Cell, ClientSide, Identity, Load, Outcome, Pace, Run, Sample, ServerSide, ServerUnderTest, ServingResult,
    Stage, TokenStats, Window, Worker, Workload,
};
