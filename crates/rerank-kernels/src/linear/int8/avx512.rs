//! Dot products of bytes in 512-bit vectors.
#![expect(unsafe_code, reason = "AVX-512 VNNI intrinsics")]

use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

use pulp::x86::V4;

use super::{DEPTH, Stored};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

/// More rows than general registers can point at would cost a load each; eight sums nearly hide the latency.
const ROWS: usize = 8;

struct Avx512Vnni;

impl Block for Avx512Vnni {
    type Simd = V4;
    type Input = u8;
    type Stored = Stored;
    type Sum = i32;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vnni,fma")]
    #[inline]
    unsafe fn multiply<const R: usize>(rows: [&[u8]; R], panel: &[Stored], outputs: &mut [[i32; LANES]; R]) {
        let mut sums = [_mm512_setzero_si512(); R];
        // A closure here would be compiled for the instruction set and so not be inlined into `map`, which is not.
        let mut inputs: [&[[u8; DEPTH]]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &rows[r].as_chunks::<DEPTH>().0[..panel.len()];
        }
        for (depth, weights) in panel.iter().enumerate() {
            let weights = load(weights);
            for r in 0..R {
                let four = _mm512_set1_epi32(i32::from_le_bytes(inputs[r][depth]));
                sums[r] = _mm512_dpbusd_epi32(sums[r], four, weights);
            }
        }
        for r in 0..R {
            store(&mut outputs[r], sums[r]);
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &Stored) -> __m512i {
    // SAFETY: the reference covers 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(sums: &mut [i32; LANES], value: __m512i) {
    // SAFETY: the reference covers 64 bytes.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), value) }
}

/// The whole product.
///
/// # Safety
/// The processor has what [`crate::Feature::Avx512`] says, and AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vnni,fma")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, u8, Stored>,
    finish: &impl Finish<i32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { narrow::multiply::<Avx512Vnni, A, ROWS>(operands, finish, output) }
}
