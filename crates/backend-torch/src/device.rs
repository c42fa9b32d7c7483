//! The devices that this libtorch knows and this machine has.

use rerank_core::{BackendError, DType, Device, DeviceInfo};

/// Every usable device, the fastest kind first.
pub(crate) fn usable() -> Vec<DeviceInfo> {
    let mut devices = cuda();
    devices.extend(metal());
    devices.push(cpu());
    devices
}

/// The usable device of this name; otherwise why it is not usable, and what would help.
pub(crate) fn find(device: Device) -> Result<DeviceInfo, BackendError> {
    let devices = usable();
    if let Some(info) = devices.iter().find(|info| info.device == device) {
        return Ok(info.clone());
    }
    let reason = match device {
        Device::Cuda(_) if !tch::utils::has_cuda() => {
            "this libtorch finds no CUDA: it is a build without, or there is \
             no NVIDIA driver (check `nvidia-smi`)"
                .to_owned()
        }
        Device::Metal if !tch::utils::has_mps() => {
            "this libtorch has no MPS: Apple GPUs need macOS".to_owned()
        }
        _ => {
            let names: Vec<String> = devices.iter().map(|info| format!("`{}`", info.device)).collect();
            format!("this machine has {}", names.join(", "))
        }
    };
    Err(BackendError::unsupported(format!("device `{device}`: {reason}")))
}

/// libtorch's name of a device.
pub(crate) fn handle(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index as usize),
        Device::Metal => tch::Device::Mps,
    }
}

/// bf16 is there for comparison even where the CPU has no instructions for it, and libtorch takes four times as long as
/// in f32. f16, as slow there, has nothing to be compared with: it is for CPUs that compute in it.
fn cpu() -> DeviceInfo {
    let mut dtypes = vec![DType::F32, DType::Int8, DType::BF16];
    if computes_in_f16() {
        dtypes.push(DType::F16);
    }
    DeviceInfo { device: Device::Cpu, name: rerank_kernels::processor(), dtypes }
}

fn computes_in_f16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512fp16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("fp16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// NVIDIA GPUs, as CUDA counts them. What an old one lacks, bf16 before Ampere, libtorch emulates.
fn cuda() -> Vec<DeviceInfo> {
    let count = u32::try_from(tch::Cuda::device_count()).unwrap_or(0);
    let name = nvidia_name();
    (0..count)
        .map(|index| DeviceInfo {
            device: Device::Cuda(index),
            name: name.clone(),
            dtypes: vec![DType::F16, DType::BF16, DType::F32],
        })
        .collect()
}

/// The Apple GPU.
fn metal() -> Option<DeviceInfo> {
    tch::utils::has_mps().then(|| DeviceInfo {
        device: Device::Metal,
        name: "Apple GPU".to_owned(),
        dtypes: vec![DType::F16, DType::F32],
    })
}

/// The GPUs' product name. tch does not hand CUDA's on, and the driver lists GPUs in another order than CUDA: where they
/// differ, they have only their maker's name.
fn nvidia_name() -> String {
    let folders = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut models = folders.filter_map(|folder| {
        let text = std::fs::read_to_string(folder.path().join("information")).ok()?;
        let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(model.trim().to_owned())
    });
    let first = models.next().filter(|first| models.all(|model| model == *first));
    first.unwrap_or_else(|| "NVIDIA GPU".to_owned())
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

    #[test]
    fn a_device_beyond_the_last_is_refused_by_name() {
        let error = find(Device::Cuda(4096)).unwrap_err().to_string();
        assert!(error.contains("`cuda:4096`"), "{error}");
    }
}
