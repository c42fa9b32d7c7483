//! Products of tiles of bf16.
#![expect(unsafe_code, reason = "AMX has no stable intrinsics: its instructions are written out")]

use pulp::x86::V4;

use super::Stored;
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{Finish, Operands};
use crate::linear::tiles::{self, Product};

/// `tdpbf16ps`.
struct Halves;

impl Product for Halves {
    type Input = u16;
    type Stored = Stored;
    type Sum = f32;

    tiles::product!("tdpbf16ps");
}

/// The whole product.
///
/// # Safety
/// The processor has AVX-512 and AMX-BF16, and the process may use the tiles. `operands.rows` has whole tiles of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,fma")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, u16, Stored>,
    finish: &impl Finish<f32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { tiles::multiply::<Halves, V4, A>(operands, finish, output) }
}
