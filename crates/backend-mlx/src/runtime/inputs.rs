//! One batch as MLX takes it.

use mlx_rs::Array;
use rerank_core::PaddedBatch;

/// Token ids and indices into the table of positions and types, both `[rows * len]`, and which tokens attention may
/// see, `[rows, 1, 1, len]`.
pub(super) fn arrays(batch: &PaddedBatch, token_types: u32) -> [Array; 3] {
    let places: Vec<u32> =
        batch.positions.iter().zip(&batch.type_ids).map(|(at, kind)| at * token_types + kind).collect();
    let real: Vec<bool> = batch.mask().into_iter().map(|real| real == 1).collect();
    let (rows, len) = (batch.rows as i32, batch.len as i32);
    [
        Array::from_slice(&batch.ids, &[rows * len]),
        Array::from_slice(&places, &[rows * len]),
        Array::from_slice(&real, &[rows, 1, 1, len]),
    ]
}

#[cfg(test)]
mod tests {
    use rerank_core::{PositionScheme, RowLimits, TokenBatch};

    #[test]
    fn padding_is_hidden_and_places_count_types_fastest() {
        let limits = RowLimits {
            max_length: 8,
            vocab_size: 10,
            type_vocab_size: 2,
            positions: PositionScheme::FromZero,
        };
        let mut builder = TokenBatch::builder(limits);
        builder.push(&[3], &[0]).unwrap();
        builder.push(&[3, 4, 5], &[0, 1, 1]).unwrap();
        let [ids, places, real] = super::arrays(&builder.finish().unwrap().pad(4, 9), 2);
        assert_eq!(ids.as_slice::<u32>(), [3, 9, 9, 9, 3, 4, 5, 9]);
        assert_eq!(places.as_slice::<u32>(), [0, 0, 0, 0, 0, 3, 5, 0]);
        assert_eq!(real.shape(), [2, 1, 1, 4]);
        assert_eq!(real.as_slice::<bool>(), [true, false, false, false, true, true, true, false]);
    }
}
