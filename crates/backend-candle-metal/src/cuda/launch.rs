//! Where kernels are loaded and launched, and where tensors become addresses.

#![expect(unsafe_code, reason = "a launch trusts its arguments, and new memory is not written to first")]

use std::sync::Arc;

use candle_core::backend::BackendDevice as _;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr as _, LaunchConfig, PushKernelArg as _,
};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr as _};
use candle_core::{CudaDevice, CudaStorage, DType, Error, Layout, Result, Shape, Storage, Tensor, bail};

/// A compiled kernel and the stream that it is launched on.
pub(super) struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

/// What a kernel is passed. An address is of device memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    Address(u64),
    F32(f32),
    /// `int`
    I32(i32),
    /// `unsigned`
    U32(u32),
}

impl Kernel {
    pub(super) fn load(device: &CudaDevice, name: &str, module: &str, ptx: &str) -> Result<Self> {
        let function = device
            .get_or_load_custom_func(name, module, ptx)
            .map_err(|error| error.context(format!("kernel `{name}`")))?
            .into_cuda_function();
        Ok(Self { function, stream: device.cuda_stream() })
    }

    /// Launches `grid` blocks of `threads` threads with `shared` bytes of dynamic shared memory.
    ///
    /// # Safety
    ///
    /// `arguments` are of the kernel's parameters' types and in their order, and what it reads and writes for them in a
    /// grid of this size lies inside the tensors whose addresses they are. Those tensors are used on this device's one
    /// stream only.
    pub(super) unsafe fn launch(
        &self,
        grid: (usize, usize),
        threads: u32,
        shared: u32,
        arguments: &[Argument],
    ) -> Result<()> {
        let mut builder = self.stream.launch_builder(&self.function);
        for argument in arguments {
            match argument {
                Argument::Address(value) => builder.arg(value),
                Argument::F32(value) => builder.arg(value),
                Argument::I32(value) => builder.arg(value),
                Argument::U32(value) => builder.arg(value),
            };
        }
        let size = |blocks: usize| u32::try_from(blocks).map_err(Error::wrap);
        let config = LaunchConfig {
            grid_dim: (size(grid.0)?, size(grid.1)?, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: shared,
        };
        // SAFETY: the caller vouches for the arguments.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

/// Where a contiguous tensor's first value lies.
pub(super) fn address(storage: &CudaStorage, layout: &Layout) -> Result<Argument> {
    address_behind(storage, layout, 0)
}

/// Where the value lies that comes after so many.
pub(super) fn address_behind(storage: &CudaStorage, layout: &Layout, values: usize) -> Result<Argument> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a kernel was given a tensor that is not contiguous: {layout:?}")
    };
    let start = (start + values).min(end);
    Ok(Argument::Address(match &storage.slice {
        CudaStorageSlice::U32(slice) => at(slice, start),
        CudaStorageSlice::F16(slice) => at(slice, start),
        CudaStorageSlice::BF16(slice) => at(slice, start),
        CudaStorageSlice::F32(slice) => at(slice, start),
        _ => bail!("no kernel takes a tensor of {:?}", candle_core::backend::BackendStorage::dtype(storage)),
    }))
}

fn at<T>(slice: &CudaSlice<T>, start: usize) -> u64 {
    slice.device_ptr(slice.stream()).0 + (start * size_of::<T>()) as u64
}

/// [`address`] of a tensor that the op owns or borrows, which keeps it alive until the launch is queued: memory is
/// given back in stream order.
pub(super) fn address_of(tensor: &Tensor) -> Result<Argument> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => address(storage, layout),
        Storage::Cpu(_) | Storage::Metal(_) => bail!("a kernel was given a tensor that is not on the GPU"),
    }
}

/// Memory for a result, which the kernel that is launched next writes whole.
pub(super) fn allocate(device: &CudaDevice, shape: &Shape, dtype: DType) -> Result<CudaStorage> {
    // SAFETY: every op launches a kernel that writes all of it before anything that comes later on the stream reads it.
    unsafe { device.alloc_uninit(shape, dtype) }
}
