//! Compiles the kernels of the `cuda` feature to PTX, which the driver compiles for the GPU at hand when a model is loaded.
//!
//! With NVIDIA's compiler rather than its run-time library: candle's own build needs the compiler anyway, and a program
//! that is started then depends on nothing more.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    compile();
}

#[cfg(feature = "cuda")]
fn compile() {
    let folder = "src/cuda/kernels";
    println!("cargo::rerun-if-changed={folder}");
    cudaforge::KernelBuilder::new()
        .source_dir(folder)
        .watch([format!("{folder}/numbers.cuh")])
        .args(["-std=c++17", "-O3"])
        .build_ptx()
        .expect("the CUDA toolkit's nvcc compiles the kernels; CUDA_COMPUTE_CAP names the GPU where none is at hand");
    // Whoever chooses kernels must know which were compiled: tensor cores multiply bf16, and f16 in this shape, from 8.0 on.
    let capability = cudaforge::detect_compute_cap().expect("the kernels were compiled for it");
    println!("cargo::rustc-env=KERNELS_COMPUTE_CAPABILITY={}", capability.base());
}
