//! The crate's entry point: probing, choosing the form of the model, and reporting what was chosen.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use rerank_core::{
    Backend, BackendError, BackendFactory, BackendInfo, DType, Device, DeviceInfo, Layout, LoadSpec,
    ShapePolicy, TokenBatch, Unavailable,
};
use tch::TchError;

use crate::model::{EagerModel, Precision};
use crate::module::{MODULE_OPTION, ScriptModule};
use crate::{device, error};

/// The torch backend.
pub static FACTORY: TorchFactory = TorchFactory(());

/// Loads cross-encoders on libtorch.
#[derive(Debug)]
pub struct TorchFactory(());

impl BackendFactory for TorchFactory {
    fn name(&self) -> &'static str {
        "torch"
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        Ok(device::usable())
    }

    fn options(&self) -> &'static [&'static str] {
        &[MODULE_OPTION]
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
        let _inference = tch::no_grad_guard();
        let form = match spec.options.get(MODULE_OPTION) {
            Some(file) => Form::Module(ScriptModule::load(Path::new(file), spec)?),
            None => Form::Eager(Box::new(EagerModel::load(
                &spec.model,
                device::handle(spec.device),
                Precision::of(spec.dtype),
            )?)),
        };
        let info = BackendInfo {
            backend: self.name().to_owned(),
            device: device.device,
            device_name: device.name,
            dtype: spec.dtype,
            threads,
            layout: Layout::Padded,
            shapes: ShapePolicy::Dynamic,
            max_length: spec.max_length.min(spec.model.config.max_length()),
            max_rows: None,
            details: form.details(spec),
        };
        Ok(Box::new(TorchBackend { info, form }))
    }
}

/// CPU threads of one call: on a GPU, the one that launches.
///
/// libtorch's own loops take the OpenMP setting of the thread that calls, so that workers, each a thread, have a team
/// each; MKL's products take one number for the process, which is the same because all workers are given the same. Left
/// to itself libtorch takes the physical cores; a container's share of them it does not know.
fn threads(spec: &LoadSpec) -> Result<usize, BackendError> {
    match (spec.device, spec.threads) {
        (Device::Cpu, asked) => {
            let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            // Asked before it is set: the first question makes this thread take over the number that another set last.
            let own_choice = usize::try_from(tch::get_num_threads()).unwrap_or(1);
            let threads = asked.map_or_else(|| cores().min(own_choice), NonZeroUsize::get);
            let count = i32::try_from(threads)
                .map_err(|_| BackendError::unsupported(format!("{threads} threads: lower --threads")))?;
            tch::set_num_threads(count);
            let set = tch::get_num_threads();
            if set == count {
                Ok(threads)
            } else {
                Err(BackendError::unsupported(format!(
                    "{threads} threads: libtorch takes {set}; this is a libtorch without OpenMP, or \
                     OMP_THREAD_LIMIT is set"
                )))
            }
        }
        (_, None | Some(NonZeroUsize::MIN)) => Ok(1),
        (device, Some(threads)) => Err(BackendError::unsupported(format!(
            "{threads} threads on device `{device}`: its calls come from one thread, leave the number out"
        ))),
    }
}

/// A loaded model.
enum Form {
    /// Built from the checkpoint.
    Eager(Box<EagerModel>),
    /// Somebody's export.
    Module(ScriptModule),
}

impl Form {
    fn details(&self, spec: &LoadSpec) -> BTreeMap<String, String> {
        let mut details = BTreeMap::from([("libtorch".to_owned(), env!("RERANK_LIBTORCH").to_owned())]);
        match self {
            Self::Eager(_) => {
                details.insert("attention".to_owned(), "scaled_dot_product_attention".to_owned());
                if spec.dtype == DType::Int8 {
                    details.insert("products".to_owned(), "quantized::linear_dynamic".to_owned());
                }
            }
            Self::Module(module) => {
                details.insert("module".to_owned(), module.file().display().to_string());
            }
        }
        details
    }

    fn forward(&self, batch: &TokenBatch) -> Result<Vec<f32>, TchError> {
        match self {
            Self::Eager(model) => model.forward(batch),
            Self::Module(module) => module.forward(batch),
        }
    }
}

struct TorchBackend {
    info: BackendInfo,
    form: Form,
}

impl Backend for TorchBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
        let _inference = tch::no_grad_guard();
        self.form.forward(batch).map_err(|error| error::scoring(error, batch.shape()))
    }
}
