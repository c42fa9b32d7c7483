//! The walk over a dense layer in tiles: 32 rows by 32 outputs at a time.
#![expect(unsafe_code, reason = "tile products read through pointers, which this walk has to cover")]

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::{Product, ROW, Sums};
use crate::activation::Activate;
use crate::linear::Output;
use crate::linear::narrow::{Finish, Operands};
use crate::simd::LANES;

/// The whole product by `P`, to be compiled for whatever vectors there are.
pub(in crate::linear) struct Walk<'a, 'b, P: Product, Stored, A, F> {
    operands: &'a Operands<'a, P::Input, Stored>,
    finish: &'a F,
    output: &'a mut Output<'b>,
    /// Holds the tile registers as long as this exists.
    _registers: P::Registers,
    activation: PhantomData<A>,
}

impl<'a, 'b, P: Product, Stored, A, F> Walk<'a, 'b, P, Stored, A, F> {
    /// # Safety
    /// The processor has what `P` needs, and the process may use it. `operands` come in whole tiles, rows in twos of them.
    pub(in crate::linear) unsafe fn new(
        operands: &'a Operands<'a, P::Input, Stored>,
        finish: &'a F,
        output: &'a mut Output<'b>,
    ) -> Self {
        // SAFETY: promised by the caller.
        let registers = unsafe { P::registers() };
        Self { operands, finish, output, _registers: registers, activation: PhantomData }
    }
}

impl<P: Product, Stored, A: Activate, F: Finish<P::Sum>> WithSimd for Walk<'_, '_, P, Stored, A, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { operands, finish, output, .. } = self;
        let tile = LANES * ROW / size_of::<P::Input>();
        let depth = operands.inputs * LANES / tile;
        let (pairs, panels) = (output.rows.div_ceil(2 * LANES), operands.panels.len() / operands.panel);
        assert_eq!(depth * tile, operands.inputs * LANES, "rows come in whole tiles");
        assert!(operands.rows.len() >= pairs * 2 * depth * tile, "rows come in twos of tiles");
        assert_eq!(operands.panel * size_of::<Stored>(), depth * LANES * ROW, "panels come in whole tiles");
        // While vectors finish one block, tiles multiply the next.
        let mut sums = [Sums::<P::Sum>::default(); 2];
        let mut unfinished = None;
        let mut blocks = 0;
        for panel in (0..panels).step_by(2) {
            // A single last panel is computed twice.
            let columns = [panel, (panel + 1).min(panels - 1)]
                .map(|panel| operands.panels[panel * operands.panel..].as_ptr().cast());
            for pair in 0..pairs {
                let rows = [2 * pair, 2 * pair + 1].map(|row| operands.rows[row * depth * tile..].as_ptr());
                // SAFETY: the assertions above say that the pointers cover whole tiles; `self` held the registers, which
                // are given back when this function ends.
                unsafe { P::two_by_two(rows, columns, depth, &mut sums[blocks % 2]) };
                if let Some((pair, panel)) = unfinished.replace((pair, panel)) {
                    block::<S, P::Sum, A, F>(finish, &sums[(blocks + 1) % 2], pair, panel, output);
                }
                blocks += 1;
            }
        }
        if let Some((pair, panel)) = unfinished {
            block::<S, P::Sum, A, F>(finish, &sums[(blocks + 1) % 2], pair, panel, output);
        }
    }
}

/// Writes what there is of 32 rows and 32 outputs.
#[inline(always)]
fn block<S: Simd, Sum: Copy, A: Activate, F: Finish<Sum>>(
    finish: &F,
    sums: &Sums<Sum>,
    pair: usize,
    panel: usize,
    output: &mut Output<'_>,
) {
    for (index, sums) in sums.0.iter().enumerate() {
        let (from, group) = ((2 * pair + index / 2) * LANES, panel + index % 2);
        if from >= output.rows || group * LANES >= output.width {
            continue;
        }
        let columns = finish.columns(group);
        let rows = from..output.rows.min(from + LANES);
        for (row, sums) in rows.zip(sums) {
            output.put::<S, A>(row, group, finish.finish(row, &columns, sums));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Walk;
    use crate::Cpu;
    use crate::linear::Output;
    use crate::linear::narrow::{Finish, Operands};
    use crate::linear::tiles::Layout;
    use crate::linear::tiles::emulated::Bytes;
    use crate::simd::{LANES, Lanes, dispatch};

    /// Nothing but the sums.
    struct Plain;

    impl Finish<i32> for Plain {
        type Columns = ();

        fn columns(&self, _: usize) {}

        fn finish(&self, _: usize, (): &(), sums: &[i32; LANES]) -> Lanes {
            sums.map(|sum| sum as f32)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Every output is its own sum, whatever the numbers of rows and outputs.
        #[test]
        fn the_walk_covers_every_output_once(
            (rows, outputs, depth) in (1..70_usize, 1..70_usize, 1..3_usize),
            seed in any::<u8>(),
        ) {
            let (inputs, byte) = (64 * depth, |i: usize| (i * 37 + usize::from(seed)) as u8 % 5);
            let layout = Layout { pieces: depth, tiled: true };
            let mut left = vec![0_u8; layout.total(rows) * 64];
            for (row, piece, i) in (0..rows).flat_map(|row| (0..inputs).map(move |k| (row, k / 64, k % 64))) {
                left[layout.at(row, piece) * 64 + i] = byte(row * inputs + piece * 64 + i);
            }
            let groups = outputs.div_ceil(LANES);
            let mut panels = vec![[0_i8; 64]; groups * inputs / 4];
            for (output, k) in (0..outputs).flat_map(|output| (0..inputs).map(move |k| (output, k))) {
                panels[(output / LANES * inputs + k) / 4][output % LANES * 4 + k % 4] = byte(output * 7 + k) as i8;
            }
            let operands = Operands { rows: &left, inputs, panels: &panels, panel: inputs / 4 };
            let mut values = vec![f32::NAN; rows * outputs];
            let mut output = Output { values: &mut values, rows, width: outputs };
            // SAFETY: the emulation needs nothing; the layout above makes whole tiles.
            let tiled = unsafe { Walk::<Bytes, _, crate::activation::Identity, _>::new(&operands, &Plain, &mut output) };
            dispatch(Cpu::detect(), tiled);
            for (index, got) in values.iter().enumerate() {
                let (row, output) = (index / outputs, index % outputs);
                let exact: i32 =
                    (0..inputs).map(|k| i32::from(byte(row * inputs + k)) * i32::from(byte(output * 7 + k))).sum();
                prop_assert_eq!(*got, exact as f32);
            }
        }
    }
}
