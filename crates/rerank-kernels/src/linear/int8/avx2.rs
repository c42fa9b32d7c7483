//! AVX2 without dot-product instructions: bytes widened to words, `madd` on pairs of them.
//!
//! `maddubs` takes bytes as they are, but saturates unless weights or activations give up a bit, and then still needs a
//! `madd` to widen: both ways do 32 products a cycle where f32 does 16. Words keep all eight bits.
#![expect(unsafe_code, reason = "AVX2 intrinsics")]

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_madd_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_storeu_si256,
};

use pulp::x86::V3;

use super::Stored;
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

/// Inputs of one `madd`. Panels for this kernel are `[inputs / 2][16][2]`, so that their bytes widen in place.
pub(super) const DEPTH: usize = 2;

/// Twelve sums, two of weights, one of inputs and one of products fill the sixteen registers.
const ROWS: usize = 6;

struct Avx2;

impl Block for Avx2 {
    type Simd = V3;
    type Input = i16;
    type Stored = Stored;
    type Sum = i32;

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn sums<const R: usize>(rows: [&[i16]; R], panel: &[Stored]) -> [[i32; LANES]; R] {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        // A closure here would be compiled for AVX2 and so not be inlined into `map`, which is not.
        let mut inputs: [&[[[i16; DEPTH]; 2]]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &rows[r].as_chunks::<DEPTH>().0.as_chunks::<2>().0[..panel.len()];
        }
        for (index, weights) in panel.iter().enumerate() {
            let (quarters, _) = weights.as_chunks::<16>();
            for half in 0..2 {
                let weights = [widened(&quarters[2 * half]), widened(&quarters[2 * half + 1])];
                for r in 0..R {
                    let [low, high] = inputs[r][index][half];
                    let pair = _mm256_set1_epi32(i32::from(low) | i32::from(high) << 16);
                    sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(pair, weights[0]));
                    sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(pair, weights[1]));
                }
            }
        }
        let mut outputs = [[0; LANES]; R];
        for r in 0..R {
            let (halves, _) = outputs[r].as_chunks_mut::<8>();
            store(&mut halves[0], sums[r][0]);
            store(&mut halves[1], sums[r][1]);
        }
        outputs
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn widened(bytes: &[i8; 16]) -> __m256i {
    // SAFETY: the reference covers 16 bytes.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(sums: &mut [i32; 8], value: __m256i) {
    // SAFETY: the reference covers 32 bytes.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), value) }
}

/// The whole product.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, i16, Stored>,
    finish: &impl Finish<i32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { narrow::multiply::<Avx2, A, ROWS>(operands, finish, output) }
}
