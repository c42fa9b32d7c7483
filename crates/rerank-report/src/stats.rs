//! The few statistics that a report may use, each with the number of samples that it needs to mean something.

/// Samples below which percentile `p` (0 < p < 1) says nothing about the distribution.
///
/// Wilks' bound: with `n` independent samples the largest lies above the `p`-quantile with probability `1 - p^n`.
/// Below 95 % even the extreme sample may sit on the wrong side of the quantile. That makes 5 samples for P50,
/// 29 for P90, 59 for P95 and P5, 299 for P99.
pub fn samples_needed(p: f64) -> u64 {
    let tail = p.max(1.0 - p);
    (0.05_f64.ln() / tail.ln()).ceil() as u64
}

/// A sorted set of finite samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    sorted: Vec<f64>,
}

impl Series {
    /// Sorts `values`; samples that are not finite are dropped, since they measure nothing.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// Number of samples.
    pub fn n(&self) -> usize {
        self.sorted.len()
    }

    /// Arithmetic mean; `None` without samples.
    pub fn mean(&self) -> Option<f64> {
        (!self.sorted.is_empty()).then(|| self.sorted.iter().sum::<f64>() / self.n() as f64)
    }

    /// Smallest sample.
    pub fn min(&self) -> Option<f64> {
        self.sorted.first().copied()
    }

    /// Largest sample.
    pub fn max(&self) -> Option<f64> {
        self.sorted.last().copied()
    }

    /// Sample standard deviation (n - 1); `None` below two samples.
    pub fn std_dev(&self) -> Option<f64> {
        let mean = self.mean()?;
        if self.n() < 2 {
            return None;
        }
        let squares: f64 = self.sorted.iter().map(|value| (value - mean).powi(2)).sum();
        Some((squares / (self.n() - 1) as f64).sqrt())
    }

    /// Nearest-rank percentile: the smallest sample with at least `p` of all samples at or below it.
    /// `None` where n cannot carry it, see [`samples_needed`].
    pub fn percentile(&self, p: f64) -> Option<f64> {
        if (self.n() as u64) < samples_needed(p) {
            return None;
        }
        let rank = (p * self.n() as f64).ceil() as usize;
        self.sorted.get(rank.max(1) - 1).copied()
    }

    /// Middle sample, or the mean of the two middle ones. Carried by any n >= 1: it describes these samples and
    /// estimates nothing beyond them.
    pub fn median(&self) -> Option<f64> {
        let middle = self.n() / 2;
        match self.n() {
            0 => None,
            n if n % 2 == 1 => Some(self.sorted[middle]),
            _ => Some(f64::midpoint(self.sorted[middle - 1], self.sorted[middle])),
        }
    }

    /// Mean with its 95 % confidence interval, for samples that are means of independent repeats.
    pub fn interval(&self) -> Option<Interval> {
        let mean = self.mean()?;
        let half_width =
            self.std_dev().map(|deviation| student_t(self.n() - 1) * deviation / (self.n() as f64).sqrt());
        Some(Interval { mean, half_width, n: self.n() })
    }
}

/// A mean over repeats and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Mean of the repeats' means.
    pub mean: f64,
    /// Half the width of the interval (Student's t, n - 1 degrees of freedom); `None` with a single repeat.
    pub half_width: Option<f64>,
    /// Number of repeats.
    pub n: usize,
}

impl Interval {
    /// Whether both intervals are known and do not overlap.
    pub fn is_apart_from(&self, other: &Self) -> Option<bool> {
        let (a, b) = (self.half_width?, other.half_width?);
        Some((self.mean - other.mean).abs() > a + b)
    }
}

/// Two-sided 95 % quantile of Student's t.
fn student_t(degrees: usize) -> f64 {
    // Tables of the distribution; from 30 degrees on the expansion in 1/degrees is exact to the third digit.
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    TABLE.get(degrees.saturating_sub(1)).copied().unwrap_or(1.960 + 2.372 / degrees as f64)
}

/// Pearson's correlation with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    /// The coefficient, -1 to 1.
    pub r: f64,
    /// Lower end of the interval (Fisher's z).
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Number of points.
    pub n: usize,
}

/// Correlates two series of equal length. `None` below ten points, where the interval spans nearly everything, or
/// when one of them does not vary.
pub fn correlation(points: &[(f64, f64)]) -> Option<Correlation> {
    let n = points.len();
    if n < 10 {
        return None;
    }
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / n as f64, sum_y / n as f64);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in points {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    if xx <= 0.0 || yy <= 0.0 {
        return None;
    }
    let r = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    // atanh(±1) is infinite and tanh brings it back to ±1, so a perfect line needs no special case.
    let (z, width) = (r.atanh(), 1.960 / ((n - 3) as f64).sqrt());
    Some(Correlation { r, low: (z - width).tanh(), high: (z + width).tanh(), n })
}

/// A ratio taken once per round, so that drift of the machine cancels, with its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Number of rounds.
    pub n: usize,
}

/// The ratio of values measured in the same round. Rounds without a usable denominator are left out of n.
pub fn ratio(rounds: impl IntoIterator<Item = (f64, f64)>) -> Option<Ratio> {
    let series =
        Series::new(rounds.into_iter().filter(|(_, base)| *base > 0.0).map(|(value, base)| value / base));
    Some(Ratio { median: series.median()?, min: series.min()?, max: series.max()?, n: series.n() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_needed_is_wilks_bound() {
        assert_eq!([0.5, 0.75, 0.9, 0.95, 0.99, 0.05].map(samples_needed), [5, 11, 29, 59, 299, 59]);
    }

    #[test]
    fn percentile_below_its_n_is_absent() {
        let series = Series::new((1..=58).map(f64::from));
        assert_eq!(series.percentile(0.95), None);
        assert_eq!(series.percentile(0.90), Some(53.0));
        assert_eq!(Series::new((1..=59).map(f64::from)).percentile(0.95), Some(57.0));
    }

    #[test]
    fn interval_uses_students_t() {
        // Three repeats 9, 10, 11: deviation 1, t(2) = 4.303, half width 4.303 / sqrt(3).
        let interval = Series::new([9.0, 10.0, 11.0]).interval().unwrap();
        assert!((interval.half_width.unwrap() - 2.484).abs() < 1e-3);
        assert_eq!(Series::new([9.0]).interval().unwrap().half_width, None);
        assert_eq!(interval.is_apart_from(&Series::new([20.0, 20.0, 20.0]).interval().unwrap()), Some(true));
    }

    #[test]
    fn student_t_continues_its_table_smoothly() {
        assert!((student_t(31) - 2.040).abs() < 5e-3);
        assert!((student_t(100) - 1.984).abs() < 5e-3);
    }

    #[test]
    fn ratio_is_taken_within_rounds() {
        // The machine slowed by half in the second round; the ratio does not move.
        let ratio = ratio([(20.0, 10.0), (10.0, 5.0), (3.0, 0.0)]).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max, ratio.n), (2.0, 2.0, 2.0, 2));
    }

    #[test]
    fn correlation_of_a_constant_is_absent() {
        let flat: Vec<_> = (0..20).map(|i| (1.0, f64::from(i))).collect();
        assert_eq!(correlation(&flat), None);
    }

    proptest! {
        #[test]
        fn summary_lies_within_the_samples(values in proptest::collection::vec(-1e6..1e6_f64, 1..400)) {
            let series = Series::new(values.clone());
            let (min, max) = (series.min().unwrap(), series.max().unwrap());
            prop_assert!(series.mean().unwrap() >= min - 1e-6 && series.mean().unwrap() <= max + 1e-6);
            let median = series.median().unwrap();
            prop_assert!(median >= min && median <= max);
            let mut last = min;
            for p in [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99] {
                if let Some(value) = series.percentile(p) {
                    prop_assert!(values.contains(&value), "a percentile is one of the samples");
                    prop_assert!(value >= last, "percentiles do not decrease");
                    let at_or_below = values.iter().filter(|v| **v <= value).count() as f64;
                    prop_assert!(at_or_below / values.len() as f64 >= p);
                    last = value;
                }
            }
        }

        #[test]
        fn correlation_is_bounded_and_symmetric(points in proptest::collection::vec((0.0..1e3_f64, 0.0..1e3_f64), 10..100)) {
            let swapped: Vec<_> = points.iter().map(|(x, y)| (*y, *x)).collect();
            if let (Some(a), Some(b)) = (correlation(&points), correlation(&swapped)) {
                prop_assert!((a.r - b.r).abs() < 1e-9);
                prop_assert!(a.low <= a.r && a.r <= a.high && a.low >= -1.0 && a.high <= 1.0);
            }
        }

        #[test]
        fn correlation_of_a_line_is_one(slope in prop_oneof![-5.0..-0.1_f64, 0.1..5.0_f64], n in 10..60_i32) {
            let line: Vec<_> = (0..n).map(|x| (f64::from(x), slope * f64::from(x) + 3.0)).collect();
            let found = correlation(&line).unwrap();
            prop_assert!((found.r - slope.signum()).abs() < 1e-9);
        }
    }
}
