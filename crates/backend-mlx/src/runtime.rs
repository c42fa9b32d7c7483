//! MLX on this machine: its devices, what runs on each, and a loaded model on one of them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use rerank_core::{
    Backend, BackendError, BackendInfo, DType, Device, DeviceInfo, Layout, LoadSpec, ShapePolicy, TokenBatch,
    Unavailable,
};

mod error;
mod graphs;
mod inputs;
mod memory;
mod model;
mod weights;

use graphs::Graphs;
use model::MlxModel;

/// Bytes of freed buffers that MLX may keep to hand out again, over all models of the process: several batches'
/// activations. MLX's own limit is all of the machine's memory.
const BUFFER_CACHE: usize = 1 << 30;

/// The Apple GPU and the CPU; on Linux, as it is built here, MLX has the CPU alone.
#[expect(clippy::unnecessary_wraps, reason = "absent.rs has the same function, which fails")]
pub(crate) fn devices() -> Result<Vec<DeviceInfo>, Unavailable> {
    let cpu = DeviceInfo {
        device: Device::Cpu,
        name: rerank_kernels::processor(),
        dtypes: vec![DType::F32, DType::F16, DType::BF16, DType::Int8],
    };
    if cfg!(target_os = "macos") {
        let gpu = DeviceInfo {
            device: Device::Metal,
            name: format!("{} GPU", cpu.name),
            dtypes: vec![DType::F16, DType::F32, DType::BF16, DType::Int8],
        };
        return Ok(vec![gpu, cpu]);
    }
    Ok(vec![cpu])
}

/// Loads the model on a device that [`devices`] lists, or says what is wrong with the wish.
pub(crate) fn load(backend: &'static str, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
    let device = find(spec.device)?;
    if !device.dtypes.contains(&spec.dtype) {
        return Err(BackendError::unsupported(format!(
            "dtype `{}` on device `{}`: it has {}",
            spec.dtype,
            spec.device,
            quoted(&device.dtypes)
        )));
    }
    let threads = threads(spec)?;
    let max_length = spec.max_length.min(spec.model.config.max_length());
    mlx_rs::memory::set_cache_limit(BUFFER_CACHE).map_err(error::loading)?;
    let graphs = Graphs::on(spec.device);
    let mut details = BTreeMap::from([
        ("graphs".to_owned(), graphs.describe()),
        ("mlx".to_owned(), "buffers of at most 1 GiB kept".to_owned()),
    ]);
    if spec.device == Device::Cpu && cfg!(target_os = "macos") {
        details.insert("products".to_owned(), "Accelerate, which adds threads of its own".to_owned());
    }
    let info = BackendInfo {
        backend: backend.to_owned(),
        device: device.device,
        device_name: device.name,
        dtype: spec.dtype,
        threads,
        layout: Layout::Padded,
        shapes: ShapePolicy::Buckets(buckets(max_length)),
        max_length,
        max_rows: None,
        details,
    };
    let model = MlxModel::load(spec, graphs)?;
    Ok(Box::new(MlxBackend { info, model }))
}

fn find(device: Device) -> Result<DeviceInfo, BackendError> {
    let devices = devices().map_err(|unavailable| BackendError::unsupported(unavailable.reason))?;
    let names = quoted(devices.iter().map(|info| info.device));
    devices.into_iter().find(|info| info.device == device).ok_or_else(|| {
        let remedy = match device {
            Device::Metal => ", and the Apple GPU on macOS",
            Device::Cuda(_) | Device::Cpu => "",
        };
        BackendError::unsupported(format!("device `{device}`: MLX has {names} here{remedy}"))
    })
}

fn quoted<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("`{item}`")).collect();
    items.join(", ")
}

/// MLX runs what it is given on one thread for each stream, and the BLAS in its wheel adds none.
fn threads(spec: &LoadSpec) -> Result<usize, BackendError> {
    match spec.threads {
        None | Some(NonZeroUsize::MIN) => Ok(1),
        Some(threads) => Err(BackendError::unsupported(format!(
            "{threads} threads on device `{}`: MLX computes a call on one thread of its own; say `--threads 1`, or \
             give it more `--workers`",
            spec.device
        ))),
    }
}

/// Lengths that rows are padded to. A graph lives for one shape, so few lengths mean few graphs; the steps grow with the
/// length, which keeps the padding below a fifth from 32 tokens on.
fn buckets(max_length: usize) -> Vec<usize> {
    let steps = (8..64).step_by(8).chain((64..256).step_by(16)).chain((256..max_length).step_by(32));
    let mut lens: Vec<usize> = steps.take_while(|&len| len < max_length).collect();
    lens.push(max_length);
    lens
}

struct MlxBackend {
    info: BackendInfo,
    model: MlxModel,
}

impl Backend for MlxBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
        let len = self.info.shapes.padded_len(batch.max_len());
        self.model.forward(batch, len).map_err(|error| error::scoring(error, batch.shape()))
    }
}

#[cfg(test)]
mod tests {
    use super::buckets;

    #[test]
    fn buckets_ascend_to_the_longest_row_and_pad_little() {
        for max_length in [1, 8, 63, 128, 514, 8192] {
            let lens = buckets(max_length);
            assert!(lens.is_sorted_by(|a, b| a < b), "{lens:?}");
            assert_eq!(lens.last(), Some(&max_length));
            for pair in lens.windows(2).filter(|pair| pair[0] >= 32) {
                let waste = 1.0 - (pair[0] + 1) as f64 / pair[1] as f64;
                assert!(waste < 0.2, "{pair:?}");
            }
        }
    }
}
