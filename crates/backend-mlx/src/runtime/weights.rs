//! Weights on their way to MLX, in the one order in which the graph takes them from its inputs.

use std::slice::Iter;

use mlx_rs::error::{Exception, Result};
use mlx_rs::fast;
use mlx_rs::ops::{addmm, quantize, quantized_matmul};
use mlx_rs::{Array, Dtype};
use rerank_core::{Dense, Norm};

/// How the encoder's dense layers hold their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Products {
    /// In the dtype of the activations.
    Plain,
    /// Integers of eight bits; every `group` of neighbours along the inputs shares a scale and an offset.
    Int8 {
        /// Elements of a group.
        group: i32,
    },
}

const BITS: i32 = 8;

/// Puts arrays into the order in which [`Operands`] takes them.
pub(super) struct Upload {
    pub(super) dtype: Dtype,
    pub(super) products: Products,
    pub(super) arrays: Vec<Array>,
}

impl Upload {
    /// A table or a matrix, `width` values a row.
    pub(super) fn matrix(&mut self, values: &[f32], width: usize) -> Result<()> {
        let matrix = self.array(values, &[(values.len() / width) as i32, width as i32])?;
        self.arrays.push(matrix);
        Ok(())
    }

    /// A dense layer of the encoder.
    pub(super) fn dense(&mut self, dense: &Dense) -> Result<()> {
        match self.products {
            Products::Plain => self.plain(dense),
            Products::Int8 { group } => {
                let weight = self.array(&dense.weight, &shape(dense))?;
                let (weight, scales, offsets) = quantize(&weight, group, BITS)?;
                let bias = self.vector(&dense.bias)?;
                self.arrays.extend([weight, scales, offsets, bias]);
                Ok(())
            }
        }
    }

    /// A dense layer that stays in floating point.
    pub(super) fn plain(&mut self, dense: &Dense) -> Result<()> {
        // Transposed once: the CPU's product is twice as fast for it, and the GPU takes either.
        let weight = self.array(&dense.weight, &shape(dense))?.transpose()?.contiguous()?;
        let bias = self.vector(&dense.bias)?;
        self.arrays.extend([weight, bias]);
        Ok(())
    }

    /// A layer norm.
    pub(super) fn norm(&mut self, norm: &Norm) -> Result<()> {
        let (weight, bias) = (self.vector(&norm.weight)?, self.vector(&norm.bias)?);
        self.arrays.extend([weight, bias]);
        Ok(())
    }

    fn vector(&self, values: &[f32]) -> Result<Array> {
        self.array(values, &[values.len() as i32])
    }

    fn array(&self, values: &[f32], shape: &[i32]) -> Result<Array> {
        Array::from_slice(values, shape).as_dtype(self.dtype)
    }
}

/// `[outputs, inputs]`.
fn shape(dense: &Dense) -> [i32; 2] {
    [dense.bias.len() as i32, (dense.weight.len() / dense.bias.len()) as i32]
}

/// The arrays of a graph, taken one after the other.
pub(super) struct Operands<'a> {
    pub(super) arrays: Iter<'a, Array>,
    pub(super) products: Products,
    pub(super) epsilon: f32,
}

impl<'a> Operands<'a> {
    /// The next array.
    pub(super) fn next(&mut self) -> Result<&'a Array> {
        self.arrays.next().ok_or_else(|| Exception::custom("the graph takes more arrays than it was given"))
    }

    /// The next dense layer of the encoder, over `[tokens, inputs]`.
    pub(super) fn dense(&mut self, x: &Array) -> Result<Array> {
        match self.products {
            Products::Plain => self.plain(x),
            Products::Int8 { group } => {
                let (weight, scales, offsets) = (self.next()?, self.next()?, self.next()?);
                quantized_matmul(x, weight, scales, offsets, true, group, BITS)?.add(self.next()?)
            }
        }
    }

    /// The next dense layer that stays in floating point, over `[tokens, inputs]`.
    pub(super) fn plain(&mut self, x: &Array) -> Result<Array> {
        let (weight, bias) = (self.next()?, self.next()?);
        addmm(bias, x, weight, None, None)
    }

    /// The next layer norm, over `[tokens, hidden]`.
    pub(super) fn norm(&mut self, x: &Array) -> Result<Array> {
        let (weight, bias) = (self.next()?, self.next()?);
        fast::layer_norm(x, weight, bias, self.epsilon)
    }
}
