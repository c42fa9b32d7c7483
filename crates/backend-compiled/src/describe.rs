//! The plan in words and numbers, for `rerank-server plan`.

use rerank_core::{BatchShape, ExecutionPlan, PlanStep};
use rerank_kernels::{Linear, instruction_set};

use crate::buffers::{SpanBuffers, TileBuffers};
use crate::plan::{Op, Plan, Step};

/// What `plan` does with a batch of this shape, its rows equally long; `capacity` is the longest span's tokens.
pub(crate) fn plan(plan: &Plan, shape: BatchShape, capacity: usize) -> ExecutionPlan {
    let body = plan.body.iter().map(|step| described(plan, step, shape, shape.tokens));
    let tail = plan.tail.iter().map(|step| described(plan, step, shape, shape.rows));
    let scratch = capacity * SpanBuffers::bytes_per_token(plan.sizes)
        + plan.grain.tile * TileBuffers::bytes_per_row(plan.sizes);
    ExecutionPlan {
        steps: body.chain(tail).collect(),
        weight_bytes: plan.weight_bytes(),
        f32_bytes: plan.f32_bytes(),
        scratch_bytes_per_thread: scratch as u64,
    }
}

fn described(plan: &Plan, step: &Step, shape: BatchShape, rows: usize) -> PlanStep {
    let hidden = plan.sizes.hidden;
    let length = shape.tokens.div_ceil(shape.rows);
    // Scores and their use: two multiply-adds a query, key and column.
    let attention = |queries: usize| 4 * queries * length * hidden;
    let product_flops = |linear: &Linear, rows: usize| 2 * rows * linear.inputs() * linear.outputs();
    let vectors = format!("f32 {}", instruction_set(plan.cpu));
    let (kernel, width, flops) = match &step.op {
        Op::Embed(_) => (vectors, (3, hidden), 3 * rows * hidden),
        Op::Attend => (vectors, (3 * hidden, hidden), attention(rows)),
        Op::AttendFirst(query) => {
            let flops = product_flops(query, shape.rows) + attention(shape.rows);
            let product = query.kernel().to_string();
            let kernel = if product == vectors { vectors } else { format!("{product}, {vectors}") };
            (kernel, (2 * hidden, hidden), flops)
        }
        Op::Classify(dense, out) => {
            (dense.kernel().to_string(), (hidden, 1), product_flops(dense, rows) + product_flops(out, rows))
        }
        Op::Project(linear) | Op::Output(linear, _) | Op::Up(linear) | Op::Down(linear, _) => {
            (linear.kernel().to_string(), (linear.inputs(), linear.outputs()), product_flops(linear, rows))
        }
    };
    let outputs = if matches!(step.op, Op::AttendFirst(_)) { shape.rows } else { rows };
    PlanStep {
        name: step.name.clone(),
        kernel,
        shape: format!("[{rows}, {}] -> [{outputs}, {}]", width.0, width.1),
        weight_bytes: step.op.weight_bytes(),
        flops: flops as u64,
    }
}
