//! The buffers of one span. They live as long as the model, so that scoring allocates next to nothing.

use candle_core::{DType, Device, Result, Tensor};

/// Buffers for as many rows as the model's longest span has tokens.
pub(super) struct Workspace(Rows);

/// Views of a workspace's first rows; each tensor is `[rows, width]`.
pub(super) struct Rows {
    count: usize,
    hidden: usize,
    /// The residual stream, `hidden` wide.
    pub(super) x: Tensor,
    /// The residual stream of first tokens, `hidden` wide.
    pub(super) first: Tensor,
    /// Query, key and value, flat.
    projections: Tensor,
    /// Attention's result, `hidden` wide.
    pub(super) context: Tensor,
    /// What is added to the residual stream, `hidden` wide.
    pub(super) delta: Tensor,
    /// The feed-forward's inside, `intermediate` wide.
    pub(super) intermediate: Tensor,
    /// One wide.
    pub(super) logits: Tensor,
}

impl Workspace {
    /// Room for `rows` rows.
    pub(super) fn new(rows: usize, hidden: usize, intermediate: usize) -> Result<Self> {
        let buffer = |width: usize| Tensor::zeros((rows, width), DType::F32, &Device::Cpu);
        Ok(Self(Rows {
            count: rows,
            hidden,
            x: buffer(hidden)?,
            first: buffer(hidden)?,
            projections: Tensor::zeros(rows * 3 * hidden, DType::F32, &Device::Cpu)?,
            context: buffer(hidden)?,
            delta: buffer(hidden)?,
            intermediate: buffer(intermediate)?,
            logits: buffer(1)?,
        }))
    }

    /// Its first `rows` rows.
    pub(super) fn rows(&self, rows: usize) -> Result<Rows> {
        let view = |buffer: &Tensor| buffer.narrow(0, 0, rows);
        let all = &self.0;
        Ok(Rows {
            count: rows,
            hidden: all.hidden,
            x: view(&all.x)?,
            first: view(&all.first)?,
            projections: all.projections.clone(),
            context: view(&all.context)?,
            delta: view(&all.delta)?,
            intermediate: view(&all.intermediate)?,
            logits: view(&all.logits)?,
        })
    }
}

impl Rows {
    /// Room for `parts` projections side by side, `[rows, parts * hidden]`.
    pub(super) fn projections(&self, parts: usize) -> Result<Tensor> {
        let width = parts * self.hidden;
        self.projections.narrow(0, 0, self.count * width)?.reshape((self.count, width))
    }
}
