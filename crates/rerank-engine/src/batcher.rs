//! Which rows to score next: pure policy. State in, next batch out; no clock, no lock, no thread.
//!
//! Packed backends pay for real tokens only, so their batches are filled in order of arrival. Padded ones pay for the
//! longest row, so theirs are filled with rows of like length out of a bounded look-ahead, always around a row of the
//! oldest request: no request starves, and its longest row, which decides when it is done, goes first.

use std::collections::VecDeque;

use rerank_core::{BackendInfo, BatchShape, Layout, ShapePolicy};

/// What a batch may cost, and how cost follows from row lengths.
#[derive(Clone, Debug)]
pub struct BatchPolicy {
    /// The most tokens in a batch, padding included. A single row is always a batch, whatever it costs.
    pub max_tokens: usize,
    /// The most rows in a batch.
    pub max_rows: usize,
    /// How many batches' worth of tokens to look ahead for rows of like length; at least 1.
    pub look_ahead: usize,
    /// How rows are laid out.
    pub layout: Layout,
    /// Which lengths are computed.
    pub shapes: ShapePolicy,
}

impl BatchPolicy {
    /// The policy for a loaded backend.
    pub fn new(info: &BackendInfo, max_tokens: usize, max_rows: Option<usize>, look_ahead: usize) -> Self {
        let max_rows = max_rows.unwrap_or(usize::MAX).min(info.max_rows.unwrap_or(usize::MAX));
        Self { max_tokens, max_rows, look_ahead, layout: info.layout, shapes: info.shapes.clone() }
    }

    /// Tokens that a batch of this shape costs.
    pub fn cost(&self, shape: BatchShape) -> usize {
        match self.layout {
            Layout::Packed => shape.tokens,
            Layout::Padded => shape.rows * self.shapes.padded_len(shape.max_len),
        }
    }

    fn fits(&self, shape: BatchShape) -> bool {
        shape.rows <= self.max_rows && self.cost(shape) <= self.max_tokens
    }
}

/// One row of a batch: which request it belongs to, and which of its rows it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick<R> {
    /// The request, as it was pushed.
    pub request: R,
    /// The row's index in that request.
    pub row: usize,
}

struct Entry<R> {
    request: R,
    /// Rows not yet handed out, as (tokens, index), ascending by tokens for padded layouts, by index for packed ones.
    waiting: VecDeque<(usize, usize)>,
}

/// Requests whose rows wait to be scored, oldest first.
pub struct Batcher<R> {
    policy: BatchPolicy,
    entries: VecDeque<Entry<R>>,
    rows: usize,
    tokens: usize,
}

impl<R: Clone> Batcher<R> {
    /// An empty queue under `policy`.
    pub fn new(policy: BatchPolicy) -> Self {
        Self { policy, entries: VecDeque::new(), rows: 0, tokens: 0 }
    }

    /// Replaces the policy, as when a backend was loaded again. What waits keeps waiting.
    pub fn set_policy(&mut self, policy: BatchPolicy) {
        self.policy = policy;
        for entry in &mut self.entries {
            sort(&self.policy, entry.waiting.make_contiguous());
        }
    }

    /// Appends a request with the token counts of its rows, in row order.
    pub fn push(&mut self, request: R, lens: impl IntoIterator<Item = usize>) {
        let mut waiting: VecDeque<_> = lens.into_iter().enumerate().map(|(row, len)| (len, row)).collect();
        if waiting.is_empty() {
            return;
        }
        self.rows += waiting.len();
        self.tokens += waiting.iter().map(|&(len, _)| len).sum::<usize>();
        sort(&self.policy, waiting.make_contiguous());
        self.entries.push_back(Entry { request, waiting });
    }

    /// Rows waiting.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens waiting.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The oldest request that still has rows waiting.
    pub fn oldest(&self) -> Option<&R> {
        self.entries.front().map(|entry| &entry.request)
    }

    /// Whether what waits fills a batch, so that waiting longer could not make it better.
    pub fn is_full(&self) -> bool {
        self.tokens >= self.policy.max_tokens || self.rows >= self.policy.max_rows
    }

    /// Takes out every waiting row of the requests that `keep` rejects, and returns those requests.
    pub fn reject(&mut self, mut keep: impl FnMut(&R) -> bool) -> Vec<R> {
        let mut rejected = Vec::new();
        self.entries.retain(|entry| {
            let keeps = keep(&entry.request);
            if !keeps {
                self.rows -= entry.waiting.len();
                self.tokens -= entry.waiting.iter().map(|&(len, _)| len).sum::<usize>();
                rejected.push(entry.request.clone());
            }
            keeps
        });
        rejected
    }

    /// Takes the next batch out of the queue; empty if nothing waits.
    pub fn next_batch(&mut self) -> Vec<Pick<R>> {
        let picks = match self.policy.layout {
            Layout::Packed => self.in_order(),
            Layout::Padded => self.by_length(),
        };
        self.entries.retain(|entry| !entry.waiting.is_empty());
        picks
    }

    fn in_order(&mut self) -> Vec<Pick<R>> {
        let mut picks = Vec::new();
        let mut shape = BatchShape { rows: 0, max_len: 0, tokens: 0 };
        for entry in &mut self.entries {
            while let Some(&(len, row)) = entry.waiting.front() {
                let grown = grow(shape, len);
                if !picks.is_empty() && !self.policy.fits(grown) {
                    return picks;
                }
                shape = grown;
                entry.waiting.pop_front();
                self.rows -= 1;
                self.tokens -= len;
                picks.push(Pick { request: entry.request.clone(), row });
            }
        }
        picks
    }

    fn by_length(&mut self) -> Vec<Pick<R>> {
        let Some(&(anchor, _)) = self.entries.front().and_then(|entry| entry.waiting.back()) else {
            return Vec::new();
        };
        // The anchor is the oldest request's longest row: rows up to its length ride along, the longest first, then
        // longer ones while the budget allows. Older requests win ties.
        let candidates = self.candidates();
        let split = candidates.partition_point(|candidate| candidate.len <= anchor);
        let (shorter, longer) = candidates.split_at(split);
        let mut shape = BatchShape { rows: 0, max_len: 0, tokens: 0 };
        let mut taken = Vec::new();
        for candidate in shorter.iter().rev().chain(longer) {
            let grown = grow(shape, candidate.len);
            if !taken.is_empty() && !self.policy.fits(grown) {
                break;
            }
            shape = grown;
            taken.push(candidate);
        }
        let picks: Vec<Pick<R>> = taken
            .iter()
            .map(|candidate| Pick {
                request: self.entries[candidate.entry].request.clone(),
                row: candidate.row,
            })
            .collect();
        self.remove(taken.iter().map(|candidate| (candidate.entry, candidate.row)).collect());
        self.rows -= shape.rows;
        self.tokens -= shape.tokens;
        picks
    }

    /// Rows inside the look-ahead, ascending by length; at equal length the younger request's and later row first, so
    /// that reading from the back meets the oldest first.
    fn candidates(&self) -> Vec<Candidate> {
        let budget = self.policy.max_tokens.saturating_mul(self.policy.look_ahead);
        let mut candidates = Vec::new();
        let mut tokens = 0usize;
        for (index, entry) in self.entries.iter().enumerate() {
            if tokens >= budget {
                break;
            }
            for &(len, row) in &entry.waiting {
                tokens += len;
                candidates.push(Candidate { len, entry: index, row });
            }
        }
        candidates.sort_unstable_by(|a, b| (a.len, b.entry, b.row).cmp(&(b.len, a.entry, a.row)));
        candidates
    }

    fn remove(&mut self, mut taken: Vec<(usize, usize)>) {
        taken.sort_unstable();
        for group in taken.chunk_by(|a, b| a.0 == b.0) {
            let entry = &mut self.entries[group[0].0];
            entry.waiting.retain(|&(_, row)| group.binary_search_by_key(&row, |&(_, taken)| taken).is_err());
        }
    }
}

struct Candidate {
    len: usize,
    entry: usize,
    row: usize,
}

fn grow(shape: BatchShape, len: usize) -> BatchShape {
    BatchShape { rows: shape.rows + 1, max_len: shape.max_len.max(len), tokens: shape.tokens + len }
}

fn sort(policy: &BatchPolicy, waiting: &mut [(usize, usize)]) {
    match policy.layout {
        Layout::Packed => waiting.sort_unstable_by_key(|&(_, row)| row),
        Layout::Padded => waiting.sort_unstable(),
    }
}
