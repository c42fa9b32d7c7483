//! Says whether MLX exists for the target, and where its shared libraries lie on Linux: for this package's own tests,
//! and as metadata for the server's binary, so that both find them without `LD_LIBRARY_PATH`. On macOS MLX is linked
//! statically and there is nothing to find.

use std::env;

/// Set by `target/mlx/config.toml`, which `cargo xtask setup mlx` writes and `.cargo/config.toml` includes.
const LIBRARIES: &str = "RERANK_MLX_LIBRARIES";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={LIBRARIES}");
    println!("cargo::rustc-check-cfg=cfg(mlx)");
    // The targets under which Cargo.toml names mlx-rs.
    let target = ["OS", "ARCH", "ENV"].map(|part| env::var(format!("CARGO_CFG_TARGET_{part}")));
    let target = target.each_ref().map(|part| part.as_deref().unwrap_or_default());
    if matches!(target, ["macos", ..] | ["linux", "x86_64", "gnu"]) {
        println!("cargo::rustc-cfg=mlx");
    }
    if let Ok(libraries) = env::var(LIBRARIES) {
        let argument = format!("-Wl,-rpath,{libraries}");
        println!("cargo::metadata=LINK_ARGUMENTS={argument}");
        println!("cargo::rustc-link-arg={argument}");
    }
}
