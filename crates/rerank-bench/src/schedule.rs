//! Arrivals of an open loop: when requests are due, decided before the server is asked anything.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::cli::Arrivals;

/// An endless, seeded schedule: offsets from the start, ascending.
pub(crate) struct Schedule {
    arrivals: Arrivals,
    mean_gap: f64,
    random: StdRng,
    due: f64,
}

impl Schedule {
    /// `rate` requests a second.
    pub(crate) fn new(arrivals: Arrivals, rate: f64, seed: u64) -> Self {
        Self { arrivals, mean_gap: 1.0 / rate, random: StdRng::seed_from_u64(seed), due: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = self.due;
        self.due += match self.arrivals {
            Arrivals::Constant => self.mean_gap,
            // Inverse of the exponential's distribution function; 1 - u is never zero.
            Arrivals::Poisson => -(1.0 - self.random.random::<f64>()).ln() * self.mean_gap,
        };
        Some(Duration::from_secs_f64(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_evenly_spaced() {
        let due: Vec<u128> =
            Schedule::new(Arrivals::Constant, 4.0, 0).take(3).map(|due| due.as_millis()).collect();
        assert_eq!(due, [0, 250, 500]);
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_vary_as_an_exponential() {
        let due: Vec<f64> =
            Schedule::new(Arrivals::Poisson, 100.0, 7).take(20_001).map(|due| due.as_secs_f64()).collect();
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean * 100.0 - 1.0).abs() < 0.03, "mean gap {mean}");
        assert!(
            (deviation / mean - 1.0).abs() < 0.03,
            "an exponential's deviation equals its mean, not {deviation}"
        );
    }

    #[test]
    fn the_seed_decides() {
        let some = |seed| Schedule::new(Arrivals::Poisson, 10.0, seed).take(5).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }
}
