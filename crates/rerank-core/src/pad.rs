//! The one place where rows are padded, so that every padded backend pads alike and reports its waste alike.

use crate::TokenBatch;

/// Rows filled up to one length, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaddedBatch {
    /// Token ids, `[rows * len]`, padding id in the gaps.
    pub ids: Vec<u32>,
    /// Type ids, `[rows * len]`, zero in the gaps.
    pub type_ids: Vec<u32>,
    /// Position ids, `[rows * len]`, zero in the gaps.
    pub positions: Vec<u32>,
    /// True length of each row, `[rows]`: tokens from there on must be masked out of attention.
    pub lengths: Vec<u32>,
    /// Rows.
    pub rows: usize,
    /// Tokens in each row, padding included.
    pub len: usize,
}

impl PaddedBatch {
    pub(crate) fn new(batch: &TokenBatch, len: usize, pad_token_id: u32) -> Self {
        assert!(len >= batch.max_len(), "padding to {len} would cut a row of {} tokens", batch.max_len());
        let rows = batch.rows();
        let mut padded = Self {
            ids: vec![pad_token_id; rows * len],
            type_ids: vec![0; rows * len],
            positions: vec![0; rows * len],
            lengths: Vec::with_capacity(rows),
            rows,
            len,
        };
        for row in 0..rows {
            let from = batch.row(row);
            let to = row * len..row * len + from.len();
            padded.ids[to.clone()].copy_from_slice(&batch.ids()[from.clone()]);
            padded.type_ids[to.clone()].copy_from_slice(&batch.type_ids()[from.clone()]);
            padded.positions[to].copy_from_slice(&batch.positions()[from.clone()]);
            padded.lengths.push(from.len() as u32);
        }
        padded
    }

    /// The share of computed tokens that are padding, `0.0..1.0`.
    pub fn waste(&self) -> f64 {
        let real: u64 = self.lengths.iter().map(|&len| u64::from(len)).sum();
        1.0 - real as f64 / (self.rows * self.len) as f64
    }

    /// `1` where a token is real and `0` where it is padding, `[rows * len]`.
    pub fn mask(&self) -> Vec<u8> {
        let mut mask = vec![0; self.rows * self.len];
        for (row, &len) in mask.chunks_exact_mut(self.len).zip(&self.lengths) {
            row[..len as usize].fill(1);
        }
        mask
    }
}
