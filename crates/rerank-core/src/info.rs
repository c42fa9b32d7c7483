//! What a backend says of itself. `/info`, metrics and reports read only this, never what was asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BatchShape, DType, Device};

/// A usable device, as [`crate::BackendFactory::probe`] found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// The device.
    pub device: Device,
    /// Its product name, as the driver or the operating system gives it.
    pub name: String,
    /// The dtypes that really run there, the best default first.
    pub dtypes: Vec<DType>,
}

/// What was really chosen when a model was loaded. Fixed until it is loaded again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendInfo {
    /// The backend's short name: `candle`, `torch`, ...
    pub backend: String,
    /// The device that holds the weights.
    pub device: Device,
    /// The device's product name.
    pub device_name: String,
    /// The dtype of weights and matrix products.
    pub dtype: DType,
    /// CPU threads that one call of [`crate::Backend::score`] may use.
    pub threads: usize,
    /// How rows are laid out in memory, and so what a batch costs.
    pub layout: Layout,
    /// Which row lengths the backend computes.
    pub shapes: ShapePolicy,
    /// The longest row, in tokens.
    pub max_length: usize,
    /// The most rows in one batch, where the backend has such a limit.
    pub max_rows: Option<usize>,
    /// Anything else worth reporting: kernels chosen, library versions.
    pub details: BTreeMap<String, String>,
}

impl BackendInfo {
    /// Tokens that the backend computes for a batch of this shape, padding included.
    pub fn computed_tokens(&self, shape: BatchShape) -> usize {
        match self.layout {
            Layout::Packed => shape.tokens,
            Layout::Padded => shape.rows * self.shapes.padded_len(shape.max_len),
        }
    }
}

/// How a backend lays rows out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Rows end to end: a batch costs the sum of its lengths.
    Packed,
    /// Rows filled up to the longest: a batch costs rows times that length.
    Padded,
}

/// Which row lengths a padded backend computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShapePolicy {
    /// Any length.
    Dynamic,
    /// Only these lengths, ascending; a shorter batch is padded up to the next one.
    Buckets(Vec<usize>),
}

impl ShapePolicy {
    /// The length that rows of at most `max_len` tokens are padded to.
    pub fn padded_len(&self, max_len: usize) -> usize {
        match self {
            Self::Dynamic => max_len,
            Self::Buckets(lens) => lens.iter().copied().find(|&len| len >= max_len).unwrap_or(max_len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ShapePolicy;

    #[test]
    fn buckets_round_up_and_never_down() {
        let buckets = ShapePolicy::Buckets(vec![32, 64, 128]);
        assert_eq!(buckets.padded_len(1), 32);
        assert_eq!(buckets.padded_len(64), 64);
        assert_eq!(buckets.padded_len(65), 128);
        assert_eq!(buckets.padded_len(200), 200);
        assert_eq!(ShapePolicy::Dynamic.padded_len(77), 77);
    }
}
