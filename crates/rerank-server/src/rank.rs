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
struct Place<'a> {
    rank: usize,
    /// The line's number in the file, from 1.
    line: usize,
    score: f64,
    logit: f32,
    document: &'a str,
}

/// Ranks and prints.
pub fn run(args: &RankArgs) -> Result<()> {
    check_query(&args.query)?;
    let (numbers, documents) = read(&args.file)?;
    // One request, so the queue must hold it whatever its size: this is no server that protects itself.
    let options = EngineOptions { queue_tokens: usize::MAX / 2, ..config::engine_options(&args.batch, None) };
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
    let printed = if args.json {
        print_json(&scored, &numbers, top_n, &mut out)
    } else {
        print_table(&scored, &numbers, top_n, &mut out)
    };
    match printed.and_then(|()| out.flush()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

fn print_json(
    scored: &Scored,
    numbers: &[usize],
    top_n: Option<usize>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    for (rank, place) in scored.ranked(top_n).into_iter().enumerate() {
        let document = scored.texts.document(place.index);
        let (line, score, logit) = (numbers[place.index], place.score, place.logit);
        let printed = Place { rank: rank + 1, line, score, logit, document };
        serde_json::to_writer(&mut *out, &printed)?;
        writeln!(out)?;
    }
    Ok(())
}

fn print_table(
    scored: &Scored,
    numbers: &[usize],
    top_n: Option<usize>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["rank", "line", "score", "logit", "document"]);
    for (rank, place) in scored.ranked(top_n).into_iter().enumerate() {
        table.add_row([
            (rank + 1).to_string(),
            numbers[place.index].to_string(),
            format!("{:.4}", place.score),
            format!("{:+.3}", place.logit),
            scored.texts.document(place.index).to_owned(),
        ]);
    }
    writeln!(out, "{table}")
}

/// The lines of a file, or of standard input, that hold more than blanks; their numbers, from 1, and their texts.
fn read(file: &Path) -> Result<(Vec<usize>, Vec<String>)> {
    let standard_input = file == Path::new("-");
    let name = if standard_input { "standard input".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let outcome = if standard_input {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    outcome.with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8 text"))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let (numbers, documents): (Vec<_>, Vec<_>) =
        lines.map(|(index, line)| (index + 1, line.to_owned())).unzip();
    if documents.is_empty() {
        bail!("{name} holds no lines to rank");
    }
    Ok((numbers, documents))
}
