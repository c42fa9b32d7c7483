//! One batch on its way to the device.

use candle_core::{DType, Device, Result, Tensor};
use rerank_core::PaddedBatch;

/// What the device needs of a batch.
pub(super) struct Inputs {
    pub(super) rows: usize,
    pub(super) len: usize,
    /// Token ids, `[rows * len]`.
    pub(super) ids: Tensor,
    /// Indices into the table of positions and types, `[rows * len]`.
    pub(super) places: Tensor,
    /// What to add to scores, `[rows, 1, 1, len]`: nothing where all rows are of one length.
    pub(super) mask: Option<Tensor>,
}

impl Inputs {
    /// Uploads the indices in one piece, and the mask if one is needed.
    pub(super) fn upload(
        batch: &PaddedBatch,
        token_types: u32,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let (rows, len) = (batch.rows, batch.len);
        let places = batch.positions.iter().zip(&batch.type_ids).map(|(at, kind)| at * token_types + kind);
        let indices: Vec<u32> = batch.ids.iter().copied().chain(places).collect();
        let indices = Tensor::from_vec(indices, (2, rows * len), device)?;
        let mask = if batch.lengths.iter().all(|&row| row as usize == len) {
            None
        } else {
            Some(Tensor::from_vec(mask(batch), (rows, 1, 1, len), device)?.to_dtype(dtype)?)
        };
        Ok(Self { rows, len, ids: indices.get(0)?, places: indices.get(1)?, mask })
    }
}

/// Zero for real tokens and, for padding, the most negative number of f16: finite in every dtype, and further below any
/// score than an exponential can see.
fn mask(batch: &PaddedBatch) -> Vec<f32> {
    batch.mask().into_iter().map(|real| if real == 1 { 0.0 } else { -65504.0 }).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use rerank_core::{PositionScheme, RowLimits, TokenBatch};

    use super::Inputs;

    fn batch(lens: &[usize]) -> TokenBatch {
        let limits = RowLimits {
            max_length: 8,
            vocab_size: 10,
            type_vocab_size: 2,
            positions: PositionScheme::FromZero,
        };
        let mut builder = TokenBatch::builder(limits);
        for &len in lens {
            builder.push(&vec![3; len], &(0..len).map(|i| u32::from(i > 0)).collect::<Vec<_>>()).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn rows_of_one_length_need_no_mask() {
        let inputs = Inputs::upload(&batch(&[2, 2]).pad(2, 0), 2, DType::F32, &Device::Cpu).unwrap();
        assert!(inputs.mask.is_none());
        assert_eq!(inputs.places.to_vec1::<u32>().unwrap(), [0, 3, 0, 3]);
    }

    #[test]
    fn padding_is_masked_and_real_tokens_are_not() {
        let inputs = Inputs::upload(&batch(&[1, 3]).pad(3, 9), 2, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(inputs.ids.to_vec1::<u32>().unwrap(), [3, 9, 9, 3, 3, 3]);
        let mask: Vec<f32> = inputs.mask.unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(mask, [0.0, -65504.0, -65504.0, 0.0, 0.0, 0.0]);
    }
}
