//! Attention of each row over itself, at its true length: no padding, no mask, no matrix of scores in memory.
#![expect(unsafe_code, reason = "a kernel is called that needs what a `Cpu` was found to have")]

use std::fmt;

use crate::rows::Rows;
use crate::simd::dispatch;
#[cfg(target_arch = "x86_64")]
use crate::tiles::amx::Halves;
use crate::{Cpu, Feature, instruction_set};

#[cfg(any(target_arch = "x86_64", test))]
mod tiles;
mod vectors;

/// Multi-head attention of queries over the keys and values of their own row.
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

/// What multiplies queries with keys, and weights with values.
///
/// All queries of a row have to go through the same kernel, or its result would depend on how they are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionKernel {
    cpu: Cpu,
    tiles: bool,
}

impl AttentionKernel {
    /// f32, sixteen queries at a time.
    pub fn f32(cpu: Cpu) -> Self {
        Self { cpu, tiles: false }
    }

    /// bf16 on tile registers: scores in three terms, about 16 bits of mantissa, weights in one; where there are none,
    /// [`Self::f32`].
    pub fn bf16(cpu: Cpu) -> Self {
        Self { cpu, tiles: cpu.has(Feature::AmxBf16) }
    }
}

impl fmt::Display for AttentionKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tiles {
            f.write_str("bf16x3+bf16x2 amx-bf16")
        } else {
            write!(f, "f32 {}", instruction_set(self.cpu))
        }
    }
}

/// Buffers that are kept from call to call.
#[derive(Default)]
pub struct AttentionScratch {
    vectors: vectors::Scratch,
    #[cfg(any(target_arch = "x86_64", test))]
    tiles: tiles::Scratch,
}

impl Attention<'_> {
    /// Fills `output`, `[queries, hidden]`.
    pub fn attend(self, kernel: AttentionKernel, scratch: &mut AttentionScratch, output: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if kernel.tiles {
            // SAFETY: the kernel has tiles only because a `Cpu` has them.
            let attend = unsafe { tiles::Attend::<Halves>::new(self, &mut scratch.tiles, output) };
            return dispatch(kernel.cpu, attend);
        }
        dispatch(kernel.cpu, vectors::Attend { attention: self, scratch: &mut scratch.vectors, output });
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::{Attention, AttentionKernel, AttentionScratch, tiles};
    use crate::simd::dispatch;
    use crate::tiles::emulated;
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

    /// By every kernel that runs here, and on tiles by their emulation.
    fn all(attention: Attention<'_>, queries: usize) -> Vec<(String, Vec<f32>)> {
        let width = attention.query.width();
        let mut scratch = AttentionScratch::default();
        let mut got = Vec::new();
        for cpu in Cpu::detect().choices() {
            for kernel in [AttentionKernel::f32(cpu), AttentionKernel::bf16(cpu)] {
                let mut output = vec![f32::NAN; queries * width];
                attention.attend(kernel, &mut scratch, &mut output);
                got.push((format!("{kernel} of {cpu}"), output));
            }
            let mut output = vec![f32::NAN; queries * width];
            // SAFETY: the emulation needs nothing.
            let attend =
                unsafe { tiles::Attend::<emulated::Halves>::new(attention, &mut scratch.tiles, &mut output) };
            dispatch(cpu, attend);
            got.push((format!("emulated tiles of {cpu}"), output));
        }
        got
    }

    #[test]
    fn a_key_that_is_not_a_number_is_not_hidden() {
        let query = [0.5_f32; 20 * 32];
        let mut key_value = [0.25_f32; 20 * 64];
        key_value[7 * 64 + 3] = f32::NAN;
        let (query, key_value) = (Rows::contiguous(&query, 32), Rows::contiguous(&key_value, 64));
        for (kernel, got) in all(Attention { heads: 1, query, key_value, keys: 20 }, 20) {
            assert!(got.iter().all(|x| x.is_nan()), "{kernel}: {got:?}");
        }
    }

    #[test]
    fn agrees_with_double_precision_for_odd_sizes() {
        // Head widths of 24, 32 and 64: with and without a partial panel; rows shorter and longer than a group of lanes.
        for (heads, hidden) in [(2, 48), (3, 96), (1, 64)] {
            let noise = |n: usize, by: f32| (0..n).map(|i| 2.0 * (i as f32 * by).sin()).collect::<Vec<f32>>();
            let (query, key_value) = (noise(55 * hidden, 1.7), noise(55 * 2 * hidden, 2.9));
            for row in [0..1, 1..20, 20..55] {
                let attention = Attention {
                    heads,
                    query: Rows::contiguous(&query[row.start * hidden..], hidden),
                    key_value: Rows::contiguous(&key_value[row.start * 2 * hidden..], 2 * hidden),
                    keys: row.len(),
                };
                let expected = reference(hidden, heads, &query, &key_value, std::slice::from_ref(&row));
                for (kernel, got) in all(attention, row.len()) {
                    // Values of up to two, weights that are off by up to 2^-8.
                    let bound = if kernel.starts_with("f32") { 2e-5 } else { 2.0 * 2.0_f64.powi(-8) };
                    for (got, expected) in got.iter().zip(&expected) {
                        let error = (f64::from(*got) - expected).abs();
                        assert!(error < bound, "{kernel}: {got} against {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn queries_are_alone() {
        let noise = |n: usize, by: f32| (0..n).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
        let (query, key_value) = (noise(50 * 64, 1.7), noise(50 * 128, 2.9));
        let key_value = Rows::contiguous(&key_value, 128);
        let whole = all(Attention { heads: 2, query: Rows::contiguous(&query, 64), key_value, keys: 50 }, 50);
        for part in [0..1, 7..40, 49..50] {
            let query = Rows::contiguous(&query[part.start * 64..], 64);
            let parts = all(Attention { heads: 2, query, key_value, keys: 50 }, part.len());
            for ((kernel, whole), (_, got)) in whole.iter().zip(parts) {
                assert_eq!(got, whole[part.start * 64..part.end * 64], "{kernel}, {part:?}");
            }
        }
    }
}
