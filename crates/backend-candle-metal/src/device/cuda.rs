//! NVIDIA GPUs, as the driver lists them.

#![expect(unsafe_code, reason = "the driver's attribute query has no safe form that makes no context")]

use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result};
use rerank_core::{DType, Device, DeviceInfo};

/// Every GPU, or why there is none. Asks the driver only: no context is made, no memory taken.
pub(super) fn devices() -> Result<Vec<DeviceInfo>, String> {
    let describe = |error: DriverError| {
        format!("the NVIDIA driver answered {error}: check `nvidia-smi` and CUDA_VISIBLE_DEVICES")
    };
    let count = CudaContext::device_count().map_err(describe)?;
    if count == 0 {
        return Err("the NVIDIA driver lists no GPU: check `nvidia-smi` and CUDA_VISIBLE_DEVICES".to_owned());
    }
    (0..count).map(|index| describe_device(index).map_err(describe)).collect()
}

fn describe_device(index: i32) -> Result<DeviceInfo, DriverError> {
    let device = result::device::get(index)?;
    let name = result::device::get_name(device)?;
    let capability = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    // SAFETY: the handle comes from `result::device::get`, which is all that the query asks for. The safe form of it
    // retains the device's context first, and so takes hundreds of megabytes of its memory.
    let major = unsafe { result::device::get_attribute(device, capability) }?;
    // bf16 arithmetic begins with Ampere; candle compiles no bf16 kernels below.
    let dtypes =
        if major >= 8 { vec![DType::F16, DType::BF16, DType::F32] } else { vec![DType::F16, DType::F32] };
    Ok(DeviceInfo { device: Device::Cuda(index as u32), name, dtypes })
}
