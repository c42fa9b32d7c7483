//! The encoder, out of the operators that PyTorch's eager mode calls.
//!
//! What eager mode does is done, and no more: the last layer is computed for every token although the head reads the
//! first only, because a yardstick that computed less would measure something else. One thing is put together, since it
//! changes no work: query, key and value are one product.

use rerank_core::{Activation, BackendError, Dense, LayerWeights, Model, Norm, TokenBatch};
use tch::{Device, Kind, TchError, Tensor};

use crate::error;

mod batch;
mod linear;

pub(crate) use batch::Inputs;
use linear::Linear;
pub(crate) use linear::{Precision, dtype_of};

/// A cross-encoder on one device in one dtype.
pub(crate) struct EagerModel {
    device: Device,
    /// Of everything but int8 products.
    kind: Kind,
    pad_token_id: u32,
    /// `[vocab, hidden]`, `[positions, hidden]`, `[types, hidden]`.
    word: Tensor,
    position: Tensor,
    token_type: Tensor,
    embedding_norm: LayerNorm,
    layers: Vec<Layer>,
    head: Linear,
    out: Linear,
    heads: i64,
    activation: Activation,
}

struct Layer {
    query_key_value: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl EagerModel {
    /// Uploads the weights.
    pub(crate) fn load(model: &Model, device: Device, precision: Precision) -> Result<Self, BackendError> {
        let config = &model.config;
        let upload = Upload { device, precision, epsilon: config.layer_norm_eps };
        let embedding = model.embeddings()?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            layers.push(upload.layer(&model.layer(index)?).map_err(error::loading)?);
        }
        let head = model.head()?;
        let build = || {
            Ok(Self {
                device,
                kind: precision.kind(),
                pad_token_id: config.pad_token_id,
                word: upload.matrix(&embedding.word, config.hidden_size)?,
                position: upload.matrix(&embedding.position, config.hidden_size)?,
                token_type: upload.matrix(&embedding.token_type, config.hidden_size)?,
                embedding_norm: upload.norm(&embedding.norm)?,
                layers,
                head: upload.exact(&head.dense)?,
                out: upload.exact(&head.out)?,
                heads: config.heads as i64,
                activation: config.activation,
            })
        };
        build().map_err(error::loading)
    }

    /// One logit per row. The only wait is for the logits.
    pub(crate) fn forward(&self, batch: &TokenBatch) -> Result<Vec<f32>, TchError> {
        let inputs = Inputs::upload(&batch.pad(batch.max_len(), self.pad_token_id), self.device)?;
        let mask = inputs.additive_mask(self.kind)?;
        let look_up = |table, indices| Tensor::f_embedding(table, indices, -1, false, false);
        let x = look_up(&self.word, &inputs.ids)?.f_add(&look_up(&self.token_type, &inputs.type_ids)?)?;
        let x = x.f_add(&look_up(&self.position, &inputs.positions)?)?;
        let mut x = self.embedding_norm.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x, mask.as_ref(), self.heads, self.activation)?;
        }
        let first = self.head.forward(&x.f_select(1, 0)?)?.f_tanh()?;
        logits(&self.out.forward(&first)?.f_select(1, 0)?)
    }
}

/// Copies `[rows]` logits of any kind from the device, and so waits for it.
pub(crate) fn logits(logits: &Tensor) -> Result<Vec<f32>, TchError> {
    Vec::try_from(logits.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?)
}

impl Layer {
    /// `x` is `[rows, len, hidden]`.
    fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        heads: i64,
        activation: Activation,
    ) -> Result<Tensor, TchError> {
        let (rows, len, hidden) = x.size3()?;
        // `[3, rows, heads, len, head_dim]`: views, which the attention reads as they are.
        let parts = self.query_key_value.forward(x)?.f_view([rows, len, 3, heads, hidden / heads])?;
        let parts = parts.f_permute([2, 0, 3, 1, 4])?;
        let (query, key, value) = (parts.f_select(0, 0)?, parts.f_select(0, 1)?, parts.f_select(0, 2)?);
        let context =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, 0.0, false, None, false)?;
        let context = context.f_transpose(1, 2)?.f_reshape([rows, len, hidden])?;
        let x = self.attention_norm.forward(&self.output.forward(&context)?.f_add(x)?)?;
        let inside = self.up.forward(&x)?;
        let inside = match activation {
            Activation::Gelu => inside.f_gelu("none")?,
            Activation::GeluTanh => inside.f_gelu("tanh")?,
            Activation::Relu => inside.f_relu()?,
            Activation::Silu => inside.f_silu()?,
        };
        self.mlp_norm.forward(&self.down.forward(&inside)?.f_add(&x)?)
    }
}

impl LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.epsilon, true)
    }
}

/// Brings weights to the device.
struct Upload {
    device: Device,
    precision: Precision,
    epsilon: f64,
}

impl Upload {
    fn layer(&self, weights: &LayerWeights) -> Result<Layer, TchError> {
        Ok(Layer {
            query_key_value: self.linear(&weights.query_key_value)?,
            output: self.linear(&weights.output)?,
            attention_norm: self.norm(&weights.attention_norm)?,
            up: self.linear(&weights.up)?,
            down: self.linear(&weights.down)?,
            mlp_norm: self.norm(&weights.mlp_norm)?,
        })
    }

    /// In the precision that was asked for.
    fn linear(&self, dense: &Dense) -> Result<Linear, TchError> {
        match self.precision {
            Precision::Float(_) => self.exact(dense),
            Precision::Int8 => Linear::quantised(self.width(dense)?, self.vector(&dense.bias)?),
        }
    }

    /// Never in int8: the head is a thousandth of the work, and what it rounds goes into the logit undiluted.
    fn exact(&self, dense: &Dense) -> Result<Linear, TchError> {
        Ok(Linear::Float { weight: self.width(dense)?, bias: self.vector(&dense.bias)? })
    }

    /// `[outputs, inputs]`.
    fn width(&self, dense: &Dense) -> Result<Tensor, TchError> {
        self.matrix(&dense.weight, dense.weight.len() / dense.bias.len())
    }

    fn norm(&self, norm: &Norm) -> Result<LayerNorm, TchError> {
        Ok(LayerNorm {
            weight: self.vector(&norm.weight)?,
            bias: self.vector(&norm.bias)?,
            epsilon: self.epsilon,
        })
    }

    fn matrix(&self, values: &[f32], width: usize) -> Result<Tensor, TchError> {
        self.vector(values)?.f_view([(values.len() / width) as i64, width as i64])
    }

    fn vector(&self, values: &[f32]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(values)?.f_to_kind(self.precision.kind())?.f_to_device(self.device)
    }
}
