//! A dense layer: on the house's kernels, or on Apple's library where that was asked for.
//!
//! Of the two libraries that candle can be built with, only Accelerate is worth leaving f32 to: it reaches matrix units
//! that no instruction of the architecture does. MKL's product is slower than the kernels here on the machine that
//! they were measured on, so that the feature `mkl` only serves f16 and bf16, which candle multiplies.

use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Result, Tensor, bail};
use rayon::prelude::*;
use rerank_core::Dense;
use rerank_kernels::{Activation, Cpu, LinearScratch, Precision, activate};

use super::rows::{contiguous_mut, rows};

/// Whether products go to the library.
pub(crate) const ON_ACCELERATE: bool = cfg!(feature = "accelerate");

/// `activation(x * weight^T + bias)` for rows `x`.
pub(crate) enum Linear {
    Packed(rerank_kernels::Linear),
    Library(Library),
}

/// A dense layer as candle, and so the BLAS that it was built with, multiplies it.
pub(crate) struct Library {
    /// `[inputs, outputs]`, a transposed view.
    weight: Tensor,
    bias: Vec<f32>,
    activation: Activation,
    cpu: Cpu,
}

impl Linear {
    pub(crate) fn new(dense: &Dense, activation: Activation, cpu: Cpu) -> Result<Self> {
        if ON_ACCELERATE {
            Library::new(dense, activation, cpu).map(Self::Library)
        } else {
            Ok(Self::Packed(rerank_kernels::Linear::new(dense, activation, Precision::F32, cpu)))
        }
    }

    /// Fills `output`, `[rows, outputs]`, from `input`, `[rows, inputs]`; tiles of `tile_rows` rows run in parallel.
    pub(crate) fn forward(&self, input: &Tensor, output: &Tensor, tile_rows: usize) -> Result<()> {
        match self {
            Self::Packed(linear) => output.inplace_op2(input, &Forward { linear, tile_rows }),
            Self::Library(linear) => {
                output.inplace_op2(&input.matmul(&linear.weight)?, &Finish { linear, tile_rows })
            }
        }
    }

    /// Columns of the output.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Packed(linear) => linear.outputs(),
            Self::Library(linear) => linear.bias.len(),
        }
    }
}

impl Library {
    fn new(dense: &Dense, activation: Activation, cpu: Cpu) -> Result<Self> {
        let shape = (dense.bias.len(), dense.weight.len() / dense.bias.len());
        let weight = Tensor::from_slice(&dense.weight, shape, &Device::Cpu)?.t()?;
        Ok(Self { weight, bias: dense.bias.clone(), activation, cpu })
    }
}

struct Forward<'a> {
    linear: &'a rerank_kernels::Linear,
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
        let input = rows(input, input_layout, self.name())?;
        let (output, width) = contiguous_mut(output, output_layout, self.name())?;
        let (inputs, outputs) = (self.linear.inputs(), self.linear.outputs());
        if input.width() != inputs || width != outputs {
            bail!("linear: {} to {width} columns, built for {inputs} to {outputs}", input.width());
        }
        let tiles = output.par_chunks_mut(self.tile_rows * width).enumerate();
        tiles.for_each_init(LinearScratch::default, |scratch, (tile, output)| {
            self.linear.forward(input.skip(tile * self.tile_rows), scratch, output);
        });
        Ok(())
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
        let product = rows(product, product_layout, self.name())?;
        let (output, width) = contiguous_mut(output, output_layout, self.name())?;
        output.par_chunks_mut(self.tile_rows * width).enumerate().for_each(|(tile, output)| {
            for (row, output) in output.chunks_exact_mut(width).enumerate() {
                output.copy_from_slice(product.row(tile * self.tile_rows + row));
            }
            activate(self.linear.cpu, self.linear.activation, &self.linear.bias, output);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use rerank_core::{Activation as FeedForward, Dense};
    use rerank_kernels::{Activation, Cpu, Precision};

    use super::{Library, Linear};

    #[test]
    fn both_kinds_agree_for_odd_sizes_and_every_activation() {
        let cpu = Cpu::detect();
        let activations = [
            Activation::Identity,
            Activation::Tanh,
            Activation::FeedForward(FeedForward::Gelu),
            Activation::FeedForward(FeedForward::GeluTanh),
            Activation::FeedForward(FeedForward::Relu),
            Activation::FeedForward(FeedForward::Silu),
        ];
        for activation in activations {
            for (rows, inputs, outputs) in [(1, 7, 1), (5, 32, 16), (25, 30, 37), (38, 96, 48)] {
                let random = |shape| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
                let flat = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let input = random((rows, inputs));
                let dense =
                    Dense { weight: flat(random((outputs, inputs))), bias: flat(random((1, outputs))) };
                let run = |linear: Linear| {
                    let output = Tensor::zeros((rows, outputs), DType::F32, &Device::Cpu).unwrap();
                    linear.forward(&input, &output, 12).unwrap();
                    flat(output)
                };
                let packed = rerank_kernels::Linear::new(&dense, activation, Precision::F32, cpu);
                let packed = run(Linear::Packed(packed));
                let library = run(Linear::Library(Library::new(&dense, activation, cpu).unwrap()));
                for (a, b) in packed.iter().zip(&library) {
                    assert!((a - b).abs() < 5e-5, "{activation:?}: {a} against {b}");
                }
            }
        }
    }
}
