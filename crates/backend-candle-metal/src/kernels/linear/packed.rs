//! Weights packed at load for the kernels here, bias and activation applied before sums leave registers.

use std::marker::PhantomData;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::kernels::activation::{Activate, Activation, Choose};
use crate::kernels::rows::{Rows, contiguous_mut};
use crate::kernels::simd::{LANES, Lanes, dispatch};
use crate::kernels::tile::{Sink, multiply};

/// A dense layer in panels.
pub(crate) struct Packed {
    /// Sixteen output columns after another: `[ceil(outputs / 16)][inputs]`, zero beyond the last output.
    panels: Vec<Lanes>,
    bias: Vec<Lanes>,
    inputs: usize,
    outputs: usize,
    activation: Activation,
}

impl Packed {
    /// From `weight`, `[outputs, inputs]`, and `bias`, `[outputs]`.
    pub(super) fn new(weight: &[f32], bias: &[f32], activation: Activation) -> Self {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
        let groups = outputs.div_ceil(LANES);
        let mut panels = vec![[0.0; LANES]; groups * inputs];
        let mut padded_bias = vec![[0.0; LANES]; groups];
        for (output, (row, &bias)) in weight.chunks_exact(inputs).zip(bias).enumerate() {
            let (group, lane) = (output / LANES, output % LANES);
            padded_bias[group][lane] = bias;
            for (panel, &weight) in panels[group * inputs..].iter_mut().zip(row) {
                panel[lane] = weight;
            }
        }
        Self { panels, bias: padded_bias, inputs, outputs, activation }
    }

    /// Fills `output`, `[rows, outputs]`, from `input`, `[rows, inputs]`; tiles of `tile_rows` rows run in parallel.
    pub(super) fn forward(&self, input: &Tensor, output: &Tensor, tile_rows: usize) -> Result<()> {
        output.inplace_op2(input, &Forward { linear: self, tile_rows })
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }
}

struct Forward<'a> {
    linear: &'a Packed,
    tile_rows: usize,
}

impl InplaceOp2 for Forward<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        output: &mut CpuStorage,
        output_layout: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
    ) -> Result<()> {
        let input = Rows::of(input, input_layout, self.name())?;
        let (output, width) = contiguous_mut(output, output_layout, self.name())?;
        if input.width != self.linear.inputs || width != self.linear.outputs {
            bail!(
                "linear: {} to {width} columns, built for {} to {}",
                input.width,
                self.linear.inputs,
                self.linear.outputs
            );
        }
        output.par_chunks_mut(self.tile_rows * width).enumerate().for_each(|(tile, output)| {
            let input = input.skip(tile * self.tile_rows);
            self.linear.activation.choose(Product { linear: self.linear, input, output });
        });
        Ok(())
    }
}

struct Product<'a> {
    linear: &'a Packed,
    input: Rows<'a>,
    output: &'a mut [f32],
}

impl Choose for Product<'_> {
    fn with<A: Activate>(self) {
        dispatch(Tile { product: self, activation: PhantomData::<A> });
    }
}

struct Tile<'a, A> {
    product: Product<'a>,
    activation: PhantomData<A>,
}

impl<A: Activate> WithSimd for Tile<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Packed { panels, bias, inputs, outputs, .. } = self.product.linear;
        let rows = self.product.output.len() / outputs;
        for (group, (panel, &bias)) in panels.chunks_exact(*inputs).zip(bias).enumerate() {
            let mut columns = Columns::<A> {
                output: &mut self.product.output[group * LANES..],
                stride: *outputs,
                width: LANES.min(outputs - group * LANES),
                activation: PhantomData,
            };
            multiply::<S>(self.product.input, rows, panel, bias, &mut columns);
        }
    }
}

/// Up to sixteen columns of the output.
struct Columns<'a, A> {
    output: &'a mut [f32],
    stride: usize,
    width: usize,
    activation: PhantomData<A>,
}

impl<A: Activate> Sink for Columns<'_, A> {
    #[inline(always)]
    fn put<S: Simd, const R: usize>(&mut self, row: usize, sums: [Lanes; R]) {
        let output = &mut self.output[row * self.stride..];
        for r in 0..R {
            let values = A::lanes::<S>(sums[r]);
            let output = &mut output[r * self.stride..];
            // A copy of constant length is two stores; one of unknown length is a library call.
            if self.width == LANES {
                output[..LANES].copy_from_slice(&values);
            } else {
                output[..self.width].copy_from_slice(&values[..self.width]);
            }
        }
    }
}
