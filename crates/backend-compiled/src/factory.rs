//! The crate's entry point: what runs on this processor, and how many threads it gets.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use rayon::ThreadPoolBuilder;
use rerank_core::{
    Backend, BackendError, BackendFactory, BackendInfo, BatchShape, DType, Device, DeviceInfo, ExecutionPlan,
    Layout, LoadSpec, ShapePolicy, TokenBatch, Unavailable,
};
use rerank_kernels::{Cpu, Feature, FeaturesError, processor};

use crate::compile::compile;
use crate::run::Runner;

/// The compiled backend, for everything that this processor has.
pub static FACTORY: CompiledFactory = CompiledFactory(None);

/// Compiles cross-encoders for this processor.
#[derive(Debug)]
pub struct CompiledFactory(Option<Cpu>);

impl CompiledFactory {
    /// For these features alone, whatever the environment says: to hold one kernel against another in one process.
    pub const fn on(cpu: Cpu) -> Self {
        Self(Some(cpu))
    }

    fn cpu(&self) -> Result<Cpu, FeaturesError> {
        self.0.map_or_else(Cpu::from_env, Ok)
    }
}

impl BackendFactory for CompiledFactory {
    fn name(&self) -> &'static str {
        "compiled"
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        let cpu = self.cpu().map_err(|error| Unavailable::new(error.to_string()))?;
        Ok(vec![DeviceInfo { device: Device::Cpu, name: processor(), dtypes: dtypes(cpu) }])
    }

    fn load(&self, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
        if spec.device != Device::Cpu {
            return Err(BackendError::unsupported(format!(
                "device `{}`: it compiles for `cpu`",
                spec.device
            )));
        }
        let cpu = self.cpu().map_err(|error| BackendError::unsupported(error.to_string()))?;
        if !dtypes(cpu).contains(&spec.dtype) {
            return Err(refused(spec.dtype, cpu));
        }
        let threads = spec.threads.map_or_else(cores, NonZeroUsize::get);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("compiled-{index}"))
            .build()
            .map_err(|error| BackendError::load_from(format!("cannot start {threads} threads"), error))?;
        let max_length = spec.max_length.min(spec.model.config.max_length());
        let plan = pool.install(|| compile(&spec.model, spec.dtype, cpu))?;
        let mut details = BTreeMap::from([
            ("kernels".to_owned(), plan.kernels().into_iter().collect::<Vec<_>>().join(", ")),
            ("cpu_features".to_owned(), cpu.to_string()),
        ]);
        if spec.dtype != DType::F32 {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let (now, before) = (plan.weight_bytes(), plan.f32_bytes());
            let saved = format!("{:.1} MB, {:.1} MB in f32", megabytes(now), megabytes(before));
            details.insert("weights".to_owned(), saved);
        }
        let info = BackendInfo {
            backend: self.name().to_owned(),
            device: Device::Cpu,
            device_name: processor(),
            dtype: spec.dtype,
            threads,
            layout: Layout::Packed,
            shapes: ShapePolicy::Dynamic,
            max_length,
            max_rows: None,
            details,
        };
        Ok(Box::new(Compiled { info, runner: Runner::new(plan, pool, max_length) }))
    }
}

/// What runs at a speed worth having. bf16 without instructions for it would be slower than f32, so it is there only
/// where it is fast, and in the portable form, which is for tests.
fn dtypes(cpu: Cpu) -> Vec<DType> {
    let mut dtypes = vec![DType::F32, DType::Int8];
    if cpu == Cpu::PORTABLE || cpu.has(Feature::Avx512Bf16) || cpu.has(Feature::AmxBf16) {
        dtypes.push(DType::BF16);
    }
    dtypes
}

fn refused(dtype: DType, cpu: Cpu) -> BackendError {
    BackendError::unsupported(match dtype {
        DType::BF16 => format!(
            "dtype `bf16`: this processor multiplies it no faster than f32 (it has {cpu}; avx512-bf16 or amx-bf16 would do)"
        ),
        other => format!("dtype `{other}`: it has `f32`, `int8` and, where the processor has, `bf16`"),
    })
}

/// Physical cores that the process may use: vector units are not shared out, so a second thread on a core gains nothing.
/// `available_parallelism` respects affinity and the control group's quota.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(num_cpus::get_physical()).max(1)
}

struct Compiled {
    info: BackendInfo,
    runner: Runner,
}

impl Backend for Compiled {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
        Ok(self.runner.score(batch))
    }

    fn plan(&self, shape: BatchShape) -> Option<ExecutionPlan> {
        Some(self.runner.describe(shape))
    }
}
