//! Products of tiles of bytes.
#![expect(unsafe_code, reason = "AMX has no stable intrinsics: its instructions are written out")]

use pulp::x86::V4;

use super::Stored;
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{Finish, Operands};
use crate::linear::tiles::{self, Product};

/// `tdpbusd`: unsigned bytes by signed ones.
struct Bytes;

impl Product for Bytes {
    type Input = u8;
    type Stored = Stored;
    type Sum = i32;

    tiles::product!("tdpbusd");
}

/// The whole product.
///
/// # Safety
/// The processor has AVX-512 and AMX-INT8, and the process may use the tiles. `operands.rows` has whole tiles of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,fma")]
pub(super) unsafe fn multiply<A: Activate>(
    operands: &Operands<'_, u8, Stored>,
    finish: &impl Finish<i32>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe { tiles::multiply::<Bytes, V4, A>(operands, finish, output) }
}
