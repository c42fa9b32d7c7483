//! Forward passes in-process, as `cargo xtask bench forward` drives them.

fn main() -> std::process::ExitCode {
    rerank_conformance::forward::main(&backend_compiled::FACTORY)
}
