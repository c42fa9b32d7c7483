//! The CPU kernels as candle custom ops, each writing into a tensor that the caller reuses.
//!
//! Measured on a 2-core AVX2 machine with 32 rows of 128 tokens: candle's own operations leave more than half of the
//! time outside matrix products (bias, error-function GELU, residual, layer norm and softmax each pass over memory
//! alone, and every product packs the weights again). `rerank-kernels` does all that while a tile is still in registers
//! or in the first-level cache; here tiles are spread over threads.

mod attention;
mod embedding;
mod linear;
mod norm;
mod rows;

pub(crate) use attention::{QueryRows, SpanAttention};
pub(crate) use embedding::{FirstTokens, Gather};
pub(crate) use linear::{Linear, ON_ACCELERATE};
pub(crate) use norm::AddNorm;
