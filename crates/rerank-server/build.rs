//! Lets the server find at run time what it was linked with outside of Rust, so that nobody sets `LD_LIBRARY_PATH`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo keeps a library's link arguments to the library's own package, but hands this on: backend-torch's build
    // script says where libtorch is. Without the feature `torch` it is not there.
    if let Ok(folder) = env::var("DEP_RERANK_TORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
