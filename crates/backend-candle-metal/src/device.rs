//! The devices that this build knows and this machine has.

use rerank_core::{BackendError, DType, Device, DeviceInfo};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "metal")]
mod metal;

/// A device family that is not compiled in: it answers every question with the remedy.
#[cfg(not(all(feature = "cuda", feature = "metal")))]
mod absent;
#[cfg(not(feature = "cuda"))]
use absent::cuda;
#[cfg(not(feature = "metal"))]
use absent::metal;

/// Every usable device, the fastest kind first.
pub(crate) fn usable() -> Vec<DeviceInfo> {
    // What a family that is missing has to say matters only to someone who asks for it by name: see `find`.
    let mut devices = cuda::devices().unwrap_or_default();
    devices.extend(metal::devices().unwrap_or_default());
    devices.push(cpu());
    devices
}

/// The usable device of this name; otherwise why it is not usable, and what would help.
pub(crate) fn find(device: Device) -> Result<DeviceInfo, BackendError> {
    let family = match device {
        Device::Cpu => return Ok(cpu()),
        Device::Cuda(_) => cuda::devices(),
        Device::Metal => metal::devices(),
    };
    let family =
        family.map_err(|reason| BackendError::unsupported(format!("device `{device}`: {reason}")))?;
    let names: Vec<String> = family.iter().map(|info| format!("`{}`", info.device)).collect();
    family.into_iter().find(|info| info.device == device).ok_or_else(|| {
        BackendError::unsupported(format!(
            "device `{device}` does not exist: this machine has {}",
            names.join(", ")
        ))
    })
}

/// candle's handle of a device that [`find`] found.
pub(crate) fn open(device: Device) -> candle_core::Result<candle_core::Device> {
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(index) => cuda::open(index as usize),
        Device::Metal => candle_core::Device::new_metal(0),
    }
}

/// f32 runs on kernels of our own. candle's f16 and bf16 products are exact enough but widen as they go: they halve
/// the weights' memory and cost speed. Built with Accelerate, candle has no f16 product on the CPU.
fn cpu() -> DeviceInfo {
    let mut dtypes = vec![DType::F32, DType::BF16];
    if !cfg!(feature = "accelerate") {
        dtypes.insert(1, DType::F16);
    }
    DeviceInfo { device: Device::Cpu, name: rerank_kernels::processor(), dtypes }
}

#[cfg(test)]
mod tests {
    use rerank_core::Device;

    use super::{find, usable};

    #[test]
    fn the_cpu_is_always_there_and_comes_last() {
        let devices = usable();
        let cpu = devices.last().unwrap();
        assert_eq!(cpu.device, Device::Cpu);
        assert!(!cpu.name.is_empty());
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_family_that_is_not_compiled_in_names_its_feature() {
        for (device, feature) in [(Device::Cuda(0), "`cuda`"), (Device::Metal, "`metal`")] {
            let error = find(device).unwrap_err().to_string();
            assert!(error.contains(feature), "{error}");
        }
    }

    #[test]
    fn a_device_beyond_the_last_is_refused() {
        assert!(find(Device::Cuda(4096)).is_err());
    }
}
