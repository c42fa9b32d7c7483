//! A dense layer: on kernels of our own, or on Apple's library where that was asked for.
//!
//! Of the two libraries that candle can be built with, only Accelerate is worth leaving f32 to: it reaches matrix units
//! that no instruction of the architecture does. MKL's product is slower than the kernels here on the machine that
//! they were measured on, so that the feature `mkl` only serves f16 and bf16, which candle multiplies.

use candle_core::{Result, Tensor};

use super::activation::Activation;

mod library;
mod packed;

use library::Library;
use packed::Packed;

/// Whether products go to the library.
pub(crate) const ON_ACCELERATE: bool = cfg!(feature = "accelerate");

/// `activation(x * weight^T + bias)` for rows `x`.
pub(crate) enum Linear {
    Packed(Packed),
    Library(Library),
}

impl Linear {
    /// From `weight`, `[outputs, inputs]` row-major as PyTorch has it, and `bias`, `[outputs]`.
    pub(crate) fn new(weight: &[f32], bias: &[f32], activation: Activation) -> Result<Self> {
        assert_eq!(weight.len() % bias.len(), 0, "a weight has one row of inputs per output");
        if ON_ACCELERATE {
            Library::new(weight, bias, activation).map(Self::Library)
        } else {
            Ok(Self::Packed(Packed::new(weight, bias, activation)))
        }
    }

    /// Fills `output`, `[rows, outputs]`, from `input`, `[rows, inputs]`; tiles of `tile_rows` rows run in parallel.
    pub(crate) fn forward(&self, input: &Tensor, output: &Tensor, tile_rows: usize) -> Result<()> {
        match self {
            Self::Packed(linear) => linear.forward(input, output, tile_rows),
            Self::Library(linear) => linear.forward(input, output, tile_rows),
        }
    }

    /// Columns of the output.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Packed(linear) => linear.outputs(),
            Self::Library(linear) => linear.outputs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use rerank_core::Activation as FeedForward;

    use super::{Library, Linear, Packed};
    use crate::kernels::Activation;

    #[test]
    fn both_kinds_agree_for_odd_sizes_and_every_activation() {
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
                let input = random((rows, inputs));
                let weight: Vec<f32> = random((outputs, inputs)).flatten_all().unwrap().to_vec1().unwrap();
                let bias: Vec<f32> = random((1, outputs)).flatten_all().unwrap().to_vec1().unwrap();
                let run = |linear: Linear| {
                    let output = Tensor::zeros((rows, outputs), DType::F32, &Device::Cpu).unwrap();
                    linear.forward(&input, &output, 12).unwrap();
                    output.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                };
                let packed = run(Linear::Packed(Packed::new(&weight, &bias, activation)));
                let library = run(Linear::Library(Library::new(&weight, &bias, activation).unwrap()));
                for (a, b) in packed.iter().zip(&library) {
                    assert!((a - b).abs() < 5e-5, "{activation:?}: {a} against {b}");
                }
            }
        }
    }
}
