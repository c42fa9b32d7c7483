//! How much of the reference's order a server or backend keeps, query by query. A dtype with few bits moves every logit
//! and is still good where the ranking stays, which a bound on single logits cannot tell.

use serde::{Deserialize, Serialize};

use super::logit_tolerance;

/// Logits of one query's documents and the reference's, in the same order of documents.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedQuery {
    /// Logits under test; one that is missing or not finite makes every figure of this query zero.
    pub logits: Vec<f64>,
    /// Reference logits, all of them finite.
    pub reference: Vec<f64>,
}

/// Agreement of two rankings over many queries. Every figure is over the queries that have an order to keep: those
/// with two documents or more whose reference logits are not all equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingAgreement {
    /// Queries that have an order to keep: the n of every figure.
    pub queries: usize,
    /// Queries left out, since they have no order to keep.
    pub without_order: usize,
    /// The figures; `None` when no query has an order to keep.
    pub figures: Option<RankingFigures>,
    /// What the figures are held to; `None` where they are reported only.
    pub bounds: Option<RankingBounds>,
}

/// Figures over at least one query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingFigures {
    /// Mean of the queries' [`spearman`], -1 to 1.
    pub spearman_mean: f64,
    /// The worst query's.
    pub spearman_worst: f64,
    /// Share of the queries with the [`same_top`] document, 0 to 1.
    pub same_top: f64,
    /// Mean of the queries' [`ndcg_at_10`], 0 to 1.
    pub ndcg_at_10: f64,
}

/// Smallest figures that pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingBounds {
    /// Of the mean Spearman correlation.
    pub spearman_mean: f64,
    /// Of every query's Spearman correlation; `None` with too few queries.
    pub spearman_worst: Option<f64>,
    /// Of the share of queries with the same top document; `None` with too few queries.
    pub same_top: Option<f64>,
}

impl RankingBounds {
    /// Below so many queries one of them is more than the two in a hundred that may differ at the top, and a single near
    /// tie decides the worst correlation: only the mean is judged then.
    pub const FEWEST_QUERIES: usize = 100;

    /// What a dtype is held to with so many queries. `int8` only: the others are held to their logits.
    pub fn of(dtype: &str, queries: usize) -> Option<Self> {
        let enough = queries >= Self::FEWEST_QUERIES;
        (dtype == "int8" && queries > 0).then(|| Self {
            spearman_mean: 0.99,
            spearman_worst: enough.then_some(0.95),
            same_top: enough.then_some(0.98),
        })
    }
}

impl RankingAgreement {
    /// Compares query by query; `dtype` computed the logits and decides what the figures are held to.
    pub fn over(queries: &[ComparedQuery], dtype: &str) -> Self {
        let ordered: Vec<_> = queries.iter().filter(|query| has_order(&query.reference)).collect();
        let n = ordered.len();
        let of_each = |figure: fn(&[f64], &[f64]) -> f64| {
            ordered.iter().map(move |query| figure(&query.logits, &query.reference))
        };
        let mean = |figure| of_each(figure).sum::<f64>() / n as f64;
        Self {
            queries: n,
            without_order: queries.len() - n,
            figures: (n > 0).then(|| RankingFigures {
                spearman_mean: mean(spearman),
                spearman_worst: of_each(spearman).fold(1.0, f64::min),
                same_top: mean(|logits, reference| f64::from(same_top(logits, reference))),
                ndcg_at_10: mean(ndcg_at_10),
            }),
            bounds: RankingBounds::of(dtype, n),
        }
    }

    /// Each figure that is below its bound, in words.
    pub fn missed(&self) -> Vec<String> {
        let (Some(figures), Some(bounds)) = (&self.figures, &self.bounds) else { return Vec::new() };
        let judged = [
            ("mean Spearman correlation", figures.spearman_mean, Some(bounds.spearman_mean)),
            ("worst Spearman correlation", figures.spearman_worst, bounds.spearman_worst),
            ("share of queries with the same top document", figures.same_top, bounds.same_top),
        ];
        judged
            .into_iter()
            .filter_map(|(name, value, bound)| Some((name, value, bound?)))
            .filter(|(_, value, bound)| value < bound)
            .map(|(name, value, bound)| {
                format!("{name} {value:.4} is below {bound}, n={} queries", self.queries)
            })
            .collect()
    }
}

/// Whether a reference sets at least two documents apart.
fn has_order(reference: &[f64]) -> bool {
    reference.iter().any(|logit| *logit != reference[0])
}

/// Whether logits rank the reference's documents at all.
fn is_ranking(logits: &[f64], reference: &[f64]) -> bool {
    logits.len() == reference.len() && logits.iter().all(|logit| logit.is_finite())
}

/// Spearman's rank correlation (Spearman 1904): Pearson's correlation of the ranks, where equal values share the average
/// of the ranks that they occupy (Kendall, *Rank Correlation Methods*, chapter 3). -1 to 1, and 1 without ties in
/// `1 - 6 Σd² / (n (n² - 1))` for rank differences d.
///
/// The reference must set two documents apart. Logits that are all equal keep nothing of its order, nor do those of which
/// one is missing or not finite: 0.
pub fn spearman(logits: &[f64], reference: &[f64]) -> f64 {
    if !is_ranking(logits, reference) {
        return 0.0;
    }
    let (own, expected) = (average_ranks(logits), average_ranks(reference));
    // Ranks of n values average (n + 1) / 2 with and without ties.
    let mean = (reference.len() + 1) as f64 / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let variances = product(&own, &own) * product(&expected, &expected);
    if variances > 0.0 { (product(&own, &expected) / variances.sqrt()).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Ranks from 1, ascending; equal values share the average of the ranks that they occupy.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    // `==`, not `total_cmp`, so that both zeros tie; they are neighbours in the order of `total_cmp`.
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = below as f64 + (tied.len() + 1) as f64 / 2.0;
        for document in tied {
            ranks[*document] = rank;
        }
        below += tied.len();
    }
    ranks
}

/// Documents by descending logit, ties by index: how the server ranks.
fn by_logit(logits: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    order
}

/// Whether the document ranked first is the reference's first, or one whose reference logit is at most
/// [`top_tie_tolerance`] below it: between those even f32 on two machines may choose differently.
pub fn same_top(logits: &[f64], reference: &[f64]) -> bool {
    let best = reference.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    is_ranking(logits, reference)
        && by_logit(logits).first().is_some_and(|chosen| best - reference[*chosen] <= top_tie_tolerance())
}

/// Reference logits closer than this have no order: 2e-4, twice the tolerance of f32, since both may be off by one.
pub fn top_tie_tolerance() -> f64 {
    2.0 * logit_tolerance("f32")
}

/// Normalised discounted cumulated gain of the first ten (Järvelin & Kekäläinen 2002, doi:10.1145/582415.582418), with the
/// reference as relevance: `DCG = Σ gain(r) / log2(1 + r)` over the ranks r = 1..=10 by descending logit, divided by that of
/// the reference's own order. The gain is linear: the reference's score, that is the sigmoid of its logit. The discount is
/// the one of Burges et al. 2005, which unlike the original's discounts the second rank too.
///
/// 0 to 1; 0 when a logit is missing or not finite, 1 when no document has any relevance (every sigmoid underflows).
pub fn ndcg_at_10(logits: &[f64], reference: &[f64]) -> f64 {
    if !is_ranking(logits, reference) {
        return 0.0;
    }
    let gain = |document: &usize| 1.0 / (1.0 + (-reference[*document]).exp());
    let dcg = |order: Vec<usize>| -> f64 {
        order
            .iter()
            .take(10)
            .enumerate()
            .map(|(at, document)| gain(document) / (at as f64 + 2.0).log2())
            .sum()
    };
    let ideal = dcg(by_logit(reference));
    if ideal > 0.0 { dcg(by_logit(logits)) / ideal } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    fn query(logits: &[f64], reference: &[f64]) -> ComparedQuery {
        ComparedQuery { logits: logits.to_vec(), reference: reference.to_vec() }
    }

    /// Queries of twenty documents: so many in the reference's order, and after them so many with a change to it.
    fn queries(kept: usize, changed: usize, change: fn(&mut [f64])) -> Vec<ComparedQuery> {
        let reference: Vec<f64> = (0..20).map(|at| -f64::from(at)).collect();
        (0..kept + changed)
            .map(|at| {
                let mut logits = reference.clone();
                if at >= kept {
                    change(&mut logits);
                }
                query(&logits, &reference)
            })
            .collect()
    }

    #[test]
    fn spearman_of_known_rankings() {
        close(spearman(&[0.1, 0.2, 0.9], &[-3.0, 0.0, 0.5]), 1.0);
        close(spearman(&[3.0, 2.0, 1.0], &[1.0, 2.0, 3.0]), -1.0);
        // Σd² = 2 for two neighbours that change places: 1 - 6·2 / (5·24).
        close(spearman(&[1.0, 2.0, 3.0, 5.0, 4.0], &[1.0, 2.0, 3.0, 4.0, 5.0]), 0.9);
        // The example of en.wikipedia.org/wiki/Spearman's_rank_correlation_coefficient: ρ = -29/165.
        let iq = [106.0, 100.0, 86.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
        let hours = [7.0, 27.0, 2.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
        close(spearman(&iq, &hours), -29.0 / 165.0);
    }

    #[test]
    fn ties_share_the_average_of_their_ranks() {
        assert_eq!(average_ranks(&[5.0, 1.0, 5.0, 0.0, -0.0]), [4.5, 3.0, 4.5, 1.5, 1.5]);
        // Ranks (1, 2.5, 2.5, 4) against (1, 2, 3, 4): 4.5 / sqrt(4.5 · 5).
        close(spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]), 0.9_f64.sqrt());
    }

    #[test]
    fn logits_without_an_order_keep_nothing() {
        let reference = [1.0, 2.0, 3.0];
        for logits in [&[7.0, 7.0, 7.0][..], &[1.0, 2.0], &[1.0, f64::NAN, 3.0], &[1.0, 2.0, f64::INFINITY]] {
            close(spearman(logits, &reference), 0.0);
        }
        assert!(!same_top(&[1.0, f64::NAN, 3.0], &reference));
        close(ndcg_at_10(&[1.0, f64::NAN, 3.0], &reference), 0.0);
    }

    #[test]
    fn a_tie_at_the_top_may_fall_either_way() {
        assert!(same_top(&[0.0, 9.0], &[-1.0, 1.0]));
        assert!(!same_top(&[9.0, 0.0], &[-1.0, 1.0]));
        assert!(same_top(&[9.0, 0.0], &[0.9999, 1.0]), "1e-4 apart");
        assert!(!same_top(&[9.0, 0.0], &[0.9997, 1.0]), "3e-4 apart");
        assert!(!same_top(&[0.0, 0.0, 9.0], &[1.0, 0.9999, -1.0]), "the chosen one is not of the tie");
    }

    #[test]
    fn ndcg_of_known_rankings() {
        let logit = |score: f64| (score / (1.0 - score)).ln();
        // Gains 0.8, 0.5 and 0.2, discounts 1, log2(3) and 2.
        let reference = [0.8, 0.5, 0.2].map(logit);
        close(ndcg_at_10(&[3.0, 2.0, 1.0], &reference), 1.0);
        let second = 3.0_f64.log2();
        let ideal = 0.8 + 0.5 / second + 0.2 / 2.0;
        close(ndcg_at_10(&[1.0, 2.0, 3.0], &reference), (0.2 + 0.5 / second + 0.8 / 2.0) / ideal);
        // The eleventh counts no more: only the last two of twelve change places.
        let long: Vec<f64> = (0..12).map(|at| -f64::from(at)).collect();
        let mut logits = long.clone();
        logits.swap(10, 11);
        close(ndcg_at_10(&logits, &long), 1.0);
        close(ndcg_at_10(&[1.0, 2.0], &[-800.0, -900.0]), 1.0);
    }

    #[test]
    fn queries_without_an_order_are_counted_and_left_out() {
        let swapped = query(&[2.0, 1.0], &[1.0, 2.0]);
        let all = [
            query(&[1.0, 2.0], &[1.0, 2.0]),
            swapped,
            query(&[1.0], &[2.0]),
            query(&[1.0, 2.0], &[3.0, 3.0]),
        ];
        let found = RankingAgreement::over(&all, "f32");
        assert_eq!((found.queries, found.without_order), (2, 2));
        let figures = found.figures.unwrap();
        assert_eq!((figures.spearman_mean, figures.spearman_worst, figures.same_top), (0.0, -1.0, 0.5));
        let none = RankingAgreement::over(&[query(&[], &[]), query(&[1.0], &[2.0])], "int8");
        assert_eq!((none.queries, none.without_order, none.figures.clone()), (0, 2, None));
        assert!(none.missed().is_empty());
    }

    #[test]
    fn int8_alone_is_held_to_bounds() {
        let reversed = queries(0, 200, <[f64]>::reverse);
        for dtype in ["f32", "f16", "bf16"] {
            assert_eq!(RankingAgreement::over(&reversed, dtype).missed(), Vec::<String>::new());
        }
        assert_eq!(RankingAgreement::over(&reversed, "int8").missed().len(), 3);
        assert_eq!(
            RankingAgreement::over(&queries(200, 0, <[f64]>::reverse), "int8").missed(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_bound_is_missed_alone() {
        let missed =
            |kept, changed, change| RankingAgreement::over(&queries(kept, changed, change), "int8").missed();
        // Neighbours at the top change places: 1 - 6·2 / (20·399) = 0.9985.
        let top = |logits: &mut [f64]| logits.swap(0, 1);
        assert!(missed(98, 2, top).is_empty(), "98 % are enough");
        let told = missed(97, 3, top);
        assert_eq!(told, ["share of queries with the same top document 0.9700 is below 0.98, n=100 queries"]);
        // The last nine reversed: Σd² = 240, so 0.8195.
        let tail = |logits: &mut [f64]| logits[11..].reverse();
        assert_eq!(missed(99, 1, tail), ["worst Spearman correlation 0.8195 is below 0.95, n=100 queries"]);
        // The last five reversed: Σd² = 40, so 0.9699 in every query.
        let slightly = |logits: &mut [f64]| logits[15..].reverse();
        assert_eq!(
            missed(0, 100, slightly),
            ["mean Spearman correlation 0.9699 is below 0.99, n=100 queries"]
        );
    }

    #[test]
    fn below_a_hundred_queries_only_the_mean_is_judged() {
        let agreement = RankingAgreement::over(&queries(98, 1, <[f64]>::reverse), "int8");
        assert_eq!(agreement.figures.clone().unwrap().spearman_worst, -1.0);
        assert_eq!(agreement.missed(), ["mean Spearman correlation 0.9798 is below 0.99, n=99 queries"]);
        assert!(
            RankingAgreement::over(&queries(0, 99, |logits| logits.swap(0, 1)), "int8").missed().is_empty()
        );
    }

    proptest! {
        #[test]
        fn figures_stay_in_their_ranges_and_see_the_order_only(
            pairs in proptest::collection::vec((-9.0..9.0_f64, -9.0..9.0_f64), 2..40),
        ) {
            let (logits, reference): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let (rho, ndcg) = (spearman(&logits, &reference), ndcg_at_10(&logits, &reference));
            prop_assert!((-1.0..=1.0).contains(&rho) && ndcg > 0.0 && ndcg <= 1.0 + 1e-12);
            prop_assert!((rho - spearman(&reference, &logits)).abs() < 1e-12);
            let stretched: Vec<_> = logits.iter().map(|logit| 2.0 * logit).collect();
            prop_assert!((rho - spearman(&stretched, &reference)).abs() < 1e-12);
            prop_assert!((spearman(&reference, &reference) - 1.0).abs() < 1e-12);
        }
    }
}
