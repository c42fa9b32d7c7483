//! What a transformer encoder computes on a CPU, tile by tile, for the instruction set at hand.
//!
//! Dense layers in f32, bf16 and int8 with everything around them fused in ([`Linear`]), attention over rows of their
//! true length ([`Attention`]), layer norms ([`LayerNorm`]) and embedding sums ([`Embedding`]). Every function works on
//! one tile of rows, on the thread that calls it: how tiles are spread over threads is the caller's business.
//!
//! **One source for f32.** Vector code is ordinary Rust over arrays of sixteen floats, which is compiled for every
//! instruction set that matters and picked at run time by [`Cpu`]. Only products that have instructions of their own,
//! int8 and bf16, are written with intrinsics, and each is tested against the portable form.
//!
//! **Repeatable.** No value depends on how rows are grouped: each output is one sum in a fixed order, so a row has the
//! same result, bit for bit, alone or in any batch, in any tile and on any number of threads.

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
mod aligned;
mod attention;
mod cpu;
mod embedding;
mod linear;
mod norm;
mod rows;
mod simd;
mod tile;

pub use activation::Activation;
pub use attention::{Attention, AttentionScratch};
pub use cpu::{Cpu, FEATURES_VARIABLE, Feature, FeaturesError, processor};
pub use embedding::{Embedding, Table};
pub use linear::{Linear, LinearScratch, Precision, activate};
pub use norm::LayerNorm;
pub use rows::Rows;
pub use simd::{LANES, instruction_set};
pub use tile::TILE_STEP;
