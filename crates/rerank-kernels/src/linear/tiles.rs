//! Products of tiles: sixteen rows of 64 bytes by sixteen columns of 64 bytes, as tile registers hold them.
//!
//! Operands come laid out in tiles, so that one is 1024 bytes in a row: loaded out of wide rows instead, whose lines share
//! few sets of the first cache, the product of 128 rows, 1536 inputs and 384 outputs takes 1.45 times as long.

use crate::simd::LANES;

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(test)]
mod emulated;
#[cfg(any(target_arch = "x86_64", test))]
mod walk;

#[cfg(target_arch = "x86_64")]
pub(super) use walk::Walk;

/// Bytes of a tile's row.
#[cfg(any(target_arch = "x86_64", test))]
const ROW: usize = 64;

/// Sums of two by two tiles, `[2 * row tile + column tile][16][16]`.
#[cfg(any(target_arch = "x86_64", test))]
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums<Sum>([[[Sum; LANES]; LANES]; 4]);

#[cfg(any(target_arch = "x86_64", test))]
impl<Sum: Copy + Default> Default for Sums<Sum> {
    fn default() -> Self {
        Self([[[Sum::default(); LANES]; LANES]; 4])
    }
}

/// One kind of product.
#[cfg(any(target_arch = "x86_64", test))]
#[expect(
    unsafe_code,
    reason = "tiles are read through pointers, by instructions that not every processor has"
)]
pub(super) trait Product {
    /// An element of the rows.
    type Input: Copy;
    /// An element of the columns.
    type Stored: Copy;
    /// A sum of products, 32 bits.
    type Sum: Copy + Default;
    /// Holds the tile registers until it is dropped.
    type Registers;

    /// Takes the thread's tile registers.
    ///
    /// # Safety
    /// The processor has the instruction, and the process may use tile registers.
    unsafe fn registers() -> Self::Registers;

    /// Fills `sums` from two runs of row tiles and two of column tiles, each `depth` tiles of 1024 bytes.
    ///
    /// # Safety
    /// The thread holds [`Self::Registers`]; the four pointers cover what is read; `depth` is not zero.
    unsafe fn two_by_two(
        rows: [*const Self::Input; 2],
        columns: [*const Self::Stored; 2],
        depth: usize,
        sums: &mut Sums<Self::Sum>,
    );
}

/// How the rows of a product's left side lie: in pieces of 64 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Pieces of a row.
    pub(super) pieces: usize,
    /// Sixteen rows' first pieces, then their second ones, and so on; otherwise row after row.
    pub(super) tiled: bool,
}

impl Layout {
    /// Which piece of the buffer is this piece of this row.
    #[inline(always)]
    pub(super) fn at(self, row: usize, piece: usize) -> usize {
        if self.tiled {
            (row / LANES * self.pieces + piece) * LANES + row % LANES
        } else {
            row * self.pieces + piece
        }
    }

    /// Pieces of so many rows: tiles are whole, and come in twos.
    pub(super) fn total(self, rows: usize) -> usize {
        self.pieces * if self.tiled { rows.next_multiple_of(2 * LANES) } else { rows }
    }
}
