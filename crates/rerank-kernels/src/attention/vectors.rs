//! Attention in f32: sixteen queries at a time lie across the lanes, so that keys and values are read as they come from the
//! dense layer and neither the maximum nor the sum of a softmax crosses lanes.

use pulp::{Simd, WithSimd};

use super::Attention;
use crate::aligned::Aligned;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, exp2};
use crate::tile::{Sink, accumulate_transposed, multiply};

/// Buffers that are kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// Sixteen queries of one head, scaled, `[head_dim]`.
    queries: Aligned<Lanes>,
    /// The head's keys end to end, `[keys, head_dim]`.
    keys: Aligned<f32>,
    /// Their scores, then their weights, `[keys]`.
    scores: Aligned<Lanes>,
    /// The head's values in panels of sixteen columns, `[ceil(head_dim / 16)][keys]`.
    values: Aligned<Lanes>,
}

pub(super) struct Attend<'a> {
    pub(super) attention: Attention<'a>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) output: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { attention: Attention { heads, query, key_value, keys }, scratch, output } = self;
        let hidden = query.width();
        let head_dim = hidden / heads;
        // The softmax below raises two, not e.
        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        scratch.queries.resize(head_dim);
        scratch.scores.resize(keys);
        scratch.values.resize(head_dim.div_ceil(LANES) * keys);
        let (queries, scores, values) = (&mut *scratch.queries, &mut *scratch.scores, &mut *scratch.values);
        // A few thousand bytes apart, as they come, keys share so few sets of the first cache that each group of queries
        // would fetch them from the second again. One group alone has no use for a copy.
        let packs_keys = output.len() > LANES * hidden;
        scratch.keys.resize(if packs_keys { keys * head_dim } else { 0 });

        for head in 0..heads {
            let columns = head * head_dim;
            let mut key = key_value.columns(columns, head_dim);
            if packs_keys {
                for (index, packed) in scratch.keys.chunks_exact_mut(head_dim).enumerate() {
                    packed.copy_from_slice(key.row(index));
                }
                key = Rows::contiguous(&scratch.keys, head_dim);
            }
            pack_values(key_value.columns(hidden + columns, head_dim), keys, values);
            for (group, output) in output.chunks_mut(LANES * hidden).enumerate() {
                let query = query.columns(columns, head_dim).skip(group * LANES);
                pack_queries(query, output.len() / hidden, scale, queries);
                let mut sink = Scores { scores: &mut *scores, max: [f32::NEG_INFINITY; LANES] };
                multiply::<S>(simd, key, keys, queries, [0.0; LANES], &mut sink);
                let max = sink.max;
                let sum = softmax::<S>(scores, max);
                for (panel, values) in values.chunks_exact(keys).enumerate() {
                    let from = panel * LANES;
                    let output = &mut output[columns + from..];
                    let width = LANES.min(head_dim - from);
                    let mut context = Context { output, stride: hidden, width, sum };
                    context.weigh::<S, 6, 0>(simd, scores, values);
                    context.weigh::<S, 6, 6>(simd, scores, values);
                    context.weigh::<S, 4, 12>(simd, scores, values);
                }
            }
        }
    }
}

/// Copies one head's values into panels of sixteen columns.
#[inline(always)]
fn pack_values(value: Rows<'_>, keys: usize, panels: &mut [Lanes]) {
    for (panel, lanes) in panels.chunks_exact_mut(keys).enumerate() {
        for (index, lanes) in lanes.iter_mut().enumerate() {
            let columns = &value.row(index)[panel * LANES..];
            if let Some(columns) = columns.first_chunk() {
                *lanes = *columns;
            } else {
                *lanes = [0.0; LANES];
                lanes[..columns.len()].copy_from_slice(columns);
            }
        }
    }
}

/// Transposes up to sixteen queries; lanes beyond `count` repeat the first and are never written out.
#[inline(always)]
fn pack_queries(query: Rows<'_>, count: usize, scale: f32, panel: &mut [Lanes]) {
    for lane in 0..LANES {
        let row = query.row(if lane < count { lane } else { 0 });
        for (lanes, x) in panel.iter_mut().zip(row) {
            lanes[lane] = x * scale;
        }
    }
}

/// Stores the scores of one key for sixteen queries, and keeps each query's largest.
struct Scores<'a> {
    scores: &'a mut [Lanes],
    max: Lanes,
}

impl Sink for Scores<'_> {
    #[inline(always)]
    fn put<S: Simd, const R: usize>(&mut self, key: usize, sums: [Lanes; R]) {
        let scores = &mut self.scores[key..key + R];
        for r in 0..R {
            for lane in 0..LANES {
                let (sum, max) = (sums[r][lane], self.max[lane]);
                self.max[lane] = if sum > max { sum } else { max };
            }
            scores[r] = sums[r];
        }
    }
}

/// Turns scores into weights before division, and returns what to divide by.
#[inline(always)]
fn softmax<S: Simd>(scores: &mut [Lanes], max: Lanes) -> Lanes {
    let mut sums = [0.0; LANES];
    for scores in scores {
        for ((score, sum), max) in scores.iter_mut().zip(&mut sums).zip(max) {
            *score = exp2::<S>(*score - max);
            *sum += *score;
        }
    }
    sums
}

/// Sixteen columns of the context of up to sixteen queries.
struct Context<'a> {
    output: &'a mut [f32],
    stride: usize,
    width: usize,
    /// What each query's weights add up to.
    sum: Lanes,
}

impl Context<'_> {
    /// Writes queries `FROM..FROM + R`, as far as there are that many.
    #[inline(always)]
    fn weigh<S: Simd, const R: usize, const FROM: usize>(
        &mut self,
        simd: S,
        weights: &[Lanes],
        values: &[Lanes],
    ) {
        let count = self.output.len().div_ceil(self.stride);
        if count <= FROM {
            return;
        }
        let sums = accumulate_transposed::<S, R, FROM>(simd, weights, values);
        for (r, sums) in sums.iter().enumerate().take(count - FROM) {
            let query = FROM + r;
            let scaled = sums.map(|x| x / self.sum[query]);
            let output = &mut self.output[query * self.stride..];
            if self.width == LANES {
                output[..LANES].copy_from_slice(&scaled);
            } else {
                output[..self.width].copy_from_slice(&scaled[..self.width]);
            }
        }
    }
}
