//! Where MLX does not exist: every question is answered with the reason.

use rerank_core::{Backend, BackendError, DeviceInfo, LoadSpec, Unavailable};

const REASON: &str =
    "MLX runs on macOS and on x86-64 Linux with glibc: choose another backend on this machine";

pub(crate) fn devices() -> Result<Vec<DeviceInfo>, Unavailable> {
    Err(Unavailable::new(REASON))
}

pub(crate) fn load(_: &'static str, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
    Err(BackendError::unsupported(format!("device `{}` in `{}`: {REASON}", spec.device, spec.dtype)))
}
