//! Dot products of bytes in 256-bit vectors: client processors without AVX-512.
#![expect(unsafe_code, reason = "AVX-VNNI intrinsics")]

use std::arch::x86_64::{_mm256_dpbusd_avx_epi32, _mm256_set1_epi32, _mm256_setzero_si256};

use pulp::x86::V3;

use super::avx2::{load, store};
use super::{DEPTH, Stored};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

/// Twelve sums, two of weights, one of activations, of sixteen registers.
const ROWS: usize = 6;

struct AvxVnni;

impl Block for AvxVnni {
    type Simd = V3;
    type Input = u8;
    type Stored = Stored;
    type Sum = i32;

    #[target_feature(enable = "avx2,fma,avxvnni")]
    #[inline]
    unsafe fn multiply<const R: usize>(rows: [&[u8]; R], panel: &[Stored], outputs: &mut [[i32; LANES]; R]) {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        // A closure here would be compiled for the instruction set and so not be inlined into `map`, which is not.
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
                    sums[r][half] = _mm256_dpbusd_avx_epi32(sums[r][half], four, weights[half]);
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

/// The whole product.
///
/// # Safety
/// The processor has AVX2, FMA and AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, u8, Stored>,
    finish: &impl Finish<i32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { narrow::multiply::<AvxVnni, A, ROWS>(operands, finish, output) }
}
