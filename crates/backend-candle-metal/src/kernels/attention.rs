//! Attention of each row of a span over itself.

use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp3, Layout, Result};
use rayon::prelude::*;
use rerank_kernels::{Attention, AttentionScratch, Cpu, LANES};

use super::rows::{contiguous_mut, rows};

/// Which queries attend to which keys.
#[derive(Clone, Debug)]
pub(crate) struct QueryRows {
    /// Rows of the query and of the output.
    pub(crate) queries: Range<usize>,
    /// Rows of the key and value.
    pub(crate) keys: Range<usize>,
}

/// Fills `[queries, hidden]` from queries `[queries, hidden]` and keys and values side by side, `[tokens, 2 * hidden]`.
pub(crate) struct SpanAttention<'a> {
    pub(crate) cpu: Cpu,
    pub(crate) heads: usize,
    /// One entry per row, queries ascending and without gaps.
    pub(crate) rows: &'a [QueryRows],
    pub(crate) tile_rows: usize,
}

impl InplaceOp3 for SpanAttention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        context: &mut CpuStorage,
        context_layout: &Layout,
        query: &CpuStorage,
        query_layout: &Layout,
        key_value: &CpuStorage,
        key_value_layout: &Layout,
    ) -> Result<()> {
        let query = rows(query, query_layout, self.name())?;
        let key_value = rows(key_value, key_value_layout, self.name())?;
        let (mut context, hidden) = contiguous_mut(context, context_layout, self.name())?;

        let block = (self.tile_rows / LANES).max(1) * LANES;
        let mut tiles = Vec::new();
        for row in self.rows {
            for start in row.queries.clone().step_by(block) {
                let queries = block.min(row.queries.end - start);
                let (output, rest) = std::mem::take(&mut context).split_at_mut(queries * hidden);
                context = rest;
                let query = query.skip(start);
                let key_value = key_value.skip(row.keys.start);
                let attention = Attention { heads: self.heads, query, key_value, keys: row.keys.len() };
                tiles.push((attention, output));
            }
        }
        tiles.into_par_iter().for_each_init(AttentionScratch::default, |scratch, (attention, output)| {
            attention.attend(self.cpu, scratch, output);
        });
        Ok(())
    }
}
