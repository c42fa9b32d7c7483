//! The contract between rerankers and what runs them.
//!
//! A cross-encoder reads a query and a document together as one **row** of tokens and answers with one raw **logit**.
//! This crate holds what every backend and every caller must agree on, and nothing else:
//!
//! - [`BackendFactory`] and [`Backend`]: how a model is loaded and scored. A factory is a stateless static; a loaded
//!   backend is owned by one thread and called serially, so it need not be `Send`.
//! - [`TokenBatch`]: rows laid end to end with `cu_seqlens`. It is validated once, when it is built: a backend can
//!   rely on every id being inside the vocabulary and every row being short enough, and repeats no check.
//! - [`Model`]: [`ModelConfig`] and [`Weights`] under canonical names, whatever the checkpoint called its tensors.
//! - [`BackendError`]: failures by what the caller does next, and [`Fault`], which sorts the messages of drivers so.
//!
//! Deliberately absent: tokenising, queues, threads, clocks, `async`, transports, downloads, and the name of any backend.

mod backend;
mod batch;
mod config;
mod device;
mod dtype;
mod encoder;
mod error;
mod fault;
mod info;
mod model;
mod pad;
mod plan;
mod score;
mod weights;

pub use backend::{Backend, BackendFactory, LoadSpec, Unavailable, unknown_option};
pub use batch::{BatchShape, RowLimits, TokenBatch, TokenBatchBuilder};
pub use config::{Activation, Architecture, ModelConfig, PositionScheme};
pub use device::{Device, ParseDeviceError};
pub use dtype::{DType, ParseDTypeError};
pub use encoder::{Dense, EmbeddingWeights, HeadWeights, LayerWeights, Norm};
pub use error::{BackendError, BoxError};
pub use fault::Fault;
pub use info::{BackendInfo, DeviceInfo, Layout, ShapePolicy};
pub use model::Model;
pub use pad::PaddedBatch;
pub use plan::{ExecutionPlan, PlanStep};
pub use score::{rank, sigmoid};
pub use weights::Weights;
