//! A dense layer, packed once for the processor at hand: `activation(x * weight^T + bias)`.

use std::fmt;

use pulp::{Simd, WithSimd};
use rerank_core::Dense;

use crate::activation::{Activate, Activation, Choose};
use crate::aligned::Aligned;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, dispatch};
use crate::{Cpu, instruction_set};

mod bf16;
mod f32;
mod int8;
mod narrow;
mod tiles;

/// What a layer multiplies. Sums, bias and activation are f32 (i32 before scaling, for int8) whatever it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Precision<'a> {
    /// f32 by f32.
    F32,
    /// Weights rounded to bf16, activations as the sum of two bf16: twice the work for the weights' error alone.
    Bf16x2,
    /// Both operands as the sum of two bf16, of whose four products the three that matter are added: about 16 bits of
    /// mantissa for three times the work.
    Bf16x3,
    /// Weights per output in -127..=127, activations per row in 0..=255 with a zero point, exact sums.
    ///
    /// `energy` is the mean square of each input, `[inputs]`, where something is known of it: weights that meet large
    /// inputs are then rounded with more care.
    Int8 {
        /// `[inputs]`, or `None` for inputs that are all alike.
        energy: Option<&'a [f32]>,
    },
}

/// A dense layer.
pub struct Linear {
    weights: Weights,
    /// Sixteen outputs after another, zero beyond the last.
    bias: Vec<Lanes>,
    inputs: usize,
    outputs: usize,
    activation: Activation,
    cpu: Cpu,
}

enum Weights {
    F32(f32::Panels),
    Bf16(bf16::Panels),
    Int8(int8::Panels),
}

/// Buffers that are kept from call to call.
#[derive(Default)]
pub struct LinearScratch {
    bf16: bf16::Scratch,
    int8: int8::Scratch,
}

impl Linear {
    /// Packs a layer for `cpu`.
    pub fn new(dense: &Dense, activation: Activation, precision: Precision<'_>, cpu: Cpu) -> Self {
        let Dense { weight, bias } = dense;
        assert!(
            !bias.is_empty() && weight.len() % bias.len() == 0,
            "a weight has one row of inputs per output"
        );
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
        let mut lanes = vec![[0.0; LANES]; outputs.div_ceil(LANES)];
        for (output, &bias) in bias.iter().enumerate() {
            lanes[output / LANES][output % LANES] = bias;
        }
        let weights = match precision {
            Precision::F32 => Weights::F32(f32::Panels::new(weight, inputs)),
            Precision::Bf16x2 => Weights::Bf16(bf16::Panels::new(weight, inputs, 2, cpu)),
            Precision::Bf16x3 => Weights::Bf16(bf16::Panels::new(weight, inputs, 3, cpu)),
            Precision::Int8 { energy } => Weights::Int8(int8::Panels::new(weight, inputs, energy, cpu)),
        };
        Self { weights, bias: lanes, inputs, outputs, activation, cpu }
    }

    /// Fills `output`, `[rows, outputs]`, from the first rows of `input`, `[.., inputs]`.
    pub fn forward(&self, input: Rows<'_>, scratch: &mut LinearScratch, output: &mut [f32]) {
        assert_eq!(input.width(), self.inputs, "rows are as wide as the layer was built for");
        self.activation.choose(Forward { linear: self, input, scratch, output });
    }

    /// Columns of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        size_of_val(self.bias.as_slice())
            + match &self.weights {
                Weights::F32(panels) => panels.bytes(),
                Weights::Bf16(panels) => panels.bytes(),
                Weights::Int8(panels) => panels.bytes(),
            }
    }

    /// The kernel that runs, as plans and reports name it.
    pub fn kernel(&self) -> Kernel<'_> {
        Kernel(self)
    }
}

/// A layer's kernel by name: `f32 avx2+fma`, `int8 amx-int8`, `bf16x3 avx512-bf16`.
#[derive(Clone, Copy)]
pub struct Kernel<'a>(&'a Linear);

impl fmt::Display for Kernel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.weights {
            Weights::F32(_) => write!(f, "f32 {}", instruction_set(self.0.cpu)),
            Weights::Bf16(panels) => f.write_str(&panels.kernel()),
            Weights::Int8(panels) => write!(f, "int8 {}", panels.kernel()),
        }
    }
}

struct Forward<'a> {
    linear: &'a Linear,
    input: Rows<'a>,
    scratch: &'a mut LinearScratch,
    output: &'a mut [f32],
}

impl Choose for Forward<'_> {
    fn with<A: Activate>(self) {
        let Self { linear, input, scratch, output } = self;
        let output = Output { rows: output.len() / linear.outputs, width: linear.outputs, values: output };
        match &linear.weights {
            Weights::F32(panels) => panels.forward::<A>(linear.cpu, input, &linear.bias, output),
            Weights::Bf16(panels) => panels.forward::<A>(input, &linear.bias, &mut scratch.bf16, output),
            Weights::Int8(panels) => panels.forward::<A>(input, &linear.bias, &mut scratch.int8, output),
        }
    }
}

/// Where sums go: `[rows, width]`.
struct Output<'a> {
    values: &'a mut [f32],
    rows: usize,
    width: usize,
}

impl Output<'_> {
    /// Writes sixteen columns of one row, as far as there are that many, through the activation.
    #[inline(always)]
    fn put<S: Simd, A: Activate>(&mut self, row: usize, group: usize, sums: Lanes) {
        let values = A::lanes::<S>(sums);
        let from = group * LANES;
        let row = &mut self.values[row * self.width..][..self.width];
        // A copy of constant length is two stores; one of unknown length is a library call.
        match row[from..].first_chunk_mut() {
            Some(columns) => *columns = values,
            None => row[from..].copy_from_slice(&values[..self.width - from]),
        }
    }
}

/// `activation(x + bias)` in place for rows of `bias.len()` columns: for products that were made elsewhere.
pub fn activate(cpu: Cpu, activation: Activation, bias: &[f32], rows: &mut [f32]) {
    activation.choose(InPlace { cpu, bias, rows });
}

struct InPlace<'a> {
    cpu: Cpu,
    bias: &'a [f32],
    rows: &'a mut [f32],
}

impl Choose for InPlace<'_> {
    fn with<A: Activate>(self) {
        dispatch(self.cpu, Biased { of: self, activation: std::marker::PhantomData::<A> });
    }
}

struct Biased<'a, A> {
    of: InPlace<'a>,
    activation: std::marker::PhantomData<A>,
}

impl<A: Activate> WithSimd for Biased<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.of.rows.chunks_exact_mut(self.of.bias.len()) {
            for (x, bias) in row.iter_mut().zip(self.of.bias) {
                *x = A::activate::<S>(*x + bias);
            }
        }
    }
}

/// Sixteen outputs of every input after another.
type Columns = Aligned<Lanes>;
