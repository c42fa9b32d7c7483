//! The embedding sum and the norm over it.

use half::f16;
use half::slice::HalfFloatSliceExt;
use pulp::{Simd, WithSimd};

use crate::Cpu;
use crate::norm::LayerNorm;
use crate::simd::dispatch;

/// An embedding table, `[entries, hidden]`.
pub enum Table {
    /// As computed with.
    F32(Vec<f32>),
    /// At half the size: widened as it is read.
    F16(Vec<f16>),
}

impl Table {
    /// Rounds to f16. Checkpoints in f16 lose nothing by it.
    pub fn narrow(values: &[f32]) -> Self {
        let mut narrow = vec![f16::ZERO; values.len()];
        narrow.convert_from_f32_slice(values);
        Self::F16(narrow)
    }

    /// Numbers in it.
    #[expect(clippy::len_without_is_empty, reason = "a table is never empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Its size in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::F16(values) => size_of_val(values.as_slice()),
        }
    }

    /// Copies one entry to `row`.
    fn read(&self, entry: u32, row: &mut [f32]) {
        let at = entry as usize * row.len()..(entry as usize + 1) * row.len();
        match self {
            Self::F32(values) => row.copy_from_slice(&values[at]),
            Self::F16(values) => values[at].convert_to_f32_slice(row),
        }
    }
}

/// Token, position and type embeddings and the norm over their sum.
pub struct Embedding {
    /// `[vocab, hidden]`.
    pub word: Table,
    /// `[positions, hidden]`.
    pub position: Vec<f32>,
    /// `[types, hidden]`.
    pub token_type: Vec<f32>,
    /// Over the sum.
    pub norm: LayerNorm,
}

impl Embedding {
    /// Fills `output`, `[tokens, hidden]`, for tokens whose three indices are given.
    pub fn gather(&self, cpu: Cpu, ids: &[u32], positions: &[u32], type_ids: &[u32], output: &mut [f32]) {
        dispatch(cpu, Gather { embedding: self, ids, positions, type_ids, output });
    }
}

struct Gather<'a> {
    embedding: &'a Embedding,
    ids: &'a [u32],
    positions: &'a [u32],
    type_ids: &'a [u32],
    output: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { embedding, ids, positions, type_ids, output } = self;
        let width = embedding.norm.weight.len();
        let entry = |index: u32| index as usize * width..(index as usize + 1) * width;
        for (token, row) in output.chunks_exact_mut(width).enumerate() {
            embedding.word.read(ids[token], row);
            let position = &embedding.position[entry(positions[token])];
            let token_type = &embedding.token_type[entry(type_ids[token])];
            for ((x, position), token_type) in row.iter_mut().zip(position).zip(token_type) {
                *x = *x + token_type + position;
            }
            embedding.norm.normalise::<S>(row);
        }
    }
}
