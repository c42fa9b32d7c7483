//! The library face: reranking inside a program, blocking, in a few lines.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rerank_core::{BackendFactory, DType, Device, LoadSpec, Model};

use crate::{
    Engine, EngineError, EngineInfo, EngineOptions, PairTokenizer, Ranked, RerankRequest, Timeline,
    Truncation,
};

/// A loaded cross-encoder that ranks documents. Shared between threads; concurrent calls are batched together.
///
/// ```
/// use rerank_engine::Reranker;
///
/// let reranker = Reranker::builder()
///     .model_bytes(rerank_model_tiny::config(), rerank_model_tiny::weights(), rerank_model_tiny::tokenizer())
///     .backend(&backend_mock::FACTORY)
///     .build()?;
/// let documents = ["Rome has two airports.", "About 3.7 million people live in Berlin."];
/// let ranked = reranker.rerank("how many people live in berlin", documents)?;
/// assert_eq!(ranked[0].index, 1);
/// # Ok::<(), rerank_engine::EngineError>(())
/// ```
pub struct Reranker {
    engine: Engine,
    truncation: Truncation,
}

/// Collects what a [`Reranker`] needs.
#[derive(Default)]
pub struct RerankerBuilder {
    model: Option<Source>,
    backend: Option<&'static dyn BackendFactory>,
    device: Option<Device>,
    dtype: Option<DType>,
    threads: Option<NonZeroUsize>,
    max_length: Option<usize>,
    truncation: Truncation,
    options: EngineOptions,
}

enum Source {
    Folder(PathBuf),
    Bytes { config: &'static [u8], weights: &'static [u8], tokenizer: &'static [u8] },
}

impl Reranker {
    /// Starts with nothing chosen; a model and a backend are needed.
    pub fn builder() -> RerankerBuilder {
        RerankerBuilder::default()
    }

    /// Ranks the documents, best first. Blocks until they are scored.
    pub fn rerank<D: Into<String>>(
        &self,
        query: &str,
        documents: impl IntoIterator<Item = D>,
    ) -> Result<Vec<Ranked>, EngineError> {
        let request = RerankRequest {
            query: query.to_owned(),
            documents: documents.into_iter().map(Into::into).collect(),
            truncation: self.truncation,
            deadline: None,
            timeline: Timeline::start(),
        };
        Ok(block_on(self.engine.rerank(request))?.ranked(None))
    }

    /// What really runs.
    pub fn info(&self) -> EngineInfo {
        self.engine.info().expect("a reranker is built from a loaded engine")
    }

    /// The engine underneath, for what this face leaves out.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl RerankerBuilder {
    /// A folder with `config.json`, `tokenizer.json` and safetensors.
    #[must_use]
    pub fn model(mut self, dir: impl AsRef<Path>) -> Self {
        self.model = Some(Source::Folder(dir.as_ref().to_owned()));
        self
    }

    /// A model that is part of the program: the contents of its three files.
    #[must_use]
    pub fn model_bytes(
        mut self,
        config: &'static [u8],
        weights: &'static [u8],
        tokenizer: &'static [u8],
    ) -> Self {
        self.model = Some(Source::Bytes { config, weights, tokenizer });
        self
    }

    /// The backend that computes.
    #[must_use]
    pub fn backend(mut self, factory: &'static dyn BackendFactory) -> Self {
        self.backend = Some(factory);
        self
    }

    /// The device; by default the backend's best.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// The dtype; by default the device's best.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// CPU threads that one batch may use; by default the backend's choice.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The longest row, in tokens; by default the model's limit.
    #[must_use]
    pub fn max_length(mut self, max_length: usize) -> Self {
        self.max_length = Some(max_length);
        self
    }

    /// What to do with pairs that are too long.
    #[must_use]
    pub fn truncation(mut self, truncation: Truncation) -> Self {
        self.truncation = truncation;
        self
    }

    /// How the engine runs.
    #[must_use]
    pub fn options(mut self, options: EngineOptions) -> Self {
        self.options = options;
        self
    }

    /// Loads the model and waits until it can score.
    pub fn build(self) -> Result<Reranker, EngineError> {
        let source = self.model.ok_or_else(|| EngineError::options("no model: call `model`"))?;
        let factory = self.backend.ok_or_else(|| EngineError::options("no backend: call `backend`"))?;
        let model = match &source {
            Source::Folder(dir) => Model::open(dir, dir.display().to_string())?,
            Source::Bytes { config, weights, .. } => Model::from_bytes("embedded", config, *weights)?,
        };
        let tokenizer = match &source {
            Source::Folder(dir) => PairTokenizer::open(dir, &model.config, self.max_length)?,
            Source::Bytes { tokenizer, .. } => {
                PairTokenizer::from_bytes(tokenizer, &model.config, self.max_length)?
            }
        };
        let (device, dtype) = choose(factory, self.device, self.dtype)?;
        let max_length = tokenizer.limits().max_length;
        let spec = LoadSpec {
            model: Arc::new(model),
            device,
            dtype,
            threads: self.threads,
            max_length,
            options: BTreeMap::new(),
        };
        let engine = Engine::start(self.options, factory, spec, tokenizer)?;
        block_on(engine.ready())?;
        Ok(Reranker { engine, truncation: self.truncation })
    }
}

/// The asked device and dtype, or the backend's best. An asked one that the probe does not list goes to the backend all
/// the same: its refusal says why better than a list can.
fn choose(
    factory: &dyn BackendFactory,
    device: Option<Device>,
    dtype: Option<DType>,
) -> Result<(Device, DType), EngineError> {
    let usable = factory.probe().map_err(|unavailable| {
        EngineError::options(format!("backend `{}` cannot run here: {unavailable}", factory.name()))
    })?;
    let found = match device {
        Some(device) => usable.iter().find(|info| info.device == device),
        None => usable.first(),
    };
    let device = device
        .or(found.map(|info| info.device))
        .ok_or_else(|| EngineError::options(format!("backend `{}` finds no device here", factory.name())))?;
    let dtype = dtype.or(found.and_then(|info| info.dtypes.first().copied())).unwrap_or(DType::F32);
    Ok((device, dtype))
}

/// Waits for a future on this thread. The engine's futures are woken by its own threads, so a parked thread is all the
/// runtime they need.
fn block_on<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
