//! What is sent: a pool of requests from a file or made up from a seed, identified by its content.

mod beir;
mod jsonl;
mod msmarco;
mod synthetic;

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result, bail};
use rerank_report::{Table, TokenStats, Workload};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    cli::{PoolArgs, WorkloadArgs},
    info::HttpSide,
};

/// One query and its candidates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RequestText {
    pub(crate) query: String,
    pub(crate) documents: Vec<String>,
}

/// Where texts come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// One JSON object a line with `query` and `documents`.
    Jsonl(PathBuf),
    /// Every pair has exactly so many tokens of the served model.
    Fixed { tokens: u64 },
    /// Token lengths of pairs are lognormal around a mean.
    LogNormal { mean: f64, sigma: f64 },
    /// MS MARCO `triples` (query, positive, negative) or `top1000` (query id, passage id, query, passage).
    MsMarco(PathBuf),
    /// A BEIR folder: `corpus.jsonl`, `queries.jsonl`, `qrels/*.tsv`.
    Beir(PathBuf),
}

/// Spread of a lognormal mix unless given: its P95 is 2.0 times its mean, as in passage collections.
const DEFAULT_SIGMA: f64 = 0.6;

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = "jsonl:FILE, fixed:TOKENS, lognormal:MEAN[:SIGMA], msmarco:FILE, beir:FOLDER";
        let (kind, rest) = text.split_once(':').ok_or_else(|| format!("`{text}` is none of {kinds}"))?;
        let number = |text: &str| match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
            _ => Err(format!("`{text}` is not a number above zero")),
        };
        match kind {
            "jsonl" => Ok(Self::Jsonl(rest.into())),
            "msmarco" => Ok(Self::MsMarco(rest.into())),
            "beir" => Ok(Self::Beir(rest.into())),
            "fixed" => {
                let tokens = rest.parse().map_err(|_| format!("`{rest}` is not a number of tokens"))?;
                Ok(Self::Fixed { tokens })
            }
            "lognormal" => {
                let (mean, sigma) =
                    rest.split_once(':').map_or((rest, None), |(mean, sigma)| (mean, Some(sigma)));
                Ok(Self::LogNormal { mean: number(mean)?, sigma: sigma.map_or(Ok(DEFAULT_SIGMA), number)? })
            }
            _ => Err(format!("`{kind}` is no workload; known are {kinds}")),
        }
    }
}

impl Source {
    /// Its name in results: a file by its name, since the content is told by its hash.
    fn name(&self) -> String {
        let file =
            |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        match self {
            Self::Jsonl(path) => file(path),
            Self::MsMarco(path) => format!("msmarco:{}", file(path)),
            Self::Beir(path) => format!("beir:{}", file(path)),
            Self::Fixed { tokens } => format!("fixed:{tokens}"),
            Self::LogNormal { mean, sigma } => format!("lognormal:{mean}:{sigma}"),
        }
    }
}

/// Requests to go round, and what identifies them.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) requests: Vec<RequestText>,
    pub(crate) workload: Workload,
}

impl Pool {
    /// Reads or makes the requests, and counts their tokens with the server's own tokenizer where its HTTP side is
    /// known.
    pub(crate) async fn prepare(args: &PoolArgs, http: Option<&HttpSide>) -> Result<Self> {
        let (rows, limit) = (args.rows.get(), args.pool.get());
        let synthetic = |http: Option<&HttpSide>| {
            http.cloned().with_context(|| {
                format!(
                    "workload {} is measured in tokens of the served model; it needs --http",
                    args.workload.name()
                )
            })
        };
        let requests = match &args.workload {
            Source::Jsonl(path) => arrange(jsonl::read(path)?, rows, limit),
            Source::MsMarco(path) => arrange(msmarco::read(path, rows, limit)?, rows, limit),
            Source::Beir(path) => arrange(beir::read(path, rows, limit, args.seed)?, rows, limit),
            Source::Fixed { tokens } => {
                let lengths = synthetic::Lengths::Fixed(*tokens);
                synthetic::make(&synthetic(http)?, lengths, rows, limit, args.seed).await?
            }
            Source::LogNormal { mean, sigma } => {
                let lengths = synthetic::Lengths::LogNormal { mean: *mean, sigma: *sigma };
                synthetic::make(&synthetic(http)?, lengths, rows, limit, args.seed).await?
            }
        };
        if requests.is_empty() {
            bail!("workload {} holds no query with documents", args.workload.name());
        }
        let tokens = match http {
            Some(http) => {
                let mut lengths = Vec::new();
                for request in &requests {
                    lengths.extend(http.token_lengths(&request.query, &request.documents).await?);
                }
                TokenStats::new(lengths)
            }
            None => None,
        };
        let workload = Workload {
            name: args.workload.name(),
            sha256: sha256(&requests),
            distinct_requests: requests.len(),
            seed: args.seed,
            tokens,
        };
        Ok(Self { requests, workload })
    }
}

/// Cuts every query's candidates into requests of exactly `rows` documents. What is left over is dropped; where a query
/// has fewer than `rows`, the next queries' candidates fill up: they are distractors of the same kind of text.
fn arrange(sources: Vec<RequestText>, rows: usize, limit: usize) -> Vec<RequestText> {
    let longest = sources.iter().map(|source| source.documents.len()).max().unwrap_or(0);
    if rows <= longest {
        let chunks = |source: RequestText| {
            let documents: Vec<Vec<String>> =
                source.documents.chunks_exact(rows).map(<[String]>::to_vec).collect();
            documents.into_iter().map(move |documents| RequestText { query: source.query.clone(), documents })
        };
        sources.into_iter().flat_map(chunks).take(limit).collect()
    } else {
        let all: Vec<&String> = sources.iter().flat_map(|source| &source.documents).collect();
        let mut start = 0;
        let mut requests = Vec::new();
        for source in sources.iter().filter(|source| !source.documents.is_empty()).take(limit) {
            let documents = all.iter().cycle().skip(start).take(rows).map(|text| (*text).clone()).collect();
            requests.push(RequestText { query: source.query.clone(), documents });
            start += source.documents.len();
        }
        requests
    }
}

/// SHA-256 of the pool: one JSON line a request.
fn sha256(requests: &[RequestText]) -> String {
    let mut hash = Sha256::new();
    for request in requests {
        hash.update(serde_json::to_vec(request).expect("strings serialise"));
        hash.update(b"\n");
    }
    hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The subcommand: what would be sent.
#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
pub(crate) async fn describe(args: &WorkloadArgs) -> Result<()> {
    let http = args.server.http_side().map(HttpSide::new);
    let pool = Pool::prepare(&args.pool, http.as_ref()).await?;
    let mut table = Table::new(["Property", "Value"]);
    table.row(["Workload", &pool.workload.name]);
    table.row(["SHA-256", &pool.workload.sha256]);
    table.row(["Distinct requests", &pool.workload.distinct_requests.to_string()]);
    if let Some(tokens) = &pool.workload.tokens {
        table.row(["Pairs", &tokens.n.to_string()]);
        table.row(["Tokens a pair, mean", &format!("{:.1}", tokens.mean)]);
        for (name, p) in [("P50", 0.5), ("P95", 0.95)] {
            table.row([format!("Tokens a pair, {name}"), tokens.percentile(p).to_string()]);
        }
        table.row(["Tokens a pair, max", &tokens.max().to_string()]);
    }
    print!("{table}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(query: &str, documents: usize) -> RequestText {
        let documents = (0..documents).map(|at| format!("{query}{at}")).collect();
        RequestText { query: query.to_owned(), documents }
    }

    #[test]
    fn sources_parse_and_unknown_ones_name_the_known() {
        assert_eq!("fixed:128".parse(), Ok(Source::Fixed { tokens: 128 }));
        assert_eq!("lognormal:90:0.4".parse(), Ok(Source::LogNormal { mean: 90.0, sigma: 0.4 }));
        assert_eq!("jsonl:a:b.jsonl".parse(), Ok(Source::Jsonl("a:b.jsonl".into())));
        assert!("poisson:3".parse::<Source>().unwrap_err().contains("known are jsonl:FILE"));
        assert!("lognormal:-1".parse::<Source>().is_err());
    }

    #[test]
    fn candidates_are_cut_into_whole_requests() {
        let requests = arrange(vec![source("a", 7), source("b", 2), source("c", 3)], 3, 10);
        let shape: Vec<_> = requests.iter().map(|r| (r.query.as_str(), r.documents.len())).collect();
        assert_eq!(shape, [("a", 3), ("a", 3), ("c", 3)]);
    }

    #[test]
    fn more_rows_than_candidates_are_filled_from_the_next_queries() {
        let requests = arrange(vec![source("a", 2), source("b", 2)], 3, 10);
        assert_eq!(requests[0].documents, ["a0", "a1", "b0"]);
        assert_eq!(requests[1].documents, ["b0", "b1", "a0"]);
    }

    #[test]
    fn the_hash_tells_pools_apart() {
        assert_ne!(sha256(&[source("a", 2)]), sha256(&[source("a", 1)]));
        assert_eq!(
            sha256(&[]),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "SHA-256 of nothing"
        );
    }

    proptest! {
        #[test]
        fn every_request_has_exactly_the_rows_asked_for(sizes in proptest::collection::vec(0..40_usize, 1..12), rows in 1..64_usize, limit in 1..20_usize) {
            let sources: Vec<_> = sizes.iter().enumerate().map(|(at, n)| source(&format!("q{at}-"), *n)).collect();
            let has_documents = sizes.iter().any(|n| *n > 0);
            let requests = arrange(sources, rows, limit);
            prop_assert_eq!(requests.is_empty(), !has_documents);
            prop_assert!(requests.len() <= limit.max(1));
            prop_assert!(requests.iter().all(|request| request.documents.len() == rows));
        }
    }
}
