//! The two places where rows are gathered: the embedding sum, and each row's first token.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result};
use rayon::prelude::*;
use rerank_kernels::{Cpu, Embedding};

use super::rows::{contiguous_mut, rows};

/// Fills `[tokens, hidden]` with the embeddings of these tokens.
pub(crate) struct Gather<'a> {
    pub(crate) cpu: Cpu,
    pub(crate) embedding: &'a Embedding,
    pub(crate) ids: &'a [u32],
    pub(crate) positions: &'a [u32],
    pub(crate) type_ids: &'a [u32],
    pub(crate) tile_rows: usize,
}

impl InplaceOp1 for Gather<'_> {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, output: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (output, width) = contiguous_mut(output, layout, self.name())?;
        output.par_chunks_mut(self.tile_rows * width).enumerate().for_each(|(tile, output)| {
            let from = tile * self.tile_rows;
            let tokens = from..from + output.len() / width;
            let (ids, positions) = (&self.ids[tokens.clone()], &self.positions[tokens.clone()]);
            self.embedding.gather(self.cpu, ids, positions, &self.type_ids[tokens], output);
        });
        Ok(())
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
        let input = rows(input, input_layout, self.name())?;
        let (output, width) = contiguous_mut(output, output_layout, self.name())?;
        for (output, &start) in output.chunks_exact_mut(width).zip(self.starts) {
            output.copy_from_slice(input.row(start));
        }
        Ok(())
    }
}
