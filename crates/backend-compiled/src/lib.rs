//! Cross-encoders on a CPU, compiled at load into one fused plan for the machine at hand.
//!
//! A plan is a flat list of steps over scratch memory of known size; `compile` makes it from a checkpoint,
//! choosing a kernel and a precision for every matrix, and `run` executes it over spans of rows. Rows lie packed, so
//! there is no padding anywhere; of the last layer, only what the classifier reads is computed.
//!
//! The kernels are in `rerank-kernels`; threads, memory and order are decided here.

mod buffers;
mod compile;
mod describe;
mod factory;
mod plan;
mod run;
mod spans;

pub use factory::{CompiledFactory, FACTORY};
