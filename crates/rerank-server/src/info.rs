//! What the server says of itself: one description for `/info`, gRPC's `Info` and the log's first lines.

use std::collections::BTreeMap;

use rerank_core::{DType, Device, Layout, ModelConfig, ShapePolicy};
use rerank_engine::EngineInfo;
use serde::Serialize;

use crate::config::Limits;

/// The running server, as loaded and not as asked for.
#[derive(Clone, Debug, Serialize)]
pub struct ServerInfo {
    /// The server's version.
    pub version: &'static str,
    /// The cargo features that were compiled in.
    pub features: Vec<&'static str>,
    /// What is computed.
    pub model: ModelSection,
    /// What computes it.
    pub backend: BackendSection,
    /// What one request may ask.
    pub limits: LimitSection,
    /// How requests become batches.
    pub batching: BatchingSection,
}

/// The model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSection {
    /// As the user named it.
    pub name: String,
    /// SHA-256 of the weights as loaded.
    pub sha256: String,
    /// Size of the weights as stored.
    pub bytes: u64,
    /// Tokens that one pair can have.
    pub max_length: usize,
    /// Sizes and kinds.
    pub config: ModelConfig,
}

/// The backend.
#[derive(Clone, Debug, Serialize)]
pub struct BackendSection {
    /// Its short name.
    pub name: String,
    /// The device that was really chosen.
    pub device: Device,
    /// The device's product name.
    pub device_name: String,
    /// The dtype that it computes in.
    pub dtype: DType,
    /// CPU threads that each worker computes with.
    pub threads: usize,
    /// Workers, each with its own copy of the model.
    pub workers: usize,
    /// `packed` or `padded`.
    pub layout: Layout,
    /// Which row lengths it computes.
    pub shapes: ShapePolicy,
    /// The most rows in one batch, where it has such a limit.
    pub max_rows: Option<usize>,
    /// Kernels and library versions.
    pub details: BTreeMap<String, String>,
}

/// What one request may ask.
#[derive(Clone, Debug, Serialize)]
pub struct LimitSection {
    /// Documents or pairs.
    pub max_documents: usize,
    /// Bytes.
    pub payload_bytes: usize,
    /// Deadline of requests that bring none.
    pub request_timeout_ms: Option<f64>,
    /// Tokens that may wait or be in work before requests are refused.
    pub queue_tokens: usize,
}

/// How requests become batches.
#[derive(Clone, Debug, Serialize)]
pub struct BatchingSection {
    /// Tokens that one batch may cost, padding included.
    pub max_batch_tokens: usize,
    /// Rows that one batch may have.
    pub max_batch_rows: Option<usize>,
    /// How long an idle worker waits for a batch to fill.
    pub max_wait_ms: f64,
    /// Batches' worth of rows that are sorted by length.
    pub look_ahead: usize,
    /// Threads that tokenise.
    pub tokenizer_threads: usize,
    /// Whether a batch of filler was scored before the first request.
    pub warm_up: bool,
}

impl ServerInfo {
    /// Puts together what the engine and the server know.
    pub fn new(engine: EngineInfo, limits: Limits) -> Self {
        let EngineInfo { model, model_sha256, model_bytes, config, max_length, backend, options } = engine;
        let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            features: crate::registry::features(),
            model: ModelSection { name: model, sha256: model_sha256, bytes: model_bytes, max_length, config },
            backend: BackendSection {
                name: backend.backend,
                device: backend.device,
                device_name: backend.device_name,
                dtype: backend.dtype,
                threads: backend.threads,
                workers: options.workers,
                layout: backend.layout,
                shapes: backend.shapes,
                max_rows: backend.max_rows,
                details: backend.details,
            },
            limits: LimitSection {
                max_documents: limits.max_documents,
                payload_bytes: limits.payload,
                request_timeout_ms: limits.timeout.map(ms),
                queue_tokens: options.queue_tokens,
            },
            batching: BatchingSection {
                max_batch_tokens: options.max_batch_tokens,
                max_batch_rows: options.max_batch_rows,
                max_wait_ms: ms(options.max_wait),
                look_ahead: options.look_ahead,
                tokenizer_threads: options.tokenizer_threads,
                warm_up: options.warm_up,
            },
        }
    }
}
