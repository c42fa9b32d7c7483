//! Views of candle's CPU storage as rows of floats.

use candle_core::{CpuStorage, Layout, Result, bail};

/// A matrix inside a tensor's storage: rows of `width` floats, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    values: &'a [f32],
    pub(super) width: usize,
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    /// The tensor `[rows, width]` behind `layout`, whose columns must be contiguous.
    pub(super) fn of(storage: &'a CpuStorage, layout: &Layout, op: &'static str) -> Result<Self> {
        let (_, width) = layout.shape().dims2()?;
        let &[stride, 1] = layout.stride() else { bail!("{op}: columns of {layout:?} are not contiguous") };
        Ok(Self { values: &storage.as_slice::<f32>()?[layout.start_offset()..], width, stride })
    }

    /// Rows `from..`, still `stride` apart.
    pub(super) fn skip(self, from: usize) -> Self {
        Self { values: &self.values[from * self.stride..], ..self }
    }

    /// Columns `from..from + width` of every row.
    pub(super) fn columns(self, from: usize, width: usize) -> Self {
        Self { values: &self.values[from..], width, ..self }
    }

    /// One row.
    #[inline(always)]
    pub(super) fn row(self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..self.width]
    }

    /// Rows `from..from + R`.
    #[inline(always)]
    pub(super) fn block<const R: usize>(self, from: usize) -> [&'a [f32]; R] {
        std::array::from_fn(|i| self.row(from + i))
    }
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
