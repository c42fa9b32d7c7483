//! Rows laid end to end. Validated here, once, so that no backend has to.

use std::ops::Range;

use crate::{BackendError, PaddedBatch, PositionScheme};

/// What a row must keep to, from [`crate::ModelConfig::row_limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLimits {
    /// The longest row, in tokens.
    pub max_length: usize,
    /// Token ids are below this.
    pub vocab_size: usize,
    /// Type ids are below this.
    pub type_vocab_size: usize,
    /// How a token's position follows from its place in the row.
    pub positions: PositionScheme,
}

/// The size of a batch, enough to know what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchShape {
    /// Rows in the batch.
    pub rows: usize,
    /// Tokens in its longest row.
    pub max_len: usize,
    /// Tokens in all rows together, padding not counted.
    pub tokens: usize,
}

/// Rows to score in one backend call, packed: row `i` is `cu_seqlens[i]..cu_seqlens[i + 1]` of every array.
///
/// Never empty, no row empty or too long, every id inside the model's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    type_ids: Vec<u32>,
    positions: Vec<u32>,
    cu_seqlens: Vec<u32>,
    max_len: usize,
}

impl TokenBatch {
    /// Starts a batch whose rows keep to `limits`.
    pub fn builder(limits: RowLimits) -> TokenBatchBuilder {
        TokenBatchBuilder {
            limits,
            batch: Self {
                ids: Vec::new(),
                type_ids: Vec::new(),
                positions: Vec::new(),
                cu_seqlens: vec![0],
                max_len: 0,
            },
        }
    }

    /// A batch of `rows` rows of `len` varied tokens each: for warming up and for measuring.
    pub fn filler(limits: RowLimits, rows: usize, len: usize) -> Result<Self, BackendError> {
        let mut builder = Self::builder(limits);
        let type_ids = vec![0; len];
        for row in 0..rows {
            // A stride coprime to common vocabulary sizes walks the table instead of hitting one cached line.
            let ids: Vec<u32> =
                (0..len).map(|i| ((row * len + i).wrapping_mul(7919) % limits.vocab_size) as u32).collect();
            builder.push(&ids, &type_ids)?;
        }
        builder.finish()
    }

    /// Token ids of all rows, `[tokens]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Token type (segment) ids of all rows, `[tokens]`.
    pub fn type_ids(&self) -> &[u32] {
        &self.type_ids
    }

    /// Indices into the position table of all rows, `[tokens]`.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Where each row starts, and where the last one ends, `[rows + 1]`, as variable-length attention kernels take it.
    pub fn cu_seqlens(&self) -> &[u32] {
        &self.cu_seqlens
    }

    /// Rows in the batch, at least one.
    pub fn rows(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// Tokens in the longest row.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Tokens in all rows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The batch's size.
    pub fn shape(&self) -> BatchShape {
        BatchShape { rows: self.rows(), max_len: self.max_len, tokens: self.tokens() }
    }

    /// Where row `index` lies in the arrays.
    pub fn row(&self, index: usize) -> Range<usize> {
        self.cu_seqlens[index] as usize..self.cu_seqlens[index + 1] as usize
    }

    /// The same rows, each filled up to `len` tokens with `pad_token_id`; `len` must cover the longest row.
    pub fn pad(&self, len: usize, pad_token_id: u32) -> PaddedBatch {
        PaddedBatch::new(self, len, pad_token_id)
    }

    /// The two halves of the batch, or `None` for a single row, which cannot be split.
    pub fn halves(&self) -> Option<(Self, Self)> {
        let middle = self.rows() / 2;
        (middle > 0).then(|| (self.slice(0..middle), self.slice(middle..self.rows())))
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        let (start, end) = (self.cu_seqlens[rows.start], self.cu_seqlens[rows.end]);
        let tokens = start as usize..end as usize;
        let cu_seqlens: Vec<u32> =
            self.cu_seqlens[rows.start..=rows.end].iter().map(|at| at - start).collect();
        let max_len = cu_seqlens.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or(0);
        Self {
            ids: self.ids[tokens.clone()].to_vec(),
            type_ids: self.type_ids[tokens.clone()].to_vec(),
            positions: self.positions[tokens].to_vec(),
            cu_seqlens,
            max_len,
        }
    }
}

/// Collects rows into a [`TokenBatch`].
#[derive(Debug)]
pub struct TokenBatchBuilder {
    limits: RowLimits,
    batch: TokenBatch,
}

impl TokenBatchBuilder {
    /// Reserves room for `tokens` more tokens.
    pub fn reserve(&mut self, tokens: usize) {
        self.batch.ids.reserve(tokens);
        self.batch.type_ids.reserve(tokens);
        self.batch.positions.reserve(tokens);
    }

    /// Appends one row: its token ids and their type ids, equally many.
    ///
    /// A row that breaks a limit is [`BackendError::InvalidRow`] and leaves the batch as it was.
    pub fn push(&mut self, ids: &[u32], type_ids: &[u32]) -> Result<(), BackendError> {
        check_row(&self.limits, ids, type_ids)?;
        let end = self.batch.ids.len() + ids.len();
        let end = u32::try_from(end).map_err(|_| {
            BackendError::invalid_row(format!("the batch would have {end} tokens, more than {}", u32::MAX))
        })?;
        self.batch.ids.extend_from_slice(ids);
        self.batch.type_ids.extend_from_slice(type_ids);
        self.limits.positions.extend(&mut self.batch.positions, ids);
        self.batch.cu_seqlens.push(end);
        self.batch.max_len = self.batch.max_len.max(ids.len());
        Ok(())
    }

    /// The batch; [`BackendError::InvalidRow`] if no row was pushed.
    pub fn finish(self) -> Result<TokenBatch, BackendError> {
        if self.batch.rows() == 0 {
            return Err(BackendError::invalid_row("the batch has no rows"));
        }
        Ok(self.batch)
    }
}

fn check_row(limits: &RowLimits, ids: &[u32], type_ids: &[u32]) -> Result<(), BackendError> {
    let refuse = |what: String| Err(BackendError::invalid_row(what));
    if ids.is_empty() {
        return refuse("it has no tokens".to_owned());
    }
    if ids.len() > limits.max_length {
        return refuse(format!("it has {} tokens, the limit is {}", ids.len(), limits.max_length));
    }
    if ids.len() != type_ids.len() {
        return refuse(format!("it has {} token ids and {} type ids", ids.len(), type_ids.len()));
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= limits.vocab_size) {
        return refuse(format!("token id {id} is outside the model's vocabulary of {}", limits.vocab_size));
    }
    if let Some(id) = type_ids.iter().find(|&&id| id as usize >= limits.type_vocab_size) {
        return refuse(format!("type id {id} is outside the model's {} token types", limits.type_vocab_size));
    }
    Ok(())
}
