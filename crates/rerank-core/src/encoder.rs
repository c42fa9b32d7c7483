//! A checkpoint's tensors as encoders want them: layer by layer, query, key and value in one matrix.

use crate::{BackendError, Model};

/// A dense layer.
#[derive(Clone, Debug)]
pub struct Dense {
    /// `[outputs, inputs]`, row-major.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// A layer norm.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Scale, `[hidden]`.
    pub weight: Vec<f32>,
    /// Shift, `[hidden]`.
    pub bias: Vec<f32>,
}

/// The embedding tables and the norm over their sum.
#[derive(Clone, Debug)]
pub struct EmbeddingWeights {
    /// `[vocab, hidden]`.
    pub word: Vec<f32>,
    /// `[positions, hidden]`.
    pub position: Vec<f32>,
    /// `[types, hidden]`.
    pub token_type: Vec<f32>,
    /// Over their sum.
    pub norm: Norm,
}

/// One encoder layer.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// `[3 * hidden, hidden]`: query, key, value.
    pub query_key_value: Dense,
    /// `[hidden, hidden]`: attention's output.
    pub output: Dense,
    /// After attention's residual.
    pub attention_norm: Norm,
    /// `[intermediate, hidden]`.
    pub up: Dense,
    /// `[hidden, intermediate]`.
    pub down: Dense,
    /// After the feed-forward's residual.
    pub mlp_norm: Norm,
}

/// The classification head.
#[derive(Clone, Debug)]
pub struct HeadWeights {
    /// `[hidden, hidden]`, before tanh.
    pub dense: Dense,
    /// `[1, hidden]`: the logit.
    pub out: Dense,
}

impl EmbeddingWeights {
    /// `[positions * types, hidden]`: the sum of every position and every type, types fastest, so that a token looks up
    /// one row where it would two.
    #[must_use]
    pub fn position_type_sums(&self) -> Vec<f32> {
        let hidden = self.norm.weight.len();
        let mut sums = Vec::with_capacity(self.position.len() / hidden * self.token_type.len());
        for position in self.position.chunks_exact(hidden) {
            for token_type in self.token_type.chunks_exact(hidden) {
                sums.extend(position.iter().zip(token_type).map(|(a, b)| a + b));
            }
        }
        sums
    }
}

impl Dense {
    /// The first `outputs` outputs, and the others.
    #[must_use]
    pub fn split(mut self, outputs: usize) -> (Self, Self) {
        let inputs = self.weight.len() / self.bias.len();
        let weight = self.weight.split_off(outputs * inputs);
        let bias = self.bias.split_off(outputs);
        (self, Self { weight, bias })
    }
}

impl Model {
    /// Reads the embeddings.
    pub fn embeddings(&self) -> Result<EmbeddingWeights, BackendError> {
        let config = &self.config;
        let table = |name: &str, entries| self.weights.f32(name, &[entries, config.hidden_size]);
        Ok(EmbeddingWeights {
            word: table("embeddings.word.weight", config.vocab_size)?,
            position: table("embeddings.position.weight", config.max_position_embeddings)?,
            token_type: table("embeddings.token_type.weight", config.type_vocab_size)?,
            norm: self.norm("embeddings.norm")?,
        })
    }

    /// Reads encoder layer `index`.
    pub fn layer(&self, index: usize) -> Result<LayerWeights, BackendError> {
        let (hidden, intermediate) = (self.config.hidden_size, self.config.intermediate_size);
        let name = |part: &str| format!("encoder.layers.{index}.{part}");
        let mut query_key_value = dense(self, &name("attention.query"), hidden, hidden)?;
        for part in ["attention.key", "attention.value"] {
            let Dense { weight, bias } = dense(self, &name(part), hidden, hidden)?;
            query_key_value.weight.extend(weight);
            query_key_value.bias.extend(bias);
        }
        Ok(LayerWeights {
            query_key_value,
            output: dense(self, &name("attention.output"), hidden, hidden)?,
            attention_norm: self.norm(&name("attention.norm"))?,
            up: dense(self, &name("mlp.up"), intermediate, hidden)?,
            down: dense(self, &name("mlp.down"), hidden, intermediate)?,
            mlp_norm: self.norm(&name("mlp.norm"))?,
        })
    }

    /// Reads a layer norm by its canonical name without the kind: `encoder.layers.0.mlp.norm`.
    pub fn norm(&self, name: &str) -> Result<Norm, BackendError> {
        let hidden = self.config.hidden_size;
        Ok(Norm {
            weight: self.weights.f32(&format!("{name}.weight"), &[hidden])?,
            bias: self.weights.f32(&format!("{name}.bias"), &[hidden])?,
        })
    }

    /// Reads the classification head.
    pub fn head(&self) -> Result<HeadWeights, BackendError> {
        let hidden = self.config.hidden_size;
        Ok(HeadWeights {
            dense: dense(self, "head.dense", hidden, hidden)?,
            out: dense(self, "head.out", 1, hidden)?,
        })
    }
}

fn dense(model: &Model, name: &str, outputs: usize, inputs: usize) -> Result<Dense, BackendError> {
    Ok(Dense {
        weight: model.weights.f32(&format!("{name}.weight"), &[outputs, inputs])?,
        bias: model.weights.f32(&format!("{name}.bias"), &[outputs])?,
    })
}
