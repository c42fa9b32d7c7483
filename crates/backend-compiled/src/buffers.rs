//! Scratch memory of spans and tiles: sized once by the plan, kept from batch to batch.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use rerank_kernels::{AttentionScratch, LinearScratch};

use crate::plan::Sizes;

/// A span's activations.
pub(crate) struct SpanBuffers {
    /// The residual stream, `[tokens, hidden]`.
    pub(crate) residual: Vec<f32>,
    /// Query, key and value, `[tokens, 3 * hidden]`; in the last layer key and value, `[tokens, 2 * hidden]`.
    pub(crate) projections: Vec<f32>,
    /// Attention's result, `[tokens, hidden]`.
    pub(crate) context: Vec<f32>,
}

impl SpanBuffers {
    /// Room for `tokens` tokens.
    pub(crate) fn new(tokens: usize, sizes: Sizes) -> Self {
        let buffer = |width: usize| vec![0.0; tokens * width];
        Self {
            residual: buffer(sizes.hidden),
            projections: buffer(3 * sizes.hidden),
            context: buffer(sizes.hidden),
        }
    }

    /// Bytes of one token.
    pub(crate) fn bytes_per_token(sizes: Sizes) -> usize {
        4 * 5 * sizes.hidden
    }
}

/// What a tile's steps leave for each other.
pub(crate) struct TileBuffers {
    /// A dense layer's result on its way to the residual stream, `[rows, hidden]`.
    pub(crate) delta: Vec<f32>,
    /// The feed-forward's inside, `[rows, intermediate]`.
    pub(crate) intermediate: Vec<f32>,
    pub(crate) linear: LinearScratch,
    pub(crate) attention: AttentionScratch,
}

impl TileBuffers {
    /// Room for `rows` rows.
    pub(crate) fn new(rows: usize, sizes: Sizes) -> Self {
        Self {
            delta: vec![0.0; rows * sizes.hidden],
            intermediate: vec![0.0; rows * sizes.intermediate],
            linear: LinearScratch::default(),
            attention: AttentionScratch::default(),
        }
    }

    /// Bytes of one row, what the kernels keep not counted.
    pub(crate) fn bytes_per_row(sizes: Sizes) -> usize {
        4 * (sizes.hidden + sizes.intermediate)
    }
}

/// Buffers that are lent to whoever works, as many as ever worked at once.
pub(crate) struct Shelf<T> {
    free: Mutex<Vec<T>>,
    make: Box<dyn Fn() -> T + Send + Sync>,
}

impl<T> Shelf<T> {
    pub(crate) fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { free: Mutex::new(Vec::new()), make: Box::new(make) }
    }

    /// Lends one until it is dropped.
    pub(crate) fn lend(&self) -> Lent<'_, T> {
        let kept = self.free.lock().expect("nothing panics while the list is held").pop();
        Lent { shelf: self, value: Some(kept.unwrap_or_else(|| (self.make)())) }
    }
}

/// A buffer on loan.
pub(crate) struct Lent<'a, T> {
    shelf: &'a Shelf<T>,
    value: Option<T>,
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        // A panic elsewhere may have poisoned the list; then this one goes with it.
        if let (Ok(mut free), Some(value)) = (self.shelf.free.lock(), self.value.take()) {
            free.push(value);
        }
    }
}
