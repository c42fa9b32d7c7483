//! From wishes to an engine that loads its model: select, open, start.

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Context, Result};
use rerank_core::{Device, LoadSpec};
use rerank_engine::{Engine, EngineOptions, PairTokenizer};

use crate::cli::ModelArgs;
use crate::model_store::{self, Hub};
use crate::{config, registry, select};

/// An engine whose workers load the model, and what the model is called.
pub struct Loading {
    /// The engine; [`Engine::ready`] says when it is.
    pub engine: Engine,
    /// The model's name in answers and logs.
    pub model: String,
}

/// Selects backend, device and dtype, opens the model, which may download it, and starts the engine.
pub fn start(args: &ModelArgs, options: EngineOptions) -> Result<Loading> {
    let known: Vec<&str> = registry::known().collect();
    let selection = select::select(&config::wishes(args), registry::BACKENDS, &known)?;
    for rejection in &selection.rejected {
        tracing::info!(backend = rejection.backend, reason = rejection.reason, "auto passed a backend over");
    }
    let hub = Hub::from_env(|name| std::env::var(name).ok(), args.offline);
    let open = model_store::open(&args.model, &hub)?;
    let tokenizer = PairTokenizer::from_bytes(
        &open.tokenizer,
        &open.model.config,
        args.max_length.map(NonZeroUsize::get),
    )?;
    let model = open.model.name.clone();
    let takes_threads = selection.factory.takes_threads();
    let share = || shared_threads(selection.device, options.workers).filter(|_| takes_threads);
    let threads = args.threads.or_else(share);
    let (backend, device, dtype) = (selection.factory.name(), selection.device, selection.dtype);
    tracing::info!(model, backend, %device, %dtype, workers = options.workers, "loading");
    let max_length = tokenizer.limits().max_length;
    let spec = LoadSpec {
        model: Arc::new(open.model),
        device,
        dtype,
        threads,
        max_length,
        options: config::backend_options(args),
    };
    let engine = Engine::start(options, selection.factory, spec, tokenizer)
        .with_context(|| format!("cannot serve `{model}`"))?;
    Ok(Loading { engine, model })
}

/// One worker leaves the choice to its backend; several on the CPU share the cores, since each would take all of them.
/// Physical ones: two threads on one core wait for the same vector units.
fn shared_threads(device: Device, workers: usize) -> Option<NonZeroUsize> {
    let cores =
        std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(num_cpus::get_physical());
    (device == Device::Cpu && workers > 1)
        .then(|| NonZeroUsize::new(cores / workers).unwrap_or(NonZeroUsize::MIN))
}
