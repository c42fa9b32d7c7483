//! A matrix of floats inside a larger buffer.

/// Rows of `width` floats, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f32],
    width: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Contiguous rows.
    pub fn contiguous(values: &'a [f32], width: usize) -> Self {
        Self { values, width, stride: width }
    }

    /// Rows whose first begins with `values`.
    pub fn strided(values: &'a [f32], width: usize, stride: usize) -> Self {
        Self { values, width, stride }
    }

    /// Columns of each row.
    pub fn width(self) -> usize {
        self.width
    }

    /// Rows `from..`, still `stride` apart; none beyond the last.
    #[must_use]
    pub fn skip(self, from: usize) -> Self {
        Self { values: self.values.get(from * self.stride..).unwrap_or_default(), ..self }
    }

    /// Columns `from..from + width` of every row.
    #[must_use]
    pub fn columns(self, from: usize, width: usize) -> Self {
        Self { values: &self.values[from..], width, ..self }
    }

    /// One row.
    #[inline(always)]
    pub fn row(self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..self.width]
    }

    /// Rows `from..from + R`.
    #[inline(always)]
    pub(crate) fn block<const R: usize>(self, from: usize) -> [&'a [f32]; R] {
        std::array::from_fn(|i| self.row(from + i))
    }
}
