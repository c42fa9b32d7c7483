//! Views of candle's CPU storage as rows of floats.

use candle_core::{CpuStorage, Layout, Result, bail};
use rerank_kernels::Rows;

/// The tensor `[rows, width]` behind `layout`, whose columns must be contiguous.
pub(super) fn rows<'a>(storage: &'a CpuStorage, layout: &Layout, op: &'static str) -> Result<Rows<'a>> {
    let (_, width) = layout.shape().dims2()?;
    let &[stride, 1] = layout.stride() else { bail!("{op}: columns of {layout:?} are not contiguous") };
    Ok(Rows::strided(&storage.as_slice::<f32>()?[layout.start_offset()..], width, stride))
}

/// The contiguous tensor `[rows, width]` behind `layout`, to write to, and its width.
pub(super) fn contiguous_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
    op: &'static str,
) -> Result<(&'a mut [f32], usize)> {
    let (_, width) = layout.shape().dims2()?;
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{op}: destination {layout:?} is not contiguous")
    };
    match storage {
        CpuStorage::F32(values) => Ok((&mut values[start..end], width)),
        other => {
            bail!("{op}: destination is {:?}, not f32", candle_core::backend::BackendStorage::dtype(other))
        }
    }
}
