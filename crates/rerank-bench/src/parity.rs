//! The subcommand that compares a server's logits with reference logits, so that no figure is published of a server
//! that is fast and wrong.

mod against;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use rerank_report::{ComparedQuery, Identity, Parity, RankingAgreement, RankingBounds, logit_tolerance};
use serde::Deserialize;

use self::against::Reference;
use crate::{cli::ParityArgs, client::Client, info::HttpSide, workload::Pool};

/// The fixture: the same requests for several models, told apart by their weights.
#[derive(Debug, Deserialize)]
struct Fixture {
    reference: BTreeMap<String, String>,
    max_length: u64,
    requests: Vec<FixtureRequest>,
    models: Vec<FixtureModel>,
}

#[derive(Debug, Deserialize)]
struct FixtureRequest {
    query: String,
    documents: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct FixtureModel {
    model: String,
    weights_sha256: String,
    answers: Vec<FixtureAnswer>,
}

#[derive(Debug, Deserialize)]
struct FixtureAnswer {
    logits: Vec<f64>,
    tokens: u64,
}

/// The subcommand.
pub(crate) async fn run(args: &ParityArgs) -> Result<()> {
    let http = HttpSide::new(
        args.server.http_side().context("parity needs to know the model that is served: leave --http on")?,
    );
    let identity = http.identity().await?;
    let tolerance = args.tolerance.unwrap_or_else(|| logit_tolerance(&identity.dtype));
    let client = Client::connect(&args.server, 1).await?;
    let parity = match (no_reference(&identity), &args.fixture, &args.against) {
        (Some(reason), _, _) => Parity::NotApplicable { reason: reason.to_owned() },
        (None, Some(path), _) => {
            let fixture = read(path)?;
            match pick(&fixture, &identity) {
                Ok(model) => {
                    let (reference, queries) = with_fixture(&client, &fixture, model).await?;
                    Parity::of(reference, &queries, &identity.dtype, tolerance)
                }
                Err(reason) => Parity::NotApplicable { reason },
            }
        }
        (None, None, Some(against)) => {
            let reference = Reference::connect(against, &identity).await?;
            let pool = Pool::prepare(&args.pool, Some(&http)).await?;
            let queries = reference.compare(&client, &pool).await?;
            Parity::of(reference.describe(&pool), &queries, &identity.dtype, tolerance)
        }
        (None, None, None) => bail!("parity needs a reference: name a FILE or --against"),
    };
    print(&parity, args.json)?;
    let failures = parity.failures();
    ensure!(failures.is_empty(), "the server is not the reference's equal: {}", failures.join("; "));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
fn print(parity: &Parity, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(parity)?);
        return Ok(());
    }
    match parity {
        Parity::NotApplicable { reason } => println!("parity: n/a, {reason}"),
        Parity::Checked { reference, n, max_abs_diff, tolerance, same_ranking, ranking } => {
            println!(
                "parity: {n} logits against {reference}: max |difference| {max_abs_diff:.2e} (tolerance {tolerance:.1e}), \
                 {} ranking where the reference tells documents apart",
                if *same_ranking { "same" } else { "another" }
            );
            if let Some(ranking) = ranking {
                println!("{}", in_words(ranking));
            }
        }
    }
    Ok(())
}

/// The ranking's figures, and which of them are judged.
fn in_words(ranking: &RankingAgreement) -> String {
    let Some(figures) = &ranking.figures else {
        return "ranking: n/a, no query has two documents that the reference sets apart".to_owned();
    };
    let judged = match &ranking.bounds {
        None => "reported only".to_owned(),
        Some(RankingBounds { spearman_mean, spearman_worst: Some(worst), same_top: Some(top) }) => {
            format!("required: mean >= {spearman_mean}, worst >= {worst}, same top >= {top}")
        }
        Some(bounds) => format!(
            "required: mean >= {}; fewer than {} queries say nothing of the rest",
            bounds.spearman_mean,
            RankingBounds::FEWEST_QUERIES
        ),
    };
    format!(
        "ranking: n={} queries ({} left out without an order): Spearman mean {:.4}, worst {:.4}; same top document in \
         {:.1} %; NDCG@10 {:.4} ({judged})",
        ranking.queries,
        ranking.without_order,
        figures.spearman_mean,
        figures.spearman_worst,
        figures.same_top * 100.0,
        figures.ndcg_at_10
    )
}

/// Why a backend's scores are nobody's reference and have none, as `/info` says: they are not a model's.
fn no_reference(identity: &Identity) -> Option<&str> {
    identity.details.get("backend.details.no_reference").map(String::as_str)
}

fn read(path: &Path) -> Result<Fixture> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no parity fixture", path.display()))
}

/// The reference for what is served, or why there is none.
fn pick<'a>(fixture: &'a Fixture, identity: &Identity) -> Result<&'a FixtureModel, String> {
    if identity.max_length < fixture.max_length {
        return Err(format!(
            "the server truncates at {} tokens, the reference at {}",
            identity.max_length, fixture.max_length
        ));
    }
    let known = fixture.models.iter().find(|model| model.weights_sha256 == identity.model_sha256);
    known.ok_or_else(|| {
        let names: Vec<_> = fixture.models.iter().map(|model| model.model.as_str()).collect();
        format!("the fixture has no logits of these weights (it has {})", names.join(", "))
    })
}

/// The fixture's logits beside the server's, and where they come from.
async fn with_fixture(
    client: &Client,
    fixture: &Fixture,
    model: &FixtureModel,
) -> Result<(String, Vec<ComparedQuery>)> {
    let mut queries = Vec::new();
    for (request, expected) in fixture.requests.iter().zip(&model.answers) {
        let (logits, tokens) = client.logits(&request.query, &request.documents).await?;
        same_tokens(tokens, expected.tokens, &request.query)?;
        queries.push(ComparedQuery { logits, reference: expected.logits.clone() });
    }
    let software: Vec<String> =
        fixture.reference.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let reference = format!("{} by {}, {} requests", model.model, software.join(" "), fixture.requests.len());
    Ok((reference, queries))
}

fn same_tokens(tokens: u64, expected: u64, query: &str) -> Result<()> {
    ensure!(
        tokens == expected,
        "the server makes {tokens} tokens of `{query}` and its documents, the reference {expected}: the tokenizers \
         differ, or the lengths at which they truncate"
    );
    Ok(())
}
