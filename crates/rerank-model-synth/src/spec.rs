//! What to generate: shapes, named presets, and the `config.json` that describes them.

use serde_json::json;

use crate::tensors;

/// Names of the presets, in the order in which a list shows them.
pub const PRESETS: [&str; 4] = ["minilm-l6", "minilm-l2", "roberta-small", "xlm-roberta-small"];

/// Which family of tensor names, head and position numbering to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Pooler and classifier; positions from 0.
    Bert,
    /// Classification head with its own dense layer; positions from `pad_token_id + 1`.
    Roberta,
    /// RoBERTa's arithmetic under its own name.
    XlmRoberta,
}

/// Element type of the stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit.
    F32,
    /// 16-bit: the f32 value rounded to nearest, ties to even.
    F16,
}

/// A checkpoint to be generated. Field names are those of `config.json`, so no unit needs a second explanation.
#[derive(Debug, Clone, PartialEq)]
pub struct Synth {
    /// Reported as the checkpoint's `_name_or_path`, with `synthetic/` before it.
    pub name: String,
    /// Tensor names and arithmetic.
    pub architecture: Architecture,
    /// Width of the residual stream; divisible by `heads`.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Rows of the token type embedding.
    pub type_vocab_size: usize,
    /// Rows of the position embedding, RoBERTa's two unusable ones included.
    pub max_position_embeddings: usize,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f64,
    /// Padding token.
    pub pad_token_id: usize,
    /// Stored element type.
    pub precision: Precision,
    /// Same seed, same weights.
    pub seed: u64,
}

/// The two files of a generated checkpoint, as they would lie on disk.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// `config.json`.
    pub config: Vec<u8>,
    /// `model.safetensors`.
    pub weights: Vec<u8>,
}

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The name is not one of [`PRESETS`].
    #[error("no synthetic preset `{0}`; there are {list}", list = PRESETS.join(", "))]
    UnknownPreset(String),
    /// The shape describes no model that could run.
    #[error("synthetic checkpoint cannot have {0}")]
    Shape(String),
    /// The container refused the tensors.
    #[error("cannot write synthetic weights as safetensors")]
    Container(#[from] safetensors::SafeTensorError),
}

impl Synth {
    /// The preset called `name`, f32, seed 1; fields may be changed before [`generate`](Self::generate).
    ///
    /// `minilm-l6` has the shape of `cross-encoder/ms-marco-MiniLM-L-6-v2`, `minilm-l2` its first two layers. The
    /// two RoBERTa shapes fit the vocabularies of the tokenizers under `crates/rerank-conformance/fixtures/`.
    pub fn preset(name: &str) -> Result<Self, SynthError> {
        let minilm = |layers| Self {
            name: name.to_owned(),
            architecture: Architecture::Bert,
            hidden_size: 384,
            intermediate_size: 1536,
            layers,
            heads: 12,
            vocab_size: 30_522,
            type_vocab_size: 2,
            max_position_embeddings: 512,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            precision: Precision::F32,
            seed: 1,
        };
        let roberta = |architecture, vocab_size| Self {
            architecture,
            hidden_size: 160,
            intermediate_size: 640,
            heads: 5,
            vocab_size,
            type_vocab_size: 1,
            max_position_embeddings: 514,
            layer_norm_eps: 1e-5,
            pad_token_id: 1,
            ..minilm(2)
        };
        match name {
            "minilm-l6" => Ok(minilm(6)),
            "minilm-l2" => Ok(minilm(2)),
            "roberta-small" => Ok(roberta(Architecture::Roberta, 3000)),
            "xlm-roberta-small" => Ok(roberta(Architecture::XlmRoberta, 4000)),
            _ => Err(SynthError::UnknownPreset(name.to_owned())),
        }
    }

    /// Generates both files. The 22.7 million parameters of `minilm-l6` take well under a second when optimised.
    pub fn generate(&self) -> Result<Checkpoint, SynthError> {
        self.check()?;
        Ok(Checkpoint { config: self.config(), weights: tensors::serialize(self)? })
    }

    fn check(&self) -> Result<(), SynthError> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("layers", self.layers),
            ("heads", self.heads),
            ("vocab_size", self.vocab_size),
            ("type_vocab_size", self.type_vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(SynthError::Shape(format!("{name} 0")));
        }
        if !self.hidden_size.is_multiple_of(self.heads) {
            let (hidden, heads) = (self.hidden_size, self.heads);
            return Err(SynthError::Shape(format!(
                "{heads} heads in a width of {hidden}, which they do not divide"
            )));
        }
        if self.pad_token_id >= self.vocab_size {
            let (pad, vocab) = (self.pad_token_id, self.vocab_size);
            return Err(SynthError::Shape(format!("padding token {pad} outside a vocabulary of {vocab}")));
        }
        Ok(())
    }

    fn config(&self) -> Vec<u8> {
        let (model_type, class) = match self.architecture {
            Architecture::Bert => ("bert", "BertForSequenceClassification"),
            Architecture::Roberta => ("roberta", "RobertaForSequenceClassification"),
            Architecture::XlmRoberta => ("xlm-roberta", "XLMRobertaForSequenceClassification"),
        };
        let config = json!({
            "_name_or_path": format!("synthetic/{}", self.name),
            "architectures": [class],
            "model_type": model_type,
            "hidden_act": "gelu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "vocab_size": self.vocab_size,
            "type_vocab_size": self.type_vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "position_embedding_type": "absolute",
            "layer_norm_eps": self.layer_norm_eps,
            "pad_token_id": self.pad_token_id,
            "id2label": { "0": "LABEL_0" },
            "label2id": { "LABEL_0": 0 },
            "torch_dtype": match self.precision { Precision::F32 => "float32", Precision::F16 => "float16" },
        });
        let mut text =
            serde_json::to_vec_pretty(&config).expect("a JSON value of strings and numbers serialises");
        text.push(b'\n');
        text
    }
}
