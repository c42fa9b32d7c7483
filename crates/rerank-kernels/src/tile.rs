//! The one inner loop that all matrix products share: a few rows times sixteen columns, accumulated in registers.

use pulp::Simd;

use crate::rows::Rows;
use crate::simd::{LANES, Lanes, mul_add};

/// Splitting rows at multiples of this keeps every tile but the last full on every instruction set.
pub const TILE_STEP: usize = 12;

/// What to do with finished sums: sixteen for each of rows `row..row + R`.
pub(crate) trait Sink {
    fn put<S: Simd, const R: usize>(&mut self, row: usize, sums: [Lanes; R]);
}

/// Multiplies rows `0..count` of `left` with `panel`, `[width][16]`, adds to `start`, and hands the sums to `sink`.
///
/// Six rows of AVX2 or NEON fill the register file without spilling: 97 of the 99 GFLOP/s that one core of the reference
/// machine can do, against 90 for a general product that packs its operands first. AVX-512 takes eight, see [`pair`].
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    simd: S,
    left: Rows<'_>,
    count: usize,
    panel: &[Lanes],
    start: Lanes,
    sink: &mut impl Sink,
) {
    let mut row = 0;
    if S::F32_LANES >= LANES {
        while count - row >= 8 {
            rows::<S, 8>(simd, left, row, panel, start, sink);
            row += 8;
        }
    }
    while count - row >= 6 {
        rows::<S, 6>(simd, left, row, panel, start, sink);
        row += 6;
    }
    match count - row {
        5 => rows::<S, 5>(simd, left, row, panel, start, sink),
        4 => rows::<S, 4>(simd, left, row, panel, start, sink),
        3 => rows::<S, 3>(simd, left, row, panel, start, sink),
        2 => rows::<S, 2>(simd, left, row, panel, start, sink),
        1 => rows::<S, 1>(simd, left, row, panel, start, sink),
        _ => {}
    }
}

/// The same with two panels at once, returning how many rows came out even: for AVX-512, whose 32 registers hold eight
/// rows by 32 columns. With one panel there would be more loads than multiply-adds, and with more rows more pointers than
/// there are registers for.
#[inline(always)]
pub(crate) fn pair<S: Simd>(
    simd: S,
    left: Rows<'_>,
    count: usize,
    panels: [&[Lanes]; 2],
    start: [Lanes; 2],
    mut put: impl FnMut(usize, [[Lanes; 8]; 2]),
) -> usize {
    const R: usize = 8;
    let mut row = 0;
    while count - row >= R {
        let rows = left.block::<R>(row).map(|row| &row[..panels[0].len()]);
        put(row, wide::<S, R, 2>(simd, |r, k| rows[r][k], panels, start));
        row += R;
    }
    row
}

/// `start + left * panel` for `R` rows and `P` panels where sixteen floats are one register. Registers are named as such:
/// left to itself, the compiler lays sums of arrays this wide across rows, six to twenty times slower.
#[inline(always)]
fn wide<S: Simd, const R: usize, const P: usize>(
    simd: S,
    left: impl Fn(usize, usize) -> f32,
    panels: [&[Lanes]; P],
    start: [Lanes; P],
) -> [[Lanes; R]; P] {
    let register = |lanes: &Lanes| S::as_simd_f32s(lanes).0[0];
    let depth = panels[0].len();
    let mut sums = [[simd.splat_f32s(0.0); R]; P];
    for p in 0..P {
        for r in 0..R {
            sums[p][r] = register(&start[p]);
        }
    }
    let panels = panels.map(|panel| &panel[..depth]);
    for k in 0..depth {
        for r in 0..R {
            let x = simd.splat_f32s(left(r, k));
            for p in 0..P {
                sums[p][r] = simd.mul_add_f32s(x, register(&panels[p][k]), sums[p][r]);
            }
        }
    }
    let mut lanes = [[[0.0; LANES]; R]; P];
    for p in 0..P {
        for r in 0..R {
            S::as_mut_simd_f32s(&mut lanes[p][r]).0[0] = sums[p][r];
        }
    }
    lanes
}

#[inline(always)]
fn rows<S: Simd, const R: usize>(
    simd: S,
    left: Rows<'_>,
    from: usize,
    panel: &[Lanes],
    start: Lanes,
    sink: &mut impl Sink,
) {
    let left = left.block::<R>(from);
    let sums = if S::F32_LANES == LANES {
        let left = left.map(|row| &row[..panel.len()]);
        let [sums] = wide::<S, R, 1>(simd, |r, k| left[r][k], [panel], [start]);
        sums
    } else {
        accumulate::<S, R>(left, panel, start)
    };
    sink.put::<S, R>(from, sums);
}

#[inline(always)]
fn accumulate<S: Simd, const R: usize>(left: [&[f32]; R], panel: &[Lanes], start: Lanes) -> [Lanes; R] {
    let mut sums = [start; R];
    // Four steps at once need one bounds check and almost no address arithmetic, which the loop has no room for:
    // its twenty loads and products already fill six cycles of a core that decodes six instructions in each.
    let (fours, rest) = panel.as_chunks::<4>();
    let left_fours = left.map(|row| &row.as_chunks::<4>().0[..fours.len()]);
    for (k, right) in fours.iter().enumerate() {
        let left: [&[f32; 4]; R] = std::array::from_fn(|r| &left_fours[r][k]);
        step::<S, R>(&mut sums, |r| left[r][0], &right[0]);
        step::<S, R>(&mut sums, |r| left[r][1], &right[1]);
        step::<S, R>(&mut sums, |r| left[r][2], &right[2]);
        step::<S, R>(&mut sums, |r| left[r][3], &right[3]);
    }
    let done = panel.len() - rest.len();
    for (k, right) in rest.iter().enumerate() {
        step::<S, R>(&mut sums, |r| left[r][done + k], right);
    }
    sums
}

/// `sums[r] = sum over k of left[k][FROM + r] * right[k]`: the product with a transposed left side, `R` of its sixteen
/// columns at a time. Both numbers are constants, or every step would check four bounds.
#[inline(always)]
pub(crate) fn accumulate_transposed<S: Simd, const R: usize, const FROM: usize>(
    simd: S,
    left: &[Lanes],
    right: &[Lanes],
) -> [Lanes; R] {
    if S::F32_LANES == LANES {
        let left = &left[..right.len()];
        let [sums] = wide::<S, R, 1>(simd, |r, k| left[k][FROM + r], [right], [[0.0; LANES]]);
        return sums;
    }
    let mut sums = [[0.0; LANES]; R];
    for (left, right) in left.iter().zip(right) {
        step::<S, R>(&mut sums, |r| left[FROM + r], right);
    }
    sums
}

/// `sums[r] += left(r) * right`.
#[inline(always)]
fn step<S: Simd, const R: usize>(sums: &mut [Lanes; R], left: impl Fn(usize) -> f32, right: &Lanes) {
    for r in 0..R {
        for lane in 0..LANES {
            sums[r][lane] = mul_add::<S>(left(r), right[lane], sums[r][lane]);
        }
    }
}
