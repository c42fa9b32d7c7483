//! Tile products in ordinary Rust: what walks over tiles can be tested where there are no tile registers.
#![expect(unsafe_code, reason = "the trait's operands are pointers")]

use super::{Product, Sums};
use crate::simd::LANES;

/// Four bytes a column and row of a tile.
const ROW: usize = 64;

/// bf16 by bf16, each sum in order.
pub(crate) struct Halves;

impl Product for Halves {
    type Input = u16;
    type Stored = u16;
    type Sum = f32;
    type Registers = ();

    unsafe fn registers() {}

    unsafe fn two_by_two(
        rows: [*const u16; 2],
        columns: [*const u16; 2],
        depth: usize,
        sums: &mut Sums<f32>,
    ) {
        // SAFETY: promised by the caller.
        unsafe { two_by_two(rows, columns, depth, sums, |x, w| widened(x) * widened(w)) };
    }
}

/// Unsigned bytes by signed ones.
pub(crate) struct Bytes;

impl Product for Bytes {
    type Input = u8;
    type Stored = i8;
    type Sum = i32;
    type Registers = ();

    unsafe fn registers() {}

    unsafe fn two_by_two(rows: [*const u8; 2], columns: [*const i8; 2], depth: usize, sums: &mut Sums<i32>) {
        // SAFETY: promised by the caller.
        unsafe { two_by_two(rows, columns, depth, sums, |x, w| i32::from(x) * i32::from(w)) };
    }
}

/// # Safety
/// The pointers cover `depth` tiles each.
unsafe fn two_by_two<X: Copy, W: Copy, Sum: Copy + Default + std::ops::AddAssign>(
    rows: [*const X; 2],
    columns: [*const W; 2],
    depth: usize,
    sums: &mut Sums<Sum>,
    product: impl Fn(X, W) -> Sum,
) {
    let tile = LANES * ROW / size_of::<X>();
    // SAFETY: promised by the caller.
    let rows = rows.map(|at| unsafe { std::slice::from_raw_parts(at, depth * tile) });
    // SAFETY: promised by the caller.
    let columns = columns.map(|at| unsafe { std::slice::from_raw_parts(at, depth * tile) });
    // Neighbours in depth that lie side by side in a column.
    let together = 4 / size_of::<X>();
    *sums = Sums::default();
    for (index, sums) in sums.0.iter_mut().enumerate() {
        let (rows, columns) = (rows[index / 2], columns[index % 2]);
        for (row, sums) in sums.iter_mut().enumerate() {
            for (column, sum) in sums.iter_mut().enumerate() {
                for k in 0..depth * ROW / size_of::<X>() {
                    let (piece, within) = (k * size_of::<X>() / ROW, k % (ROW / size_of::<X>()));
                    let x = rows[piece * tile + row * (ROW / size_of::<X>()) + within];
                    let w = columns[(k / together * LANES + column) * together + k % together];
                    *sum += product(x, w);
                }
            }
        }
    }
}

fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
