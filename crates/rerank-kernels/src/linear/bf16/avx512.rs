//! Dot products of bf16 in 512-bit vectors.
#![expect(unsafe_code, reason = "AVX-512 BF16 intrinsics")]

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use pulp::x86::V4;

use super::{DEPTH, Stored};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

/// More rows than general registers can point at would cost a load each; eight sums hide most of the latency.
const ROWS: usize = 8;

struct Avx512Bf16;

impl Block for Avx512Bf16 {
    type Simd = V4;
    type Input = u16;
    type Stored = Stored;
    type Sum = f32;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512bf16,fma")]
    #[inline]
    unsafe fn multiply<const R: usize>(rows: [&[u16]; R], panel: &[Stored], outputs: &mut [[f32; LANES]; R]) {
        let mut sums = [_mm512_setzero_ps(); R];
        // A closure here would be compiled for the instruction set and so not be inlined into `map`, which is not.
        let mut inputs: [&[[u16; DEPTH]]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &rows[r].as_chunks::<DEPTH>().0[..panel.len()];
        }
        for (depth, weights) in panel.iter().enumerate() {
            let weights = halves(load(weights));
            for r in 0..R {
                // One load of four bytes; put together from two halves, it would be six instructions.
                let pair = halves(_mm512_set1_epi32(bytemuck::cast(inputs[r][depth])));
                sums[r] = _mm512_dpbf16_ps(sums[r], pair, weights);
            }
        }
        for r in 0..R {
            // SAFETY: the array covers 64 bytes.
            unsafe { _mm512_storeu_ps(outputs[r].as_mut_ptr(), sums[r]) };
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bits: &Stored) -> __m512i {
    // SAFETY: the reference covers 64 bytes.
    unsafe { _mm512_loadu_si512(bits.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn halves(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of which every pattern is valid.
    unsafe { std::mem::transmute(bits) }
}

/// The whole product.
///
/// # Safety
/// The processor has what [`crate::Feature::Avx512`] says, and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512bf16,fma")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, u16, Stored>,
    finish: &impl Finish<f32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { narrow::multiply::<Avx512Bf16, A, ROWS>(operands, finish, output) }
}
