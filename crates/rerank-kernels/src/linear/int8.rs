//! int8: exact sums of bytes, scaled back to f32.
//!
//! Weights are symmetric per output, activations have a scale and a zero point per row, found at run time. A sum of
//! products of bytes is exact in i32 and no kernel may saturate on the way, so that all of them compute the same sums.
#![expect(unsafe_code, reason = "kernels are called that need what a `Cpu` was found to have")]

use super::Output;
use super::narrow::{Finish, Operands, Portable};
use super::tiles::Layout;
#[cfg(target_arch = "x86_64")]
use super::tiles::{Walk, amx::Bytes};
use crate::activation::Activate;
use crate::aligned::Aligned;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, dispatch};
use crate::{Cpu, Feature};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
mod portable;
mod quantise;

/// Inputs that lie together in a panel: what one dot-product instruction adds up.
const DEPTH: usize = 4;
/// Sixteen outputs of four inputs, `[16][4]`.
type Stored = [i8; LANES * DEPTH];
/// Inputs are padded with zeros to a multiple of this: one row of a tile.
const STEP: usize = 64;

/// int8 weights.
pub(super) struct Panels {
    /// `[ceil(outputs / 16)][inputs / 4]`.
    stored: Aligned<Stored>,
    /// What a weight of one stands for, for each output.
    scales: Vec<Lanes>,
    /// Sum of each output's weights, for the zero point.
    sums: Vec<[i32; LANES]>,
    /// Inputs, padded.
    inputs: usize,
    kernel: Kernel,
    cpu: Cpu,
}

/// Which product runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Portable,
    Avx2,
    AvxVnni,
    Avx512Vnni,
    Amx,
    NeonDot,
}

impl Kernel {
    /// The fastest for `cpu`.
    fn of(cpu: Cpu) -> Self {
        [
            (Feature::AmxInt8, Self::Amx),
            (Feature::Avx512Vnni, Self::Avx512Vnni),
            (Feature::AvxVnni, Self::AvxVnni),
            (Feature::Avx2, Self::Avx2),
            (Feature::NeonDot, Self::NeonDot),
        ]
        .into_iter()
        .find_map(|(feature, kernel)| cpu.has(feature).then_some(kernel))
        .unwrap_or(Self::Portable)
    }
}

/// Buffers that are kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// Quantised activations, `[rows, inputs]` in the kernel's layout.
    bytes: Aligned<[u8; STEP]>,
    rows: Vec<RowScale>,
}

/// What a row's bytes stand for: `scale * (byte - zero_point)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct RowScale {
    scale: f32,
    zero_point: i32,
}

impl Panels {
    /// Quantises `weight`, `[outputs, inputs]`.
    pub(super) fn new(weight: &[f32], inputs: usize, energy: Option<&[f32]>, cpu: Cpu) -> Self {
        let kernel = Kernel::of(cpu);
        let groups = (weight.len() / inputs).div_ceil(LANES);
        let padded = inputs.next_multiple_of(STEP);
        let mut stored = Aligned::<Stored>::zeros(groups * padded / DEPTH);
        let mut scales = vec![[0.0; LANES]; groups];
        let mut sums = vec![[0; LANES]; groups];
        let mut bytes = vec![0; inputs];
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let (group, lane) = (output / LANES, output % LANES);
            scales[group][lane] = dispatch(cpu, quantise::Weights { row, energy, bytes: &mut bytes });
            sums[group][lane] = bytes.iter().map(|&byte| i32::from(byte)).sum();
            let panel = &mut stored[group * padded / DEPTH..];
            for (input, &byte) in bytes.iter().enumerate() {
                panel[input / DEPTH][lane * DEPTH + input % DEPTH] = byte;
            }
        }
        Self { stored, scales, sums, inputs: padded, kernel, cpu }
    }

    pub(super) fn bytes(&self) -> usize {
        self.stored.bytes() + size_of_val(self.scales.as_slice()) + size_of_val(self.sums.as_slice())
    }

    pub(super) fn kernel(&self) -> &'static str {
        match self.kernel {
            Kernel::Portable => "portable",
            Kernel::Avx2 => "avx2 maddubs",
            Kernel::AvxVnni => "avx-vnni",
            Kernel::Avx512Vnni => "avx512-vnni",
            Kernel::Amx => "amx-int8",
            Kernel::NeonDot => "neon-dot",
        }
    }

    pub(super) fn forward<A: Activate>(
        &self,
        input: Rows<'_>,
        bias: &[Lanes],
        scratch: &mut Scratch,
        mut output: Output<'_>,
    ) {
        let Scratch { bytes, rows } = scratch;
        let layout = Layout { pieces: self.inputs / STEP, tiled: self.kernel == Kernel::Amx };
        rows.resize(output.rows, RowScale::default());
        bytes.resize(layout.total(output.rows));
        dispatch(self.cpu, quantise::Activations { input, layout, scales: rows, output: bytes });
        #[cfg(target_arch = "aarch64")]
        if self.kernel == Kernel::NeonDot {
            neon_dot::shift(bytes, rows);
        }
        let finish = Scaled { panels: self, rows, bias };
        let operands = Operands {
            rows: bytes.as_flattened(),
            inputs: self.inputs,
            panels: &self.stored,
            panel: self.inputs / DEPTH,
        };
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set; `layout` is in tiles.
                let product = unsafe { Walk::<Bytes, _, A, _>::new(&operands, &finish, &mut output) };
                dispatch(self.cpu, product);
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set.
                unsafe { avx512::multiply::<A>(&operands, &finish, &mut output) }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set.
                unsafe { avx2::multiply::<A>(&operands, &finish, &mut output) }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set.
                unsafe { avx_vnni::multiply::<A>(&operands, &finish, &mut output) }
            }
            #[cfg(target_arch = "aarch64")]
            Kernel::NeonDot => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set.
                unsafe { neon_dot::multiply::<A>(&operands, &finish, &mut output) }
            }
            _ => {
                let product = Portable::<portable::Portable, A, _>::new(&operands, &finish, &mut output);
                dispatch(self.cpu, product);
            }
        }
    }
}

/// From exact sums to f32: `scale of row * scale of output * (sum - zero point * sum of weights) + bias`.
struct Scaled<'a> {
    panels: &'a Panels,
    rows: &'a [RowScale],
    bias: &'a [Lanes],
}

/// Sixteen outputs' scales, sums of weights, and bias.
struct ScaledColumns {
    scales: Lanes,
    weights: [i32; LANES],
    bias: Lanes,
}

impl Finish<i32> for Scaled<'_> {
    type Columns = ScaledColumns;

    #[inline(always)]
    fn columns(&self, group: usize) -> ScaledColumns {
        ScaledColumns {
            scales: self.panels.scales[group],
            weights: self.panels.sums[group],
            bias: self.bias[group],
        }
    }

    #[inline(always)]
    fn finish(&self, row: usize, columns: &ScaledColumns, sums: &[i32; LANES]) -> Lanes {
        let RowScale { scale, zero_point } = self.rows[row];
        let ScaledColumns { scales, weights, bias } = columns;
        std::array::from_fn(|lane| {
            (sums[lane] - zero_point * weights[lane]) as f32 * (scale * scales[lane]) + bias[lane]
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rerank_core::Dense;

    use super::quantise::{self, Activations};
    use super::{RowScale, STEP};
    use crate::linear::tiles::Layout;
    use crate::simd::dispatch;
    use crate::{Activation, Cpu, Linear, LinearScratch, Precision, Rows};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// What comes out is the product of what the bytes stand for.
        #[test]
        fn outputs_are_products_of_the_bytes(
            (inputs, outputs) in (1..150_usize, 1..40_usize),
            rows in 1..20_usize,
            numbers in prop::collection::vec(-3.0_f32..5.0, 150 * 60),
        ) {
            let (weight, rest) = numbers.split_at(inputs * outputs);
            let input = &rest[..rows * inputs];
            let dense = Dense { weight: weight.to_vec(), bias: vec![0.25; outputs] };
            let layout = Layout { pieces: inputs.div_ceil(STEP), tiled: false };
            let (mut bytes, mut scales) = (vec![[0; STEP]; layout.total(rows)], vec![RowScale::default(); rows]);
            let activations =
                Activations { input: Rows::contiguous(input, inputs), layout, scales: &mut scales, output: &mut bytes };
            dispatch(Cpu::PORTABLE, activations);

            let mut expected = Vec::new();
            for (bytes, row) in bytes.chunks_exact(layout.pieces).map(<[_]>::as_flattened).zip(&scales) {
                for weight in weight.chunks_exact(inputs) {
                    let mut quantised = vec![0; inputs];
                    let scale = dispatch(
                        Cpu::PORTABLE,
                        quantise::Weights { row: weight, energy: None, bytes: &mut quantised },
                    );
                    let sum: i32 =
                        bytes.iter().zip(&quantised).map(|(&x, &w)| (i32::from(x) - row.zero_point) * i32::from(w)).sum();
                    expected.push(f64::from(sum) * f64::from(row.scale) * f64::from(scale) + 0.25);
                }
            }
            for cpu in Cpu::detect().choices() {
                let linear = Linear::new(&dense, Activation::Identity, Precision::Int8 { energy: None }, cpu);
                let mut output = vec![f32::NAN; rows * outputs];
                linear.forward(Rows::contiguous(input, inputs), &mut LinearScratch::default(), &mut output);
                for (got, expected) in output.iter().zip(&expected) {
                    prop_assert!((f64::from(*got) - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{cpu}: {got}, not {expected}");
                }
            }
        }
    }
}
