//! From f32 to bytes: weights once, activations at every call.

use pulp::{Simd, WithSimd};

use super::{RowScale, STEP};
use crate::linear::tiles::Layout;
use crate::rows::Rows;
use crate::simd::LANES;

/// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;
/// Largest magnitude of a weight.
const WEIGHT_MAX: f32 = 127.0;
/// Largest activation; the smallest is zero.
const ACTIVATION_MAX: f32 = 255.0;
/// Largest magnitudes of two neighbouring weights together. `maddubs` adds up two products in a signed word, and
/// 255 * 128 is the most that fits. Neighbours that are both large are rare: weights are spread like a normal
/// distribution whose largest value is four deviations away.
const PAIR_MAX: f32 = 128.0;
/// Scales that are tried for a row of weights, as parts of the one that its largest weight just fits.
const SCALES: [f32; 12] = [0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.08, 1.16, 1.25, 1.4, 1.7, 2.0];

/// Quantises one output's weights and returns their scale: the one of [`SCALES`] with the least mean square error,
/// each input counting as much as it is large.
pub(super) struct Weights<'a> {
    pub(super) row: &'a [f32],
    pub(super) energy: Option<&'a [f32]>,
    pub(super) bytes: &'a mut [i8],
}

impl WithSimd for Weights<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let Self { row, energy, bytes } = self;
        let largest = row.iter().fold(0.0_f32, |max, weight| max.max(weight.abs()));
        if largest == 0.0 {
            bytes.fill(0);
            return 0.0;
        }
        let full = largest / WEIGHT_MAX;
        let (mut best, mut least) = (full, f32::INFINITY);
        for part in SCALES {
            let scale = full * part;
            let error = match energy {
                Some(energy) => error(row, scale, |input| energy[input]),
                None => error(row, scale, |_| 1.0),
            };
            if error < least {
                (best, least) = (scale, error);
            }
        }
        let inverse = 1.0 / best;
        let (pairs, rest) = row.as_chunks::<2>();
        let (byte_pairs, byte_rest) = bytes.as_chunks_mut::<2>();
        for (bytes, &pair) in byte_pairs.iter_mut().zip(pairs) {
            *bytes = rounded(pair, inverse).map(|weight| weight as i8);
        }
        for (byte, &weight) in byte_rest.iter_mut().zip(rest) {
            *byte = rounded([weight, 0.0], inverse)[0] as i8;
        }
        best
    }
}

/// Sum of squared differences, in sixteen running sums so that it is vectors all the way.
#[inline(always)]
fn error(row: &[f32], scale: f32, energy: impl Fn(usize) -> f32) -> f32 {
    let inverse = 1.0 / scale;
    let (pairs, rest) = row.as_chunks::<2>();
    let mut sums = [0.0; LANES];
    for (index, &pair) in pairs.iter().enumerate() {
        let back = rounded(pair, inverse);
        for at in 0..2 {
            let error = pair[at] - scale * back[at];
            sums[2 * (index % (LANES / 2)) + at] += error * error * energy(2 * index + at);
        }
    }
    if let Some(&last) = rest.first() {
        let error = last - scale * rounded([last, 0.0], inverse)[0];
        sums[0] += error * error * energy(row.len() - 1);
    }
    sums.into_iter().sum()
}

/// The nearest integers to `pair * inverse`, ties to even, within range; where both are large, both give way.
#[inline(always)]
fn rounded(pair: [f32; 2], inverse: f32) -> [f32; 2] {
    let round = |x: f32| (x + ROUND) - ROUND;
    let values = pair.map(|weight| round((weight * inverse).clamp(-WEIGHT_MAX, WEIGHT_MAX)));
    let excess = values[0].abs() + values[1].abs() - PAIR_MAX;
    // Half of it each, the odd one by the first. Neither is smaller than that: each is more than the excess.
    let half = (excess.max(0.0) * 0.5).floor();
    let cuts = [excess.max(0.0) - half, half];
    [values[0] - cuts[0].copysign(values[0]), values[1] - cuts[1].copysign(values[1])]
}

/// Quantises rows of activations.
pub(super) struct Activations<'a> {
    pub(super) input: Rows<'a>,
    pub(super) layout: Layout,
    /// One for each row.
    pub(super) scales: &'a mut [RowScale],
    /// Pieces of rows, placed by `layout`. Beyond a row's width they hold zeros or what stands for zero, since the weights
    /// there are zero.
    pub(super) output: &'a mut [[u8; STEP]],
}

impl WithSimd for Activations<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { input, layout, scales, output } = self;
        for (index, scale) in scales.iter_mut().enumerate() {
            let row = input.row(index);
            let Some((min, max)) = range::<S>(simd, row) else {
                // No byte means NaN. The scale makes every output of the row one.
                for piece in 0..layout.pieces {
                    output[layout.at(index, piece)] = [0; STEP];
                }
                *scale = RowScale { scale: f32::NAN, zero_point: 0 };
                continue;
            };
            let affine = Affine::of(min, max);
            let (pieces, rest) = row.as_chunks::<STEP>();
            for (piece, values) in pieces.iter().enumerate() {
                affine.quantise(values, &mut output[layout.at(index, piece)]);
            }
            if !rest.is_empty() {
                let mut values = [0.0; STEP];
                values[..rest.len()].copy_from_slice(rest);
                affine.quantise(&values, &mut output[layout.at(index, pieces.len())]);
            }
            *scale = RowScale { scale: affine.scale, zero_point: affine.zero_point as i32 };
        }
    }
}

/// From a row's floats to its bytes: `x / scale + zero_point`.
#[derive(Clone, Copy)]
struct Affine {
    scale: f32,
    inverse: f32,
    zero_point: f32,
}

impl Affine {
    /// Spreads a range over all bytes. Zero is in it, so that it has a byte of its own.
    #[inline(always)]
    fn of(min: f32, max: f32) -> Self {
        let scale = (max - min) / ACTIVATION_MAX;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        Self { scale, inverse, zero_point: (-min * inverse).round_ties_even() }
    }

    /// Products and sums are not fused, so that every instruction set finds the same bytes.
    #[inline(always)]
    fn quantise(self, values: &[f32; STEP], bytes: &mut [u8; STEP]) {
        // One loop over all of them: of two, the compiler gathers the inner one's numbers from the outer one's turns.
        for (byte, x) in bytes.iter_mut().zip(values) {
            let value = x * self.inverse + self.zero_point;
            let value = if value > 0.0 { value } else { 0.0 };
            let value = if value < ACTIVATION_MAX { value } else { ACTIVATION_MAX };
            *byte = (value + ROUND).to_bits() as u8;
        }
    }
}

/// Lowest and highest of the row and zero; `None` if something in it is infinite or not a number.
///
/// In registers by name: from arrays the compiler makes one vector of minima and maxima together, and shuffles.
#[inline(always)]
fn range<S: Simd>(simd: S, row: &[f32]) -> Option<(f32, f32)> {
    /// Chains, so that none waits for the one before it.
    const CHAINS: usize = 4;
    let none = simd.splat_f32s(0.0);
    // Comparisons pass over NaN; the sum of `0 * x` is zero as long as everything is finite.
    let (mut min, mut max, mut zero) = ([none; CHAINS], [none; CHAINS], [none; CHAINS]);
    let (vectors, rest) = S::as_simd_f32s(row);
    let (fours, last) = vectors.as_chunks::<CHAINS>();
    for four in fours {
        for chain in 0..CHAINS {
            let x = four[chain];
            min[chain] = simd.min_f32s(x, min[chain]);
            max[chain] = simd.max_f32s(x, max[chain]);
            zero[chain] = simd.add_f32s(zero[chain], simd.mul_f32s(none, x));
        }
    }
    for &x in last {
        min[0] = simd.min_f32s(x, min[0]);
        max[0] = simd.max_f32s(x, max[0]);
        zero[0] = simd.add_f32s(zero[0], simd.mul_f32s(none, x));
    }
    for chain in 1..CHAINS {
        min[0] = simd.min_f32s(min[chain], min[0]);
        max[0] = simd.max_f32s(max[chain], max[0]);
        zero[0] = simd.add_f32s(zero[0], zero[chain]);
    }
    let (mut low, mut high) = (simd.reduce_min_f32s(min[0]), simd.reduce_max_f32s(max[0]));
    let mut zero = simd.reduce_sum_f32s(zero[0]);
    for &x in rest {
        (low, high, zero) = (low.min(x), high.max(x), zero + 0.0 * x);
    }
    (zero == 0.0).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Activations, STEP, Weights};
    use crate::linear::int8::RowScale;
    use crate::linear::tiles::Layout;
    use crate::simd::dispatch;
    use crate::{Cpu, Rows};

    /// One row of less than [`STEP`] columns.
    fn activations(row: &[f32]) -> (RowScale, [u8; STEP]) {
        let (mut scales, mut output) = ([RowScale::default()], [[7; STEP]]);
        let layout = Layout { pieces: 1, tiled: false };
        let input = Rows::contiguous(row, row.len());
        dispatch(Cpu::detect(), Activations { input, layout, scales: &mut scales, output: &mut output });
        (scales[0], output[0])
    }

    fn weights(row: &[f32], bytes: &mut [i8]) -> f32 {
        dispatch(Cpu::detect(), Weights { row, energy: None, bytes })
    }

    proptest! {
        /// Every activation comes back within a step, of which the zero point's rounding is half, and zero exactly.
        #[test]
        fn activations_come_back_within_a_step(mut values in prop::collection::vec(-50.0_f32..90.0, 1..STEP)) {
            values.push(0.0);
            let (scale, bytes) = activations(&values);
            for (value, byte) in values.iter().zip(bytes) {
                let back = scale.scale * (i32::from(byte) - scale.zero_point) as f32;
                prop_assert!((value - back).abs() <= 1.01 * scale.scale, "{value} came back as {back}");
                prop_assert!(*value != 0.0 || back == 0.0, "zero came back as {back}");
            }
        }

        /// Weights come back within half a step, or are clipped, and no pair can saturate a word.
        #[test]
        fn weights_come_back_within_half_a_step(values in prop::collection::vec(-3.0_f32..3.0, 1..70)) {
            let mut bytes = vec![0; values.len()];
            let scale = weights(&values, &mut bytes);
            for (values, bytes) in values.chunks(2).zip(bytes.chunks(2)) {
                let together: i32 = bytes.iter().map(|&byte| i32::from(byte).abs()).sum();
                prop_assert!(together <= 128, "{bytes:?}");
                for (value, &byte) in values.iter().zip(bytes) {
                    let error = (value - scale * f32::from(byte)).abs();
                    let clipped = byte.unsigned_abs() == 127 || together == 128;
                    prop_assert!(error <= 0.51 * scale || clipped, "{value}: {error}");
                    prop_assert!(*value == 0.0 || byte == 0 || (byte > 0) == (*value > 0.0), "the sign stays");
                }
            }
        }
    }

    #[test]
    fn rows_without_a_range_are_zero() {
        assert_eq!(activations(&[0.0; 4]).0.scale, 0.0);
        assert_eq!(weights(&[0.0; 4], &mut [1; 4]), 0.0);
    }
}
