//! NVIDIA GPUs, as the driver lists them.

#![expect(unsafe_code, reason = "some of the driver's settings and questions have no safe form")]

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUmemPool_attribute};
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

/// candle's handle of a GPU, set up for one stream and for many short operations.
pub(super) fn open(index: usize) -> candle_core::Result<candle_core::Device> {
    // A stream of its own: candle's usual one is another for each thread, and models are not used where they were loaded.
    let device = candle_core::Device::new_cuda_with_stream(index)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: nothing of this backend runs on a second stream, so there is nothing to keep in order. Events would cost
    // two creations for each tensor.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(index).w()?;
    Ok(device)
}

/// Lets the driver keep what tensors give back. It returns free memory to the system at each synchronisation otherwise,
/// and every batch ends with one: the next would wait for all of its memory again.
fn keep_memory(index: usize) -> Result<(), DriverError> {
    let device = result::device::get(index as i32)?;
    let mut most = u64::MAX;
    let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the handle comes from `result::device::get`, the pool from the device, and this attribute is a `cuuint64_t`
    // that is read during the call.
    unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        result::mem_pool::set_attribute(pool, threshold, (&raw mut most).cast())
    }
}
