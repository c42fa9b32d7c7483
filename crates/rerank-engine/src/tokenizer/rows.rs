//! Tokenised pairs of one request, end to end in three arrays: three allocations a request, not three a row.

use std::ops::Range;

/// Rows in the order in which they were appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub(super) ids: Vec<u32>,
    pub(super) type_ids: Vec<u32>,
    pub(super) ends: Vec<usize>,
}

impl Rows {
    /// No rows, with room for `rows` of them.
    pub fn with_capacity(rows: usize) -> Self {
        Self { ids: Vec::new(), type_ids: Vec::new(), ends: Vec::with_capacity(rows) }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Tokens in all rows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Token ids of a row.
    pub fn ids(&self, row: usize) -> &[u32] {
        &self.ids[self.range(row)]
    }

    /// Type ids of a row.
    pub fn type_ids(&self, row: usize) -> &[u32] {
        &self.type_ids[self.range(row)]
    }

    /// Tokens in each row, in order.
    pub fn lens(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).map(|row| self.range(row).len())
    }

    /// Appends all rows of another.
    pub(crate) fn append(&mut self, other: &Self) {
        let offset = self.ids.len();
        self.ids.extend_from_slice(&other.ids);
        self.type_ids.extend_from_slice(&other.type_ids);
        self.ends.extend(other.ends.iter().map(|end| end + offset));
    }

    fn range(&self, row: usize) -> Range<usize> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        start..self.ends[row]
    }
}
