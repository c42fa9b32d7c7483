//! The suite that every backend passes.

use std::process::ExitCode;

use rerank_conformance::{Case, Expectations, ExpectedFailure};

static EXPECTATIONS: Expectations = Expectations {
    failures: &[
        ExpectedFailure::new(Case::GOLDEN, "it has no model: its scores count shared words"),
        ExpectedFailure::new(&[Case::GarbageWeights], "it has no model: it reads no weights"),
    ],
    ..Expectations::NONE
};

fn main() -> ExitCode {
    rerank_conformance::run(&backend_mock::FACTORY, &EXPECTATIONS)
}
