//! AVX2 without dot-product instructions: `maddubs` to pairs of words, `madd` with ones to sums of four.
//!
//! `maddubs` saturates at 32767, which no pair of weights can reach: see [`super::quantise`]. Widening bytes to words and
//! multiplying those would need no such care, and one addition more: measured on Zen 3, 75 billion products a second
//! instead of 101.
#![expect(unsafe_code, reason = "AVX2 intrinsics")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256,
};

use pulp::x86::V3;

use super::{DEPTH, Stored};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

/// Eight sums, two of weights, one of ones, one of inputs and two of products: more rows would spill.
const ROWS: usize = 4;

struct Avx2;

impl Block for Avx2 {
    type Simd = V3;
    type Input = u8;
    type Stored = Stored;
    type Sum = i32;

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn multiply<const R: usize>(rows: [&[u8]; R], panel: &[Stored], outputs: &mut [[i32; LANES]; R]) {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        // A closure here would be compiled for AVX2 and so not be inlined into `map`, which is not.
        let mut inputs: [&[[u8; DEPTH]]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &rows[r].as_chunks::<DEPTH>().0[..panel.len()];
        }
        for (depth, weights) in panel.iter().enumerate() {
            let (halves, _) = weights.as_chunks::<32>();
            let weights = [load(&halves[0]), load(&halves[1])];
            for r in 0..R {
                let four = _mm256_set1_epi32(i32::from_le_bytes(inputs[r][depth]));
                for half in 0..2 {
                    let pairs = _mm256_maddubs_epi16(four, weights[half]);
                    sums[r][half] = _mm256_add_epi32(sums[r][half], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for r in 0..R {
            let (halves, _) = outputs[r].as_chunks_mut::<8>();
            store(&mut halves[0], sums[r][0]);
            store(&mut halves[1], sums[r][1]);
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load(bytes: &[i8; 32]) -> __m256i {
    // SAFETY: the reference covers 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store(sums: &mut [i32; 8], value: __m256i) {
    // SAFETY: the reference covers 32 bytes.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), value) }
}

/// The whole product.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, u8, Stored>,
    finish: &impl Finish<i32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { narrow::multiply::<Avx2, A, ROWS>(operands, finish, output) }
}
