//! Our own format: one JSON object a line with `query` and `documents`; further keys are the file's own business.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::RequestText;

#[derive(Deserialize)]
struct Line {
    query: String,
    documents: Vec<String>,
}

/// All lines. A missing or broken file is an error: nothing else is ever sent in its place.
pub(super) fn read(path: &Path) -> Result<Vec<RequestText>> {
    let file = File::open(path).with_context(|| {
        format!("cannot open workload {}; name another with --workload jsonl:FILE", path.display())
    })?;
    BufReader::new(file)
        .lines()
        .zip(1..)
        .filter(|(line, _)| !matches!(line, Ok(line) if line.trim().is_empty()))
        .map(|(line, number)| {
            let place = || format!("{}, line {number}", path.display());
            let line: Line = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
            Ok(RequestText { query: line.query, documents: line.documents })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_workload_reads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benchmarks/data/workload.jsonl");
        let lines = read(&path).unwrap();
        assert_eq!(lines.len(), 128);
        assert!(lines.iter().all(|line| line.documents.len() == 32 && !line.query.is_empty()));
    }

    #[test]
    fn a_broken_line_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"query\": \"q\", \"documents\": [\"d\"]}\n\n{\"query\": 3}\n")
            .unwrap();
        let error = format!("{:#}", read(file.path()).unwrap_err());
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let error = format!("{:#}", read(Path::new("no/such.jsonl")).unwrap_err());
        assert!(error.contains("cannot open workload no/such.jsonl"), "{error}");
    }
}
