//! Stand-ins for the device families that are not compiled in.

#[cfg(not(feature = "cuda"))]
pub(super) mod cuda {
    use rerank_core::DeviceInfo;

    pub(crate) fn devices() -> Result<Vec<DeviceInfo>, String> {
        Err("not in this build: rebuild with the cargo feature `cuda`, which needs the CUDA toolkit"
            .to_owned())
    }

    pub(crate) fn open(index: usize) -> candle_core::Result<candle_core::Device> {
        candle_core::Device::new_cuda(index)
    }
}

#[cfg(not(feature = "metal"))]
pub(super) mod metal {
    use rerank_core::DeviceInfo;

    pub(crate) fn devices() -> Result<Vec<DeviceInfo>, String> {
        Err("not in this build: rebuild on macOS with the cargo feature `metal`".to_owned())
    }
}
