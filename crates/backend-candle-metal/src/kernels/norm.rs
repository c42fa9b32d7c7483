//! Layer norm, alone and fused with the residual sum before it.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::rows::{Rows, contiguous_mut};
use super::simd::{LANES, dispatch, mul_add};

/// A layer norm's parameters.
pub(crate) struct LayerNorm {
    /// Scale, `[hidden]`.
    pub(crate) weight: Vec<f32>,
    /// Shift, `[hidden]`.
    pub(crate) bias: Vec<f32>,
    /// Added to the variance.
    pub(crate) epsilon: f32,
}

impl LayerNorm {
    /// Normalises one row in place. Mean first, then the squares of what is left: one pass over the squares would
    /// lose most digits where the mean is large.
    #[inline(always)]
    pub(super) fn normalise<S: Simd>(&self, row: &mut [f32]) {
        let width = row.len() as f32;
        let mean = sum(row, |x, sum| x + sum) / width;
        for x in &mut *row {
            *x -= mean;
        }
        let variance = sum(row, |x, sum| mul_add::<S>(x, x, sum)) / width;
        let scale = 1.0 / (variance + self.epsilon).sqrt();
        for ((x, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
            *x = mul_add::<S>(*x * scale, *weight, *bias);
        }
    }
}

/// Folds a row into sixteen running sums and adds those up.
#[inline(always)]
fn sum(row: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let (groups, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for group in groups {
        for (sum, &x) in sums.iter_mut().zip(group) {
            *sum = add(x, *sum);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum = add(x, *sum);
    }
    sums.into_iter().sum()
}

/// In place, `norm(x + delta)`: the end of both halves of an encoder layer.
pub(crate) struct AddNorm<'a> {
    pub(crate) norm: &'a LayerNorm,
    pub(crate) tile_rows: usize,
}

impl InplaceOp2 for AddNorm<'_> {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        delta: &CpuStorage,
        delta_layout: &Layout,
    ) -> Result<()> {
        let delta = Rows::of(delta, delta_layout, self.name())?;
        let (x, width) = contiguous_mut(x, x_layout, self.name())?;
        x.par_chunks_mut(self.tile_rows * width).enumerate().for_each(|(tile, x)| {
            dispatch(Tile { norm: self.norm, x, delta: delta.skip(tile * self.tile_rows), width });
        });
        Ok(())
    }
}

struct Tile<'a> {
    norm: &'a LayerNorm,
    x: &'a mut [f32],
    delta: Rows<'a>,
    width: usize,
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, row) in self.x.chunks_exact_mut(self.width).enumerate() {
            for (x, delta) in row.iter_mut().zip(self.delta.row(index)) {
                *x += delta;
            }
            self.norm.normalise::<S>(row);
        }
    }
}
