//! The suite that every backend passes.

use std::process::ExitCode;

use rerank_conformance::{Expectations, WiderTolerance};
use rerank_core::DType;

static EXPECTATIONS: Expectations = Expectations {
    failures: &[],
    tolerances: &[WiderTolerance {
        dtype: DType::BF16,
        logit: 7.7e-1,
        reason: "MLX computes in bf16 throughout, as PyTorch does, whose own bf16 is 0.38 away from its f32",
    }],
};

fn main() -> ExitCode {
    rerank_conformance::run(&backend_mlx::FACTORY, &EXPECTATIONS)
}
