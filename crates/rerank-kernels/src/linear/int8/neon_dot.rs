//! Dot products of bytes in 128-bit vectors of 64-bit Arm.
//!
//! `sdot` takes signed bytes on both sides, where activations are unsigned. They come with their highest bit turned over,
//! which is 128 less, and with zero points that are 128 less too: see [`shift`].
#![expect(unsafe_code, reason = "NEON intrinsics, and `sdot`, which has no stable one, written out")]

use std::arch::aarch64::{int8x16_t, int32x4_t, vdupq_n_s32, vld1q_s8, vreinterpretq_s8_s32, vst1q_s32};
use std::arch::asm;

use pulp::aarch64::Neon;

use super::{DEPTH, RowScale, STEP, Stored};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{self, Block, Finish, Operands};
use crate::simd::LANES;

/// Twenty-four sums, four of weights, one of activations, of thirty-two registers.
const ROWS: usize = 6;
/// Registers that sixteen sums take.
const PARTS: usize = 4;

/// From unsigned activations to the signed ones that [`multiply`] takes, bytes and zero points alike.
pub(super) fn shift(bytes: &mut [[u8; STEP]], rows: &mut [RowScale]) {
    for byte in bytes.as_flattened_mut() {
        *byte ^= 0x80;
    }
    for row in rows {
        row.zero_point -= 128;
    }
}

struct NeonDot;

impl Block for NeonDot {
    type Simd = Neon;
    type Input = u8;
    type Stored = Stored;
    type Sum = i32;

    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn multiply<const R: usize>(rows: [&[u8]; R], panel: &[Stored], outputs: &mut [[i32; LANES]; R]) {
        let mut sums = [[vdupq_n_s32(0); PARTS]; R];
        // A closure here would be compiled for the instruction set and so not be inlined into `map`, which is not.
        let mut inputs: [&[[u8; DEPTH]]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &rows[r].as_chunks::<DEPTH>().0[..panel.len()];
        }
        for (depth, weights) in panel.iter().enumerate() {
            let (parts, _) = weights.as_chunks::<16>();
            let weights = [load(&parts[0]), load(&parts[1]), load(&parts[2]), load(&parts[3])];
            for r in 0..R {
                let four = vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(inputs[r][depth])));
                for part in 0..PARTS {
                    sums[r][part] = dot(sums[r][part], weights[part], four);
                }
            }
        }
        for r in 0..R {
            let (parts, _) = outputs[r].as_chunks_mut::<4>();
            for part in 0..PARTS {
                // SAFETY: the array covers 16 bytes.
                unsafe { vst1q_s32(parts[part].as_mut_ptr(), sums[r][part]) };
            }
        }
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[i8; 16]) -> int8x16_t {
    // SAFETY: the reference covers 16 bytes.
    unsafe { vld1q_s8(bytes.as_ptr()) }
}

/// Four sums, each with four more products.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot(mut sums: int32x4_t, weights: int8x16_t, inputs: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the instruction; it works on registers alone.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {weights:v}.16b, {inputs:v}.16b",
            sums = inout(vreg) sums,
            weights = in(vreg) weights,
            inputs = in(vreg) inputs,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// The whole product of rows that went through [`shift`].
///
/// # Safety
/// The processor has NEON with its dot products.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, u8, Stored>,
    finish: &impl Finish<i32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { narrow::multiply::<NeonDot, A, ROWS>(operands, finish, output) }
}
