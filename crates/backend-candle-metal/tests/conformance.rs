//! The suite that every backend passes.

use std::process::ExitCode;

use rerank_conformance::Expectations;

static EXPECTATIONS: Expectations = Expectations::NONE;

fn main() -> ExitCode {
    rerank_conformance::run(&backend_candle_metal::FACTORY, &EXPECTATIONS)
}
