//! One batch on its way to the device.

use rerank_core::PaddedBatch;
use tch::{Device, Kind, TchError, Tensor};

/// What CUDA's fused attention wants of a mask's rows: that each begins at a multiple of so many numbers.
const ALIGNMENT: usize = 16;

/// What the device needs of a batch.
pub(crate) struct Inputs {
    /// Token ids, type ids and positions, each `[rows, len]`, as int64.
    pub(crate) ids: Tensor,
    pub(crate) type_ids: Tensor,
    pub(crate) positions: Tensor,
    lengths: Vec<u32>,
    len: usize,
    device: Device,
}

impl Inputs {
    /// Uploads the indices in one piece.
    pub(crate) fn upload(batch: &PaddedBatch, device: Device) -> Result<Self, TchError> {
        let all = batch.ids.iter().chain(&batch.type_ids).chain(&batch.positions);
        let all: Vec<i64> = all.map(|&index| i64::from(index)).collect();
        let all = Tensor::f_from_slice(&all)?.f_view([3, batch.rows as i64, batch.len as i64])?;
        let all = all.f_to_device(device)?;
        Ok(Self {
            ids: all.f_select(0, 0)?,
            type_ids: all.f_select(0, 1)?,
            positions: all.f_select(0, 2)?,
            lengths: batch.lengths.clone(),
            len: batch.len,
            device,
        })
    }

    /// What to add to the attention's scores, `[rows, 1, 1, len]`: nothing where all rows are of one length, which lets
    /// libtorch take its fastest kernel. Every row has a token, so that no softmax is over nothing.
    pub(crate) fn additive_mask(&self, kind: Kind) -> Result<Option<Tensor>, TchError> {
        if self.lengths.iter().all(|&length| length as usize == self.len) {
            return Ok(None);
        }
        let width = self.len.next_multiple_of(ALIGNMENT);
        let mask = self.rows(width, 0.0, f32::NEG_INFINITY)?.f_to_kind(kind)?.f_to_device(self.device)?;
        let mask = mask.f_view([-1, 1, 1, width as i64])?;
        Ok(Some(mask.f_narrow(3, 0, self.len as i64)?))
    }

    /// One for real tokens and zero for padding, `[rows, len]`, as int64: what exported models take.
    pub(crate) fn attention_mask(&self) -> Result<Tensor, TchError> {
        self.rows(self.len, 1, 0)?.f_to_device(self.device)
    }

    /// `[rows, width]`: `real` as far as a row has tokens, and `padding` from there on.
    fn rows<T: tch::kind::Element + Copy>(
        &self,
        width: usize,
        real: T,
        padding: T,
    ) -> Result<Tensor, TchError> {
        let mut values = vec![padding; self.lengths.len() * width];
        for (row, &length) in values.chunks_exact_mut(width).zip(&self.lengths) {
            row[..length as usize].fill(real);
        }
        Tensor::f_from_slice(&values)?.f_view([self.lengths.len() as i64, width as i64])
    }
}

#[cfg(test)]
mod tests {
    use rerank_core::{PositionScheme, RowLimits, TokenBatch};
    use tch::{Device, Kind};

    use super::Inputs;

    fn inputs(lens: &[usize]) -> Inputs {
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
        let batch = builder.finish().unwrap();
        Inputs::upload(&batch.pad(batch.max_len(), 9), Device::Cpu).unwrap()
    }

    #[test]
    fn rows_of_one_length_need_no_mask() {
        let inputs = inputs(&[2, 2]);
        assert!(inputs.additive_mask(Kind::Float).unwrap().is_none());
        let positions: Vec<Vec<i64>> = inputs.positions.try_into().unwrap();
        assert_eq!(positions, [[0, 1], [0, 1]]);
    }

    #[test]
    fn padding_is_masked_and_real_tokens_are_not() {
        let inputs = inputs(&[1, 3]);
        let mask = inputs.additive_mask(Kind::Float).unwrap().unwrap();
        assert_eq!(mask.size(), [2, 1, 1, 3]);
        let mask: Vec<Vec<f32>> = mask.reshape([2, 3]).try_into().unwrap();
        assert_eq!(mask, [[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY], [0.0; 3]]);
        let mask: Vec<Vec<i64>> = inputs.attention_mask().unwrap().try_into().unwrap();
        assert_eq!(mask, [[1, 0, 0], [1, 1, 1]]);
        let ids: Vec<Vec<i64>> = inputs.ids.try_into().unwrap();
        assert_eq!(ids, [[3, 9, 9], [3, 3, 3]]);
    }
}
