//! AVX2 without dot-product instructions: bytes widened to words, `madd` on pairs of them.
//!
//! `maddubs` takes bytes as they are, but saturates unless weights or activations give up a bit, and then still needs a
//! `madd` to widen: both ways do 32 products a cycle where f32 does 16. Words keep all eight bits.
#![expect(unsafe_code, reason = "AVX2 intrinsics")]

use std::arch::x86_64::{
    __m256i, _mm_loadl_epi64, _mm256_add_epi32, _mm256_broadcastq_epi64, _mm256_hadd_epi32,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_setzero_si256,
    _mm256_storeu_si256,
};

use pulp::x86::V3;

use super::{DEPTH, Stored};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

/// A stored panel's bytes as words, in the same order.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Words([i16; LANES * DEPTH]);

/// Rows that fill the register file: twelve sums, four of weights would be sixteen, which are read from memory instead.
const ROWS: usize = 3;

/// Four outputs by four inputs fill a register.
const QUARTERS: usize = 4;

struct Avx2;

impl Block for Avx2 {
    type Simd = V3;
    type Input = i16;
    type Stored = Stored;
    type Panel = Words;
    type Sum = i32;

    #[inline(always)]
    fn panel<'a>(stored: &'a [Stored], scratch: &'a mut Vec<Words>) -> &'a [Words] {
        scratch.clear();
        scratch.extend(stored.iter().map(|bytes| Words(bytes.map(i16::from))));
        scratch
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn sums<const R: usize>(rows: [&[i16]; R], panel: &[Words]) -> [[i32; LANES]; R] {
        let mut sums = [[_mm256_setzero_si256(); QUARTERS]; R];
        let rows = rows.map(|row| &row.as_chunks::<DEPTH>().0[..panel.len()]);
        for (depth, Words(weights)) in panel.iter().enumerate() {
            let (weights, _) = weights.as_chunks::<16>();
            let weights: [__m256i; QUARTERS] = std::array::from_fn(|q| load(&weights[q]));
            for r in 0..R {
                let inputs = broadcast(&rows[r][depth]);
                for q in 0..QUARTERS {
                    sums[r][q] = _mm256_add_epi32(sums[r][q], _mm256_madd_epi16(inputs, weights[q]));
                }
            }
        }
        sums.map(|quarters| collect(quarters))
    }
}

/// Adds up the two sums that each output has, and puts outputs in order.
#[target_feature(enable = "avx2")]
#[inline]
fn collect([a, b, c, d]: [__m256i; QUARTERS]) -> [i32; LANES] {
    // hadd works within halves of a register: outputs 0 1 4 5 | 2 3 6 7.
    let order = |sums| _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
    let mut outputs = [0; LANES];
    let (low, high) = outputs.split_at_mut(8);
    store(low.try_into().expect("half of sixteen"), order(_mm256_hadd_epi32(a, b)));
    store(high.try_into().expect("half of sixteen"), order(_mm256_hadd_epi32(c, d)));
    outputs
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(words: &[i16; 16]) -> __m256i {
    // SAFETY: the reference covers 32 bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(sums: &mut [i32; 8], value: __m256i) {
    // SAFETY: the reference covers 32 bytes.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn broadcast(words: &[i16; DEPTH]) -> __m256i {
    // SAFETY: the reference covers the 8 bytes that are read.
    _mm256_broadcastq_epi64(unsafe { _mm_loadl_epi64(words.as_ptr().cast()) })
}

/// The whole product.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, i16, Stored>,
    finish: &impl Finish<i32>,
    unpacked: &mut Vec<Words>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { narrow::multiply::<Avx2, A, ROWS>(operands, finish, unpacked, output) }
}
