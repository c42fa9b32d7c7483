//! f32 weights in panels of sixteen outputs.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::{Columns, Output};
use crate::Cpu;
use crate::activation::Activate;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, dispatch};
use crate::tile::{Sink, multiply, pair};

/// `[ceil(outputs / 16)][inputs]`, zero beyond the last output.
pub(super) struct Panels {
    columns: Columns,
    inputs: usize,
}

impl Panels {
    /// From `weight`, `[outputs, inputs]`.
    pub(super) fn new(weight: &[f32], inputs: usize) -> Self {
        let groups = (weight.len() / inputs).div_ceil(LANES);
        let mut columns = Columns::zeros(groups * inputs);
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let (group, lane) = (output / LANES, output % LANES);
            for (panel, &weight) in columns[group * inputs..].iter_mut().zip(row) {
                panel[lane] = weight;
            }
        }
        Self { columns, inputs }
    }

    pub(super) fn bytes(&self) -> usize {
        self.columns.bytes()
    }

    pub(super) fn forward<A: Activate>(&self, cpu: Cpu, input: Rows<'_>, bias: &[Lanes], output: Output<'_>) {
        dispatch(cpu, Product { panels: self, input, bias, output, activation: PhantomData::<A> });
    }
}

struct Product<'a, A> {
    panels: &'a Panels,
    input: Rows<'a>,
    bias: &'a [Lanes],
    output: Output<'a>,
    activation: PhantomData<A>,
}

impl<A: Activate> WithSimd for Product<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panels, input, bias, mut output, .. } = self;
        let rows = output.rows;
        let panel = |group: usize| &panels.columns[group * panels.inputs..][..panels.inputs];
        let mut group = 0;
        if S::F32_LANES >= LANES {
            while bias.len() - group >= 2 {
                let both = [panel(group), panel(group + 1)];
                let done = pair::<S>(simd, input, rows, both, [bias[group], bias[group + 1]], |row, sums| {
                    for (at, sums) in sums.iter().enumerate() {
                        for (r, sums) in sums.iter().enumerate() {
                            output.put::<S, A>(row + r, group + at, *sums);
                        }
                    }
                });
                for at in 0..2 {
                    let mut sink = ToOutput::<A> {
                        output: &mut output,
                        group: group + at,
                        from: done,
                        activation: PhantomData,
                    };
                    multiply::<S>(simd, input.skip(done), rows - done, both[at], bias[group + at], &mut sink);
                }
                group += 2;
            }
        }
        while group < bias.len() {
            let mut sink = ToOutput::<A> { output: &mut output, group, from: 0, activation: PhantomData };
            multiply::<S>(simd, input, rows, panel(group), bias[group], &mut sink);
            group += 1;
        }
    }
}

struct ToOutput<'a, 'b, A> {
    output: &'a mut Output<'b>,
    group: usize,
    /// The first row.
    from: usize,
    activation: PhantomData<A>,
}

impl<A: Activate> Sink for ToOutput<'_, '_, A> {
    #[inline(always)]
    fn put<S: Simd, const R: usize>(&mut self, row: usize, sums: [Lanes; R]) {
        for r in 0..R {
            self.output.put::<S, A>(self.from + row + r, self.group, sums[r]);
        }
    }
}
