//! Lets the program find the shared libraries that backends link to, without `LD_LIBRARY_PATH`. A backend's build script
//! says where they lie; a linker argument reaches only the programs of the package that gives it, so it is given here.

use std::env;

/// (feature, what the backend's build script says, by its `links` name).
const BACKENDS: [(&str, &str); 1] = [("CARGO_FEATURE_MLX", "DEP_RERANK_MLX_LIBRARIES")];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (feature, libraries) in BACKENDS {
        if let (Ok(_), Ok(libraries)) = (env::var(feature), env::var(libraries)) {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{libraries}");
        }
    }
}
