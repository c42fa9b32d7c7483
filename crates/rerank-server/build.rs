//! Lets the server find at run time what it was linked with outside of Rust, so that nobody sets `LD_LIBRARY_PATH`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo keeps a library's link arguments to the library's own package, but hands this on: backend-torch's build
    // script says what a program needs to find libtorch. Without the feature `torch` it is not there.
    let arguments = env::var("DEP_RERANK_TORCH_LINK_ARGUMENTS").unwrap_or_default();
    for argument in arguments.split(';').filter(|argument| !argument.is_empty()) {
        println!("cargo::rustc-link-arg={argument}");
    }
}
