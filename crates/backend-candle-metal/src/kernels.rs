//! CPU kernels as candle custom ops: the parts of an encoder layer that candle has no fused form of.
//!
//! Measured on a 2-core AVX2 machine with 32 rows of 128 tokens: candle's own operations leave more than half of the
//! time outside matrix products (bias, error-function GELU, residual, layer norm and softmax each pass over memory
//! alone, and every product packs the weights again). Here weights are packed once at load ([`Linear`]), everything
//! else happens while a tile is still in registers or in the first-level cache, and each op writes into a tensor that
//! the caller reuses.
//!
//! The vector code is ordinary Rust over arrays of sixteen floats; `simd::dispatch` compiles it for the instruction
//! sets that matter and picks one at run time. No value depends on how rows are grouped or on the number of threads:
//! each output is one sum in a fixed order, so a row scores the same, bit for bit, alone or in any batch.

#![expect(
    clippy::inline_always,
    reason = "an instruction set holds for one function: what is called and not inlined is compiled without it"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "counting loops over arrays keep them in registers; through iterator adapters the compiler leaves them in \
              memory, twenty times slower in the innermost loop"
)]

mod activation;
mod attention;
mod embedding;
mod linear;
mod norm;
mod rows;
mod simd;
mod tile;

pub(crate) use activation::Activation;
pub(crate) use attention::{Attention, QueryRows};
pub(crate) use embedding::{Embedding, FirstTokens};
pub(crate) use linear::{Linear, ON_ACCELERATE};
pub(crate) use norm::{AddNorm, LayerNorm};
pub(crate) use simd::instruction_set;
pub(crate) use tile::TILE_STEP;
