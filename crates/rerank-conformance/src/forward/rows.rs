//! The rows of a shape. `scripts/torch_forward.py` makes the same ones; change both or neither.

use std::fmt;
use std::str::FromStr;

use rerank_core::{Architecture, ModelConfig, TokenBatch};
use rerank_model_synth::Stream;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::failure::Failure;

const SEED: u64 = 1;
const MIX_ROWS: usize = 32;

/// A batch to measure, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Rows of equal length.
    Equal { rows: usize, len: usize },
    /// Rows of lognormal lengths.
    Mix32,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "mix32" {
            return Ok(Self::Mix32);
        }
        let parts =
            text.split_once('x').and_then(|(rows, len)| Some((rows.parse().ok()?, len.parse().ok()?)));
        match parts {
            Some((rows, len)) if rows > 0 && len > 0 => Ok(Self::Equal { rows, len }),
            _ => Err(format!("shape `{text}` is neither <rows>x<tokens> nor mix32")),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal { rows, len } => write!(f, "{rows}x{len}"),
            Self::Mix32 => f.write_str("mix32"),
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Shape {
    /// The batch for a model of this configuration.
    pub(super) fn batch(self, config: &ModelConfig) -> Result<TokenBatch, Failure> {
        let lens = match self {
            Self::Equal { rows, len } => vec![len; rows],
            Self::Mix32 => mix_lens(config.max_length()),
        };
        let mut builder = TokenBatch::builder(config.row_limits(config.max_length()));
        for (index, len) in lens.into_iter().enumerate() {
            let (ids, type_ids) = row(Stream::new(SEED, &format!("{self} row {index}")), len, config);
            builder.push(&ids, &type_ids)?;
        }
        Ok(builder.finish()?)
    }
}

/// `exp(4.33 + 0.6 z)`, in arrival order; z is normal enough as the sum of twelve uniforms less six.
fn mix_lens(longest: usize) -> Vec<usize> {
    let random = Stream::new(SEED, "mix32 lengths");
    let z = |row: usize| {
        (0..12).map(|k| f64::from(random.uniform((12 * row + k) as u64)).midpoint(1.0)).sum::<f64>() - 6.0
    };
    (0..MIX_ROWS).map(|row| ((4.33 + 0.6 * z(row)).exp().round() as usize).clamp(8, longest)).collect()
}

/// A query of a quarter of the row and a document, framed by the family's separators, of random words: no id below 4,
/// where padding is.
fn row(random: Stream, len: usize, config: &ModelConfig) -> (Vec<u32>, Vec<u32>) {
    let words = (config.vocab_size as u32).saturating_sub(4).max(1);
    let mut ids: Vec<u32> = (0..len as u64).map(|i| 4 + random.below(i, words)).collect();
    let turn = (len / 4).max(2).min(len);
    let is_bert = config.architecture == Architecture::Bert;
    let (first, separator) = if is_bert { (101, 102) } else { (0, 2) };
    ids[0] = first;
    ids[turn - 1] = separator;
    ids[len - 1] = separator;
    if !is_bert && len > 8 {
        ids[turn] = separator;
    }
    let type_ids = (0..len).map(|i| u32::from(is_bert && i >= turn)).collect();
    (ids, type_ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GoldenModel;

    #[test]
    fn shapes_round_trip_and_others_are_refused() {
        for text in ["32x128", "1x512", "mix32"] {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
        for text in ["", "32", "0x5", "5x0", "x", "mix", "3x-1"] {
            assert!(text.parse::<Shape>().unwrap_err().contains("<rows>x<tokens>"));
        }
    }

    #[test]
    fn mix_has_the_promised_mean_and_is_not_sorted() {
        let lens = mix_lens(512);
        let mean = lens.iter().sum::<usize>() as f64 / lens.len() as f64;
        assert!((85.0..95.0).contains(&mean), "mean {mean} of {lens:?}");
        assert!(!lens.is_sorted() && lens.iter().max() > Some(&200), "{lens:?}");
    }

    #[test]
    fn every_shape_fits_every_architecture() {
        for model in [GoldenModel::RerankTiny, GoldenModel::XlmRobertaSmall] {
            let config = &model.model().config;
            for shape in ["1x1", "1x2", "2x3", "3x9", "2x512", "mix32"] {
                shape.parse::<Shape>().unwrap().batch(config).unwrap();
            }
            assert!(Shape::Equal { rows: 1, len: 513 }.batch(config).is_err());
        }
    }
}
