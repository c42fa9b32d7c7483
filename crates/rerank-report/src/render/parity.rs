//! The parity section, the same in every report: logits against the reference, and how much of its order is kept.

use std::fmt::Write;

use super::{number, table::Table};
use crate::parity::{Parity, RankingAgreement, RankingBounds, top_tie_tolerance};

/// The section, for subjects that the report calls `what` (`Server`).
pub(super) fn section<'a>(
    what: &str,
    subjects: impl Iterator<Item = (&'a str, &'a Parity)> + Clone,
) -> String {
    let mut logits =
        Table::new([what, "Parity", "Max abs logit difference", "Tolerance", "Ranking", "Reference"]);
    let mut rankings = Table::new([
        what,
        "Queries",
        "Spearman: mean",
        "Worst",
        "Same top document",
        "NDCG@10",
        "Required",
        "Left out",
    ]);
    let mut failures = String::new();
    for (label, parity) in subjects {
        logits.row([label.to_owned()].into_iter().chain(logit_cells(parity)));
        let ranking = match parity {
            Parity::Checked { ranking, .. } => ranking.as_ref(),
            Parity::NotApplicable { .. } => None,
        };
        rankings.row([label.to_owned()].into_iter().chain(ranking_cells(ranking)));
        for failure in parity.failures() {
            let _ = write!(failures, "**{label} failed:** {failure}.\n\n");
        }
    }
    format!(
        "## Parity\n\n{logits}\n{rankings}\n{failures}Ranking: whether documents that the reference sets apart by more than \
         twice the tolerance keep their order. Below it figures over queries, whatever the tolerance. Spearman: rank \
         correlation of a query's logits with the reference's, ties by average rank. Same top document: ranked first by both, \
         or tied with the reference's first within {:.0e}. NDCG@10: the reference's score (sigmoid of its logit) as linear \
         gain. Queries with one document, or with equal reference logits, have no order to keep and are left out. Only int8 \
         is held to these figures, and with fewer than {} queries only to the mean correlation.\n\n",
        top_tie_tolerance(),
        RankingBounds::FEWEST_QUERIES
    )
}

fn logit_cells(parity: &Parity) -> [String; 5] {
    match parity {
        Parity::Checked { reference, n, max_abs_diff, tolerance, same_ranking, .. } => [
            if parity.failed() { "**FAILED**" } else { "ok" }.to_owned(),
            format!("{max_abs_diff:.2e}"),
            format!("{tolerance:.1e}"),
            if *same_ranking { "same" } else { "differs" }.to_owned(),
            format!("n={n}, {reference}"),
        ],
        Parity::NotApplicable { reason } => {
            ["n/a".to_owned(), "n/a".to_owned(), "n/a".to_owned(), "n/a".to_owned(), reason.clone()]
        }
    }
}

fn ranking_cells(ranking: Option<&RankingAgreement>) -> [String; 7] {
    let Some(ranking) = ranking else { return ["n/a"; 7].map(str::to_owned) };
    let figure = |value: Option<f64>| number::or_na(value, |value| format!("{value:.4}"));
    let figures = ranking.figures.as_ref();
    [
        format!("n={}", ranking.queries),
        figure(figures.map(|figures| figures.spearman_mean)),
        figure(figures.map(|figures| figures.spearman_worst)),
        number::or_na(figures.map(|figures| figures.same_top), number::percent),
        figure(figures.map(|figures| figures.ndcg_at_10)),
        ranking.bounds.as_ref().map_or_else(|| "none".to_owned(), required),
        ranking.without_order.to_string(),
    ]
}

/// The bounds in the order of the columns, or that there are too few queries for all of them.
fn required(bounds: &RankingBounds) -> String {
    let mean = bounds.spearman_mean;
    match (bounds.spearman_worst, bounds.same_top) {
        (Some(worst), Some(top)) => {
            format!("mean >= {mean}, worst >= {worst}, top >= {}", number::percent(top))
        }
        _ => format!("mean >= {mean} only: fewer than {} queries", RankingBounds::FEWEST_QUERIES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::ComparedQuery;

    /// So many queries of twenty documents, the last of which are changed.
    fn parity(n: usize, dtype: &str, change: fn(&mut [f64])) -> Parity {
        let reference: Vec<f64> = (0..20).map(|at| 2.0 - 0.1 * f64::from(at)).collect();
        let query = |at| {
            let mut logits = reference.clone();
            if at >= n - 3 {
                change(&mut logits);
            }
            ComparedQuery { logits, reference: reference.clone() }
        };
        let queries: Vec<_> = (0..n).map(query).collect();
        Parity::of("f32".to_owned(), &queries, dtype, 3.0)
    }

    #[test]
    fn what_is_required_what_is_missed_and_what_was_not_measured() {
        let mut old = parity(128, "f32", |_| ());
        if let Parity::Checked { ranking, .. } = &mut old {
            *ranking = None;
        }
        let subjects = [
            ("kept", parity(128, "int8", |logits| logits.swap(10, 11))),
            ("missed", parity(128, "int8", <[f64]>::reverse)),
            ("few", parity(5, "int8", |logits| logits.swap(0, 1))),
            ("f16", parity(5, "f16", <[f64]>::reverse)),
            ("old", old),
            ("mock", Parity::NotApplicable { reason: "scores words".to_owned() }),
        ];
        let page = section("Server", subjects.iter().map(|(label, parity)| (*label, parity)));
        insta::assert_snapshot!(page, @r#"
        ## Parity

        | Server | Parity     | Max abs logit difference | Tolerance | Ranking | Reference    |
        |--------|------------|--------------------------|-----------|---------|--------------|
        | kept   | ok         | 1.00e-1                  | 3.0e0     | same    | n=2560, f32  |
        | missed | **FAILED** | 1.90e0                   | 3.0e0     | same    | n=2560, f32  |
        | few    | ok         | 1.00e-1                  | 3.0e0     | same    | n=100, f32   |
        | f16    | ok         | 1.90e0                   | 3.0e0     | same    | n=100, f32   |
        | old    | ok         | 0.00e0                   | 3.0e0     | same    | n=2560, f32  |
        | mock   | n/a        | n/a                      | n/a       | n/a     | scores words |

        | Server | Queries | Spearman: mean | Worst   | Same top document | NDCG@10 | Required                                  | Left out |
        |--------|---------|----------------|---------|-------------------|---------|-------------------------------------------|----------|
        | kept   | n=128   | 1.0000         | 0.9985  | 100.0%            | 1.0000  | mean >= 0.99, worst >= 0.95, top >= 98.0% | 0        |
        | missed | n=128   | 0.9531         | -1.0000 | 97.7%             | 0.9935  | mean >= 0.99, worst >= 0.95, top >= 98.0% | 0        |
        | few    | n=5     | 0.9991         | 0.9985  | 40.0%             | 0.9994  | mean >= 0.99 only: fewer than 100 queries | 0        |
        | f16    | n=5     | -0.2000        | -1.0000 | 40.0%             | 0.8348  | none                                      | 0        |
        | old    | n/a     | n/a            | n/a     | n/a               | n/a     | n/a                                       | n/a      |
        | mock   | n/a     | n/a            | n/a     | n/a               | n/a     | n/a                                       | n/a      |

        **missed failed:** mean Spearman correlation 0.9531 is below 0.99, n=128 queries.

        **missed failed:** worst Spearman correlation -1.0000 is below 0.95, n=128 queries.

        **missed failed:** share of queries with the same top document 0.9766 is below 0.98, n=128 queries.

        Ranking: whether documents that the reference sets apart by more than twice the tolerance keep their order. Below it figures over queries, whatever the tolerance. Spearman: rank correlation of a query's logits with the reference's, ties by average rank. Same top document: ranked first by both, or tied with the reference's first within 2e-4. NDCG@10: the reference's score (sigmoid of its logit) as linear gain. Queries with one document, or with equal reference logits, have no order to keep and are left out. Only int8 is held to these figures, and with fewer than 100 queries only to the mean correlation.
        "#);
    }
}
