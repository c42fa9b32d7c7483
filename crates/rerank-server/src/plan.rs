//! `rerank-server plan`: the steps that a backend takes for a batch, without serving.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use rerank_core::{BatchShape, ExecutionPlan, LoadSpec};

use crate::cli::PlanArgs;
use crate::model_store::{self, Hub};
use crate::{config, registry, select};

/// Loads the model and prints its plan for `--rows` rows of `--length` tokens.
pub fn run(args: &PlanArgs) -> Result<()> {
    let known: Vec<&str> = registry::known().collect();
    let selection = select::select(&config::wishes(&args.model), registry::BACKENDS, &known)?;
    let hub = Hub::from_env(|name| std::env::var(name).ok(), args.model.offline);
    let model = model_store::open(&args.model.model, &hub)?.model;
    let (rows, length) = (args.rows.get(), args.length.get());
    let takes = model.config.max_length();
    let longest = args.model.max_length.map_or(takes, NonZeroUsize::get);
    if longest > takes {
        bail!("--max-length {longest}: `{}` takes at most {takes} tokens", model.name);
    }
    if length > longest {
        bail!("--length {length}: a server of `{}` takes at most {longest} tokens here", model.name);
    }
    let spec = LoadSpec {
        model: Arc::new(model),
        device: selection.device,
        dtype: selection.dtype,
        threads: args.model.threads,
        max_length: longest,
        options: config::backend_options(&args.model),
    };
    let name = selection.factory.name();
    let backend = selection.factory.load(&spec)?;
    let tokens = rows.checked_mul(length).context("--rows times --length is too large")?;
    let Some(plan) = backend.plan(BatchShape { rows, max_len: length, tokens }) else {
        bail!("backend `{name}` does not plan ahead; `--backend compiled` does");
    };
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?;
    } else {
        writeln!(out, "{}\n{}", table(&plan), totals(&plan, rows, length))?;
    }
    Ok(())
}

fn table(plan: &ExecutionPlan) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["step", "kernel", "shape", "weights", "MFLOP"]);
    for step in &plan.steps {
        let flops = format!("{:.1}", step.flops as f64 / 1e6);
        table.add_row([&step.name, &step.kernel, &step.shape, &size(step.weight_bytes), &flops]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn totals(plan: &ExecutionPlan, rows: usize, length: usize) -> String {
    format!(
        "{rows} rows of {length} tokens: {:.2} GFLOP; weights {}, in f32 {}; scratch {} a thread",
        plan.flops() as f64 / 1e9,
        size(plan.weight_bytes),
        size(plan.f32_bytes),
        size(plan.scratch_bytes_per_thread)
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
