//! A backend on one device in one dtype, and what cases do with it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rerank_core::{Backend, BackendFactory, DType, Device, DeviceInfo, LoadSpec, Model, TokenBatch};

pub(crate) use crate::failure::Failure;
use crate::golden::{GoldenModel, GoldenRow};

/// What is under test.
pub(crate) struct Subject {
    pub(crate) factory: &'static dyn BackendFactory,
    pub(crate) found: DeviceInfo,
    pub(crate) dtype: DType,
    pub(crate) tolerance: f32,
}

/// A row to score: token ids and type ids.
pub(crate) type Row<'a> = (&'a [u32], &'a [u32]);

/// Fails the case unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(format!($($message)+).into());
        }
    };
}
pub(crate) use ensure;

impl Subject {
    /// `mock/cpu/f32`
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}", self.factory.name(), self.found.device, self.dtype)
    }

    /// What loads `model` here.
    pub(crate) fn spec(&self, model: Arc<Model>) -> LoadSpec {
        let max_length = model.config.max_length();
        LoadSpec {
            model,
            device: self.found.device,
            dtype: self.dtype,
            threads: None,
            max_length,
            options: BTreeMap::new(),
        }
    }

    /// Loads `model` and checks that the backend reports what was asked for.
    pub(crate) fn load(&self, model: Arc<Model>) -> Result<Loaded, Failure> {
        let spec = self.spec(model);
        let backend = self.factory.load(&spec)?;
        let info = backend.info();
        ensure!(info.backend == self.factory.name(), "it calls itself {}", info.backend);
        ensure!(info.device == spec.device, "it loaded on {} when asked for {}", info.device, spec.device);
        ensure!(info.dtype == spec.dtype, "it computes in {} when asked for {}", info.dtype, spec.dtype);
        ensure!(
            info.max_length >= spec.max_length,
            "it takes {} tokens, asked {}",
            info.max_length,
            spec.max_length
        );
        Ok(Loaded { backend, spec })
    }

    /// Loads the trained model: the one whose logits differ because rows do.
    pub(crate) fn load_tiny(&self) -> Result<Loaded, Failure> {
        self.load(GoldenModel::RerankTiny.model())
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.found.device == Device::Cpu
    }

    /// Fails unless two logits of one row agree within the dtype's tolerance.
    pub(crate) fn agree(&self, found: f32, expected: f32, what: impl fmt::Display) -> Result<(), Failure> {
        let difference = (found - expected).abs();
        ensure!(
            difference <= self.tolerance,
            "{what}: logit {found}, expected {expected}: {difference:e} apart, tolerance {:e}",
            self.tolerance
        );
        Ok(())
    }
}

/// A loaded backend.
pub(crate) struct Loaded {
    pub(crate) backend: Box<dyn Backend>,
    spec: LoadSpec,
}

impl Loaded {
    /// A batch of `rows` for this model.
    pub(crate) fn batch<'a>(&self, rows: impl IntoIterator<Item = Row<'a>>) -> Result<TokenBatch, Failure> {
        let mut builder = TokenBatch::builder(self.spec.model.config.row_limits(self.spec.max_length));
        for (ids, type_ids) in rows {
            builder.push(ids, type_ids)?;
        }
        Ok(builder.finish()?)
    }

    /// A warm-up batch.
    pub(crate) fn filler(&self, rows: usize, len: usize) -> Result<TokenBatch, Failure> {
        Ok(TokenBatch::filler(self.spec.model.config.row_limits(self.spec.max_length), rows, len)?)
    }

    /// Scores `rows` in one call; as many finite logits as rows, or the case fails.
    pub(crate) fn score<'a>(&mut self, rows: impl IntoIterator<Item = Row<'a>>) -> Result<Vec<f32>, Failure> {
        let batch = self.batch(rows)?;
        self.score_batch(&batch)
    }

    pub(crate) fn score_batch(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, Failure> {
        let logits = self.backend.score(batch)?;
        ensure!(logits.len() == batch.rows(), "{} logits for {} rows", logits.len(), batch.rows());
        if let Some(row) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(format!("row {row} of {} has logit {}", batch.rows(), logits[row]).into());
        }
        Ok(logits)
    }

    /// Each of `rows` in a batch of its own.
    pub(crate) fn score_alone<'a>(
        &mut self,
        rows: impl IntoIterator<Item = Row<'a>>,
    ) -> Result<Vec<f32>, Failure> {
        rows.into_iter().map(|row| Ok(self.score([row])?[0])).collect()
    }

    /// Whether the backend takes this many rows at once.
    pub(crate) fn takes(&self, rows: usize) -> bool {
        self.backend.info().max_rows.is_none_or(|most| rows <= most)
    }
}

/// Fixture rows as rows to score.
pub(crate) fn rows(golden: &[GoldenRow]) -> impl Iterator<Item = Row<'_>> {
    golden.iter().map(|row| (row.ids.as_slice(), row.type_ids.as_slice()))
}

/// Real rows of up to `longest` tokens, from the trained model's fixture.
pub(crate) fn real_rows(longest: usize) -> Vec<GoldenRow> {
    let mut rows = GoldenModel::RerankTiny.golden().rows;
    rows.retain(|row| row.ids.len() <= longest);
    rows
}
