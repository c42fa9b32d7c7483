//! Synthetic checkpoints: real shapes, seeded weights, no download. A benchmark needs the arithmetic of a model, not
//! its knowledge, and a parity test needs weights that a second implementation can make for itself.
//!
//! Every weight is a pure function of `(seed, tensor name, element index)`, so that a few lines of numpy produce the
//! same file bit for bit (`crates/rerank-conformance/scripts/make_fixtures.py` does) and no weights are committed.
//! Scales are chosen such that activations look like those of a trained model: attention neither uniform nor
//! saturated, residual streams of unit size, logits that differ by several units between rows.
//!
//! ```
//! let checkpoint = rerank_model_synth::Synth::preset("minilm-l2")?.generate()?;
//! assert!(checkpoint.weights.len() > 4 * 30_522 * 384);
//! # Ok::<(), rerank_model_synth::SynthError>(())
//! ```
//!
//! Tokenizers are not made here: a synthetic model takes any real one whose vocabulary fits.

mod random;
mod spec;
mod tensors;

pub use random::{Stream, fnv1a64};
pub use spec::{Architecture, Checkpoint, PRESETS, Precision, Synth, SynthError};
