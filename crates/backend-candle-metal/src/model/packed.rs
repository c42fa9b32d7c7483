//! The model on the CPU in f32: rows end to end, weights packed for the kernels, every buffer reused.
//!
//! Rows are grouped into spans of a few hundred tokens, and a span goes through the whole model before its activations
//! leave the second-level cache. Spans run in parallel, and so do the tiles within each op; a thread without a span of
//! its own takes tiles from the others, which is how a single row uses every core.

use std::ops::Range;
use std::sync::Mutex;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use rerank_core::{BackendError, Dense, Model, TokenBatch};
use rerank_kernels::{Activation, Cpu, Embedding, LayerNorm, TILE_STEP, Table};

use super::spans;
use crate::error;
use crate::kernels::{AddNorm, FirstTokens, Gather, Linear, QueryRows, SpanAttention};

mod workspace;

use workspace::Workspace;

/// Tokens that make a span: enough that reading a layer's weights costs little beside using them, few enough that the
/// activations (1.2 MB for 128 tokens of a model 384 wide) stay close to the core.
const SPAN_TOKENS: usize = 128;

/// Rows of the largest tile. Measured between 48 and 512 rows: no difference above 96.
const MAX_TILE_ROWS: usize = 8 * TILE_STEP;

/// A cross-encoder in f32 on the CPU.
pub(crate) struct PackedModel {
    embedding: Embedding,
    /// All layers but the last.
    layers: Vec<Layer<Fused>>,
    /// The last layer: of it, only each row's first token is ever read.
    last: Layer<Split>,
    head: Linear,
    out: Linear,
    heads: usize,
    hidden: usize,
    /// Tokens that a workspace has room for.
    capacity: usize,
    workspaces: Mutex<Vec<Workspace>>,
    pool: ThreadPool,
    cpu: Cpu,
}

/// An encoder layer whose projections are `P`.
struct Layer<P> {
    projections: P,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

/// Query, key and value of every token in one product.
struct Fused {
    query_key_value: Linear,
}

/// The query apart, because only first tokens need one.
struct Split {
    query: Linear,
    key_value: Linear,
}

impl PackedModel {
    /// Packs the weights. `threads` is the size of the pool that every call runs in.
    pub(crate) fn load(
        model: &Model,
        max_length: usize,
        threads: usize,
        cpu: Cpu,
    ) -> std::result::Result<Self, BackendError> {
        let config = &model.config;
        let epsilon = config.layer_norm_eps as f32;
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("candle-cpu-{index}"))
            .build()
            .map_err(|error| BackendError::load_from(format!("cannot start {threads} threads"), error))?;

        let embedding = model.embeddings()?;
        let activation = Activation::FeedForward(config.activation);
        let mut layers = Vec::with_capacity(config.layers - 1);
        for index in 0..config.layers - 1 {
            let (layer, query_key_value) = layer(model, index, activation, cpu)?;
            layers.push(
                layer.with(Fused { query_key_value: linear(&query_key_value, Activation::Identity, cpu)? }),
            );
        }
        let (last, query_key_value) = layer(model, config.layers - 1, activation, cpu)?;
        let (query, key_value) = query_key_value.split(config.hidden_size);
        let head = model.head()?;
        Ok(Self {
            embedding: Embedding {
                word: Table::F32(embedding.word),
                position: embedding.position,
                token_type: embedding.token_type,
                norm: LayerNorm::new(embedding.norm, epsilon),
            },
            layers,
            last: last.with(Split {
                query: linear(&query, Activation::Identity, cpu)?,
                key_value: linear(&key_value, Activation::Identity, cpu)?,
            }),
            head: linear(&head.dense, Activation::Tanh, cpu)?,
            out: linear(&head.out, Activation::Identity, cpu)?,
            heads: config.heads,
            hidden: config.hidden_size,
            capacity: SPAN_TOKENS.max(max_length),
            workspaces: Mutex::new(Vec::new()),
            pool,
            cpu,
        })
    }

    /// The instruction sets that kernels were chosen from.
    pub(crate) fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// Threads that one call uses.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// One logit per row.
    pub(crate) fn forward(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        let tile_rows = self.tile_rows(batch.tokens());
        self.pool.install(|| {
            let firsts: Vec<Firsts> = spans(batch, SPAN_TOKENS)
                .into_par_iter()
                .map(|rows| self.with_workspace(|workspace| self.encode(workspace, batch, rows, tile_rows)))
                .collect::<Result<_>>()?;
            let x: Vec<f32> = firsts.iter().flat_map(|firsts| &firsts.x).copied().collect();
            let context: Vec<f32> = firsts.iter().flat_map(|firsts| &firsts.context).copied().collect();
            let mut logits = Vec::with_capacity(batch.rows());
            let most = self.capacity * self.hidden;
            for (x, context) in x.chunks(most).zip(context.chunks(most)) {
                logits.extend(self.with_workspace(|workspace| self.classify(workspace, x, context))?);
            }
            Ok(logits)
        })
    }

    /// Tiles so large that every thread has one, within what the kernels do well.
    fn tile_rows(&self, rows: usize) -> usize {
        rows.div_ceil(self.threads()).next_multiple_of(TILE_STEP).min(MAX_TILE_ROWS)
    }

    fn with_workspace<T>(&self, work: impl FnOnce(&Workspace) -> Result<T>) -> Result<T> {
        let kept = self.workspaces.lock().expect("no thread panics while it holds the list").pop();
        let workspace = match kept {
            Some(workspace) => workspace,
            None => Workspace::new(self.capacity, self.hidden, self.last.up.outputs())?,
        };
        let result = work(&workspace);
        self.workspaces.lock().expect("no thread panics while it holds the list").push(workspace);
        result
    }

    /// Everything up to the last layer's attention, for one span.
    fn encode(
        &self,
        workspace: &Workspace,
        batch: &TokenBatch,
        rows: Range<usize>,
        tile_rows: usize,
    ) -> Result<Firsts> {
        let first = batch.row(rows.start).start;
        let tokens = first..batch.row(rows.end - 1).end;
        let keys = || rows.clone().map(|row| batch.row(row).start - first..batch.row(row).end - first);
        let every: Vec<QueryRows> = keys().map(|keys| QueryRows { queries: keys.clone(), keys }).collect();
        let firsts: Vec<QueryRows> =
            keys().enumerate().map(|(row, keys)| QueryRows { queries: row..row + 1, keys }).collect();
        let starts: Vec<usize> = keys().map(|keys| keys.start).collect();

        let all = workspace.rows(tokens.len())?;
        let (ids, positions, type_ids) =
            (&batch.ids()[tokens.clone()], &batch.positions()[tokens.clone()], &batch.type_ids()[tokens]);
        let embedding = &self.embedding;
        all.x.inplace_op1(&Gather { cpu: self.cpu, embedding, ids, positions, type_ids, tile_rows })?;
        for layer in &self.layers {
            let query_key_value = all.projections(3)?;
            layer.projections.query_key_value.forward(&all.x, &query_key_value, tile_rows)?;
            let query = query_key_value.narrow(1, 0, self.hidden)?;
            let key_value = query_key_value.narrow(1, self.hidden, 2 * self.hidden)?;
            let attention = SpanAttention { cpu: self.cpu, heads: self.heads, rows: &every, tile_rows };
            all.context.inplace_op3(&query, &key_value, &attention)?;
            layer.finish(self.cpu, &all, &all.x, tile_rows)?;
        }

        let key_value = all.projections(2)?;
        self.last.projections.key_value.forward(&all.x, &key_value, tile_rows)?;
        let only = workspace.rows(rows.len())?;
        only.first.inplace_op2(&all.x, &FirstTokens { starts: &starts })?;
        self.last.projections.query.forward(&only.first, &only.delta, tile_rows)?;
        let attention = SpanAttention { cpu: self.cpu, heads: self.heads, rows: &firsts, tile_rows };
        only.context.inplace_op3(&only.delta, &key_value, &attention)?;
        Ok(Firsts {
            x: only.first.flatten_all()?.to_vec1()?,
            context: only.context.flatten_all()?.to_vec1()?,
        })
    }

    /// The rest of the last layer and the head, for first tokens of all spans together: for one row at a time, reading
    /// the weights would cost more than using them.
    fn classify(&self, workspace: &Workspace, x: &[f32], context: &[f32]) -> Result<Vec<f32>> {
        let shape = (x.len() / self.hidden, self.hidden);
        let tile_rows = self.tile_rows(shape.0);
        let x = Tensor::from_slice(x, shape, &Device::Cpu)?;
        let context = Tensor::from_slice(context, shape, &Device::Cpu)?;
        let mut rows = workspace.rows(shape.0)?;
        rows.context = context;
        self.last.finish(self.cpu, &rows, &x, tile_rows)?;
        self.head.forward(&x, &rows.delta, tile_rows)?;
        self.out.forward(&rows.delta, &rows.logits, tile_rows)?;
        rows.logits.flatten_all()?.to_vec1()
    }
}

/// The first tokens of a span's rows, `[rows, hidden]` each.
struct Firsts {
    /// The residual stream before the last layer.
    x: Vec<f32>,
    /// What the last layer's attention made of it.
    context: Vec<f32>,
}
impl<P> Layer<P> {
    /// What follows attention, in place on the residual stream `x`.
    fn finish(&self, cpu: Cpu, rows: &workspace::Rows, x: &Tensor, tile_rows: usize) -> Result<()> {
        self.output.forward(&rows.context, &rows.delta, tile_rows)?;
        x.inplace_op2(&rows.delta, &AddNorm { cpu, norm: &self.attention_norm, tile_rows })?;
        self.up.forward(x, &rows.intermediate, tile_rows)?;
        self.down.forward(&rows.intermediate, &rows.delta, tile_rows)?;
        x.inplace_op2(&rows.delta, &AddNorm { cpu, norm: &self.mlp_norm, tile_rows })
    }

    fn with<Q>(self, projections: Q) -> Layer<Q> {
        let Self { output, attention_norm, up, down, mlp_norm, .. } = self;
        Layer { projections, output, attention_norm, up, down, mlp_norm }
    }
}

fn layer(
    model: &Model,
    index: usize,
    activation: Activation,
    cpu: Cpu,
) -> std::result::Result<(Layer<()>, Dense), BackendError> {
    let epsilon = model.config.layer_norm_eps as f32;
    let weights = model.layer(index)?;
    let layer = Layer {
        projections: (),
        output: linear(&weights.output, Activation::Identity, cpu)?,
        attention_norm: LayerNorm::new(weights.attention_norm, epsilon),
        up: linear(&weights.up, activation, cpu)?,
        down: linear(&weights.down, Activation::Identity, cpu)?,
        mlp_norm: LayerNorm::new(weights.mlp_norm, epsilon),
    };
    Ok((layer, weights.query_key_value))
}

fn linear(dense: &Dense, activation: Activation, cpu: Cpu) -> std::result::Result<Linear, BackendError> {
    Linear::new(dense, activation, cpu).map_err(error::loading)
}
