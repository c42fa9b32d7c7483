//! `rerank-server rank`: the lines of a file, ranked in this process. The shortest way to see the whole road work.

use std::io::{BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, bail};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use rerank_engine::{EngineOptions, RerankRequest, Scored, Timeline, Truncation};
use serde::Serialize;

use crate::cli::RankArgs;
use crate::service::check_query;
use crate::{config, load};

/// Columns of the table, in which long documents are wrapped: what fits a terminal and a bug report.
const WIDTH: u16 = 100;

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    rank: usize,
    /// The line's number in the file, from 0, counting only lines that are not blank.
    index: usize,
    score: f64,
    logit: f32,
    document: &'a str,
}

/// Ranks and prints.
pub fn run(args: &RankArgs) -> Result<()> {
    check_query(&args.query)?;
    let documents = read(&args.file)?;
    // One request, so the queue must hold it whatever its size: this is no server that protects itself.
    let options = EngineOptions { queue_tokens: usize::MAX / 2, ..config::engine_options(&args.model, None) };
    let engine = load::start(&args.model, options)?.engine;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let scored = runtime.block_on(async {
        engine.ready().await?;
        let request = RerankRequest {
            query: args.query.clone(),
            documents,
            truncation: Truncation::default(),
            deadline: None,
            timeline: Timeline::start(),
        };
        engine.rerank(request).await
    })?;
    let top_n = args.top_n.map(NonZeroUsize::get);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let printed =
        if args.json { print_json(&scored, top_n, &mut out) } else { print_table(&scored, top_n, &mut out) };
    match printed.and_then(|()| out.flush()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

fn print_json(scored: &Scored, top_n: Option<usize>, out: &mut impl Write) -> std::io::Result<()> {
    for (rank, place) in scored.ranked(top_n).into_iter().enumerate() {
        let document = scored.texts.document(place.index);
        let line =
            Line { rank: rank + 1, index: place.index, score: place.score, logit: place.logit, document };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
    }
    Ok(())
}

fn print_table(scored: &Scored, top_n: Option<usize>, out: &mut impl Write) -> std::io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["rank", "line", "score", "logit", "document"]);
    for (rank, place) in scored.ranked(top_n).into_iter().enumerate() {
        table.add_row([
            (rank + 1).to_string(),
            (place.index + 1).to_string(),
            format!("{:.4}", place.score),
            format!("{:+.3}", place.logit),
            scored.texts.document(place.index).to_owned(),
        ]);
    }
    writeln!(out, "{table}")
}

/// The lines of a file, or of standard input, that hold more than blanks.
fn read(file: &Path) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8 text", file.display()))?;
    let documents: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if documents.is_empty() {
        bail!("{} holds no lines to rank", file.display());
    }
    Ok(documents)
}
