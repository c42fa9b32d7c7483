//! The list of cases: what a backend may be expected to fail, and in which order they run.

use std::fmt;

use crate::cases;
use crate::golden::GoldenModel;
use crate::subject::{Failure, Subject};

/// One property that every backend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// One logit for each row, in row order.
    RowOrder,
    /// A row alone has the logit that it has in any batch.
    BatchInvariance,
    /// Permuted rows have permuted logits.
    Permutation,
    /// Logits and ranks are PyTorch's, within the dtype's tolerance.
    GoldenLogits(GoldenModel),
    /// The longest row that the model takes is scored, alone and beside the shortest.
    LongestRow,
    /// A document of one token, of none, and a row of one token are scored.
    OneTokenDocument,
    /// From 1 to 256 rows in a batch.
    BatchSizes,
    /// The same batch again has the same logits: bit for bit on a CPU, within tolerance elsewhere.
    Repeatability,
    /// A dtype or a device that was not declared is refused as unsupported.
    UnsupportedRefused,
    /// Warming up changes no logit.
    WarmUp,
    /// NaN, missing tensors, wrong shapes and a truncated file are refused at load, by name.
    GarbageWeights,
}

impl Case {
    /// Golden logits of every model.
    pub const GOLDEN: &[Self] = &[
        Self::GoldenLogits(GoldenModel::RerankTiny),
        Self::GoldenLogits(GoldenModel::MinilmL2),
        Self::GoldenLogits(GoldenModel::RobertaSmall),
        Self::GoldenLogits(GoldenModel::XlmRobertaSmall),
    ];

    /// Every case, cheapest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [
            Self::UnsupportedRefused,
            Self::RowOrder,
            Self::BatchInvariance,
            Self::Permutation,
            Self::OneTokenDocument,
            Self::LongestRow,
            Self::Repeatability,
            Self::WarmUp,
            Self::BatchSizes,
            Self::GarbageWeights,
        ]
        .into_iter()
        .chain(Self::GOLDEN.iter().copied())
    }

    pub(crate) fn check(self, subject: &Subject) -> Result<(), Failure> {
        match self {
            Self::RowOrder => cases::row_order::check(subject),
            Self::BatchInvariance => cases::batch_invariance::check(subject),
            Self::Permutation => cases::permutation::check(subject),
            Self::GoldenLogits(model) => cases::golden_logits::check(subject, model),
            Self::LongestRow => cases::longest_row::check(subject),
            Self::OneTokenDocument => cases::one_token_document::check(subject),
            Self::BatchSizes => cases::batch_sizes::check(subject),
            Self::Repeatability => cases::repeatability::check(subject),
            Self::UnsupportedRefused => cases::unsupported_refused::check(subject),
            Self::WarmUp => cases::warm_up::check(subject),
            Self::GarbageWeights => cases::garbage_weights::check(subject),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RowOrder => "row_order",
            Self::BatchInvariance => "batch_invariance",
            Self::Permutation => "permutation",
            Self::GoldenLogits(model) => return write!(f, "golden_logits/{}", model.name()),
            Self::LongestRow => "longest_row",
            Self::OneTokenDocument => "one_token_document",
            Self::BatchSizes => "batch_sizes",
            Self::Repeatability => "repeatability",
            Self::UnsupportedRefused => "unsupported_refused",
            Self::WarmUp => "warm_up",
            Self::GarbageWeights => "garbage_weights",
        })
    }
}
