//! The product left to candle, and so to the BLAS that it was built with; bias and activation follow in one pass.

use std::marker::PhantomData;

use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Result, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::kernels::activation::{Activate, Activation, Choose};
use crate::kernels::rows::{Rows, contiguous_mut};
use crate::kernels::simd::dispatch;

/// A dense layer as candle multiplies it.
pub(crate) struct Library {
    /// `[inputs, outputs]`, a transposed view.
    weight: Tensor,
    bias: Vec<f32>,
    activation: Activation,
}

impl Library {
    /// From `weight`, `[outputs, inputs]`, and `bias`, `[outputs]`.
    pub(super) fn new(weight: &[f32], bias: &[f32], activation: Activation) -> Result<Self> {
        let shape = (bias.len(), weight.len() / bias.len());
        let weight = Tensor::from_slice(weight, shape, &Device::Cpu)?.t()?;
        Ok(Self { weight, bias: bias.to_vec(), activation })
    }

    /// Fills `output`, `[rows, outputs]`, from `input`, `[rows, inputs]`.
    pub(super) fn forward(&self, input: &Tensor, output: &Tensor, tile_rows: usize) -> Result<()> {
        output.inplace_op2(&input.matmul(&self.weight)?, &Finish { linear: self, tile_rows })
    }

    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }
}

/// `activation(product + bias)`.
struct Finish<'a> {
    linear: &'a Library,
    tile_rows: usize,
}

impl InplaceOp2 for Finish<'_> {
    fn name(&self) -> &'static str {
        "bias-activation"
    }

    fn cpu_fwd(
        &self,
        output: &mut CpuStorage,
        output_layout: &Layout,
        product: &CpuStorage,
        product_layout: &Layout,
    ) -> Result<()> {
        let product = Rows::of(product, product_layout, self.name())?;
        let (output, width) = contiguous_mut(output, output_layout, self.name())?;
        output.par_chunks_mut(self.tile_rows * width).enumerate().for_each(|(tile, output)| {
            let product = product.skip(tile * self.tile_rows);
            self.linear.activation.choose(Sums { product, bias: &self.linear.bias, output });
        });
        Ok(())
    }
}

struct Sums<'a> {
    product: Rows<'a>,
    bias: &'a [f32],
    output: &'a mut [f32],
}

impl Choose for Sums<'_> {
    fn with<A: Activate>(self) {
        dispatch(Tile { sums: self, activation: PhantomData::<A> });
    }
}

struct Tile<'a, A> {
    sums: Sums<'a>,
    activation: PhantomData<A>,
}

impl<A: Activate> WithSimd for Tile<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Sums { product, bias, output } = self.sums;
        for (index, row) in output.chunks_exact_mut(bias.len()).enumerate() {
            for ((output, sum), bias) in row.iter_mut().zip(product.row(index)).zip(bias) {
                *output = A::activate::<S>(sum + bias);
            }
        }
    }
}
