//! The forward pass in-process: what `benches/forward.rs` of every backend runs, and `cargo xtask bench forward` drives.
//!
//! ```no_run
//! // benches/forward.rs of a backend, with `harness = false`
//! # fn bench(factory: &'static dyn rerank_core::BackendFactory) -> std::process::ExitCode {
//! rerank_conformance::forward::main(factory)
//! # }
//! ```
//!
//! # Protocol
//!
//! One process holds one loaded model, so that a driver can alternate several of them round by round on one machine.
//! Standard output carries JSON, one object a line, and nothing else; standard error is for people.
//!
//! 1. After loading and once: `{"ready":true,"backend":{..},"model":"..","model_sha256":"..","load_seconds":0.4}`.
//!    `backend` is [`rerank_core::BackendInfo`], and `model_sha256` that of `model.safetensors`.
//! 2. For each line `{"shape":"32x128","seconds":1.0}` on standard input, one answer:
//!    `{"shape":"32x128","rows":32,"max_len":128,"iterations":9,"pairs":288,"tokens":36864,"computed_tokens":36864,`
//!    `"seconds":[0.11,..],"logits":[..]}`. The first iteration warms up and is not timed; its logits are the answer's.
//!    Then the batch is scored until `seconds` have passed, at least once and at most 10,000 times: `seconds` holds the
//!    wall time of each of the `iterations`, `pairs` and `tokens` count all of them, padding left out, and
//!    `computed_tokens` with padding as the backend reports it.
//! 3. End of input ends the process with success.
//!
//! Whatever goes wrong is `{"error":".."}`, and the process ends with failure. With `--shapes`, the process asks itself
//! for each of them, with `--seconds`, and reads no input.
//!
//! # Shapes
//!
//! `<rows>x<tokens>` has rows of equal length; `mix32` has 32 rows of lognormal lengths with a mean of 90 tokens, in an
//! order of arrival that is not sorted. Ids come from [`rerank_model_synth::Stream`] by name of shape and row, so that
//! `scripts/torch_forward.py`, which speaks the same protocol for PyTorch, scores the same rows and must answer with
//! the same logits.

mod args;
mod rows;
mod serve;

use std::process::ExitCode;

use clap::Parser;
use rerank_core::BackendFactory;

/// Measures `factory` as the command line says.
pub fn main(factory: &'static dyn BackendFactory) -> ExitCode {
    let args = args::Args::parse();
    serve::run(factory, &args)
}
