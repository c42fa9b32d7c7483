//! Executes a plan: spans in parallel and, when there are few of them, tiles within each.
//!
//! Between two attentions, rows do not depend on each other, so all steps between them run tile by tile: what one step
//! leaves is still in the cache when the next one reads it, and threads meet twice a layer.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;
use rerank_core::{BatchShape, ExecutionPlan, TokenBatch};
use rerank_kernels::{Attention, AttentionScratch, LANES, Rows};

use crate::buffers::{Shelf, SpanBuffers, TileBuffers};
use crate::describe;
use crate::plan::{Op, Plan, Step};
use crate::spans::{spans, tile_rows};

/// How finely a batch is cut: spans, and where there are too few of them, parts of spans. More pieces would keep threads
/// from waiting at the end, but each of them reads all weights, which no second-level cache holds: 16 threads on 32 rows of
/// 128 tokens in f32 did 279 pairs/s with sixteen parts a span, 286 with two and 367 with one.
const PIECES_PER_THREAD: usize = 2;

/// A plan, the threads that execute it, and its memory.
pub(crate) struct Runner {
    plan: Plan,
    pool: ThreadPool,
    spans: Shelf<SpanBuffers>,
    tiles: Shelf<TileBuffers>,
    /// Tokens of the longest span.
    capacity: usize,
}

/// What a span is computed from and to.
struct Span<'a> {
    batch: &'a TokenBatch,
    rows: Range<usize>,
    /// Residual stream and context of the rows' first tokens, `[rows, hidden]` each.
    firsts: (&'a mut [f32], &'a mut [f32]),
    /// How many parts its work is cut into, for as many threads.
    parts: usize,
}

impl Runner {
    /// For rows of at most `max_length` tokens.
    pub(crate) fn new(plan: Plan, pool: ThreadPool, max_length: usize) -> Self {
        let (sizes, tile) = (plan.sizes, plan.grain.tile);
        let capacity = plan.grain.span.max(max_length);
        Self {
            plan,
            pool,
            spans: Shelf::new(move || SpanBuffers::new(capacity, sizes)),
            tiles: Shelf::new(move || TileBuffers::new(tile, sizes)),
            capacity,
        }
    }

    /// The steps for a batch of this shape.
    pub(crate) fn describe(&self, shape: BatchShape) -> ExecutionPlan {
        describe::plan(&self.plan, shape, self.capacity)
    }

    /// One logit per row.
    pub(crate) fn score(&self, batch: &TokenBatch) -> Vec<f32> {
        let (rows, hidden, threads) = (batch.rows(), self.plan.sizes.hidden, self.pool.current_num_threads());
        let spans = spans(batch, self.plan.grain, threads);
        let parts = (PIECES_PER_THREAD * threads).div_ceil(spans.len()).min(threads);
        let (mut residual, mut context) = (vec![0.0; rows * hidden], vec![0.0; rows * hidden]);
        let mut logits = vec![0.0; rows];
        self.pool.install(|| {
            let (mut residuals, mut contexts) = (&mut residual[..], &mut context[..]);
            let spans: Vec<Span<'_>> = spans
                .into_iter()
                .map(|rows| {
                    let firsts =
                        (take(&mut residuals, rows.len() * hidden), take(&mut contexts, rows.len() * hidden));
                    Span { batch, rows, firsts, parts }
                })
                .collect();
            spans.into_par_iter().with_max_len(1).for_each(|span| self.encode(span));
            self.finish(&mut residual, &context, &mut logits, threads);
        });
        logits
    }

    /// All tokens of a span up to the last layer's attention.
    fn encode(&self, span: Span<'_>) {
        let Span { batch, rows, firsts, parts } = span;
        let start = batch.row(rows.start).start;
        let tokens = start..batch.row(rows.end - 1).end;
        let keys: Vec<Range<usize>> =
            rows.map(|row| batch.row(row).start - start..batch.row(row).end - start).collect();
        let mut buffers = self.spans.lend();
        let mut steps = &self.plan.body[..];
        while let Some(attention) =
            steps.iter().position(|step| matches!(step.op, Op::Attend | Op::AttendFirst(_)))
        {
            self.between(&steps[..attention], batch, tokens.clone(), &mut buffers, parts);
            match &steps[attention].op {
                Op::AttendFirst(query) => {
                    let (residual, context) = firsts;
                    return self.attend_first(query, &keys, &buffers, residual, context);
                }
                _ => self.attend(&keys, &mut buffers, parts),
            }
            steps = &steps[attention + 1..];
        }
        unreachable!("the body ends with the attention of first tokens");
    }

    /// Steps in which rows are independent, tile by tile.
    fn between(
        &self,
        steps: &[Step],
        batch: &TokenBatch,
        tokens: Range<usize>,
        buffers: &mut SpanBuffers,
        parts: usize,
    ) {
        let hidden = self.plan.sizes.hidden;
        let count = tokens.len();
        let width = match steps.last().map(|step| &step.op) {
            Some(Op::Project(linear)) => linear.outputs(),
            _ => unreachable!("attention comes after projections"),
        };
        let rows = tile_rows(count, self.plan.grain, parts);
        let residual = buffers.residual[..count * hidden].chunks_mut(rows * hidden);
        let projections = buffers.projections[..count * width].chunks_mut(rows * width);
        let context = buffers.context[..count * hidden].chunks(rows * hidden);
        let tiles = residual.zip(projections).zip(context).enumerate();
        let run = |scratch: &mut TileBuffers, (index, ((residual, projections), context))| {
            let index: usize = index;
            let from = tokens.start + index * rows;
            self.tile(steps, batch, from, scratch, residual, projections, context);
        };
        if parts == 1 {
            let mut scratch = self.tiles.lend();
            tiles.for_each(|tile| run(&mut scratch, tile));
        } else {
            let tiles: Vec<_> = tiles.collect();
            tiles.into_par_iter().with_max_len(1).for_each(|tile| run(&mut self.tiles.lend(), tile));
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "three buffers of a span, cut to the tile, and where it begins"
    )]
    fn tile(
        &self,
        steps: &[Step],
        batch: &TokenBatch,
        from: usize,
        scratch: &mut TileBuffers,
        residual: &mut [f32],
        projections: &mut [f32],
        context: &[f32],
    ) {
        let (cpu, hidden) = (self.plan.cpu, self.plan.sizes.hidden);
        let rows = residual.len() / hidden;
        for step in steps {
            match &step.op {
                Op::Embed(embedding) => {
                    let tokens = from..from + rows;
                    let (ids, positions) = (&batch.ids()[tokens.clone()], &batch.positions()[tokens.clone()]);
                    embedding.gather(cpu, ids, positions, &batch.type_ids()[tokens], residual);
                }
                Op::Project(linear) => {
                    linear.forward(Rows::contiguous(residual, hidden), &mut scratch.linear, projections);
                }
                other => self.dense(other, scratch, residual, context),
            }
        }
    }

    /// The steps that both all tokens and first tokens take.
    fn dense(&self, op: &Op, scratch: &mut TileBuffers, residual: &mut [f32], context: &[f32]) {
        let (cpu, hidden) = (self.plan.cpu, self.plan.sizes.hidden);
        let rows = residual.len() / hidden;
        let TileBuffers { delta, intermediate, linear: kept, .. } = scratch;
        let delta = &mut delta[..rows * hidden];
        match op {
            Op::Output(linear, norm) => {
                linear.forward(Rows::contiguous(context, hidden), kept, delta);
                norm.add(cpu, residual, Rows::contiguous(delta, hidden));
            }
            Op::Up(linear) => {
                let width = linear.outputs();
                linear.forward(Rows::contiguous(residual, hidden), kept, &mut intermediate[..rows * width]);
            }
            Op::Down(linear, norm) => {
                linear.forward(Rows::contiguous(intermediate, linear.inputs()), kept, delta);
                norm.add(cpu, residual, Rows::contiguous(delta, hidden));
            }
            Op::Embed(_) | Op::Project(_) | Op::Attend | Op::AttendFirst(_) | Op::Classify(..) => {
                unreachable!("not among the dense steps")
            }
        }
    }

    /// Every token of every row.
    fn attend(&self, keys: &[Range<usize>], buffers: &mut SpanBuffers, parts: usize) {
        let sizes = self.plan.sizes;
        let (hidden, heads) = (sizes.hidden, sizes.heads);
        let tokens = keys.last().map_or(0, |row| row.end);
        let block = tile_rows(tokens, self.plan.grain, parts).next_multiple_of(LANES);
        let SpanBuffers { projections, context, .. } = buffers;
        let mut context = &mut context[..tokens * hidden];
        let mut blocks = Vec::new();
        for row in keys {
            for start in row.clone().step_by(block) {
                let queries = block.min(row.end - start);
                let query = Rows::strided(&projections[start * 3 * hidden..], hidden, 3 * hidden);
                let key_value = &projections[row.start * 3 * hidden + hidden..];
                let key_value = Rows::strided(key_value, 2 * hidden, 3 * hidden);
                let attention = Attention { heads, query, key_value, keys: row.len() };
                blocks.push((attention, take(&mut context, queries * hidden)));
            }
        }
        let run = |scratch: &mut AttentionScratch, (attention, output): (Attention<'_>, &mut [f32])| {
            attention.attend(self.plan.cpu, scratch, output);
        };
        if parts == 1 {
            let scratch = &mut self.tiles.lend().attention;
            for block in blocks {
                run(scratch, block);
            }
        } else {
            blocks.into_par_iter().for_each(|block| run(&mut self.tiles.lend().attention, block));
        }
    }

    /// The first token of every row.
    fn attend_first(
        &self,
        query: &rerank_kernels::Linear,
        keys: &[Range<usize>],
        buffers: &SpanBuffers,
        residual: &mut [f32],
        context: &mut [f32],
    ) {
        let sizes = self.plan.sizes;
        let (hidden, heads) = (sizes.hidden, sizes.heads);
        for (first, row) in residual.chunks_exact_mut(hidden).zip(keys) {
            first.copy_from_slice(&buffers.residual[row.start * hidden..][..hidden]);
        }
        let mut scratch = self.tiles.lend();
        let TileBuffers { delta, linear, attention, .. } = &mut *scratch;
        // A span has no more rows than tokens, but a tile may have fewer rows than a span.
        let tile = self.plan.grain.tile;
        let tiles =
            residual.chunks(tile * hidden).zip(context.chunks_mut(tile * hidden)).zip(keys.chunks(tile));
        for ((residual, context), keys) in tiles {
            let queries = &mut delta[..residual.len()];
            query.forward(Rows::contiguous(residual, hidden), linear, queries);
            for ((query, context), row) in queries.chunks(hidden).zip(context.chunks_mut(hidden)).zip(keys) {
                let key_value = &buffers.projections[row.start * 2 * hidden..];
                Attention {
                    heads,
                    query: Rows::contiguous(query, hidden),
                    key_value: Rows::contiguous(key_value, 2 * hidden),
                    keys: row.len(),
                }
                .attend(self.plan.cpu, attention, context);
            }
        }
    }

    /// The rest of the last layer and the head, for first tokens of all spans together: for a few rows at a time,
    /// reading the weights would cost more than using them.
    fn finish(&self, residual: &mut [f32], context: &[f32], logits: &mut [f32], threads: usize) {
        let hidden = self.plan.sizes.hidden;
        let rows = tile_rows(logits.len(), self.plan.grain, threads);
        let tiles = residual
            .par_chunks_mut(rows * hidden)
            .zip(context.par_chunks(rows * hidden))
            .zip(logits.par_chunks_mut(rows));
        tiles.for_each(|((residual, context), logits)| {
            let mut scratch = self.tiles.lend();
            for step in &self.plan.tail {
                if let Op::Classify(dense, out) = &step.op {
                    let TileBuffers { delta, linear, .. } = &mut *scratch;
                    let pooled = &mut delta[..residual.len()];
                    dense.forward(Rows::contiguous(residual, hidden), linear, pooled);
                    out.forward(Rows::contiguous(pooled, hidden), linear, logits);
                } else {
                    self.dense(&step.op, &mut scratch, residual, context);
                }
            }
        });
    }
}

/// Cuts the first `len` elements off.
#[expect(clippy::mut_mut, reason = "the slice itself moves on")]
fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    rest.split_off_mut(..len).expect("buffers are as long as their parts together")
}
