//! Attention of each row over itself, at its true length: no padding, no mask, no matrix of scores in memory.

use pulp::{Simd, WithSimd};

use crate::Cpu;
use crate::aligned::Aligned;
use crate::rows::Rows;
use crate::simd::{LANES, Lanes, dispatch, exp2};
use crate::tile::{Sink, accumulate_transposed, multiply};

/// Multi-head attention of queries over the keys and values of their own row.
///
/// Sixteen queries at a time lie across the lanes, so that keys and values are read as they come from the dense layer
/// and neither the maximum nor the sum of a softmax crosses lanes.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Heads, which divide the width.
    pub heads: usize,
    /// Some or all queries of one row, `[queries, hidden]`.
    pub query: Rows<'a>,
    /// Keys and values of that row side by side, `[keys, 2 * hidden]`.
    pub key_value: Rows<'a>,
    /// How many keys the row has.
    pub keys: usize,
}

/// Buffers that are kept from call to call.
#[derive(Default)]
pub struct AttentionScratch {
    /// Sixteen queries of one head, scaled, `[head_dim]`.
    queries: Aligned<Lanes>,
    /// The head's keys end to end, `[keys, head_dim]`.
    keys: Aligned<f32>,
    /// Their scores, then their weights, `[keys]`.
    scores: Aligned<Lanes>,
    /// The head's values in panels of sixteen columns, `[ceil(head_dim / 16)][keys]`.
    values: Aligned<Lanes>,
}

impl Attention<'_> {
    /// Fills `output`, `[queries, hidden]`.
    pub fn attend(self, cpu: Cpu, scratch: &mut AttentionScratch, output: &mut [f32]) {
        dispatch(cpu, Tile { attention: self, scratch, output });
    }
}

struct Tile<'a> {
    attention: Attention<'a>,
    scratch: &'a mut AttentionScratch,
    output: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
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

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::{Attention, AttentionScratch};
    use crate::{Cpu, Rows};

    /// Softmax of scaled scores times values, one query at a time in double precision.
    fn reference(
        hidden: usize,
        heads: usize,
        query: &[f32],
        key_value: &[f32],
        rows: &[Range<usize>],
    ) -> Vec<f64> {
        let head_dim = hidden / heads;
        let mut context = Vec::new();
        for row in rows {
            for q in row.clone() {
                for column in 0..hidden {
                    let head = column / head_dim * head_dim..(column / head_dim + 1) * head_dim;
                    let weight = |k: usize| {
                        let dot = head.clone().map(|c| {
                            f64::from(query[q * hidden + c]) * f64::from(key_value[k * 2 * hidden + c])
                        });
                        (dot.sum::<f64>() / (head_dim as f64).sqrt()).exp()
                    };
                    let weighed = row
                        .clone()
                        .map(|k| weight(k) * f64::from(key_value[k * 2 * hidden + hidden + column]));
                    context.push(weighed.sum::<f64>() / row.clone().map(weight).sum::<f64>());
                }
            }
        }
        context
    }

    #[test]
    fn a_key_that_is_not_a_number_is_not_hidden() {
        let query = [0.5_f32; 20 * 32];
        let mut key_value = [0.25_f32; 20 * 64];
        key_value[7 * 64 + 3] = f32::NAN;
        for cpu in Cpu::detect().choices() {
            let mut got = vec![0.0; 20 * 32];
            let (query, key_value) = (Rows::contiguous(&query, 32), Rows::contiguous(&key_value, 64));
            Attention { heads: 1, query, key_value, keys: 20 }.attend(
                cpu,
                &mut AttentionScratch::default(),
                &mut got,
            );
            assert!(got.iter().all(|x| x.is_nan()), "{cpu}: {got:?}");
        }
    }

    #[test]
    fn agrees_with_double_precision_for_odd_sizes() {
        // Head widths of 24 and 32: with and without a partial panel; rows shorter and longer than a group of lanes.
        for (heads, hidden) in [(2, 48), (3, 96)] {
            let rows = [0..1, 1..20, 20..55];
            let noise = |n: usize, by: f32| (0..n).map(|i| 2.0 * (i as f32 * by).sin()).collect::<Vec<f32>>();
            let (query, key_value) = (noise(55 * hidden, 1.7), noise(55 * 2 * hidden, 2.9));
            let expected = reference(hidden, heads, &query, &key_value, &rows);
            for cpu in Cpu::detect().choices() {
                let mut got = vec![0.0; 55 * hidden];
                let mut scratch = AttentionScratch::default();
                for row in rows.clone() {
                    Attention {
                        heads,
                        query: Rows::contiguous(&query[row.start * hidden..], hidden),
                        key_value: Rows::contiguous(&key_value[row.start * 2 * hidden..], 2 * hidden),
                        keys: row.len(),
                    }
                    .attend(
                        cpu,
                        &mut scratch,
                        &mut got[row.start * hidden..row.end * hidden],
                    );
                }
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((f64::from(*got) - expected).abs() < 2e-5, "{cpu}: {got} against {expected}");
                }
            }
        }
    }
}
