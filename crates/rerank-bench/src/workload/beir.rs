//! BEIR data sets: `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv` in one folder. A query's candidates are its
//! judged documents, filled up with seeded random ones.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, de::DeserializeOwned};

use super::RequestText;

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
}

#[derive(Deserialize)]
struct Query {
    #[serde(rename = "_id")]
    id: String,
    text: String,
}

/// `limit` queries of `rows` candidates each.
pub(super) fn read(folder: &Path, rows: usize, limit: usize, seed: u64) -> Result<Vec<RequestText>> {
    let corpus: Vec<Document> = lines(&folder.join("corpus.jsonl"))?;
    if corpus.len() < rows {
        bail!("{} has {} documents, fewer than the {rows} of a request", folder.display(), corpus.len());
    }
    let place: HashMap<&str, usize> =
        corpus.iter().enumerate().map(|(at, document)| (document.id.as_str(), at)).collect();
    let queries: Vec<Query> = lines(&folder.join("queries.jsonl"))?;
    let judged = judgements(&folder.join("qrels"))?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut requests = Vec::new();
    for query in queries.iter().filter(|query| judged.contains_key(&query.id)).take(limit) {
        let mut candidates: Vec<usize> =
            judged[&query.id].iter().filter_map(|id| place.get(id.as_str()).copied()).take(rows).collect();
        while candidates.len() < rows {
            let other = random.random_range(0..corpus.len());
            if !candidates.contains(&other) {
                candidates.push(other);
            }
        }
        let text = |at: &usize| {
            let document = &corpus[*at];
            // As BEIR's own evaluation does: title and text as one passage.
            format!("{} {}", document.title, document.text).trim().to_owned()
        };
        requests.push(RequestText {
            query: query.text.clone(),
            documents: candidates.iter().map(text).collect(),
        });
    }
    Ok(requests)
}

/// Judged documents of each query, from `test.tsv` or else the first split by name.
fn judgements(folder: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut splits: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    splits.retain(|path| path.extension().is_some_and(|suffix| suffix == "tsv"));
    splits.sort_by_key(|path| (path.file_name().is_none_or(|name| name != "test.tsv"), path.clone()));
    let split = splits.first().with_context(|| format!("{} holds no .tsv", folder.display()))?;
    let mut judged = BTreeMap::<String, Vec<String>>::new();
    let file = File::open(split).with_context(|| format!("cannot open {}", split.display()))?;
    for (line, number) in BufReader::new(file).lines().zip(1_usize..) {
        let line = line.with_context(|| format!("{}, line {number}", split.display()))?;
        let fields: Vec<&str> = line.split('\t').collect();
        let [query, document, score] = *fields.as_slice() else {
            bail!("{}, line {number}: {} columns, not 3", split.display(), fields.len());
        };
        // The first line holds the columns' names.
        if number > 1 || score.parse::<f64>().is_ok() {
            judged.entry(query.to_owned()).or_default().push(document.to_owned());
        }
    }
    Ok(judged)
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    BufReader::new(file)
        .lines()
        .zip(1_usize..)
        .map(|(line, number)| {
            let place = || format!("{}, line {number}", path.display());
            serde_json::from_str(&line.with_context(place)?).with_context(place)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judged_documents_come_first_and_random_ones_fill_up() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("qrels")).unwrap();
        let corpus: Vec<String> = (0..9)
            .map(|at| format!("{{\"_id\": \"d{at}\", \"title\": \"T\", \"text\": \"text {at}\"}}"))
            .collect();
        write("corpus.jsonl", &corpus.join("\n"));
        write(
            "queries.jsonl",
            "{\"_id\": \"q1\", \"text\": \"one\"}\n{\"_id\": \"q2\", \"text\": \"unjudged\"}\n",
        );
        write("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq2\td1\t1\n");
        write("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td7\t1\n");
        let requests = read(folder.path(), 4, 10, 0).unwrap();
        assert_eq!(requests.len(), 1, "only the judged query of the test split");
        assert_eq!((requests[0].documents.len(), requests[0].documents[0].as_str()), (4, "T text 7"));
        assert_eq!(read(folder.path(), 4, 10, 0).unwrap(), requests, "seeded");
        assert!(read(folder.path(), 10, 10, 0).is_err(), "fewer documents than rows");
    }
}
