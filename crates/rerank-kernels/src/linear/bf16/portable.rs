//! The product in ordinary Rust: the oracle that the other kernels are held against.
#![expect(
    unsafe_code,
    reason = "the shared walk over panels is unsafe for kernels with an instruction set of their own"
)]

use std::marker::PhantomData;

use pulp::{Scalar, Simd, WithSimd};

use super::{DEPTH, Stored};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

struct Portable;

impl Block for Portable {
    type Simd = Scalar;
    type Input = u16;
    type Stored = Stored;
    type Sum = f32;

    #[inline(always)]
    unsafe fn multiply<const R: usize>(rows: [&[u16]; R], panel: &[Stored], outputs: &mut [[f32; LANES]; R]) {
        let mut sums = [[0.0; LANES]; R];
        for (depth, weights) in panel.iter().enumerate() {
            for r in 0..R {
                let inputs = &rows[r][depth * DEPTH..][..DEPTH];
                for lane in 0..LANES {
                    for i in 0..DEPTH {
                        sums[r][lane] += widened(inputs[i]) * widened(weights[lane * DEPTH + i]);
                    }
                }
            }
        }
        *outputs = sums;
    }
}

#[inline(always)]
fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The whole product, to be compiled for whatever vectors there are.
pub(super) struct Product<'a, 'b, A, F> {
    operands: &'a Operands<'a, u16, Stored>,
    finish: &'a F,
    output: &'a mut Output<'b>,
    activation: PhantomData<A>,
}

impl<'a, 'b, A, F> Product<'a, 'b, A, F> {
    pub(super) fn new(
        operands: &'a Operands<'a, u16, Stored>,
        finish: &'a F,
        output: &'a mut Output<'b>,
    ) -> Self {
        Self { operands, finish, output, activation: PhantomData }
    }
}

impl<A: Activate, F: Finish<f32>> WithSimd for Product<'_, '_, A, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // SAFETY: `Portable` needs no instruction set.
        unsafe { narrow::multiply::<Portable, A, 2>(self.operands, self.finish, self.output) };
    }
}
