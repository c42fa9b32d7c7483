//! The subcommand that compares a server's logits with reference logits, so that no figure is published of a server
//! that is fast and wrong.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail};
use rerank_report::{Identity, Parity, logit_tolerance, ranks_alike};
use serde::Deserialize;

use crate::{cli::ParityArgs, client::Client, info::HttpSide};

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
#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
pub(crate) async fn run(args: &ParityArgs) -> Result<()> {
    let http =
        args.server.http_side().context("parity needs to know the model that is served: leave --http on")?;
    let identity = HttpSide::new(http).identity().await?;
    let fixture = read(&args.fixture)?;
    let parity = match pick(&fixture, &identity) {
        Ok(model) => {
            let client = Client::connect(&args.server, 1).await?;
            let tolerance = args.tolerance.unwrap_or_else(|| logit_tolerance(&identity.dtype));
            compare(&client, &fixture, model, tolerance).await?
        }
        Err(reason) => Parity::NotApplicable { reason },
    };
    if args.json {
        println!("{}", serde_json::to_string(&parity)?);
    } else {
        match &parity {
            Parity::NotApplicable { reason } => println!("parity: n/a, {reason}"),
            Parity::Checked { reference, n, max_abs_diff, tolerance, same_ranking } => println!(
                "parity: {n} logits against {reference}: max |difference| {max_abs_diff:.2e} (tolerance {tolerance:.0e}), \
                 {} ranking",
                if *same_ranking { "same" } else { "another" }
            ),
        }
    }
    anyhow::ensure!(!parity.failed(), "the server's logits differ from the reference");
    Ok(())
}

fn read(path: &Path) -> Result<Fixture> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no parity fixture", path.display()))
}

/// The reference for what is served, or why there is none.
fn pick<'a>(fixture: &'a Fixture, identity: &Identity) -> Result<&'a FixtureModel, String> {
    if let Some(reason) = identity.details.get(NO_REFERENCE) {
        return Err(reason.clone());
    }
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

/// Where `/info` says that a backend's scores are not a model's.
const NO_REFERENCE: &str = "backend.details.no_reference";

async fn compare(client: &Client, fixture: &Fixture, model: &FixtureModel, tolerance: f64) -> Result<Parity> {
    let (mut n, mut max_abs_diff, mut same_ranking) = (0, 0.0_f64, true);
    for (request, expected) in fixture.requests.iter().zip(&model.answers) {
        let (logits, tokens) = client.logits(&request.query, &request.documents).await?;
        if tokens != expected.tokens {
            bail!(
                "the server makes {tokens} tokens of `{}` and its documents, the reference {}: the tokenizers differ",
                request.query,
                expected.tokens
            );
        }
        n += logits.len();
        max_abs_diff = max_abs_diff.max(rerank_report::max_abs_diff(&logits, &expected.logits));
        same_ranking &= ranks_alike(&logits, &expected.logits, tolerance);
    }
    let software: Vec<String> =
        fixture.reference.iter().map(|(name, value)| format!("{name} {value}")).collect();
    Ok(Parity::Checked {
        reference: format!("{} by {}, {} requests", model.model, software.join(" "), fixture.requests.len()),
        n,
        max_abs_diff,
        tolerance,
        same_ranking,
    })
}
