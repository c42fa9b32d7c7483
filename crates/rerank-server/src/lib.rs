//! Serves cross-encoders over HTTP and gRPC in one process.
//!
//! The binary is thin: [`cli`] and [`config`] say what is wished, [`load`] turns it into a running engine, [`serve`] puts
//! the engine on sockets. The transports are adapters over one [`service`]; what they cannot answer with scores is an
//! [`error::ApiError`], whose codes for both wires stand in one table.
//!
//! Features, all additive: `http` and `grpc` are the transports; `candle` and `mock` are backends; `embedded-model` puts
//! the small default model into the binary; `cuda`, `metal`, `accelerate` and `mkl` are passed on to the backends that
//! are compiled in. Any subset compiles.
//!
//! Deliberately absent: batching, tokenising and every other decision about a request, which are the engine's; and
//! downloads outside [`model_store`].

pub mod backends;
pub mod cli;
pub mod config;
pub mod error;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
pub mod info;
pub mod load;
pub mod logging;
#[cfg(feature = "http")]
pub(crate) mod metrics;
pub mod model_store;
pub mod plan;
pub mod rank;
pub mod registry;
pub mod select;
pub mod serve;
pub mod service;
pub mod shutdown;
pub mod timing;
