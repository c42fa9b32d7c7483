//! The two places where rows are gathered: the embedding sum, and each row's first token.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::norm::LayerNorm;
use super::rows::{Rows, contiguous_mut};
use super::simd::dispatch;

/// Token, position and type embeddings and the norm over their sum.
pub(crate) struct Embedding {
    /// `[vocab, hidden]`.
    pub(crate) word: Vec<f32>,
    /// `[positions, hidden]`.
    pub(crate) position: Vec<f32>,
    /// `[types, hidden]`.
    pub(crate) token_type: Vec<f32>,
    pub(crate) norm: LayerNorm,
}

impl Embedding {
    /// The op that fills `[tokens, hidden]` for these tokens.
    pub(crate) fn of<'a>(
        &'a self,
        ids: &'a [u32],
        positions: &'a [u32],
        type_ids: &'a [u32],
        tile_rows: usize,
    ) -> impl InplaceOp1 {
        Gather { embedding: self, ids, positions, type_ids, tile_rows }
    }
}

struct Gather<'a> {
    embedding: &'a Embedding,
    ids: &'a [u32],
    positions: &'a [u32],
    type_ids: &'a [u32],
    tile_rows: usize,
}

impl InplaceOp1 for Gather<'_> {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, output: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (output, width) = contiguous_mut(output, layout, self.name())?;
        output.par_chunks_mut(self.tile_rows * width).enumerate().for_each(|(tile, output)| {
            dispatch(Tile { gather: self, first: tile * self.tile_rows, output, width });
        });
        Ok(())
    }
}

struct Tile<'a> {
    gather: &'a Gather<'a>,
    first: usize,
    output: &'a mut [f32],
    width: usize,
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Gather { embedding, ids, positions, type_ids, .. } = *self.gather;
        let entry = |index: u32| index as usize * self.width..(index as usize + 1) * self.width;
        for (offset, row) in self.output.chunks_exact_mut(self.width).enumerate() {
            let token = self.first + offset;
            let word = &embedding.word[entry(ids[token])];
            let position = &embedding.position[entry(positions[token])];
            let token_type = &embedding.token_type[entry(type_ids[token])];
            for (((x, word), position), token_type) in row.iter_mut().zip(word).zip(position).zip(token_type)
            {
                *x = word + token_type + position;
            }
            embedding.norm.normalise::<S>(row);
        }
    }
}

/// Copies the first token of every row: `[rows, hidden]` from `[tokens, hidden]`.
pub(crate) struct FirstTokens<'a> {
    /// Where each row starts.
    pub(crate) starts: &'a [usize],
}

impl InplaceOp2 for FirstTokens<'_> {
    fn name(&self) -> &'static str {
        "first-tokens"
    }

    fn cpu_fwd(
        &self,
        output: &mut CpuStorage,
        output_layout: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
    ) -> Result<()> {
        let input = Rows::of(input, input_layout, self.name())?;
        let (output, width) = contiguous_mut(output, output_layout, self.name())?;
        for (output, &start) in output.chunks_exact_mut(width).zip(self.starts) {
            output.copy_from_slice(input.row(start));
        }
        Ok(())
    }
}
