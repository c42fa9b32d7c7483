//! The property that tests and the fuzz target share: however a batch is laid out, every kernel and every number of
//! threads gives the logits of the portable kernel.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use backend_compiled::CompiledFactory;
use rerank_conformance::GoldenModel;
use rerank_core::{Backend, BackendFactory, DType, Device, LoadSpec, RowLimits, TokenBatch};
use rerank_kernels::Cpu;

/// Threads that share a batch.
const THREADS: [usize; 2] = [1, 3];

/// One model on every kernel that this processor can run.
pub(crate) struct Agreement {
    limits: RowLimits,
    tolerance: f32,
    oracle: Box<dyn Backend>,
    /// For each set of features: what it is called, and the model with each number of threads.
    subjects: Vec<(String, [Box<dyn Backend>; 2])>,
}

impl Agreement {
    /// Loads the small trained model.
    pub(crate) fn load(dtype: DType) -> Self {
        let model = GoldenModel::RerankTiny.model();
        let max_length = model.config.max_length();
        let limits = model.config.row_limits(max_length);
        let load = |cpu: Cpu, threads: usize| {
            let spec = LoadSpec {
                model: model.clone(),
                device: Device::Cpu,
                dtype,
                threads: NonZeroUsize::new(threads),
                max_length,
                options: BTreeMap::new(),
            };
            CompiledFactory::on(cpu).load(&spec).expect("the portable form takes every dtype")
        };
        let runs = |cpu: &Cpu| {
            let devices = CompiledFactory::on(*cpu).probe().expect("a CPU is always there");
            devices.iter().any(|device| device.dtypes.contains(&dtype))
        };
        let subjects = Cpu::detect().choices().into_iter().filter(runs);
        Self {
            limits,
            tolerance: tolerance(dtype),
            oracle: load(Cpu::PORTABLE, 1),
            subjects: subjects
                .map(|cpu| (cpu.to_string(), THREADS.map(|threads| load(cpu, threads))))
                .collect(),
        }
    }

    /// Scores rows of these lengths everywhere. Lengths are cut to what the model takes; `tokens` are reduced to its
    /// vocabulary, in turn.
    pub(crate) fn check(&mut self, lengths: &[usize], tokens: &[u32]) -> Result<(), String> {
        let batch = batch(self.limits, lengths, tokens);
        let score = |backend: &mut Box<dyn Backend>| backend.score(&batch).map_err(|error| error.to_string());
        let expected = score(&mut self.oracle)?;
        for (features, backends) in &mut self.subjects {
            let [one, several] = backends;
            let logits = score(one)?;
            if logits != score(several)? {
                return Err(format!("{features}: another number of threads gives another logit"));
            }
            for (row, (logit, expected)) in logits.iter().zip(&expected).enumerate() {
                let apart = (logit - expected).abs();
                if apart.is_nan() || apart > self.tolerance {
                    return Err(format!(
                        "{features}: row {row} has logit {logit}, on the portable kernel {expected}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// f32 sums differ by their order. int8 sums are exact, but what goes into them may fall to the other side of a half.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => 1e-4,
        DType::Int8 => 1e-1,
        // Which sums are rounded to bf16 again, and how, differs with their order.
        DType::F16 | DType::BF16 => 3e-2,
    }
}

fn batch(limits: RowLimits, lengths: &[usize], tokens: &[u32]) -> TokenBatch {
    let mut tokens = tokens.iter().copied().chain([7]).cycle();
    let mut builder = TokenBatch::builder(limits);
    for &length in lengths {
        let length = length.clamp(1, limits.max_length);
        let ids: Vec<u32> = tokens.by_ref().take(length).map(|id| id % limits.vocab_size as u32).collect();
        let types: Vec<u32> = (0..length).map(|at| u32::from(2 * at > length)).collect();
        builder.push(&ids, &types).expect("ids and lengths were reduced to the limits");
    }
    builder.finish().expect("there is a row")
}
