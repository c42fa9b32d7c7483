//! When logits count as equal to reference logits, and whether a subject's did.

mod ranking;

use serde::{Deserialize, Serialize};

pub use self::ranking::{
    ComparedQuery, RankingAgreement, RankingBounds, RankingFigures, ndcg_at_10, same_top, spearman,
    top_tie_tolerance,
};

/// Whether the scores were right in the same run that measured their speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Parity {
    /// Compared with reference logits.
    Checked {
        /// Where the reference logits come from.
        reference: String,
        /// Number of compared logits.
        n: usize,
        /// Largest absolute difference.
        max_abs_diff: f64,
        /// Largest difference that passes at this dtype.
        tolerance: f64,
        /// Whether every query ranks its documents in the reference's order, as far as the tolerance tells them apart.
        same_ranking: bool,
        /// How much of each query's order is kept, whatever the tolerance; `None` in results that were written before it
        /// was measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ranking: Option<RankingAgreement>,
    },
    /// No reference exists for this subject.
    NotApplicable {
        /// Why.
        reason: String,
    },
}

impl Parity {
    /// Compares query by query. `dtype` computed the logits; `tolerance` is [`logit_tolerance`] unless someone asked for
    /// another.
    pub fn of(reference: String, queries: &[ComparedQuery], dtype: &str, tolerance: f64) -> Self {
        let differences = queries.iter().map(|query| max_abs_diff(&query.logits, &query.reference));
        Self::Checked {
            reference,
            n: queries.iter().map(|query| query.logits.len()).sum(),
            max_abs_diff: differences.fold(0.0, f64::max),
            tolerance,
            same_ranking: queries.iter().all(|query| ranks_alike(&query.logits, &query.reference, tolerance)),
            ranking: Some(RankingAgreement::over(queries, dtype)),
        }
    }

    /// The same, its ranking's figures held to nothing: for rows that are no documents of a query, among which no order is
    /// better than another.
    #[must_use]
    pub fn without_ranking_bounds(mut self) -> Self {
        if let Self::Checked { ranking: Some(ranking), .. } = &mut self {
            ranking.bounds = None;
        }
        self
    }

    /// What a comparison found wrong, each in words; empty when it passed or there was none.
    pub fn failures(&self) -> Vec<String> {
        let Self::Checked { max_abs_diff, tolerance, same_ranking, ranking, .. } = self else {
            return Vec::new();
        };
        let mut failures = Vec::new();
        if max_abs_diff.is_nan() || max_abs_diff > tolerance {
            failures.push(format!(
                "logits differ from the reference by {max_abs_diff:.2e} (tolerance {tolerance:.1e})"
            ));
        }
        if !same_ranking {
            failures.push(
                "documents that the reference sets apart by twice the tolerance change places".to_owned(),
            );
        }
        failures.extend(ranking.iter().flat_map(RankingAgreement::missed));
        failures
    }

    /// Whether a comparison was made and failed.
    pub fn failed(&self) -> bool {
        !self.failures().is_empty()
    }
}

/// Largest accepted difference of a logit from PyTorch's, by the dtype that computed it, whichever backend did: where
/// backends differ, that of the one that rounds most. The conformance suite says how they were found and holds each
/// backend to its own. An unknown dtype is held to the strictest.
pub fn logit_tolerance(dtype: &str) -> f64 {
    match dtype {
        "f16" => 6.4e-2,
        "bf16" => 7.7e-1,
        "int8" => 1.5,
        _ => 1e-4,
    }
}

/// Largest absolute difference; infinite when a value is not a number or one is missing.
pub fn max_abs_diff(logits: &[f64], reference: &[f64]) -> f64 {
    if logits.len() != reference.len() {
        return f64::INFINITY;
    }
    let differences = logits.iter().zip(reference).map(|(logit, expected)| (logit - expected).abs());
    // `f64::max` would drop a NaN, which is the worst of answers.
    differences
        .fold(0.0, |max, difference| if difference.is_nan() { f64::INFINITY } else { max.max(difference) })
}

/// Whether no two documents that the reference holds apart by more than twice the tolerance have changed places.
pub fn ranks_alike(logits: &[f64], reference: &[f64], tolerance: f64) -> bool {
    let n = reference.len();
    logits.len() == n
        && (0..n).all(|a| {
            (0..n).all(|b| reference[a] - reference[b] <= 2.0 * tolerance || logits[a] - logits[b] > 0.0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_further_apart_than_the_tolerance_must_keep_their_order() {
        assert!(
            ranks_alike(&[2.0, 1.0, 0.99], &[2.0, 1.0, 1.001], 1e-2),
            "a tie within the tolerance may fall either way"
        );
        assert!(!ranks_alike(&[1.0, 2.0], &[2.0, 1.0], 1e-2));
        assert!(!ranks_alike(&[f64::NAN, 1.0], &[2.0, 1.0], 1e-2));
    }

    #[test]
    fn a_comparison_fails_by_its_logits_by_its_order_and_by_its_figures() {
        let of = |logits: &[f64], dtype| {
            let reference: Vec<f64> = (0..4).map(f64::from).collect();
            let query = ComparedQuery { logits: logits.to_vec(), reference };
            Parity::of("reference".to_owned(), &[query], dtype, logit_tolerance(dtype)).failures()
        };
        assert_eq!(of(&[0.0, 1.0, 2.0, 3.00005], "f32"), Vec::<String>::new());
        assert_eq!(
            of(&[0.0, 1.0, 2.0, 3.5], "f32"),
            ["logits differ from the reference by 5.00e-1 (tolerance 1.0e-4)"]
        );
        assert_eq!(of(&[0.0, 1.0, 2.5, 2.4], "bf16"), Vec::<String>::new(), "within what bf16 tells apart");
        assert_eq!(
            of(&[0.0, 1.0, 2.5, 2.4], "int8"),
            ["mean Spearman correlation 0.8000 is below 0.99, n=1 queries"],
            "far within int8's tolerance, and yet another order"
        );
        assert_eq!(of(&[3.0, 1.0, 2.0, 0.0], "f32").len(), 2);
        assert_eq!(of(&[0.0, 1.0, f64::NAN, 3.0], "int8").len(), 2);
    }

    #[test]
    fn rows_that_are_no_documents_are_held_to_their_logits_alone() {
        let of = |logits: &[f64]| {
            let query = ComparedQuery { logits: logits.to_vec(), reference: vec![0.0, 1.0, 2.0, 2.1] };
            Parity::of("reference".to_owned(), &[query], "int8", 1.5)
        };
        let swapped = of(&[0.0, 1.0, 2.1, 2.0]);
        assert_eq!(swapped.failures(), ["mean Spearman correlation 0.8000 is below 0.99, n=1 queries"]);
        assert_eq!(swapped.without_ranking_bounds().failures(), Vec::<String>::new());
        assert_eq!(
            of(&[0.0, 1.0, 2.1, 4.0]).without_ranking_bounds().failures().len(),
            1,
            "logits still count"
        );
    }

    #[test]
    fn what_is_not_a_number_is_infinitely_wrong() {
        assert!((max_abs_diff(&[1.0, 2.5], &[1.0, 2.0]) - 0.5).abs() < 1e-12);
        assert_eq!(max_abs_diff(&[1.0, f64::NAN], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(max_abs_diff(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    }
}
