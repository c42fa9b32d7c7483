//! The number formats that a backend may compute in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The format of weights and matrix products. Logits are always `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE single precision: the reference.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// 8-bit integers with scales; norms and softmax stay in floating point.
    Int8,
}

impl DType {
    /// Every dtype, most precise first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::BF16, Self::Int8];
}

/// The text names no dtype.
#[derive(Debug, thiserror::Error)]
#[error("unknown dtype `{0}`: expected `f32`, `f16`, `bf16` or `int8`")]
pub struct ParseDTypeError(String);

impl FromStr for DType {
    type Err = ParseDTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.to_string() == text)
            .ok_or_else(|| ParseDTypeError(text.to_owned()))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::DType;

    #[test]
    fn text_and_json_agree() {
        for dtype in DType::ALL {
            assert_eq!(dtype.to_string().parse::<DType>().unwrap(), dtype);
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("\"{dtype}\""));
        }
        assert!("float32".parse::<DType>().unwrap_err().to_string().contains("`bf16`"));
    }
}
