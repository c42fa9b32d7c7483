//! Durations as an HdrHistogram that survives JSON: every recorded bucket with its count, so results can be merged,
//! checked and rendered again years later.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::stats::samples_needed;

/// Three significant digits: a quantile is off by at most 0.1 % of itself, below any spread ever seen between runs.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Durations in nanoseconds. Count, sum, minimum and maximum are exact; quantiles are exact to 0.1 %.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Recorded", try_from = "Recorded")]
pub struct DurationHistogram {
    buckets: Histogram<u64>,
    sum_ns: u64,
    min_ns: u64,
    max_ns: u64,
}

impl Default for DurationHistogram {
    fn default() -> Self {
        let buckets = Histogram::new(SIGNIFICANT_DIGITS).expect("three digits are a valid precision");
        Self { buckets, sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
    }
}

impl DurationHistogram {
    /// Records one duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    fn record_ns(&mut self, ns: u64) {
        self.buckets.record(ns).expect("an auto-resizing histogram takes every u64");
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Builds a histogram from `(nanoseconds, count)` buckets whose sum is known exactly.
    pub fn from_buckets(buckets: &[(u64, u64)], sum_ns: u64) -> Self {
        let mut histogram = Self::default();
        for &(ns, count) in buckets.iter().filter(|(_, count)| *count > 0) {
            histogram.buckets.record_n(ns, count).expect("an auto-resizing histogram takes every u64");
            histogram.min_ns = histogram.min_ns.min(ns);
            histogram.max_ns = histogram.max_ns.max(ns);
        }
        histogram.sum_ns = sum_ns;
        histogram
    }

    /// Adds everything that `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.add(&other.buckets).expect("an auto-resizing histogram takes every u64");
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Number of recorded durations.
    pub fn n(&self) -> u64 {
        self.buckets.len()
    }

    /// Sum of all recorded durations, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Exact mean in milliseconds.
    pub fn mean_ms(&self) -> Option<f64> {
        (self.n() > 0).then(|| ms(self.sum_ns) / self.n() as f64)
    }

    /// Exact minimum in milliseconds.
    pub fn min_ms(&self) -> Option<f64> {
        (self.n() > 0).then(|| ms(self.min_ns))
    }

    /// Exact maximum in milliseconds.
    pub fn max_ms(&self) -> Option<f64> {
        (self.n() > 0).then(|| ms(self.max_ns))
    }

    /// Standard deviation in milliseconds; `None` below two samples.
    pub fn std_dev_ms(&self) -> Option<f64> {
        (self.n() > 1).then(|| self.buckets.stdev() / 1e6)
    }

    /// Percentile `p` (0 to 1) in milliseconds; `None` where n cannot carry it, see [`samples_needed`].
    pub fn percentile_ms(&self, p: f64) -> Option<f64> {
        (self.n() >= samples_needed(p))
            .then(|| ms(self.buckets.value_at_quantile(p).clamp(self.min_ns, self.max_ns)))
    }

    /// The cumulative distribution: `(milliseconds, share at or below)`, one point per recorded bucket.
    pub fn distribution(&self) -> Vec<(f64, f64)> {
        let mut below = 0;
        self.buckets
            .iter_recorded()
            .map(|bucket| {
                below += bucket.count_since_last_iteration();
                (
                    ms(bucket.value_iterated_to().clamp(self.min_ns, self.max_ns)),
                    below as f64 / self.n() as f64,
                )
            })
            .collect()
    }
}

impl PartialEq for DurationHistogram {
    fn eq(&self, other: &Self) -> bool {
        self.buckets == other.buckets && self.sum_ns == other.sum_ns
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// The form in `result.json`. `counts` are `[bucket in ns, count]`, ascending.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    n: u64,
    sum_ns: u64,
    min_ns: u64,
    max_ns: u64,
    counts: Vec<(u64, u64)>,
}

impl From<DurationHistogram> for Recorded {
    fn from(histogram: DurationHistogram) -> Self {
        let counts = histogram
            .buckets
            .iter_recorded()
            .map(|bucket| {
                let ns = bucket.value_iterated_to().clamp(histogram.min_ns, histogram.max_ns);
                (ns, bucket.count_since_last_iteration())
            })
            .collect();
        let min_ns = if histogram.n() == 0 { 0 } else { histogram.min_ns };
        Self { n: histogram.n(), sum_ns: histogram.sum_ns, min_ns, max_ns: histogram.max_ns, counts }
    }
}

impl TryFrom<Recorded> for DurationHistogram {
    type Error = String;

    fn try_from(recorded: Recorded) -> Result<Self, String> {
        let mut histogram = Self::from_buckets(&recorded.counts, recorded.sum_ns);
        if histogram.n() != recorded.n {
            return Err(format!(
                "histogram says n = {} but its counts add up to {}; the file was edited or cut",
                recorded.n,
                histogram.n()
            ));
        }
        if recorded.n > 0 {
            (histogram.min_ns, histogram.max_ns) = (recorded.min_ns, recorded.max_ns);
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(values: &[u64]) -> DurationHistogram {
        let mut histogram = DurationHistogram::default();
        for ns in values {
            histogram.record_ns(*ns);
        }
        histogram
    }

    #[test]
    fn a_histogram_whose_counts_were_edited_is_refused() {
        let text = r#"{"n": 3, "sum_ns": 10, "min_ns": 5, "max_ns": 5, "counts": [[5, 2]]}"#;
        let error = serde_json::from_str::<DurationHistogram>(text).unwrap_err().to_string();
        assert!(error.contains("n = 3 but its counts add up to 2"), "{error}");
    }

    #[test]
    fn nothing_recorded_has_no_mean() {
        let empty = DurationHistogram::default();
        assert_eq!((empty.mean_ms(), empty.min_ms(), empty.percentile_ms(0.5)), (None, None, None));
        let json = serde_json::to_string(&empty).unwrap();
        assert_eq!(serde_json::from_str::<DurationHistogram>(&json).unwrap(), empty);
    }

    proptest! {
        #[test]
        fn json_and_back_keeps_every_figure(values in proptest::collection::vec(1..10_000_000_000_u64, 1..300)) {
            let before = recorded(&values);
            let after: DurationHistogram = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
            prop_assert_eq!(before.n(), after.n());
            prop_assert_eq!(before.mean_ms(), after.mean_ms());
            prop_assert_eq!(before.min_ms(), after.min_ms());
            prop_assert_eq!(before.max_ms(), after.max_ms());
            prop_assert_eq!(before.percentile_ms(0.95), after.percentile_ms(0.95));
        }

        #[test]
        fn quantiles_are_exact_to_a_thousandth(mut values in proptest::collection::vec(1..10_000_000_000_u64, 59..400)) {
            let found = recorded(&values).percentile_ms(0.95).unwrap();
            values.sort_unstable();
            let exact = ms(values[(0.95 * values.len() as f64).ceil() as usize - 1]);
            prop_assert!((found - exact).abs() <= exact * 1.001e-3 + 1e-9, "{} against {}", found, exact);
        }

        #[test]
        fn merging_equals_recording_together(a in proptest::collection::vec(1..1_000_000_u64, 0..50), b in proptest::collection::vec(1..1_000_000_u64, 1..50)) {
            let mut merged = recorded(&a);
            merged.merge(&recorded(&b));
            let together = recorded(&[a, b].concat());
            prop_assert_eq!(merged.max_ms(), together.max_ms());
            prop_assert_eq!(merged, together);
        }
    }
}
