//! The crate's entry point, the same wherever it is compiled; `runtime` is MLX, or the reason why there is none.

use rerank_core::{Backend, BackendError, BackendFactory, DeviceInfo, LoadSpec, Unavailable};

use crate::runtime;

/// The MLX backend.
pub static FACTORY: MlxFactory = MlxFactory(());

/// Loads cross-encoders on MLX.
#[derive(Debug)]
pub struct MlxFactory(());

impl BackendFactory for MlxFactory {
    fn name(&self) -> &'static str {
        "mlx"
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        runtime::devices()
    }

    fn takes_threads(&self) -> bool {
        false
    }

    fn load(&self, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
        runtime::load(self.name(), spec)
    }
}
