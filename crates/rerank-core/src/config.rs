//! What a checkpoint's `config.json` says, reduced to what a backend has to know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BackendError, RowLimits};

mod parse;

/// A sequence-classification model with one label: a cross-encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The family, which decides tensor names, positions and the classification head.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; they divide `hidden_size`.
    pub heads: usize,
    /// Rows of the token embedding table.
    pub vocab_size: usize,
    /// Rows of the token type embedding table.
    pub type_vocab_size: usize,
    /// Rows of the position embedding table.
    pub max_position_embeddings: usize,
    /// The epsilon inside every layer norm's square root.
    pub layer_norm_eps: f64,
    /// The feed-forward activation.
    pub activation: Activation,
    /// The padding token's id.
    pub pad_token_id: u32,
}

/// Model families that the backends compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// `BertForSequenceClassification`: pooler (dense, tanh) and classifier over the first token.
    #[serde(rename = "BertForSequenceClassification")]
    Bert,
    /// `RobertaForSequenceClassification`: a head with its own dense layer.
    #[serde(rename = "RobertaForSequenceClassification")]
    Roberta,
    /// `XLMRobertaForSequenceClassification`: computed like RoBERTa.
    #[serde(rename = "XLMRobertaForSequenceClassification")]
    XlmRoberta,
}

impl Architecture {
    /// Every architecture that is supported.
    pub const ALL: [Self; 3] = [Self::Bert, Self::Roberta, Self::XlmRoberta];

    /// The name in `config.json`'s `architectures`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "BertForSequenceClassification",
            Self::Roberta => "RobertaForSequenceClassification",
            Self::XlmRoberta => "XLMRobertaForSequenceClassification",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Feed-forward activations, by what they compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * Phi(x)` with the error function: `gelu`, `gelu_python`.
    Gelu,
    /// The tanh approximation of GELU: `gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// `max(x, 0)`: `relu`.
    Relu,
    /// `x * sigmoid(x)`: `silu`, `swish`.
    Silu,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Relu => "relu",
            Self::Silu => "silu",
        })
    }
}

/// How a token's index into the position table follows from its place in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionScheme {
    /// BERT: 0, 1, 2, ...
    FromZero,
    /// RoBERTa: counted from `pad_token_id + 1`; a literal padding token gets `pad_token_id` and does not count, as
    /// `create_position_ids_from_input_ids` in PyTorch transformers has it.
    AfterPadding {
        /// The padding token's id.
        pad_token_id: u32,
    },
}

impl PositionScheme {
    /// Appends the positions of a row of `ids`.
    pub(crate) fn extend(self, positions: &mut Vec<u32>, ids: &[u32]) {
        match self {
            Self::FromZero => positions.extend(0..ids.len() as u32),
            Self::AfterPadding { pad_token_id } => {
                let mut last = pad_token_id;
                positions.extend(ids.iter().map(|&id| {
                    if id == pad_token_id {
                        return pad_token_id;
                    }
                    last += 1;
                    last
                }));
            }
        }
    }
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// JSON that is not a model configuration is [`BackendError::Load`]; a model that no backend computes (another
    /// architecture, label count, activation or position embedding) is [`BackendError::Unsupported`] and names what is.
    pub fn from_json(json: &[u8]) -> Result<Self, BackendError> {
        parse::parse(json)
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// The longest row that the position table can hold, in tokens.
    pub fn max_length(&self) -> usize {
        match self.positions() {
            PositionScheme::FromZero => self.max_position_embeddings,
            PositionScheme::AfterPadding { pad_token_id } => {
                self.max_position_embeddings - (pad_token_id as usize + 1)
            }
        }
    }

    /// How positions are counted.
    pub fn positions(&self) -> PositionScheme {
        match self.architecture {
            Architecture::Bert => PositionScheme::FromZero,
            Architecture::Roberta | Architecture::XlmRoberta => {
                PositionScheme::AfterPadding { pad_token_id: self.pad_token_id }
            }
        }
    }

    /// What every row must keep to when rows are at most `max_length` tokens long.
    pub fn row_limits(&self, max_length: usize) -> RowLimits {
        RowLimits {
            max_length: max_length.min(self.max_length()),
            vocab_size: self.vocab_size,
            type_vocab_size: self.type_vocab_size,
            positions: self.positions(),
        }
    }
}
