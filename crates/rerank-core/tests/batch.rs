//! A batch holds exactly the rows that went in, and cannot be built from rows that break a limit.

use proptest::collection::vec;
use proptest::prelude::*;
use rerank_core::{BackendError, PositionScheme, RowLimits, TokenBatch};

const LIMITS: RowLimits =
    RowLimits { max_length: 16, vocab_size: 100, type_vocab_size: 2, positions: PositionScheme::FromZero };
const ROBERTA: RowLimits =
    RowLimits { positions: PositionScheme::AfterPadding { pad_token_id: 1 }, ..LIMITS };

fn batch(limits: RowLimits, rows: &[Vec<u32>]) -> TokenBatch {
    let mut builder = TokenBatch::builder(limits);
    for row in rows {
        builder.push(row, &vec![1; row.len()]).expect("the row keeps to the limits");
    }
    builder.finish().expect("there is a row")
}

proptest! {
    #[test]
    fn rows_come_back_as_they_went_in(rows in vec(vec(0u32..100, 1..=16), 1..40)) {
        let batch = batch(LIMITS, &rows);
        prop_assert_eq!(batch.rows(), rows.len());
        prop_assert_eq!(batch.tokens(), rows.iter().map(Vec::len).sum::<usize>());
        prop_assert_eq!(batch.max_len(), rows.iter().map(Vec::len).max().unwrap());
        for (index, row) in rows.iter().enumerate() {
            prop_assert_eq!(&batch.ids()[batch.row(index)], &row[..]);
            let positions: Vec<u32> = (0..row.len() as u32).collect();
            prop_assert_eq!(&batch.positions()[batch.row(index)], &positions[..]);
        }
    }

    #[test]
    fn halves_hold_all_rows_in_order(rows in vec(vec(0u32..100, 1..=16), 2..40)) {
        let (first, second) = batch(LIMITS, &rows).halves().unwrap();
        let middle = rows.len() / 2;
        prop_assert_eq!(first, batch(LIMITS, &rows[..middle]));
        prop_assert_eq!(second, batch(LIMITS, &rows[middle..]));
    }

    #[test]
    fn padding_masks_exactly_what_it_added(rows in vec(vec(0u32..100, 1..=16), 1..20), extra in 0usize..8) {
        let batch = batch(LIMITS, &rows);
        let padded = batch.pad(batch.max_len() + extra, 99);
        let real: usize = padded.mask().iter().map(|&bit| usize::from(bit)).sum();
        prop_assert_eq!(real, batch.tokens());
        prop_assert!((padded.waste() - (1.0 - real as f64 / padded.ids.len() as f64)).abs() < 1e-12);
        for (index, row) in rows.iter().enumerate() {
            let at = index * padded.len;
            prop_assert_eq!(&padded.ids[at..at + row.len()], &row[..]);
            prop_assert!(padded.ids[at + row.len()..at + padded.len].iter().all(|&id| id == 99));
        }
    }
}

#[test]
fn roberta_positions_start_after_the_padding_id_and_skip_literal_padding() {
    let batch = batch(ROBERTA, &[vec![0, 7, 1, 8, 2]]);
    // create_position_ids_from_input_ids([0, 7, 1, 8, 2], padding_idx = 1) = [2, 3, 1, 4, 5]
    assert_eq!(batch.positions(), [2, 3, 1, 4, 5]);
}

#[test]
fn a_row_that_breaks_a_limit_is_refused_and_leaves_no_trace() {
    let mut builder = TokenBatch::builder(LIMITS);
    builder.push(&[1, 2, 3], &[0, 0, 1]).unwrap();
    for (ids, types, wanted) in [
        (vec![], vec![], "no tokens"),
        (vec![1; 17], vec![0; 17], "17 tokens, the limit is 16"),
        (vec![1, 2], vec![0], "2 token ids and 1 type ids"),
        (vec![100], vec![0], "token id 100"),
        (vec![1], vec![2], "type id 2"),
    ] {
        let error = builder.push(&ids, &types).unwrap_err();
        assert!(matches!(error, BackendError::InvalidRow { .. }));
        assert!(error.to_string().contains(wanted), "{error}");
    }
    assert_eq!(builder.finish().unwrap(), batch_of_types(&[1, 2, 3], &[0, 0, 1]));
    assert!(TokenBatch::builder(LIMITS).finish().is_err());
}

fn batch_of_types(ids: &[u32], types: &[u32]) -> TokenBatch {
    let mut builder = TokenBatch::builder(LIMITS);
    builder.push(ids, types).expect("the row keeps to the limits");
    builder.finish().expect("there is a row")
}

#[test]
fn a_filler_has_the_asked_shape() {
    let filler = TokenBatch::filler(LIMITS, 3, 16).unwrap();
    assert_eq!((filler.rows(), filler.max_len(), filler.tokens()), (3, 16, 48));
    assert!(filler.halves().unwrap().0.halves().is_none(), "a single row cannot be split");
}
