//! `report.md` of a forward result.

use std::fmt::Write;

use super::{context, head, interval, number, parity, table::Table};
use crate::{
    forward::{ForwardResult, ForwardSubject},
    stats::Series,
};

/// The whole page.
pub(super) fn report(result: &ForwardResult) -> String {
    let mut page = head(&result.experiment);
    let _ = writeln!(page, "**Model:** `{}`\n", result.model);
    for subject in &result.subjects {
        let _ = writeln!(
            page,
            "**Backend:** `{}` | **Device:** `{}`, dtype {}, {}{}\n",
            subject.label,
            subject.device,
            subject.dtype,
            number::count(subject.threads, "thread"),
            details(subject)
        );
    }
    let _ = writeln!(page, "## Summary\n\n{}", summary(result));
    page.push_str(
        "One process a subject, alternating round by round. A round's speed comes from its median call; ± is the 95 % \
         confidence interval over rounds (Student's t); a ratio is taken within each round, its median is shown with \
         its spread. Tokens are real ones, padding not counted.\n\n",
    );
    let _ = writeln!(page, "## Calls\n\n{}", calls(result));
    page.push_str("![comparison](comparison.svg)\n\n");
    page.push_str(&context::environment(&result.environment));
    page.push_str(&parity::section(
        "Subject",
        result.subjects.iter().map(|subject| (subject.label.as_str(), &subject.parity)),
    ));
    page
}

/// What the process said of itself besides, ` | key: value` after another.
fn details(subject: &ForwardSubject) -> String {
    subject.details.iter().fold(String::new(), |mut shown, (key, value)| {
        let _ = write!(shown, " | {key}: {value}");
        shown
    })
}

/// Speed of every subject on every shape.
pub(super) fn summary(result: &ForwardResult) -> Table {
    let base = result
        .yardstick
        .as_ref()
        .and_then(|label| result.subjects.iter().find(|subject| subject.label == *label));
    let mut table = Table::new([
        "Shape".to_owned(),
        "Subject".to_owned(),
        "Pairs/s ± (rounds)".to_owned(),
        "Tokens/s".to_owned(),
        format!("Ratio to {}", result.yardstick.as_deref().unwrap_or("yardstick (none)")),
        "Min..max".to_owned(),
        "Rounds".to_owned(),
    ]);
    for shape in result.shapes() {
        for subject in &result.subjects {
            let speed = subject.pairs_per_second(shape);
            let Some(mean) = speed.interval() else { continue };
            let ratio = base.and_then(|base| subject.ratio(base, shape));
            table.row([
                shape.to_owned(),
                subject.label.clone(),
                interval(&mean),
                number::or_na(tokens_per_second(subject, shape), number::rate),
                number::or_na(ratio.map(|ratio| ratio.median), number::ratio),
                ratio.map_or_else(
                    || "n/a".to_owned(),
                    |r| format!("{}..{}", number::ratio(r.min), number::ratio(r.max)),
                ),
                format!("n={}", speed.n()),
            ]);
        }
    }
    table
}

fn tokens_per_second(subject: &ForwardSubject, shape: &str) -> Option<f64> {
    Series::new(
        subject
            .of_shape(shape)
            .filter_map(|round| Some(round.pairs_per_second()? * round.tokens as f64 / round.rows as f64)),
    )
    .mean()
}

/// Durations of single calls, all rounds together.
fn calls(result: &ForwardResult) -> Table {
    let mut table = Table::new([
        "Shape", "Subject", "Rows", "Tokens", "P50 (ms)", "P95 (ms)", "Min (ms)", "Max (ms)", "Calls",
    ]);
    for shape in result.shapes() {
        for subject in &result.subjects {
            let Some(first) = subject.of_shape(shape).next() else { continue };
            let all = Series::new(
                subject.of_shape(shape).flat_map(|round| round.seconds.iter().map(|seconds| seconds * 1e3)),
            );
            table.row([
                shape.to_owned(),
                subject.label.clone(),
                first.rows.to_string(),
                first.tokens.to_string(),
                number::or_na(all.percentile(0.50), number::ms),
                number::or_na(all.percentile(0.95), number::ms),
                number::or_na(all.min(), number::ms),
                number::or_na(all.max(), number::ms),
                format!("n={}", all.n()),
            ]);
        }
    }
    table
}
