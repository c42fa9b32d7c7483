//! Layer norm fused with the residual sum before it.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};
use rayon::prelude::*;
use rerank_kernels::{Cpu, LayerNorm};

use super::rows::{contiguous_mut, rows};

/// In place, `norm(x + delta)`: the end of both halves of an encoder layer.
pub(crate) struct AddNorm<'a> {
    pub(crate) cpu: Cpu,
    pub(crate) norm: &'a LayerNorm,
    pub(crate) tile_rows: usize,
}

impl InplaceOp2 for AddNorm<'_> {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        delta: &CpuStorage,
        delta_layout: &Layout,
    ) -> Result<()> {
        let delta = rows(delta, delta_layout, self.name())?;
        let (x, width) = contiguous_mut(x, x_layout, self.name())?;
        x.par_chunks_mut(self.tile_rows * width).enumerate().for_each(|(tile, x)| {
            self.norm.add(self.cpu, x, delta.skip(tile * self.tile_rows));
        });
        Ok(())
    }
}
