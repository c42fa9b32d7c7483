//! The crate's entry point: probing, choosing the form of the model, and reporting what was chosen.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use rayon::{ThreadPool, ThreadPoolBuilder};
use rerank_core::{
    Backend, BackendError, BackendFactory, BackendInfo, DType, Device, DeviceInfo, Layout, LoadSpec,
    ShapePolicy, TokenBatch, Unavailable,
};
use rerank_kernels::{Cpu, instruction_set};

#[cfg(feature = "cuda")]
use crate::model::fused::FusedModel;
use crate::model::packed::PackedModel;
use crate::model::padded::PaddedModel;
use crate::{device, error, kernels};

/// The candle backend.
pub static FACTORY: CandleFactory = CandleFactory(());

/// Loads cross-encoders on candle.
#[derive(Debug)]
pub struct CandleFactory(());

impl BackendFactory for CandleFactory {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        Ok(device::usable())
    }

    fn load(&self, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
        let device = device::find(spec.device)?;
        if !device.dtypes.contains(&spec.dtype) {
            let dtypes: Vec<String> = device.dtypes.iter().map(|dtype| format!("`{dtype}`")).collect();
            return Err(BackendError::unsupported(format!(
                "dtype `{}` on device `{}`: it has {}",
                spec.dtype,
                spec.device,
                dtypes.join(", ")
            )));
        }
        let threads = threads(spec)?;
        let max_length = spec.max_length.min(spec.model.config.max_length());
        let form = match (spec.device, spec.dtype) {
            (Device::Cpu, DType::F32) => {
                Form::Packed(Box::new(PackedModel::load(&spec.model, max_length, threads, cpu()?)?))
            }
            _ => Form::on_candle(spec, threads)?,
        };
        let info = BackendInfo {
            backend: self.name().to_owned(),
            device: device.device,
            device_name: device.name,
            dtype: spec.dtype,
            threads,
            layout: form.layout(),
            shapes: ShapePolicy::Dynamic,
            max_length,
            max_rows: None,
            details: form.details(),
        };
        Ok(Box::new(CandleBackend { info, form }))
    }
}

/// The instruction sets that the environment leaves.
fn cpu() -> Result<Cpu, BackendError> {
    Cpu::from_env().map_err(|error| BackendError::unsupported(error.to_string()))
}

/// CPU threads of one call: on a GPU, the one that launches.
fn threads(spec: &LoadSpec) -> Result<usize, BackendError> {
    match (spec.device, spec.threads) {
        (Device::Cpu, Some(threads)) => Ok(threads.get()),
        (Device::Cpu, None) => Ok(std::thread::available_parallelism().map_or(1, NonZeroUsize::get)),
        (_, None | Some(NonZeroUsize::MIN)) => Ok(1),
        (device, Some(threads)) => Err(BackendError::unsupported(format!(
            "{threads} threads on device `{device}`: its calls come from one thread, leave the number out"
        ))),
    }
}

/// A loaded model, in the form that suits its device and dtype.
enum Form {
    Packed(Box<PackedModel>),
    #[cfg(feature = "cuda")]
    Fused(Box<FusedModel>),
    /// On the CPU, candle's operations run in `pool`, so that they use no more threads than they were given.
    Padded {
        model: Box<PaddedModel>,
        pool: Option<ThreadPool>,
    },
}

impl Form {
    /// The form on a GPU, or on the CPU in other dtypes than f32.
    fn on_candle(spec: &LoadSpec, threads: usize) -> Result<Self, BackendError> {
        let dtype = match spec.dtype {
            DType::F32 => candle_core::DType::F32,
            DType::F16 => candle_core::DType::F16,
            DType::BF16 => candle_core::DType::BF16,
            DType::Int8 => {
                return Err(BackendError::unsupported("dtype `int8`: candle has no int8 products"));
            }
        };
        let pool = match spec.device {
            Device::Cpu => Some(ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
                BackendError::load_from(format!("cannot start {threads} threads"), error)
            })?),
            Device::Cuda(_) | Device::Metal => None,
        };
        let device = device::open(spec.device).map_err(error::loading)?;
        #[cfg(feature = "cuda")]
        if device.is_cuda() && crate::cuda::fits(&spec.model.config) {
            return Ok(Self::Fused(Box::new(FusedModel::load(&spec.model, &device, dtype)?)));
        }
        Ok(Self::Padded { model: Box::new(PaddedModel::load(&spec.model, &device, dtype)?), pool })
    }

    fn layout(&self) -> Layout {
        match self {
            Self::Packed(_) => Layout::Packed,
            #[cfg(feature = "cuda")]
            Self::Fused(_) => Layout::Packed,
            Self::Padded { .. } => Layout::Padded,
        }
    }

    fn details(&self) -> BTreeMap<String, String> {
        let kernels = match self {
            Self::Packed(model) => format!("own, {}", instruction_set(model.cpu())),
            #[cfg(feature = "cuda")]
            Self::Fused(model) => model.kernels().to_owned(),
            Self::Padded { .. } => "candle".to_owned(),
        };
        let mut details = BTreeMap::from([("kernels".to_owned(), kernels)]);
        if let (Self::Packed(_), true) = (self, kernels::ON_ACCELERATE) {
            details.insert("products".to_owned(), "Accelerate, which adds threads of its own".to_owned());
        }
        details
    }

    fn forward(&self, batch: &TokenBatch) -> candle_core::Result<Vec<f32>> {
        match self {
            Self::Packed(model) => model.forward(batch),
            #[cfg(feature = "cuda")]
            Self::Fused(model) => model.forward(batch),
            Self::Padded { model, pool: Some(pool) } => pool.install(|| model.forward(batch)),
            Self::Padded { model, pool: None } => model.forward(batch),
        }
    }
}

struct CandleBackend {
    info: BackendInfo,
    form: Form,
}

impl Backend for CandleBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
        self.form.forward(batch).map_err(|error| error::scoring(error, batch.shape()))
    }
}
