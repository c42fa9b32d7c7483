//! f32 as the sum of two bf16, which products of bf16 take instead of rounding it to one.
//!
//! `x` is `high + low` within 2^-16 of it, where `high` is its upper half and `low` what that leaves out. A product in three
//! terms is `xh * wh + xl * wh + xh * wl`: rows hold `[xh, xl, xh]` one after another, columns `[wh, wh, wl]`, and one
//! sum over all of it is the result. Two terms are the first two. Source: Henry, Tang, Heinecke, "Leveraging the bfloat16
//! Artificial Intelligence Datatype For Higher-Precision Computations", 2019.

use pulp::{Simd, WithSimd};

use crate::linear::tiles::Layout;
use crate::rows::Rows;

/// Numbers in a piece of a row: rows are padded with zeros to a multiple of this.
pub(super) const STEP: usize = 32;

/// Splits rows into the left side's terms, as bits.
pub(super) struct Split<'a> {
    pub(super) input: Rows<'a>,
    /// Rows of the input.
    pub(super) count: usize,
    /// 2 or 3.
    pub(super) terms: usize,
    /// Of rows with all their terms.
    pub(super) layout: Layout,
    pub(super) output: &'a mut [[u16; STEP]],
}

impl WithSimd for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        for row in 0..self.count {
            let (pieces, rest) = self.input.row(row).as_chunks::<STEP>();
            for (piece, values) in pieces.iter().enumerate() {
                self.piece(row, piece, values);
            }
            if !rest.is_empty() {
                let mut values = [0.0; STEP];
                values[..rest.len()].copy_from_slice(rest);
                self.piece(row, pieces.len(), &values);
            }
        }
    }
}

impl Split<'_> {
    #[inline(always)]
    fn piece(&mut self, row: usize, piece: usize, values: &[f32; STEP]) {
        let per_term = self.layout.pieces / self.terms;
        let (mut highs, mut lows) = ([0; STEP], [0; STEP]);
        for ((&x, upper), lower) in values.iter().zip(&mut highs).zip(&mut lows) {
            *upper = (high(x) >> 16) as u16;
            *lower = (low(x) >> 16) as u16;
        }
        self.output[self.layout.at(row, piece)] = highs;
        self.output[self.layout.at(row, per_term + piece)] = lows;
        if self.terms == 3 {
            self.output[self.layout.at(row, 2 * per_term + piece)] = highs;
        }
    }
}

/// `x` rounded towards zero, as the bits of an f32 whose lower half is zero.
#[inline(always)]
fn high(x: f32) -> u32 {
    x.to_bits() & 0xffff_0000
}

/// What [`high`] leaves out, rounded to nearest, likewise. Not a number where `x` is none or infinite.
#[inline(always)]
fn low(x: f32) -> u32 {
    rounded(x - f32::from_bits(high(x)))
}

/// The nearest bf16, ties to even. A NaN stays one unless only its lowest bits say so, which no arithmetic makes.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounds_as_the_format_demands(x in any::<f32>().prop_filter("a number", |x| x.is_finite())) {
            prop_assert_eq!(super::rounded(x), bf16::from_f32(x).to_f32().to_bits());
        }

        #[test]
        fn two_terms_make_the_number(x in -1e30_f32..1e30) {
            let [high, low] = [super::high(x), super::low(x)].map(|bits| f64::from(f32::from_bits(bits)));
            prop_assert!((high + low - f64::from(x)).abs() <= f64::from(x).abs() * 2.0_f64.powi(-16));
        }
    }

    #[test]
    fn what_is_not_finite_has_a_term_that_is_not_a_number() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(f32::from_bits(super::low(x)).is_nan());
        }
    }
}
