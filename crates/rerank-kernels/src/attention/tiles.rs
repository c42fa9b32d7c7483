//! Attention on tile registers, in bf16: queries by rows, keys across the lanes.
//!
//! 32 queries at a time meet all keys of a head. Their scores stay where the tiles left them, become weights, and meet
//! the values. Columns are padded with zeros to whole tiles; keys that are padding weigh nothing.
//!
//! Scores are sums of three terms, since what they are off by, their exponential multiplies. Weights are rounded towards
//! zero to bf16 and divided by the sum of what they were rounded to, which leaves errors of either sign, at most 2^-8 of
//! a weight; values are two terms.
#![expect(unsafe_code, reason = "tile products read through pointers, which these loops have to cover")]

use pulp::{Simd, WithSimd};

use super::Attention;
use crate::aligned::Aligned;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, exp2};
use crate::terms::{STEP, Split, high, low};
use crate::tiles::{Layout, Product, Sums};

/// Queries, keys or columns that two tiles hold.
const PAIR: usize = 2 * LANES;
/// Terms of a score's products.
const SCORE_TERMS: usize = 3;
/// Terms of a value: each meets the same weight.
const VALUE_TERMS: usize = 2;

/// A row of a column tile: of sixteen columns, two numbers that are neighbours in depth.
type Pairs = [u32; LANES];

/// Buffers that are kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// Queries, scaled, then weights: rows of tiles.
    rows: Aligned<[u16; STEP]>,
    /// One head's keys in two terms, `[keys][2][head_dim]`.
    split: Aligned<[u16; STEP]>,
    /// The same, `[keys / 16][score terms][head_dim / 2]` for sixteen keys.
    keys: Aligned<Pairs>,
    /// One head's values, `[head_dim / 16][value terms][keys / 2]` for sixteen columns.
    values: Aligned<Pairs>,
    /// Scores of 32 queries with all keys, 32 at a time.
    scores: Vec<Sums<f32>>,
}

pub(super) struct Attend<'a, P: Product> {
    attention: Attention<'a>,
    scratch: &'a mut Scratch,
    output: &'a mut [f32],
    /// Holds the tile registers as long as this exists.
    _registers: P::Registers,
}

impl<'a, P: Product> Attend<'a, P> {
    /// # Safety
    /// The processor has what `P` needs, and the process may use it.
    pub(super) unsafe fn new(
        attention: Attention<'a>,
        scratch: &'a mut Scratch,
        output: &'a mut [f32],
    ) -> Self {
        // SAFETY: promised by the caller.
        let registers = unsafe { P::registers() };
        Self { attention, scratch, output, _registers: registers }
    }
}

impl<P: Product<Input = u16, Stored = u16, Sum = f32>> WithSimd for Attend<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { attention: Attention { heads, query, key_value, keys }, scratch, output, .. } = self;
        let hidden = query.width();
        let head_dim = hidden / heads;
        // The softmax below raises two, not e.
        let factor = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let (columns, padded) = (head_dim.next_multiple_of(PAIR), keys.next_multiple_of(PAIR));
        let queries = Layout { pieces: SCORE_TERMS * columns / STEP, tiled: true };
        let weights = Layout { pieces: VALUE_TERMS * padded / STEP, tiled: true };
        let apart = Layout { pieces: 2 * columns / STEP, tiled: false };
        scratch.rows.resize(queries.total(PAIR).max(weights.total(PAIR)));
        scratch.split.resize(apart.total(padded));
        scratch.keys.resize(padded / LANES * SCORE_TERMS * columns / 2);
        scratch.values.resize(columns / LANES * VALUE_TERMS * padded / 2);
        scratch.scores.resize(padded / PAIR, Sums::default());
        let Scratch { rows, split, keys: key_tiles, values, scores } = scratch;
        let (mut scales, mut context) = ([0.0; PAIR], Sums::default());

        for head in 0..heads {
            let from = head * head_dim;
            let key = key_value.columns(from, head_dim);
            Split { input: key, count: keys, factor: 1.0, terms: 2, layout: apart, output: &mut *split }
                .with_simd(simd);
            pack_keys(split, columns, key_tiles);
            pack_values(key_value.columns(hidden + from, head_dim), keys, padded, values);
            for (index, output) in output.chunks_mut(PAIR * hidden).enumerate() {
                let input = query.columns(from, head_dim).skip(index * PAIR);
                let count = output.len() / hidden;
                Split { input, count, factor, terms: SCORE_TERMS, layout: queries, output: &mut *rows }
                    .with_simd(simd);
                for (keys, scores) in
                    key_tiles.chunks_exact(PAIR / LANES * SCORE_TERMS * columns / 2).zip(&mut *scores)
                {
                    // SAFETY: the buffers above hold whole tiles in twos; `self` held the registers, which are given
                    // back when this function ends.
                    unsafe { two_by_two::<P>(rows, keys, queries.pieces, scores) };
                }
                mask(scores, keys);
                for (query, scale) in scales.iter_mut().enumerate().take(count) {
                    *scale = 1.0 / softmax::<S>(simd, scores, query, weights, rows);
                }
                for (pair, values) in values.chunks_exact(PAIR / LANES * VALUE_TERMS * padded / 2).enumerate()
                {
                    // SAFETY: as above.
                    unsafe { two_by_two::<P>(rows, values, weights.pieces, &mut context) };
                    let column = from + pair * PAIR;
                    let width = (head_dim - pair * PAIR).min(PAIR);
                    for (query, row) in output.chunks_exact_mut(hidden).enumerate() {
                        write(&context, query, scales[query], &mut row[column..column + width]);
                    }
                }
            }
        }
    }
}

/// One product of two tiles of rows and two of columns, as deep as they are.
///
/// # Safety
/// Both buffers hold two runs of `depth` tiles; the thread holds the registers of `P`.
#[inline(always)]
unsafe fn two_by_two<P: Product<Input = u16, Stored = u16, Sum = f32>>(
    rows: &[[u16; STEP]],
    columns: &[Pairs],
    depth: usize,
    sums: &mut Sums<f32>,
) {
    let run = depth * LANES;
    let rows = [&rows[..run], &rows[run..2 * run]].map(|run| run.as_ptr().cast());
    let columns = [&columns[..run], &columns[run..2 * run]].map(|run| run.as_ptr().cast());
    // SAFETY: the slices are as long as what is read; the rest is the caller's promise.
    unsafe { P::two_by_two(rows, columns, depth, sums) };
}

/// Sixteen keys across, two of their columns in each lane.
#[inline(always)]
fn pack_keys(split: &[[u16; STEP]], columns: usize, tiles: &mut [Pairs]) {
    let per_term = columns / 2;
    for (tile, keys) in
        tiles.chunks_exact_mut(SCORE_TERMS * per_term).zip(split.chunks_exact(2 * columns / STEP * LANES))
    {
        let (high, rest) = tile.split_at_mut(per_term);
        let (again, low) = rest.split_at_mut(per_term);
        for (lane, key) in keys.chunks_exact(2 * columns / STEP).enumerate() {
            let pairs: &[u32] = bytemuck::cast_slice(key);
            for ((high, low), (x, y)) in
                high.iter_mut().zip(&mut *low).zip(pairs[..per_term].iter().zip(&pairs[per_term..]))
            {
                high[lane] = *x;
                low[lane] = *y;
            }
        }
        again.copy_from_slice(high);
    }
}

/// Sixteen columns across, two keys' values in each lane.
#[inline(always)]
fn pack_values(value: Rows<'_>, count: usize, padded: usize, tiles: &mut [Pairs]) {
    let per_term = padded / 2;
    for (group, tile) in tiles.chunks_exact_mut(VALUE_TERMS * per_term).enumerate() {
        for pair in 0..per_term {
            let first = lanes(value, 2 * pair, count, group * LANES);
            let second = lanes(value, 2 * pair + 1, count, group * LANES);
            let (mut highs, mut lows) = ([0; LANES], [0; LANES]);
            for lane in 0..LANES {
                highs[lane] = high(first[lane]) >> 16 | high(second[lane]);
                lows[lane] = low(first[lane]) >> 16 | low(second[lane]);
            }
            tile[pair] = highs;
            tile[per_term + pair] = lows;
        }
    }
}

/// Sixteen columns of a row, zeros beyond the last of either.
#[inline(always)]
fn lanes(rows: Rows<'_>, index: usize, count: usize, from: usize) -> Lanes {
    let mut lanes = [0.0; LANES];
    if index < count {
        let columns = rows.row(index).get(from..).unwrap_or_default();
        match columns.first_chunk() {
            Some(columns) => lanes = *columns,
            None => lanes[..columns.len()].copy_from_slice(columns),
        }
    }
    lanes
}

/// Keys that are padding get no weight.
#[inline(always)]
fn mask(scores: &mut [Sums<f32>], keys: usize) {
    let Some(last) = scores.last_mut() else { return };
    let beyond = (keys - 1) % PAIR + 1..PAIR;
    for (index, tile) in last.0.iter_mut().enumerate() {
        for scores in tile {
            for lane in beyond.clone().filter(|lane| lane / LANES == index % 2) {
                scores[lane % LANES] = f32::NEG_INFINITY;
            }
        }
    }
}

/// Turns one query's scores into weights before division, as a row of tiles for each term of the values, and returns what
/// to divide by.
#[inline(always)]
fn softmax<S: Simd>(
    simd: S,
    scores: &[Sums<f32>],
    query: usize,
    layout: Layout,
    rows: &mut [[u16; STEP]],
) -> f32 {
    let (tile, row) = (query / LANES, query % LANES);
    // Passes over NaN, which then is the query's sum.
    let mut max = simd.splat_f32s(f32::NEG_INFINITY);
    for scores in scores {
        for half in 0..2 {
            for &scores in S::as_simd_f32s(&scores.0[2 * tile + half][row]).0 {
                max = simd.max_f32s(scores, max);
            }
        }
    }
    let max = simd.reduce_max_f32s(max);
    let per_term = layout.pieces / VALUE_TERMS;
    let mut sums = [0.0; LANES];
    for (piece, scores) in scores.iter().enumerate() {
        let mut weights = [0; STEP];
        for half in 0..2 {
            let scores = &scores.0[2 * tile + half][row];
            for lane in 0..LANES {
                let weight = high(exp2::<S>(scores[lane] - max));
                sums[lane] += f32::from_bits(weight);
                weights[half * LANES + lane] = (weight >> 16) as u16;
            }
        }
        rows[layout.at(query, piece)] = weights;
        rows[layout.at(query, per_term + piece)] = weights;
    }
    let mut sum = simd.splat_f32s(0.0);
    for &sums in S::as_simd_f32s(&sums).0 {
        sum = simd.add_f32s(sum, sums);
    }
    simd.reduce_sum_f32s(sum)
}

/// One query's context in up to 32 columns.
#[inline(always)]
fn write(context: &Sums<f32>, query: usize, scale: f32, output: &mut [f32]) {
    let (tile, row) = (query / LANES, query % LANES);
    for (half, output) in output.chunks_mut(LANES).enumerate() {
        let mut scaled = context.0[2 * tile + half][row];
        for x in &mut scaled {
            *x *= scale;
        }
        match output.first_chunk_mut() {
            Some(output) => *output = scaled,
            None => output.copy_from_slice(&scaled[..output.len()]),
        }
    }
}
