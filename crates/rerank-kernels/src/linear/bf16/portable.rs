//! The product in ordinary Rust: the oracle that the other kernels are held against.

use super::{DEPTH, Stored};
use crate::linear::narrow::Oracle;
use crate::simd::LANES;

pub(super) struct Portable;

impl Oracle for Portable {
    type Input = u16;
    type Stored = Stored;
    type Sum = f32;

    #[inline(always)]
    fn multiply<const R: usize>(rows: [&[u16]; R], panel: &[Stored], outputs: &mut [[f32; LANES]; R]) {
        let mut sums = [[0.0; LANES]; R];
        for (depth, weights) in panel.iter().enumerate() {
            for r in 0..R {
                let inputs = &rows[r][depth * DEPTH..][..DEPTH];
                for lane in 0..LANES {
                    for i in 0..DEPTH {
                        sums[r][lane] += widened(inputs[i]) * widened(weights[lane * DEPTH + i]);
                    }
                }
            }
        }
        *outputs = sums;
    }
}

#[inline(always)]
fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
