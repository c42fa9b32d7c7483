//! Lets the program find the shared libraries that backends link to, without `LD_LIBRARY_PATH`.
//!
//! Cargo keeps a library's link arguments to the library's own package, but hands on what a build script says under its
//! `links` name: of each backend that needs it, the arguments that a program needs. Without the backend's feature there
//! are none.

use std::env;

const BACKENDS: [&str; 2] = ["DEP_RERANK_MLX_LINK_ARGUMENTS", "DEP_RERANK_TORCH_LINK_ARGUMENTS"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for arguments in BACKENDS.iter().filter_map(|name| env::var(name).ok()) {
        for argument in arguments.split(';').filter(|argument| !argument.is_empty()) {
            println!("cargo::rustc-link-arg={argument}");
        }
    }
}
