//! The forward pass alone, without engine and wire: `cargo xtask bench forward --backends torch`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rerank_conformance::forward::main(&backend_torch::FACTORY)
}
