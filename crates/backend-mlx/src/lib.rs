//! Cross-encoders on MLX: the Apple GPU on macOS, and MLX's CPU device on Linux, where everybody can test them.
//!
//! BERT and (XLM-)RoBERTa for sequence classification in f32, f16, bf16 and int8, on MLX's own attention, layer norm and
//! quantised products. Rows are padded to one of a few lengths, so that a graph made for a shape is used again; how many
//! graphs are kept is bounded, and so is MLX's cache of buffers. The crate does no batching, no tokenising and no
//! downloads, and never moves work to another device or dtype than it was asked for.
//!
//! MLX exists for macOS and, as `cargo xtask setup mlx` prepares it, for x86-64 Linux with glibc. Elsewhere the crate
//! compiles and `probe` says why it cannot run.

mod factory;

// `cfg(mlx)` is set by build.rs.
#[cfg(not(mlx))]
#[path = "absent.rs"]
mod runtime;
#[cfg(mlx)]
mod runtime;

pub use factory::{FACTORY, MlxFactory};
