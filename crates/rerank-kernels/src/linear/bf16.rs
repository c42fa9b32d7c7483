//! bf16: products of operands in two or three terms, summed in f32. One would be faster, and not exact enough for any
//! product of an encoder.
//!
//! With three terms, `x * w` is `xh * wh + xl * wh + xh * wl`, where `xh` is `x` rounded and `xl` what that left out: the
//! panels and rows are three times as deep, `[wh, wh, wl]` against `[xh, xl, xh]`, and the kernel is the same. Two terms
//! are the first two of them. Source:
//! Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations",
//! 2019.
#![expect(unsafe_code, reason = "kernels are called that need what a `Cpu` was found to have")]

use half::bf16;
use pulp::{Simd, WithSimd};

use super::Output;
use super::narrow::{Finish, Operands, Portable};
use crate::activation::Activate;
use crate::aligned::Aligned;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, dispatch};
use crate::{Cpu, Feature};

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

/// Inputs that lie together in a panel: what one dot-product instruction adds up.
const DEPTH: usize = 2;
/// Sixteen outputs of [`DEPTH`] inputs, `[16][2]`, as bits.
type Stored = [u16; LANES * DEPTH];
/// Inputs are padded with zeros to a multiple of this: one row of a tile.
const STEP: usize = 32;

/// bf16 weights.
pub(super) struct Panels {
    /// `[ceil(outputs / 16)][terms][inputs / 2]`.
    stored: Aligned<Stored>,
    /// Inputs of one term, padded.
    inputs: usize,
    /// 2 or 3.
    terms: usize,
    kernel: Kernel,
    cpu: Cpu,
}

/// Which product runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Portable,
    Avx512Bf16,
    Amx,
}

/// Buffers that are kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// Rounded activations, `[rows][terms][inputs]`, as bits.
    rows: Aligned<u16>,
}

impl Panels {
    /// Rounds `weight`, `[outputs, inputs]`, for products of this many terms.
    pub(super) fn new(weight: &[f32], inputs: usize, terms: usize, cpu: Cpu) -> Self {
        let groups = (weight.len() / inputs).div_ceil(LANES);
        let padded = inputs.next_multiple_of(STEP);
        let mut stored = Aligned::<Stored>::zeros(groups * terms * padded / DEPTH);
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let (group, lane) = (output / LANES, output % LANES);
            let panel = &mut stored[group * terms * padded / DEPTH..];
            for (input, &weight) in row.iter().enumerate() {
                let high = bf16::from_f32(weight);
                let low = bf16::from_f32(weight - high.to_f32());
                for (term, value) in [high, high, low].into_iter().take(terms).enumerate() {
                    let at = term * padded + input;
                    panel[at / DEPTH][lane * DEPTH + at % DEPTH] = value.to_bits();
                }
            }
        }
        let kernel = if cpu.has(Feature::AmxBf16) {
            Kernel::Amx
        } else if cpu.has(Feature::Avx512Bf16) {
            Kernel::Avx512Bf16
        } else {
            Kernel::Portable
        };
        Self { stored, inputs: padded, terms, kernel, cpu }
    }

    pub(super) fn bytes(&self) -> usize {
        self.stored.bytes()
    }

    pub(super) fn kernel(&self) -> String {
        let kernel = match self.kernel {
            Kernel::Portable => "portable",
            Kernel::Avx512Bf16 => "avx512-bf16",
            Kernel::Amx => "amx-bf16",
        };
        format!("bf16x{} {kernel}", self.terms)
    }

    pub(super) fn forward<A: Activate>(
        &self,
        input: Rows<'_>,
        bias: &[Lanes],
        scratch: &mut Scratch,
        mut output: Output<'_>,
    ) {
        let Scratch { rows } = scratch;
        let width = self.terms * self.inputs;
        // Tiles are read whole.
        rows.resize(output.rows.next_multiple_of(LANES) * width);
        let count = output.rows;
        dispatch(self.cpu, Round { input, count, padded: self.inputs, terms: self.terms, output: rows });
        let operands = Operands { rows, inputs: width, panels: &self.stored, panel: width / DEPTH };
        let finish = Biased { bias };
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set.
                unsafe { amx::multiply::<A>(&operands, &finish, &mut output) }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Bf16 => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set.
                unsafe { avx512::multiply::<A>(&operands, &finish, &mut output) }
            }
            _ => {
                let product = Portable::<portable::Portable, A, _>::new(&operands, &finish, &mut output);
                dispatch(self.cpu, product);
            }
        }
    }
}

struct Biased<'a> {
    bias: &'a [Lanes],
}

impl Finish<f32> for Biased<'_> {
    #[inline(always)]
    fn finish(&self, _row: usize, group: usize, sums: &Lanes) -> Lanes {
        std::array::from_fn(|lane| sums[lane] + self.bias[group][lane])
    }
}

/// Rounds rows of activations to as many terms; columns beyond a row's width are zero.
struct Round<'a> {
    input: Rows<'a>,
    count: usize,
    padded: usize,
    terms: usize,
    output: &'a mut [u16],
}

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.terms * self.padded;
        for (index, output) in self.output.chunks_exact_mut(width).take(self.count).enumerate() {
            let row = self.input.row(index);
            for term in output.chunks_exact_mut(self.padded) {
                term[row.len()..].fill(0);
            }
            let (high, rest) = output.split_at_mut(self.padded);
            let (low, again) = rest.split_at_mut(self.padded);
            for ((high, low), &x) in high.iter_mut().zip(low).zip(row) {
                *high = rounded(x);
                *low = rounded(x - f32::from_bits(u32::from(*high) << 16));
            }
            if self.terms == 3 {
                again.copy_from_slice(high);
            }
        }
    }
}

/// The nearest bf16, ties to even. A NaN stays one unless only its lowest bits say so, which no arithmetic makes.
#[inline(always)]
fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounds_as_the_format_demands(x in any::<f32>().prop_filter("a number", |x| x.is_finite())) {
            prop_assert_eq!(super::rounded(x), bf16::from_f32(x).to_bits());
        }
    }
}
