//! What products of narrow numbers share: the walk over panels and blocks of rows.
#![expect(
    unsafe_code,
    reason = "a block kernel may only run where its instruction set is, which its caller knows"
)]

use std::marker::PhantomData;

use pulp::{Scalar, Simd, WithSimd};

use super::Output;
use crate::activation::Activate;
use crate::simd::{LANES, Lanes};

/// One instruction set's innermost loop.
pub(super) trait Block {
    /// The vectors that what follows the sums is compiled for.
    type Simd: Simd;
    /// An element of the activations.
    type Input: Copy;
    /// Sixteen outputs of a few inputs.
    type Stored;
    /// A sum of products.
    type Sum: Copy + Default;

    /// Fills `sums` with the products of `R` rows and sixteen outputs.
    ///
    /// # Safety
    /// The processor has the kernel's instruction set.
    unsafe fn multiply<const R: usize>(
        rows: [&[Self::Input]; R],
        panel: &[Self::Stored],
        sums: &mut [[Self::Sum; LANES]; R],
    );
}

/// From sums to numbers: scales, zero points and the bias.
pub(super) trait Finish<Sum> {
    /// What sixteen outputs have in common in every row. A copy stays in registers, where what is read through a
    /// reference is read again for every row.
    type Columns;

    /// Of one group of sixteen outputs.
    fn columns(&self, group: usize) -> Self::Columns;

    /// Sixteen outputs of one row.
    fn finish(&self, row: usize, columns: &Self::Columns, sums: &[Sum; LANES]) -> Lanes;
}

/// Rows of `inputs` elements and panels of as many.
pub(super) struct Operands<'a, Input, Stored> {
    /// `[rows, inputs]`, or the same in tiles.
    pub(super) rows: &'a [Input],
    pub(super) inputs: usize,
    /// `[ceil(outputs / 16)][panel]`.
    pub(super) panels: &'a [Stored],
    /// Elements of a panel.
    pub(super) panel: usize,
}

/// Every panel by every block of `R` rows; the last block goes back over rows that are done rather than run short.
///
/// # Safety
/// The processor has the instruction set of `B`. To be inlined into a function that is compiled for it.
#[inline(always)]
pub(super) unsafe fn multiply<B: Block, A: Activate, const R: usize>(
    operands: &Operands<'_, B::Input, B::Stored>,
    finish: &impl Finish<B::Sum>,
    output: &mut Output<'_>,
) {
    let count = output.rows;
    let mut sums = [[B::Sum::default(); LANES]; R];
    for (group, panel) in operands.panels.chunks_exact(operands.panel).enumerate() {
        let columns = finish.columns(group);
        let mut done = 0;
        while done < count {
            let from = done.min(count.saturating_sub(R));
            let rows = std::array::from_fn(|r| {
                let row = (from + r).min(count - 1);
                &operands.rows[row * operands.inputs..][..operands.inputs]
            });
            // SAFETY: promised by the caller.
            unsafe { B::multiply::<R>(rows, panel, &mut sums) };
            for r in 0..R.min(count - from) {
                output.put::<B::Simd, A>(from + r, group, finish.finish(from + r, &columns, &sums[r]));
            }
            done = from + R;
        }
    }
}

/// An innermost loop in ordinary Rust: what the other kernels are held against, and what runs where there is no other.
pub(super) trait Oracle {
    /// As in [`Block`].
    type Input: Copy;
    /// As in [`Block`].
    type Stored;
    /// As in [`Block`].
    type Sum: Copy + Default;

    /// As [`Block::multiply`], anywhere.
    fn multiply<const R: usize>(
        rows: [&[Self::Input]; R],
        panel: &[Self::Stored],
        sums: &mut [[Self::Sum; LANES]; R],
    );
}

/// The whole product by an [`Oracle`], to be compiled for whatever vectors there are.
pub(super) struct Portable<'a, 'b, O: Oracle, A, F> {
    operands: &'a Operands<'a, O::Input, O::Stored>,
    finish: &'a F,
    output: &'a mut Output<'b>,
    activation: PhantomData<A>,
}

impl<'a, 'b, O: Oracle, A, F> Portable<'a, 'b, O, A, F> {
    pub(super) fn new(
        operands: &'a Operands<'a, O::Input, O::Stored>,
        finish: &'a F,
        output: &'a mut Output<'b>,
    ) -> Self {
        Self { operands, finish, output, activation: PhantomData }
    }
}

impl<O: Oracle, A: Activate, F: Finish<O::Sum>> WithSimd for Portable<'_, '_, O, A, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // SAFETY: a `Safe` block needs no instruction set.
        unsafe { multiply::<Safe<O>, A, 2>(self.operands, self.finish, self.output) };
    }
}

/// An oracle among blocks.
struct Safe<O>(PhantomData<O>);

impl<O: Oracle> Block for Safe<O> {
    type Simd = Scalar;
    type Input = O::Input;
    type Stored = O::Stored;
    type Sum = O::Sum;

    #[inline(always)]
    unsafe fn multiply<const R: usize>(
        rows: [&[O::Input]; R],
        panel: &[O::Stored],
        sums: &mut [[O::Sum; LANES]; R],
    ) {
        O::multiply(rows, panel, sums);
    }
}
