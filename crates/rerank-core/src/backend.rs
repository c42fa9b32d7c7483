//! The two traits that a backend implements: one to load a model, one to score with it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::{
    BackendError, BackendInfo, BatchShape, DType, Device, DeviceInfo, ExecutionPlan, Model, TokenBatch,
};

/// One backend crate's entry point, exported as `pub static FACTORY`. Stateless.
pub trait BackendFactory: Sync {
    /// The backend's one short name: cargo feature, `--backend` value, metrics label, row in a report.
    fn name(&self) -> &'static str;

    /// Usable devices, best first, with the dtypes that each can really run. Cheap; loads nothing; never panics.
    ///
    /// `Err` means that this backend cannot run here at all, and says why and what would help.
    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable>;

    /// Names of the options of its own that the backend takes in [`LoadSpec::options`]. Most have none.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether [`LoadSpec::threads`] may be more than one on the CPU. A backend that computes on a thread of its own refuses
    /// it, and is not given a share of the cores that nobody asked for.
    fn takes_threads(&self) -> bool {
        true
    }

    /// Loads the model on `spec.device` in `spec.dtype`. Blocks; called on the thread that will own the result.
    ///
    /// What cannot be honoured is [`BackendError::Unsupported`]; a backend never substitutes another device or dtype.
    /// Damaged or incomplete weights are [`BackendError::Load`].
    fn load(&self, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError>;
}

/// A loaded cross-encoder on one device, owned by one thread and called serially.
pub trait Backend {
    /// What was really chosen at load.
    fn info(&self) -> &BackendInfo;

    /// One raw logit per row, in row order, returned once the device has finished.
    ///
    /// On [`BackendError::OutOfMemory`] and [`BackendError::Inference`] the backend stays usable; after
    /// [`BackendError::DeviceLost`] or a panic it is dropped and loaded again.
    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, BackendError>;

    /// Compiles or allocates for batches of `filler`'s shape before traffic arrives. The default scores it.
    fn warm_up(&mut self, filler: &TokenBatch) -> Result<(), BackendError> {
        self.score(filler).map(drop)
    }

    /// The steps that a batch of this shape takes, its rows of about equal length; `None` for a backend that does not
    /// plan ahead.
    fn plan(&self, _shape: BatchShape) -> Option<ExecutionPlan> {
        None
    }
}

/// What to load, where and how. Every choice is concrete: `auto` was resolved by the caller.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// The model's configuration and weights.
    pub model: Arc<Model>,
    /// The device to load on.
    pub device: Device,
    /// The dtype to compute in.
    pub dtype: DType,
    /// CPU threads that one call may use; `None` lets the backend choose from the cores it may run on.
    pub threads: Option<NonZeroUsize>,
    /// The longest row that will be asked for, in tokens; at most [`crate::ModelConfig::max_length`].
    pub max_length: usize,
    /// Options that only some backends take, by name. Whoever calls [`BackendFactory::load`] on a user's behalf calls
    /// [`LoadSpec::refuse_unknown_options`] first.
    pub options: BTreeMap<String, String>,
}

impl LoadSpec {
    /// An option that `factory` does not take is refused by name, never ignored.
    pub fn refuse_unknown_options(&self, factory: &dyn BackendFactory) -> Result<(), BackendError> {
        match unknown_option(&self.options, factory) {
            Some(reason) => Err(BackendError::unsupported(format!("backend `{}`: {reason}", factory.name()))),
            None => Ok(()),
        }
    }
}

/// Why `factory` cannot be given these options, if it cannot.
pub fn unknown_option(options: &BTreeMap<String, String>, factory: &dyn BackendFactory) -> Option<String> {
    let unknown = options.keys().find(|name| !factory.options().contains(&name.as_str()))?;
    Some(format!("it takes no option `{unknown}`"))
}

/// Why a backend cannot run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// The reason, and what would help.
    pub reason: String,
}

impl Unavailable {
    /// From a message.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}
