//! bf16: products of operands in two or three [`terms`], summed in f32. One would be faster, and not exact
//! enough for any product of an encoder.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "kernels are called that need what a `Cpu` was found to have")
)]

use half::bf16;

use super::Output;
use super::narrow::{Finish, Operands, Portable};
use super::tiles::Layout;
#[cfg(target_arch = "x86_64")]
use super::tiles::{Walk, amx::Halves};
use crate::activation::Activate;
use crate::aligned::Aligned;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, dispatch};
use crate::{Cpu, Feature};

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod terms;

use terms::{STEP, Split};

/// Inputs that lie together in a panel: what one dot-product instruction adds up.
const DEPTH: usize = 2;
/// Sixteen outputs of [`DEPTH`] inputs, `[16][2]`, as bits.
type Stored = [u16; LANES * DEPTH];

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
    /// Activations in terms, `[rows][terms][inputs]` in the kernel's layout, as bits.
    rows: Aligned<[u16; STEP]>,
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
        let layout = Layout { pieces: self.terms * self.inputs / STEP, tiled: self.kernel == Kernel::Amx };
        rows.resize(layout.total(output.rows));
        let terms = self.terms;
        dispatch(self.cpu, Split { input, count: output.rows, terms, layout, output: rows });
        let width = terms * self.inputs;
        let operands =
            Operands { rows: rows.as_flattened(), inputs: width, panels: &self.stored, panel: width / DEPTH };
        let finish = Biased { bias };
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => {
                // SAFETY: the kernel was chosen because a `Cpu` has the instruction set; `layout` is in tiles.
                let product = unsafe { Walk::<Halves, _, A, _>::new(&operands, &finish, &mut output) };
                dispatch(self.cpu, product);
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
    type Columns = Lanes;

    #[inline(always)]
    fn columns(&self, group: usize) -> Lanes {
        self.bias[group]
    }

    #[inline(always)]
    fn finish(&self, _row: usize, bias: &Lanes, sums: &Lanes) -> Lanes {
        std::array::from_fn(|lane| sums[lane] + bias[lane])
    }
}
