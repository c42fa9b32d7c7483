//! The backends of this build. `cargo xtask new-backend` adds its two lines here.

use rerank_core::BackendFactory;

/// Preference order: `--backend auto` takes the first that can run here.
pub static BACKENDS: &[&dyn BackendFactory] = &[
    #[cfg(feature = "compiled")]
    &backend_compiled::FACTORY,
    #[cfg(feature = "candle")]
    &backend_candle_metal::FACTORY,
    // After candle, whose kernels for NVIDIA GPUs are faster.
    #[cfg(feature = "torch")]
    &backend_torch::FACTORY,
    // After candle, which has the Apple GPU too: what Metal reports too late ends a process with MLX in it.
    #[cfg(feature = "mlx")]
    &backend_mlx::FACTORY,
    #[cfg(feature = "mock")]
    &backend_mock::FACTORY,
];

/// The manifest, which already lists every backend once: a second list here could only disagree with it.
const MANIFEST: &str = include_str!("../Cargo.toml");

/// Short names of the backends that this version has, compiled in or not.
pub fn known() -> impl Iterator<Item = &'static str> {
    MANIFEST.lines().filter_map(|line| {
        let (name, value) = line.split_once(" = ")?;
        value.starts_with("[\"dep:backend-").then_some(name)
    })
}

/// The cargo features that this build was compiled with, backends first.
pub fn features() -> Vec<&'static str> {
    let others = [
        ("http", cfg!(feature = "http")),
        ("grpc", cfg!(feature = "grpc")),
        ("embedded-model", cfg!(feature = "embedded-model")),
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("mkl", cfg!(feature = "mkl")),
    ];
    BACKENDS
        .iter()
        .map(|backend| backend.name())
        .chain(others.into_iter().filter_map(|(name, on)| on.then_some(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_backend_has_its_feature_in_the_manifest() {
        for backend in BACKENDS {
            assert!(known().any(|name| name == backend.name()), "{} has no feature", backend.name());
        }
    }

    #[test]
    fn the_manifest_lists_the_backends() {
        let known: Vec<_> = known().collect();
        assert!(known.contains(&"candle") && known.contains(&"mock"), "{known:?}");
    }
}
