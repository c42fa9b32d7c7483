//! AMX: tiles of sixteen rows by 64 bytes, multiplied sixteen by sixteen.
//!
//! Two by two tiles of sums are computed at once, so that each loaded tile is used twice. Reference: Intel 64 and IA-32
//! Architectures Optimization Reference Manual, chapter 20.
#![expect(unsafe_code, reason = "AMX has no stable intrinsics: its instructions are written out")]

use std::arch::asm;

use pulp::Simd;

use super::Output;
use super::narrow::{Finish, Operands};
use crate::activation::Activate;
use crate::simd::LANES;

/// Bytes of a tile's row.
const ROW: usize = 64;

/// Sums of two by two tiles, `[4][16][16]`.
#[repr(C, align(64))]
pub(super) struct Sums<Sum>([[[Sum; LANES]; LANES]; 4]);

/// One kind of product.
pub(super) trait Product {
    /// An element of the activations.
    type Input: Copy;
    /// A panel's row of 64 bytes.
    type Stored;
    /// A sum of products, 32 bits.
    type Sum: Copy + Default;

    /// Fills `sums` from two tiles of rows, `stride` bytes from row to row, and two panels, `depth` tiles deep.
    ///
    /// # Safety
    /// Tiles are configured; the four pointers cover what is read.
    unsafe fn two_by_two(
        rows: [*const Self::Input; 2],
        stride: usize,
        panels: [*const Self::Stored; 2],
        depth: usize,
        sums: &mut Sums<Self::Sum>,
    );
}

/// Writes [`Product::two_by_two`] for one instruction.
macro_rules! product {
    ($instruction:literal) => {
        unsafe fn two_by_two(
            rows: [*const Self::Input; 2],
            stride: usize,
            panels: [*const Self::Stored; 2],
            depth: usize,
            sums: &mut crate::linear::tiles::Sums<Self::Sum>,
        ) {
            // SAFETY: promised by the caller; `sums` has room for four tiles of 1024 bytes. No stack, no flags kept.
            unsafe {
                std::arch::asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{a0} + {stride}*1]",
                    "tileloadd tmm6, [{b0} + {row}*1]",
                    "tileloadd tmm7, [{b1} + {row}*1]",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm5, [{a1} + {stride}*1]",
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "add {a0}, 64",
                    "add {a1}, 64",
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
                    b0 = inout(reg) panels[0] => _,
                    b1 = inout(reg) panels[1] => _,
                    depth = inout(reg) depth => _,
                    stride = in(reg) stride,
                    row = in(reg) 64_usize,
                    sums = in(reg) std::ptr::from_mut(sums),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}
pub(super) use product;

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

/// Configures the thread's tiles, and gives them back when dropped: while they are in use, switching threads saves them.
struct Tiles;

impl Tiles {
    /// # Safety
    /// The processor has AMX, and the process may use it.
    unsafe fn configure() -> Self {
        // SAFETY: promised by the caller; the configuration is a whole one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there is a `Tiles` only after `ldtilecfg` was executed.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// The whole product, 32 rows by 32 outputs at a time. Rows and outputs that are short of that are computed twice.
///
/// # Safety
/// The processor has AMX with the instruction of `P`, and the process may use it. `operands.rows` has whole tiles of
/// sixteen rows of whole 64 bytes. To be inlined into a function that is compiled for `S`.
#[inline(always)]
pub(super) unsafe fn multiply<P: Product, S: Simd, A: Activate>(
    operands: &Operands<'_, P::Input, P::Stored>,
    finish: &impl Finish<P::Sum>,
    output: &mut Output<'_>,
) {
    // SAFETY: promised by the caller.
    let _tiles = unsafe { Tiles::configure() };
    let stride = operands.inputs * size_of::<P::Input>();
    let depth = stride / ROW;
    let row_tiles = output.rows.div_ceil(LANES);
    let panels = operands.panels.len() / operands.panel;
    assert!(operands.rows.len() >= row_tiles * LANES * operands.inputs, "rows come in whole tiles");
    assert!(depth * ROW == stride && operands.panel == depth * LANES, "rows come in whole tiles");
    let mut sums = Sums([[[P::Sum::default(); LANES]; LANES]; 4]);
    for panel in (0..panels).step_by(2) {
        let groups = [panel, (panel + 1).min(panels - 1)];
        for tile in (0..row_tiles).step_by(2) {
            let tiles = [tile, (tile + 1).min(row_tiles - 1)];
            let rows = tiles.map(|tile| operands.rows[tile * LANES * operands.inputs..].as_ptr());
            let weights = groups.map(|group| operands.panels[group * operands.panel..].as_ptr());
            // SAFETY: the assertions above say that the pointers cover whole tiles; the rest is the caller's promise.
            unsafe { P::two_by_two(rows, stride, weights, depth, &mut sums) };
            for (index, sums) in sums.0.iter().enumerate() {
                let (tile, group) = (tile + index / 2, panel + index % 2);
                if tile >= row_tiles || group >= panels {
                    continue;
                }
                let from = tile * LANES;
                for r in 0..LANES.min(output.rows - from) {
                    output.put::<S, A>(from + r, group, finish.finish(from + r, group, &sums[r]));
                }
            }
        }
    }
}
