//! Schema of a forward result: backends timed in their own process on prepared rows, without a server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    environment::Environment,
    parity::Parity,
    result::Experiment,
    stats::{Ratio, Series, ratio},
};

/// Every subject on every shape, in alternating rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardResult {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What was run.
    pub experiment: Experiment,
    /// Where it was run.
    pub environment: Environment,
    /// Model, as a reader should see it (`minilm-l6 (synthetic, seed 0)`).
    pub model: String,
    /// Subject that the others are compared with, when it was among those measured.
    pub yardstick: Option<String>,
    /// Everything that was measured, in the order in which each round ran it.
    pub subjects: Vec<ForwardSubject>,
}

/// One backend in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardSubject {
    /// Unique within the result.
    pub label: String,
    /// Device as reported by the process.
    pub device: String,
    /// Arithmetic type as reported by the process.
    pub dtype: String,
    /// Compute threads as reported by the process.
    pub threads: u64,
    /// What else the process reported: kernels, versions of libraries. Results of before it was kept have none.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
    /// Logits of this process against the reference.
    pub parity: Parity,
    /// All timed rounds, in the order in which they were run.
    pub rounds: Vec<ForwardRound>,
}

/// One round of one shape in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardRound {
    /// Round, from 1.
    pub round: usize,
    /// Name of the shape: `32x128`, `mix32`.
    pub shape: String,
    /// Rows of a call.
    pub rows: u64,
    /// Real tokens of a call.
    pub tokens: u64,
    /// Seconds of each timed call, in order.
    pub seconds: Vec<f64>,
}

impl ForwardRound {
    /// Pairs a second, from the median call: a call that the system interrupted moves a mean, not a median.
    pub fn pairs_per_second(&self) -> Option<f64> {
        Series::new(self.seconds.iter().copied()).median().map(|seconds| self.rows as f64 / seconds)
    }
}

impl ForwardSubject {
    /// Rounds of one shape.
    pub fn of_shape<'a>(&'a self, shape: &'a str) -> impl Iterator<Item = &'a ForwardRound> {
        self.rounds.iter().filter(move |round| round.shape == shape)
    }

    /// Pairs/s of each round of one shape.
    pub fn pairs_per_second(&self, shape: &str) -> Series {
        Series::new(self.of_shape(shape).filter_map(ForwardRound::pairs_per_second))
    }

    /// Speed over the yardstick's, taken round by round.
    pub fn ratio(&self, yardstick: &Self, shape: &str) -> Option<Ratio> {
        ratio(self.of_shape(shape).filter_map(|own| {
            let base = yardstick.of_shape(shape).find(|base| base.round == own.round)?;
            Some((own.pairs_per_second()?, base.pairs_per_second()?))
        }))
    }
}

impl ForwardResult {
    /// Shapes in the order in which they were measured.
    pub fn shapes(&self) -> Vec<&str> {
        let mut shapes = Vec::new();
        for round in self.subjects.iter().flat_map(|subject| &subject.rounds) {
            if !shapes.contains(&round.shape.as_str()) {
                shapes.push(round.shape.as_str());
            }
        }
        shapes
    }
}
