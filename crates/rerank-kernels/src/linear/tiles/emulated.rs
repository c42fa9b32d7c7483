//! Tile products in ordinary Rust: what walks over tiles can be tested where there are no tile registers.
#![expect(unsafe_code, reason = "the trait's operands are pointers")]

use super::{Product, ROW, Sums};
use crate::simd::LANES;

/// Bytes of a tile.
const TILE: usize = LANES * ROW;

/// Unsigned bytes by signed ones.
pub(super) struct Bytes;

impl Product for Bytes {
    type Input = u8;
    type Stored = i8;
    type Sum = i32;
    type Registers = ();

    unsafe fn registers() {}

    unsafe fn two_by_two(rows: [*const u8; 2], columns: [*const i8; 2], depth: usize, sums: &mut Sums<i32>) {
        // SAFETY: promised by the caller.
        let rows = rows.map(|at| unsafe { std::slice::from_raw_parts(at, depth * TILE) });
        // SAFETY: promised by the caller.
        let columns = columns.map(|at| unsafe { std::slice::from_raw_parts(at, depth * TILE) });
        *sums = Sums::default();
        for (index, sums) in sums.0.iter_mut().enumerate() {
            let (rows, columns) = (rows[index / 2], columns[index % 2]);
            for (row, sums) in sums.iter_mut().enumerate() {
                for (column, sum) in sums.iter_mut().enumerate() {
                    for k in 0..depth * ROW {
                        let x = rows[k / ROW * TILE + row * ROW + k % ROW];
                        // Four neighbours in depth lie side by side in a column.
                        let w = columns[(k / 4 * LANES + column) * 4 + k % 4];
                        *sum += i32::from(x) * i32::from(w);
                    }
                }
            }
        }
    }
}
