//! The Apple GPU.

use candle_core::{DType as CandleDType, Device as CandleDevice, Tensor};
use rerank_core::{DType, Device, DeviceInfo};

/// The default GPU, or why there is none.
pub(super) fn devices() -> Result<Vec<DeviceInfo>, String> {
    let device = CandleDevice::new_metal(0).map_err(|error| format!("Metal answered `{error}`"))?;
    let CandleDevice::Metal(metal) = &device else {
        return Err("Metal gave no device".to_owned());
    };
    let name = metal.metal_device().architecture_name();
    let mut dtypes = vec![DType::F16, DType::F32];
    if has_bf16(&device) {
        dtypes.push(DType::BF16);
    }
    Ok(vec![DeviceInfo { device: Device::Metal, name, dtypes }])
}

/// Whether a bf16 product runs. The Metal language has the type from macOS 14 on; candle's shaders leave their bf16
/// functions out below that, which no property of the device tells.
fn has_bf16(device: &CandleDevice) -> bool {
    let product = || {
        let ones = Tensor::ones((8, 8), CandleDType::BF16, device)?;
        ones.matmul(&ones)?.to_dtype(CandleDType::F32)?.sum_all()?.to_scalar::<f32>()
    };
    product().is_ok_and(|sum| sum == 512.0)
}
