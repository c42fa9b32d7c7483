//! Layer norm, alone and fused with the residual sum before it.

use pulp::{Simd, WithSimd};
use rerank_core::Norm;

use crate::Cpu;
use crate::rows::Rows;
use crate::simd::{LANES, dispatch, mul_add};

/// A layer norm.
#[derive(Debug)]
pub struct LayerNorm {
    /// Scale, `[hidden]`.
    pub weight: Vec<f32>,
    /// Shift, `[hidden]`.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNorm {
    /// From a checkpoint's parameters.
    pub fn new(norm: Norm, epsilon: f32) -> Self {
        Self { weight: norm.weight, bias: norm.bias, epsilon }
    }

    /// In place, `norm(x + delta)` for every row of `x`, `[rows, hidden]`: the end of both halves of an encoder layer.
    pub fn add(&self, cpu: Cpu, x: &mut [f32], delta: Rows<'_>) {
        dispatch(cpu, AddNorm { norm: self, x, delta });
    }

    /// Normalises one row in place. Mean first, then the squares of what is left: one pass over the squares would
    /// lose most digits where the mean is large.
    #[inline(always)]
    pub(crate) fn normalise<S: Simd>(&self, row: &mut [f32]) {
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

struct AddNorm<'a> {
    norm: &'a LayerNorm,
    x: &'a mut [f32],
    delta: Rows<'a>,
}

impl WithSimd for AddNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, row) in self.x.chunks_exact_mut(self.delta.width()).enumerate() {
            for (x, delta) in row.iter_mut().zip(self.delta.row(index)) {
                *x += delta;
            }
            self.norm.normalise::<S>(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LayerNorm;
    use crate::{Cpu, Rows};

    #[test]
    fn rows_have_the_mean_and_spread_of_the_formula() {
        let width = 37;
        let norm = LayerNorm { weight: vec![2.0; width], bias: vec![0.5; width], epsilon: 1e-12 };
        let x: Vec<f32> = (0..2 * width).map(|i| (i as f32 * 0.7).sin() + 100.0).collect();
        let delta: Vec<f32> = (0..2 * width).map(|i| (i as f32 * 1.3).cos()).collect();
        for cpu in Cpu::detect().choices() {
            let mut got = x.clone();
            norm.add(cpu, &mut got, Rows::contiguous(&delta, width));
            for row in 0..2 {
                let sums: Vec<f64> =
                    (row * width..(row + 1) * width).map(|i| f64::from(x[i]) + f64::from(delta[i])).collect();
                let mean = sums.iter().sum::<f64>() / width as f64;
                let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                for (column, sum) in sums.iter().enumerate() {
                    let expected = 2.0 * (sum - mean) / variance.sqrt() + 0.5;
                    let error = (f64::from(got[row * width + column]) - expected).abs();
                    assert!(error < 5e-5, "{cpu}: {error}");
                }
            }
        }
    }
}
