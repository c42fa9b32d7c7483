//! Logits and ranks are those of PyTorch transformers, within the dtype's tolerance.

use crate::golden::{Golden, GoldenModel};
use crate::subject::{Failure, Row, Subject, ensure, rows};

/// Tokens in one batch: small enough for any device, large enough that most batches mix lengths.
const BATCH_TOKENS: usize = 2048;

pub(crate) fn check(subject: &Subject, golden_model: GoldenModel) -> Result<(), Failure> {
    let model = golden_model.model();
    let golden = golden_model.golden();
    ensure!(
        model.weights.sha256() == golden.weights_sha256,
        "the weights ({}) are not those that the golden logits were computed with ({}): run scripts/make_fixtures.py",
        model.weights.sha256(),
        golden.weights_sha256
    );
    let mut loaded = subject.load(model)?;
    let mut logits = Vec::with_capacity(golden.rows.len());
    for batch in batches(&rows(&golden.rows).collect::<Vec<_>>()) {
        logits.extend(loaded.score(batch.iter().copied())?);
    }
    check_logits(subject, &golden, &logits)?;
    check_ranking(subject, &golden, &logits)
}

/// Consecutive rows, as many as fit.
fn batches<'a, 'b>(rows: &'b [Row<'a>]) -> Vec<&'b [Row<'a>]> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut tokens = 0;
    for (index, (ids, _)) in rows.iter().enumerate() {
        if tokens + ids.len() > BATCH_TOKENS && index > start {
            batches.push(&rows[start..index]);
            (start, tokens) = (index, 0);
        }
        tokens += ids.len();
    }
    batches.push(&rows[start..]);
    batches
}

fn check_logits(subject: &Subject, golden: &Golden, logits: &[f32]) -> Result<(), Failure> {
    let apart = |row: usize| (logits[row] - golden.rows[row].logit).abs();
    let worst = (0..logits.len()).max_by(|&a, &b| apart(a).total_cmp(&apart(b))).expect("fixtures have rows");
    let outside = (0..logits.len()).filter(|&row| apart(row) > subject.tolerance).count();
    ensure!(
        outside == 0,
        "{outside} of {} logits are further than {:e} from PyTorch's; worst is row {worst} of {} tokens: {} against {}",
        logits.len(),
        subject.tolerance,
        golden.rows[worst].ids.len(),
        logits[worst],
        golden.rows[worst].logit
    );
    Ok(())
}

/// Rows that the reference sets apart by more than both may be off must keep their order.
fn check_ranking(subject: &Subject, golden: &Golden, logits: &[f32]) -> Result<(), Failure> {
    for (a, row_a) in golden.rows.iter().enumerate() {
        for (b, row_b) in golden.rows.iter().enumerate() {
            let must_lead = row_a.logit - row_b.logit > 2.0 * subject.tolerance;
            ensure!(
                !must_lead || logits[a] > logits[b],
                "row {a} ({}, PyTorch {}) must rank above row {b} ({}, PyTorch {})",
                logits[a],
                row_a.logit,
                logits[b],
                row_b.logit
            );
        }
    }
    Ok(())
}
