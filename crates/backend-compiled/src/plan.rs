//! The plan: steps in order, and how much scratch memory they need.

use std::collections::BTreeSet;

use rerank_kernels::{Cpu, Embedding, LayerNorm, Linear};

/// A compiled cross-encoder.
pub(crate) struct Plan {
    /// For every token, span by span.
    pub(crate) body: Vec<Step>,
    /// For every row, once its span is through.
    pub(crate) tail: Vec<Step>,
    pub(crate) sizes: Sizes,
    pub(crate) grain: Grain,
    pub(crate) cpu: Cpu,
}

/// Widths that buffers are laid out by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) heads: usize,
}

/// How work is cut, in rows of the matrix products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grain {
    /// Tokens that go through all layers together: enough that reading a layer's weights costs little beside using
    /// them, few enough that activations stay in the second-level cache.
    pub(crate) span: usize,
    /// Rows of the largest tile, within which steps follow each other.
    pub(crate) tile: usize,
    /// Tiles are cut at multiples of this, which every kernel fills.
    pub(crate) step: usize,
}

/// One fused step and its name.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) op: Op,
}

/// What a step does. Rows are independent of each other in all but `Attend`.
pub(crate) enum Op {
    /// Embedding sum and norm, to the residual stream.
    Embed(Box<Embedding>),
    /// Residual stream to projections: query, key, value; of the last layer only key and value.
    Project(Linear),
    /// Projections to context.
    Attend,
    /// The last layer: each row's first token to a query, and with the projections to its context.
    AttendFirst(Linear),
    /// Context through a dense layer, added to the residual stream, normalised.
    Output(Linear, LayerNorm),
    /// Residual stream to the feed-forward's inside.
    Up(Linear),
    /// And back, added to the residual stream, normalised.
    Down(Linear, LayerNorm),
    /// Residual stream to logit: dense, tanh, dense.
    Classify(Linear, Linear),
}

impl Plan {
    /// All steps in order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.body.iter().chain(&self.tail)
    }

    /// Kernels of all matrix products, each once.
    pub(crate) fn kernels(&self) -> BTreeSet<String> {
        self.steps().flat_map(|step| step.op.linears()).map(|linear| linear.kernel().to_string()).collect()
    }

    /// Bytes of all weights as they are held.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.steps().map(|step| step.op.weight_bytes()).sum()
    }

    /// Bytes of the same weights in f32.
    pub(crate) fn f32_bytes(&self) -> u64 {
        self.steps().map(|step| step.op.f32_bytes()).sum()
    }
}

impl Op {
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Embed(_) | Self::Attend => Vec::new(),
            Self::Project(linear)
            | Self::AttendFirst(linear)
            | Self::Output(linear, _)
            | Self::Up(linear)
            | Self::Down(linear, _) => vec![linear],
            Self::Classify(dense, out) => vec![dense, out],
        }
    }

    pub(crate) fn weight_bytes(&self) -> u64 {
        let linears: usize = self.linears().iter().map(|linear| linear.bytes()).sum();
        (linears + self.embedding().map_or(0, |e| e.word.bytes() + tables(e)) + self.norm_bytes()) as u64
    }

    fn f32_bytes(&self) -> u64 {
        let linears: usize =
            self.linears().iter().map(|linear| 4 * (linear.inputs() + 1) * linear.outputs()).sum();
        (linears + self.embedding().map_or(0, |e| 4 * e.word.len() + tables(e)) + self.norm_bytes()) as u64
    }

    fn embedding(&self) -> Option<&Embedding> {
        match self {
            Self::Embed(embedding) => Some(embedding),
            _ => None,
        }
    }

    fn norm_bytes(&self) -> usize {
        match self {
            Self::Embed(embedding) => norm(&embedding.norm),
            Self::Output(_, layer_norm) | Self::Down(_, layer_norm) => norm(layer_norm),
            _ => 0,
        }
    }
}

fn tables(embedding: &Embedding) -> usize {
    4 * (embedding.position.len() + embedding.token_type.len())
}

fn norm(norm: &LayerNorm) -> usize {
    4 * (norm.weight.len() + norm.bias.len())
}
