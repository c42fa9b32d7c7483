//! Attention of each row over itself, at its true length: no padding, no mask, no matrix of scores in memory.

use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp3, Layout, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::rows::{Rows, contiguous_mut};
use super::simd::{LANES, Lanes, dispatch, exp2};
use super::tile::{Sink, accumulate_transposed, multiply};

/// Which queries attend to which keys.
#[derive(Clone, Debug)]
pub(crate) struct QueryRows {
    /// Rows of the query and of the output.
    pub(crate) queries: Range<usize>,
    /// Rows of the key and value.
    pub(crate) keys: Range<usize>,
}

/// Fills `[queries, hidden]` from queries `[queries, hidden]` and keys and values side by side, `[tokens, 2 * hidden]`.
///
/// Sixteen queries at a time lie across the lanes, so that keys and values are read as they come from the dense layer
/// and neither the maximum nor the sum of a softmax crosses lanes.
pub(crate) struct Attention<'a> {
    pub(crate) heads: usize,
    /// One entry per row, queries ascending and without gaps.
    pub(crate) rows: &'a [QueryRows],
    pub(crate) tile_rows: usize,
}

impl InplaceOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        context: &mut CpuStorage,
        context_layout: &Layout,
        query: &CpuStorage,
        query_layout: &Layout,
        key_value: &CpuStorage,
        key_value_layout: &Layout,
    ) -> Result<()> {
        let query = Rows::of(query, query_layout, self.name())?;
        let key_value = Rows::of(key_value, key_value_layout, self.name())?;
        let (mut context, hidden) = contiguous_mut(context, context_layout, self.name())?;

        let block = (self.tile_rows / LANES).max(1) * LANES;
        let mut tiles = Vec::new();
        for row in self.rows {
            for start in row.queries.clone().step_by(block) {
                let queries = block.min(row.queries.end - start);
                let (output, rest) = std::mem::take(&mut context).split_at_mut(queries * hidden);
                context = rest;
                tiles.push((query.skip(start), key_value.skip(row.keys.start), row.keys.len(), output));
            }
        }
        tiles.into_par_iter().for_each_init(Scratch::default, |scratch, (query, key_value, keys, output)| {
            dispatch(Tile { query, key_value, keys, output, heads: self.heads, scratch });
        });
        Ok(())
    }
}

/// Kept from tile to tile.
#[derive(Default)]
struct Scratch {
    /// Sixteen queries of one head, scaled, `[head_dim]`.
    queries: Vec<Lanes>,
    /// Their scores, then their weights, `[keys]`.
    scores: Vec<Lanes>,
    /// The head's values in panels of sixteen columns, `[ceil(head_dim / 16)][keys]`.
    values: Vec<Lanes>,
}

struct Tile<'a> {
    query: Rows<'a>,
    key_value: Rows<'a>,
    keys: usize,
    output: &'a mut [f32],
    heads: usize,
    scratch: &'a mut Scratch,
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { query, key_value, keys, output, heads, scratch } = self;
        let hidden = query.width;
        let head_dim = hidden / heads;
        // The softmax below raises two, not e.
        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        scratch.queries.resize(head_dim, [0.0; LANES]);
        scratch.scores.resize(keys, [0.0; LANES]);
        scratch.values.resize(head_dim.div_ceil(LANES) * keys, [0.0; LANES]);

        for head in 0..heads {
            let columns = head * head_dim;
            let key = key_value.columns(columns, head_dim);
            pack_values(key_value.columns(hidden + columns, head_dim), keys, &mut scratch.values);
            for (group, output) in output.chunks_mut(LANES * hidden).enumerate() {
                let query = query.columns(columns, head_dim).skip(group * LANES);
                pack_queries(query, output.len() / hidden, scale, &mut scratch.queries);
                let mut scores = Scores { scores: &mut scratch.scores, max: [f32::NEG_INFINITY; LANES] };
                multiply::<S>(key, keys, &scratch.queries, [0.0; LANES], &mut scores);
                let max = scores.max;
                let sum = softmax::<S>(&mut scratch.scores, max);
                for (panel, values) in scratch.values.chunks_exact(keys).enumerate() {
                    let from = panel * LANES;
                    let output = &mut output[columns + from..];
                    let width = LANES.min(head_dim - from);
                    let mut context = Context { output, stride: hidden, width, sum };
                    if S::F32_LANES >= LANES {
                        context.weigh::<S, 8, 0>(&scratch.scores, values);
                        context.weigh::<S, 8, 8>(&scratch.scores, values);
                    } else {
                        context.weigh::<S, 6, 0>(&scratch.scores, values);
                        context.weigh::<S, 6, 6>(&scratch.scores, values);
                        context.weigh::<S, 4, 12>(&scratch.scores, values);
                    }
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
                // Beyond the head's last column lanes keep the zeros that they were made with.
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
    fn weigh<S: Simd, const R: usize, const FROM: usize>(&mut self, weights: &[Lanes], values: &[Lanes]) {
        let count = self.output.len().div_ceil(self.stride);
        if count <= FROM {
            return;
        }
        let sums = accumulate_transposed::<S, R, FROM>(weights, values);
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
    use candle_core::{Device, Tensor};

    use super::{Attention, QueryRows};

    /// Softmax of scaled scores times values, one query at a time in double precision.
    fn reference(
        query: &[Vec<f32>],
        key_value: &[Vec<f32>],
        heads: usize,
        rows: &[QueryRows],
    ) -> Vec<Vec<f32>> {
        let hidden = query[0].len();
        let head_dim = hidden / heads;
        let mut context = vec![vec![0.0; hidden]; query.len()];
        for row in rows {
            for q in row.queries.clone() {
                for column in 0..hidden {
                    let head = column / head_dim * head_dim..(column / head_dim + 1) * head_dim;
                    let weights: Vec<f64> = row
                        .keys
                        .clone()
                        .map(|k| {
                            let dot: f64 =
                                head.clone().map(|c| f64::from(query[q][c] * key_value[k][c])).sum();
                            (dot / (head_dim as f64).sqrt()).exp()
                        })
                        .collect();
                    let values = row.keys.clone().map(|k| f64::from(key_value[k][hidden + column]));
                    let weighed: f64 = weights.iter().zip(values).map(|(weight, value)| weight * value).sum();
                    context[q][column] = (weighed / weights.iter().sum::<f64>()) as f32;
                }
            }
        }
        context
    }

    #[test]
    fn agrees_with_double_precision_for_odd_sizes() {
        // Head widths of 24 and 32: with and without a partial panel; rows shorter and longer than a group of lanes.
        for (heads, hidden) in [(2, 48), (3, 96)] {
            let rows: Vec<QueryRows> = [0..1, 1..20, 20..55]
                .into_iter()
                .map(|keys| QueryRows { queries: keys.clone(), keys })
                .collect();
            let query = Tensor::randn(0f32, 2.0, (55, hidden), &Device::Cpu).unwrap();
            let key_value = Tensor::randn(0f32, 1.0, (55, 2 * hidden), &Device::Cpu).unwrap();
            let context = Tensor::zeros((55, hidden), candle_core::DType::F32, &Device::Cpu).unwrap();
            context
                .inplace_op3(&query, &key_value, &Attention { heads, rows: &rows, tile_rows: 12 })
                .unwrap();
            let expected = reference(&query.to_vec2().unwrap(), &key_value.to_vec2().unwrap(), heads, &rows);
            let got: Vec<Vec<f32>> = context.to_vec2().unwrap();
            for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
                assert!((got - expected).abs() < 2e-5, "{got} against {expected}");
            }
        }
    }
}
