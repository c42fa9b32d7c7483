//! `cargo xtask report`: renders results again, or sets two of them side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use rerank_report::{BenchResult, compare_results, summary_table, write_all};

#[derive(Args)]
pub(crate) struct ReportArgs {
    /// result.json files, or the folders that hold them: report, time series and plots are written beside each
    #[arg(required = true, value_name = "RESULT")]
    results: Vec<PathBuf>,
    /// Compare two results, the older one first, instead of rendering them
    #[arg(long)]
    compare: bool,
}

pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    let files: Vec<PathBuf> = args.results.iter().map(|path| result_file(path)).collect();
    if args.compare {
        let [before, after] = files.as_slice() else {
            anyhow::bail!("--compare takes two results, not {}", files.len());
        };
        print!("{}", compare_results(&BenchResult::read(before)?, &BenchResult::read(after)?)?);
        return Ok(());
    }
    for file in &files {
        let result = BenchResult::read(file)?;
        let folder = file.parent().context("a file lies in a folder")?;
        write_all(&result, folder)?;
        println!("{}\n{}", file.display(), summary_table(&result));
    }
    Ok(())
}

fn result_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("result.json") } else { path.to_owned() }
}
