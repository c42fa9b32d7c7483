//! Where a result goes, and the last words on the terminal.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rerank_report::{BenchResult, Environment, Experiment, summary_table, write_all};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use super::{BenchArgs, server::workshop};
use crate::process::root;

/// Now, UTC, RFC 3339, whole seconds.
pub(super) fn now() -> Result<String> {
    Ok(OffsetDateTime::now_utc().replace_nanosecond(0)?.format(&Rfc3339)?)
}

/// Writes the result and all its pages and shows the summary.
pub(super) fn publish(args: &BenchArgs, environment: &Environment, result: &BenchResult) -> Result<PathBuf> {
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None => fresh(&folder(result.experiment()), &environment.machine)?,
    };
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    result.write(&dir.join("result.json"))?;
    write_all(result, &dir)?;
    println!(
        "\n{}\n{}",
        summary_table(result),
        dir.strip_prefix(root()).unwrap_or(&dir).join("report.md").display()
    );
    Ok(dir)
}

/// Results are committed; trials are not the experiment's own figures and stay out of the way.
fn folder(experiment: &Experiment) -> PathBuf {
    let parent = if experiment.overrides.is_empty() {
        root().join("benchmarks/results")
    } else {
        workshop().join("trials")
    };
    parent.join(&experiment.name)
}

/// `<date>-<machine>`, with a number after it where that is taken: a result never replaces another.
fn fresh(folder: &Path, machine: &str) -> Result<PathBuf> {
    let date = OffsetDateTime::now_utc().format(format_description!("[year]-[month]-[day]"))?;
    let mut dir = folder.join(format!("{date}-{machine}"));
    for number in 2.. {
        if !dir.exists() {
            break;
        }
        dir = folder.join(format!("{date}-{machine}-{number}"));
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let first = fresh(folder.path(), "desk").unwrap();
        fs::create_dir(&first).unwrap();
        let second = fresh(folder.path(), "desk").unwrap();
        assert!(first.to_string_lossy().ends_with("-desk") && second.to_string_lossy().ends_with("-desk-2"));
    }
}
