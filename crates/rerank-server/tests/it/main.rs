//! The server over real sockets. One binary, because linking is what such tests cost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod binary;
mod cli;
mod clients;
mod deadlines;
mod failures;
mod grpc;
mod harness;
mod http;
#[cfg(all(feature = "mlx", feature = "embedded-model"))]
mod mlx;
mod model_store;
mod openapi;
mod overload;
mod parity;
mod schema;
mod shutdown;
mod telemetry;
#[cfg(feature = "torch")]
mod torch;
mod workers;
