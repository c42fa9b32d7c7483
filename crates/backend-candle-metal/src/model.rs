//! The forms of the model: packed on the CPU in f32, fused on CUDA, padded everywhere else.

use std::ops::Range;

use rerank_core::TokenBatch;

#[cfg(feature = "cuda")]
pub(crate) mod fused;
pub(crate) mod packed;
pub(crate) mod padded;

/// Consecutive rows of at most `tokens` tokens together; a longer row is a span of its own.
fn spans(batch: &TokenBatch, tokens: usize) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    for row in 0..batch.rows() {
        if row > start && batch.row(row).end - batch.row(start).start > tokens {
            spans.push(start..row);
            start = row;
        }
    }
    spans.push(start..batch.rows());
    spans
}
