//! The checkpoint's tensors as the models here want them: layer by layer, query, key and value in one matrix.

use rerank_core::{BackendError, Model};

/// A dense layer: `weight` is `[outputs, inputs]` row-major, `bias` is `[outputs]`.
pub(crate) struct Dense {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// A layer norm's scale and shift, each `[hidden]`.
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// The embedding tables, `[entries, hidden]`, and the norm over their sum.
pub(crate) struct EmbeddingWeights {
    pub(crate) word: Vec<f32>,
    pub(crate) position: Vec<f32>,
    pub(crate) token_type: Vec<f32>,
    pub(crate) norm: Norm,
}

/// One encoder layer.
pub(crate) struct LayerWeights {
    /// `[3 * hidden, hidden]`: query, key, value.
    pub(crate) query_key_value: Dense,
    pub(crate) output: Dense,
    pub(crate) attention_norm: Norm,
    pub(crate) up: Dense,
    pub(crate) down: Dense,
    pub(crate) mlp_norm: Norm,
}

/// The classification head: dense, tanh, `[1, hidden]`.
pub(crate) struct HeadWeights {
    pub(crate) dense: Dense,
    pub(crate) out: Dense,
}

impl Dense {
    /// The first `outputs` outputs, and the others.
    pub(crate) fn split(mut self, outputs: usize) -> (Self, Self) {
        let inputs = self.weight.len() / self.bias.len();
        let weight = self.weight.split_off(outputs * inputs);
        let bias = self.bias.split_off(outputs);
        (self, Self { weight, bias })
    }
}

/// Reads the embeddings.
pub(crate) fn embeddings(model: &Model) -> Result<EmbeddingWeights, BackendError> {
    let config = &model.config;
    let table = |name: &str, entries| model.weights.f32(name, &[entries, config.hidden_size]);
    Ok(EmbeddingWeights {
        word: table("embeddings.word.weight", config.vocab_size)?,
        position: table("embeddings.position.weight", config.max_position_embeddings)?,
        token_type: table("embeddings.token_type.weight", config.type_vocab_size)?,
        norm: norm(model, "embeddings.norm")?,
    })
}

/// Reads encoder layer `index`.
pub(crate) fn layer(model: &Model, index: usize) -> Result<LayerWeights, BackendError> {
    let (hidden, intermediate) = (model.config.hidden_size, model.config.intermediate_size);
    let name = |part: &str| format!("encoder.layers.{index}.{part}");
    let mut query_key_value = dense(model, &name("attention.query"), hidden, hidden)?;
    for part in ["attention.key", "attention.value"] {
        let Dense { weight, bias } = dense(model, &name(part), hidden, hidden)?;
        query_key_value.weight.extend(weight);
        query_key_value.bias.extend(bias);
    }
    Ok(LayerWeights {
        query_key_value,
        output: dense(model, &name("attention.output"), hidden, hidden)?,
        attention_norm: norm(model, &name("attention.norm"))?,
        up: dense(model, &name("mlp.up"), intermediate, hidden)?,
        down: dense(model, &name("mlp.down"), hidden, intermediate)?,
        mlp_norm: norm(model, &name("mlp.norm"))?,
    })
}

/// Reads the classification head.
pub(crate) fn head(model: &Model) -> Result<HeadWeights, BackendError> {
    let hidden = model.config.hidden_size;
    Ok(HeadWeights {
        dense: dense(model, "head.dense", hidden, hidden)?,
        out: dense(model, "head.out", 1, hidden)?,
    })
}

fn dense(model: &Model, name: &str, outputs: usize, inputs: usize) -> Result<Dense, BackendError> {
    Ok(Dense {
        weight: model.weights.f32(&format!("{name}.weight"), &[outputs, inputs])?,
        bias: model.weights.f32(&format!("{name}.bias"), &[outputs])?,
    })
}

fn norm(model: &Model, name: &str) -> Result<Norm, BackendError> {
    let hidden = model.config.hidden_size;
    Ok(Norm {
        weight: model.weights.f32(&format!("{name}.weight"), &[hidden])?,
        bias: model.weights.f32(&format!("{name}.bias"), &[hidden])?,
    })
}
