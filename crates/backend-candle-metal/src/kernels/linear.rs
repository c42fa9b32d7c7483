//! A dense layer whose weights were packed at load, with bias and activation applied before sums leave registers.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use rerank_core::Activation as FeedForward;

use super::activation::{self, Activate, Activation};
use super::rows::{Rows, contiguous_mut};
use super::simd::{LANES, Lanes, dispatch};
use super::tile::{Sink, multiply};

/// `activation(x * weight^T + bias)` for rows `x`.
pub(crate) struct Linear {
    /// Sixteen output columns after another: `[ceil(outputs / 16)][inputs]`, zero beyond the last output.
    panels: Vec<Lanes>,
    bias: Vec<Lanes>,
    inputs: usize,
    outputs: usize,
    activation: Activation,
}

impl Linear {
    /// From `weight`, `[outputs, inputs]` row-major as PyTorch has it, and `bias`, `[outputs]`.
    pub(crate) fn new(weight: &[f32], bias: &[f32], activation: Activation) -> Self {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
        assert_eq!(weight.len(), outputs * inputs, "a weight has one row of inputs per output");
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
    pub(crate) fn forward(&self, input: &Tensor, output: &Tensor, tile_rows: usize) -> Result<()> {
        output.inplace_op2(input, &Forward { linear: self, tile_rows })
    }

    /// Columns of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    fn tile(&self, input: Rows<'_>, output: &mut [f32]) {
        match self.activation {
            Activation::Identity => self.tile_with::<activation::Identity>(input, output),
            Activation::Tanh => self.tile_with::<activation::Tanh>(input, output),
            Activation::FeedForward(FeedForward::Gelu) => self.tile_with::<activation::Gelu>(input, output),
            Activation::FeedForward(FeedForward::GeluTanh) => {
                self.tile_with::<activation::GeluTanh>(input, output);
            }
            Activation::FeedForward(FeedForward::Relu) => self.tile_with::<activation::Relu>(input, output),
            Activation::FeedForward(FeedForward::Silu) => self.tile_with::<activation::Silu>(input, output),
        }
    }

    fn tile_with<A: Activate>(&self, input: Rows<'_>, output: &mut [f32]) {
        dispatch(Tile { linear: self, input, output, activation: std::marker::PhantomData::<A> });
    }
}

struct Forward<'a> {
    linear: &'a Linear,
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
            self.linear.tile(input.skip(tile * self.tile_rows), output);
        });
        Ok(())
    }
}

struct Tile<'a, A> {
    linear: &'a Linear,
    input: Rows<'a>,
    output: &'a mut [f32],
    activation: std::marker::PhantomData<A>,
}

impl<A: Activate> WithSimd for Tile<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Linear { panels, bias, inputs, outputs, .. } = self.linear;
        let rows = self.output.len() / outputs;
        for (group, (panel, &bias)) in panels.chunks_exact(*inputs).zip(bias).enumerate() {
            let mut columns = Columns::<A> {
                output: &mut self.output[group * LANES..],
                stride: *outputs,
                width: LANES.min(outputs - group * LANES),
                activation: std::marker::PhantomData,
            };
            multiply::<S>(self.input, rows, panel, bias, &mut columns);
        }
    }
}

/// Up to sixteen columns of the output.
struct Columns<'a, A> {
    output: &'a mut [f32],
    stride: usize,
    width: usize,
    activation: std::marker::PhantomData<A>,
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
