//! From texts to ranks in-process: everything between a socket and a backend, and no socket.
//!
//! A request's way, in one direction: [`Engine::rerank`] admits it (in tokens, all or nothing), the tokenizer pool turns
//! its texts into rows, the queue holds them, the batcher picks which rows to score next, a worker thread that owns a
//! [`rerank_core::Backend`] scores them, and the last row's logit wakes the caller. [`Timeline`] clocks every stage.
//!
//! Two faces: [`Engine`] for servers (async, any runtime, dropping the future cancels) and [`Reranker`] for programs that
//! embed reranking (blocking, a few lines).
//!
//! Deliberately absent: HTTP and gRPC, downloads, the name of any backend, polling. Every thread waits on a condition
//! variable or a channel.

mod admission;
mod batcher;
mod engine;
mod error;
mod options;
mod pool;
mod queue;
mod request;
mod reranker;
mod telemetry;
mod timeline;
mod tokenizer;
mod worker;

pub use batcher::{BatchPolicy, Batcher, Pick};
pub use engine::{Engine, EngineInfo, Status};
pub use error::EngineError;
pub use options::EngineOptions;
pub use request::{Ranked, RerankRequest, ScoreRequest, Scored, Texts};
pub use reranker::{Reranker, RerankerBuilder};
pub use telemetry::{Gauges, Sample, StageSample, Telemetry, Totals, WorkerSample};
pub use timeline::{Stage, Timeline};
pub use tokenizer::{Direction, PairTokenizer, Rows, Strategy, Truncation};
