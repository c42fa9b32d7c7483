//! What tokenising costs: pairs and tokens a second on one thread, on real text and on short pairs.
//!
//! `cargo bench -p rerank-engine --bench tokenise`
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::{Duration, Instant};

use rerank_core::ModelConfig;
use rerank_engine::{PairTokenizer, Rows, Truncation};
use serde::Deserialize;

const WORKLOAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benchmarks/data/workload.jsonl");
const ROUND: Duration = Duration::from_millis(500);
const ROUNDS: usize = 5;

#[derive(Deserialize)]
struct Request {
    query: String,
    documents: Vec<String>,
}

fn main() {
    let config = ModelConfig::from_json(rerank_model_tiny::config()).expect("the built-in model is sound");
    let tokenizer = PairTokenizer::from_bytes(rerank_model_tiny::tokenizer(), &config, None)
        .expect("its tokenizer is sound");
    let text = std::fs::read_to_string(WORKLOAD).expect("the workload is part of the repository");
    let real: Vec<Request> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is a request")).collect();
    let short: Vec<Request> = real
        .iter()
        .map(|request| Request {
            query: first_words(&request.query, 4),
            documents: request.documents.iter().map(|document| first_words(document, 5)).collect(),
        })
        .collect();
    for (name, requests) in [("workload", &real), ("short", &short)] {
        let mut rates: Vec<(f64, f64)> = (0..=ROUNDS).map(|_| round(&tokenizer, requests)).skip(1).collect();
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (low, median, high) = (rates[0].0, rates[ROUNDS / 2], rates[ROUNDS - 1].0);
        println!(
            "{name:>9}: {:.0} pairs/s (median of {ROUNDS} rounds, {low:.0} to {high:.0}), {:.2} M tokens/s",
            median.0,
            median.1 / 1e6
        );
    }
}

fn first_words(text: &str, words: usize) -> String {
    text.split_whitespace().take(words).collect::<Vec<_>>().join(" ")
}

/// Pairs and tokens a second over one round.
fn round(tokenizer: &PairTokenizer, requests: &[Request]) -> (f64, f64) {
    let start = Instant::now();
    let (mut pairs, mut tokens) = (0, 0);
    for request in requests.iter().cycle() {
        let query = tokenizer.encode(&request.query).expect("text is text");
        let mut rows = Rows::with_capacity(request.documents.len());
        for (index, document) in request.documents.iter().enumerate() {
            let document = tokenizer.encode(document).expect("text is text");
            tokenizer
                .pair(&query, &document, Truncation::default(), index, &mut rows)
                .expect("it is truncated");
        }
        pairs += rows.len();
        tokens += rows.tokens();
        if start.elapsed() >= ROUND {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    (pairs as f64 / seconds, tokens as f64 / seconds)
}
