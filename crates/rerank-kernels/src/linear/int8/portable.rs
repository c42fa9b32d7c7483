//! The product in ordinary Rust: the oracle that the other kernels are held against.

use super::{DEPTH, Stored};
use crate::linear::narrow::Oracle;
use crate::simd::LANES;

pub(super) struct Portable;

impl Oracle for Portable {
    type Input = u8;
    type Stored = Stored;
    type Sum = i32;

    #[inline(always)]
    fn multiply<const R: usize>(rows: [&[u8]; R], panel: &[Stored], outputs: &mut [[i32; LANES]; R]) {
        let mut sums = [[0; LANES]; R];
        for (depth, weights) in panel.iter().enumerate() {
            for r in 0..R {
                let inputs = &rows[r][depth * DEPTH..][..DEPTH];
                for lane in 0..LANES {
                    for i in 0..DEPTH {
                        sums[r][lane] += i32::from(inputs[i]) * i32::from(weights[lane * DEPTH + i]);
                    }
                }
            }
        }
        *outputs = sums;
    }
}
