//! The suite that every backend passes, on whatever kernels `RERANK_CPU_FEATURES` leaves.

use std::process::ExitCode;

use rerank_conformance::Expectations;

fn main() -> ExitCode {
    rerank_conformance::run(&backend_compiled::FACTORY, &Expectations::NONE)
}
