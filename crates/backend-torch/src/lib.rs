//! Cross-encoders on libtorch, through tch: CPU, CUDA and Apple GPUs.
//!
//! The yardstick: BERT and (XLM-)RoBERTa for sequence classification, built from `Weights` out of the operators that
//! PyTorch's eager mode calls, so that the other backends can be held against PyTorch under the same engine and wire.
//! Rows are padded, attention is libtorch's fused one, int8 its dynamically quantised linear layer. A TorchScript export
//! can take the model's place: [`MODULE_OPTION`]. The crate does no batching, no tokenising and no downloads, and never
//! moves work to another device or dtype than it was asked for.
//!
//! Building it needs libtorch 2.13, which `cargo xtask setup torch` brings; no cargo feature is involved: what the
//! libtorch at hand supports, CUDA among it, is supported.

mod device;
mod error;
mod factory;
mod model;
mod module;

pub use factory::{FACTORY, TorchFactory};
pub use module::MODULE_OPTION;
