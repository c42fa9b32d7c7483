//! How a batch is cut into spans, and a span into tiles.

use std::ops::Range;

use rerank_core::TokenBatch;

use crate::plan::Grain;

/// Consecutive rows that go through all layers together, about as many spans as threads if the batch is small.
pub(crate) fn spans(batch: &TokenBatch, grain: Grain, threads: usize) -> Vec<Range<usize>> {
    let target = batch.tokens().div_ceil(threads).clamp(1, grain.span);
    let tokens = |rows: Range<usize>| batch.row(rows.end - 1).end - batch.row(rows.start).start;
    let mut spans = Vec::new();
    let mut start = 0;
    for row in 0..batch.rows() {
        if row > start && tokens(start..row + 1) > target {
            spans.push(start..row);
            start = row;
        }
    }
    spans.push(start..batch.rows());
    spans
}

/// Rows of a tile when `rows` are cut into so many parts.
pub(crate) fn tile_rows(rows: usize, grain: Grain, parts: usize) -> usize {
    rows.div_ceil(parts).next_multiple_of(grain.step).min(grain.tile)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rerank_core::{PositionScheme, RowLimits, TokenBatch};

    use super::{spans, tile_rows};
    use crate::plan::Grain;

    const GRAIN: Grain = Grain { span: 128, tile: 96, step: 12 };

    fn batch(lengths: &[usize]) -> TokenBatch {
        let limits = RowLimits {
            max_length: 512,
            vocab_size: 10,
            type_vocab_size: 2,
            positions: PositionScheme::FromZero,
        };
        let mut builder = TokenBatch::builder(limits);
        for &length in lengths {
            builder.push(&vec![1; length], &vec![0; length]).unwrap();
        }
        builder.finish().unwrap()
    }

    proptest! {
        /// Every row is in one span, in order, and only a single row makes a span longer than the grain.
        #[test]
        fn spans_cover_the_batch(lengths in prop::collection::vec(1..400_usize, 1..60), threads in 1..20_usize) {
            let batch = batch(&lengths);
            let spans = spans(&batch, GRAIN, threads);
            let mut next = 0;
            for span in spans {
                prop_assert_eq!(span.start, next);
                prop_assert!(span.end > span.start);
                let tokens: usize = lengths[span.clone()].iter().sum();
                prop_assert!(tokens <= GRAIN.span || span.len() == 1);
                next = span.end;
            }
            prop_assert_eq!(next, lengths.len());
        }
    }

    #[test]
    fn one_long_row_has_a_tile_for_every_thread() {
        assert_eq!(spans(&batch(&[512]), GRAIN, 16).len(), 1);
        assert_eq!(tile_rows(512, GRAIN, 16), 36);
        assert_eq!(tile_rows(512, GRAIN, 1), 96);
        assert_eq!(tile_rows(1, GRAIN, 4), 12);
    }

    #[test]
    fn many_short_rows_have_a_span_for_every_thread() {
        assert_eq!(spans(&batch(&[16; 256]), GRAIN, 16).len(), 32);
        assert_eq!(spans(&batch(&[16; 32]), GRAIN, 16).len(), 16);
    }
}
