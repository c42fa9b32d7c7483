//! The suite that every backend passes.

use std::process::ExitCode;

use rerank_conformance::{Expectations, WiderTolerance};
use rerank_core::DType;

static EXPECTATIONS: Expectations = Expectations {
    failures: &[],
    tolerances: &[WiderTolerance {
        dtype: DType::BF16,
        logit: 7.7e-1,
        reason: "every activation is rounded to bf16; twice what PyTorch, which does the same, is away from its f32",
    }],
};

fn main() -> ExitCode {
    rerank_conformance::run(&backend_candle_metal::FACTORY, &EXPECTATIONS)
}
