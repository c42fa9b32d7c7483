//! Cross-encoders on candle: CPU, CUDA and Metal devices.
//!
//! BERT and (XLM-)RoBERTa for sequence classification, written on candle's tensors rather than taken from its model
//! zoo, in three forms. In f32 on the CPU and in every dtype on CUDA, rows lie packed and custom ops do what candle has
//! no fused form of; on every other device and dtype, rows are padded and everything is candle's. The crate does no batching, no tokenising and no
//! downloads, and never moves work to another device or dtype than it was asked for.
//!
//! | cargo feature | adds |
//! |---|---|
//! | `cuda` | NVIDIA GPUs; needs the CUDA toolkit to build and a driver to start |
//! | `metal` | the Apple GPU; macOS only |
//! | `accelerate` | Apple's library for the CPU's products in f32 and bf16; f16 on the CPU goes |
//! | `mkl` | Intel's library for the CPU's products in f16 and bf16 |

#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod error;
mod factory;
mod kernels;
mod model;

pub use factory::{CandleFactory, FACTORY};
