//! MS MARCO passage ranking: `triples.*.tsv` (query, relevant passage, other passage) and `top1000.*.tsv` (query id,
//! passage id, query, passage). The files are large, so reading stops when the pool is full.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::RequestText;

/// Queries with their candidates, until `limit` of them have `rows` documents each.
pub(super) fn read(path: &Path, rows: usize, limit: usize) -> Result<Vec<RequestText>> {
    if path.extension().is_some_and(|suffix| suffix == "gz") {
        bail!("{} is compressed; unpack it with `gunzip -k` first", path.display());
    }
    let file = File::open(path).with_context(|| format!("cannot open MS MARCO file {}", path.display()))?;
    let mut requests: Vec<RequestText> = Vec::new();
    let mut place_of = HashMap::<String, usize>::new();
    let mut full = 0;
    for (line, number) in BufReader::new(file).lines().zip(1_usize..) {
        let line = line.with_context(|| format!("{}, line {number}", path.display()))?;
        let fields: Vec<&str> = line.split('\t').collect();
        let (query, documents) = match *fields.as_slice() {
            [query, relevant, other] => (query, vec![relevant, other]),
            [_, _, query, passage] => (query, vec![passage]),
            _ => bail!(
                "{}, line {number}: {} columns; triples have 3, top1000 has 4",
                path.display(),
                fields.len()
            ),
        };
        let place = *place_of.entry(query.to_owned()).or_insert_with(|| {
            requests.push(RequestText { query: query.to_owned(), documents: Vec::new() });
            requests.len() - 1
        });
        let candidates = &mut requests[place].documents;
        for document in documents {
            // A query's relevant passage comes again with each of its triples.
            if candidates.len() < rows && !candidates.iter().any(|known| known == document) {
                candidates.push(document.to_owned());
                full += usize::from(candidates.len() == rows);
            }
        }
        if full >= limit {
            break;
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it can be written");
        file
    }

    #[test]
    fn triples_of_a_query_are_gathered_without_doubles() {
        let file = file("q\tgood\tbad one\nother\tx\ty\nq\tgood\tbad two\n");
        let requests = read(file.path(), 3, 10).unwrap();
        assert_eq!(requests[0].documents, ["good", "bad one", "bad two"]);
        assert_eq!(requests[1].query, "other");
    }

    #[test]
    fn top1000_is_told_by_its_four_columns_and_reading_stops_when_full() {
        let file = file("1\t7\tq\ta\n1\t8\tq\tb\n2\t9\tnever read\tc\n");
        assert_eq!(read(file.path(), 2, 1).unwrap().len(), 1);
    }

    #[test]
    fn other_columns_are_refused_by_line() {
        let file = file("q\tgood\tbad\nonly one\n");
        let error = read(file.path(), 2, 5).unwrap_err().to_string();
        assert!(error.contains("line 2: 1 columns"), "{error}");
    }
}
