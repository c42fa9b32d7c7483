//! AMX: the tile registers and their instructions.
//!
//! Two by two tiles of sums are computed at once, so that each loaded tile is used twice. Reference: Intel 64 and IA-32
//! Architectures Optimization Reference Manual, chapter 20.
#![expect(unsafe_code, reason = "AMX has no stable intrinsics: its instructions are written out")]

use std::arch::asm;

use super::{Product, ROW, Sums};
use crate::simd::LANES;

/// `tdpbusd`: unsigned bytes by signed ones.
pub(in crate::linear) struct Bytes;

/// `tdpbf16ps`: bf16 by bf16.
pub(in crate::linear) struct Halves;

/// Writes a [`Product`] for one instruction.
macro_rules! product {
    ($name:ty, $instruction:literal, $input:ty, $stored:ty, $sum:ty) => {
        impl Product for $name {
            type Input = $input;
            type Stored = $stored;
            type Sum = $sum;
            type Registers = Registers;

            unsafe fn registers() -> Registers {
                // SAFETY: promised by the caller.
                unsafe { Registers::configure() }
            }

            #[inline(always)]
            unsafe fn two_by_two(
                rows: [*const $input; 2],
                columns: [*const $stored; 2],
                depth: usize,
                sums: &mut Sums<$sum>,
            ) {
                // SAFETY: promised by the caller; `sums` has room for four tiles of 1024 bytes. No stack is used.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        "tileloadd tmm4, [{a0} + {row}*1]",
                        "tileloadd tmm6, [{b0} + {row}*1]",
                        "tileloadd tmm7, [{b1} + {row}*1]",
                        concat!($instruction, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm5, [{a1} + {row}*1]",
                        concat!($instruction, " tmm1, tmm4, tmm7"),
                        concat!($instruction, " tmm2, tmm5, tmm6"),
                        concat!($instruction, " tmm3, tmm5, tmm7"),
                        "add {a0}, 1024",
                        "add {a1}, 1024",
                        "add {b0}, 1024",
                        "add {b1}, 1024",
                        "dec {depth}",
                        "jnz 2b",
                        "tilestored [{sums} + {row}*1], tmm0",
                        "tilestored [{sums} + {row}*1 + 1024], tmm1",
                        "tilestored [{sums} + {row}*1 + 2048], tmm2",
                        "tilestored [{sums} + {row}*1 + 3072], tmm3",
                        a0 = inout(reg) rows[0] => _,
                        a1 = inout(reg) rows[1] => _,
                        b0 = inout(reg) columns[0] => _,
                        b1 = inout(reg) columns[1] => _,
                        depth = inout(reg) depth => _,
                        row = in(reg) ROW,
                        sums = in(reg) std::ptr::from_mut(sums),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

product!(Bytes, "tdpbusd", u8, i8, i32);
product!(Halves, "tdpbf16ps", u16, u16, f32);

/// All eight tiles sixteen rows of 64 bytes: palette 1, as `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = ROW as u8;
        config[48 + tile] = LANES as u8;
        tile += 1;
    }
    Config(config)
};

/// The thread's tile registers, given back when dropped: while they are in use, switching threads saves them.
pub(in crate::linear) struct Registers(());

impl Registers {
    /// # Safety
    /// The processor has AMX, and the process may use it.
    unsafe fn configure() -> Self {
        // SAFETY: promised by the caller; the configuration is a whole one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: there is a `Registers` only after `ldtilecfg` was executed.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
