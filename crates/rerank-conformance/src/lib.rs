//! The suite that every backend passes: one contract, one set of cases, three lines a backend.
//!
//! ```no_run
//! // tests/conformance.rs of a backend, with `harness = false`
//! # use std::process::ExitCode;
//! # use rerank_conformance::Expectations;
//! # fn suite(factory: &'static dyn rerank_core::BackendFactory) -> ExitCode {
//! static EXPECTATIONS: Expectations = Expectations::NONE;
//! rerank_conformance::run(factory, &EXPECTATIONS)
//! # }
//! ```
//!
//! Every case runs on every device that the backend probes and in every dtype that it declares there, as a test named
//! `[candle/cpu/f32] row_order`. A backend that finds no device shows as one ignored test with the probe's reason;
//! `RERANK_REQUIRE=candle` (or `candle/cuda:0`, with commas between several) turns that absence into a failure.
//!
//! A case that a backend cannot pass is listed in its [`Expectations`] with the reason, and fails the run on the day it
//! passes. Golden logits come from PyTorch transformers; `fixtures/README.md` says how.
//!
//! [`forward`] is the other thing that every backend does alike: the in-process benchmark of its forward pass.
//!
//! Deliberately absent: the name of any backend, texts, queues and threads. Cases drive [`rerank_core::Backend`] on one
//! thread, as a worker does.

mod case;
mod cases;
mod expectations;
mod failure;
pub mod forward;
mod golden;
mod harness;
mod subject;
mod tolerance;

pub use case::Case;
pub use expectations::{Expectations, ExpectedFailure, WiderTolerance};
pub use golden::GoldenModel;
pub use harness::run;
