//! The model on candle's own operations, padded: Metal in every dtype, the CPU in f16 and bf16, and on CUDA the models
//! whose shape the kernels of [`crate::cuda`] do not take.
//!
//! Laid out for few kernel launches and no wait before the end. Query, key and value come from one product and are
//! split by one copy; the softmax's scale lies in the query's weights; position and token type share one table, so
//! that the embedding is two lookups; a batch uploads its indices in one piece and its mask, only where rows differ in
//! length, in another; and of the last layer only first tokens are computed once keys and values are there.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use rerank_core::{Activation, BackendError, Dense, LayerWeights, Model, Norm, TokenBatch};

use crate::error;

mod batch;

use batch::Inputs;

/// A cross-encoder on one device in one dtype.
pub(crate) struct PaddedModel {
    device: Device,
    dtype: DType,
    pad_token_id: u32,
    token_types: u32,
    /// `[vocab, hidden]`.
    word: Tensor,
    /// `[positions * types, hidden]`: every sum of a position's and a type's embedding.
    place: Tensor,
    embedding_norm: LayerNorm,
    /// All layers but the last.
    layers: Vec<Layer<Linear>>,
    /// The last layer: query apart from key and value, because only first tokens need one.
    last: Layer<(Linear, Linear)>,
    head: Linear,
    out: Linear,
    heads: usize,
    activation: Activation,
}

struct Layer<P> {
    projections: P,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

/// `weight` is `[inputs, outputs]`, `bias` is `[outputs]`.
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl PaddedModel {
    /// Uploads the weights.
    pub(crate) fn load(
        model: &Model,
        device: &Device,
        dtype: DType,
    ) -> std::result::Result<Self, BackendError> {
        let config = &model.config;
        let upload = Upload { device, dtype, epsilon: config.layer_norm_eps as f32 };
        let embedding = model.embeddings()?;
        let place = embedding.position_type_sums();
        let (mut layers, last) = (Vec::with_capacity(config.layers - 1), config.layers - 1);
        for index in 0..last {
            let (layer, projections) = split(model.layer(index)?, config.hidden_size, config.heads);
            let projections = upload.linear(&join(projections)).map_err(error::loading)?;
            layers.push(upload.layer(&layer, projections).map_err(error::loading)?);
        }
        let (layer, (query, key_value)) = split(model.layer(last)?, config.hidden_size, config.heads);
        let head = model.head()?;
        let build = || {
            Ok(Self {
                word: upload.matrix(&embedding.word, config.hidden_size)?,
                place: upload.matrix(&place, config.hidden_size)?,
                embedding_norm: upload.norm(&embedding.norm)?,
                layers,
                last: upload.layer(&layer, (upload.linear(&query)?, upload.linear(&key_value)?))?,
                head: upload.linear(&head.dense)?,
                out: upload.linear(&head.out)?,
                heads: config.heads,
                activation: config.activation,
                pad_token_id: config.pad_token_id,
                token_types: config.type_vocab_size as u32,
                dtype,
                device: device.clone(),
            })
        };
        build().map_err(error::loading)
    }

    /// One logit per row. The only wait is for the logits.
    pub(crate) fn forward(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        let padded = batch.pad(batch.max_len(), self.pad_token_id);
        let inputs = Inputs::upload(&padded, self.token_types, self.dtype, &self.device)?;
        let Inputs { rows, len, .. } = inputs;
        let hidden = self.word.dim(1)?;

        let x = self.word.index_select(&inputs.ids, 0)?;
        let mut x = self.embedding_norm.forward(&(x + self.place.index_select(&inputs.places, 0)?)?)?;
        for layer in &self.layers {
            let [query, key, value] = self.heads::<3>(&layer.projections.forward(&x)?, rows, len)?;
            let context = self.attend(&query, &key, &value, inputs.mask.as_ref())?;
            let context = context.transpose(1, 2)?.reshape((rows * len, hidden))?;
            x = layer.finish(&x, &context, self.activation)?;
        }

        let (query, key_value) = &self.last.projections;
        let [key, value] = self.heads::<2>(&key_value.forward(&x)?, rows, len)?;
        let first = x.reshape((rows, len, hidden))?.narrow(1, 0, 1)?.reshape((rows, hidden))?;
        let query = query.forward(&first)?.reshape((rows, self.heads, 1, hidden / self.heads))?;
        let context = weigh(&query, &key, &value, inputs.mask.as_ref())?.reshape((rows, hidden))?;
        let first = self.last.finish(&first, &context, self.activation)?;
        let logits = self.out.forward(&self.head.forward(&first)?.tanh()?)?;
        logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
    }

    /// Splits `[rows * len, N * hidden]` into `N` times `[rows, heads, len, head_dim]`, by one copy.
    fn heads<const N: usize>(&self, projections: &Tensor, rows: usize, len: usize) -> Result<[Tensor; N]> {
        let head_dim = projections.dim(1)? / (N * self.heads);
        let parts = projections
            .reshape((rows, len, N, self.heads, head_dim))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?;
        let parts: Result<Vec<Tensor>> = (0..N).map(|part| parts.get(part)).collect();
        Ok(parts?.try_into().expect("there are N parts"))
    }

    /// Attention of whole rows: Metal has a fused kernel for it.
    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (rows, heads, len, head_dim) = query.dims4()?;
        // A single token takes candle's vector kernel, which knows no mask; the widths are those that its shaders have.
        let fused = self.device.is_metal() && len > 1 && [32, 64, 72, 80, 96, 128, 256].contains(&head_dim);
        if !fused {
            return weigh(query, key, value, mask);
        }
        let mask = mask.map(|mask| mask.broadcast_as((rows, heads, len, len))).transpose()?;
        candle_nn::ops::sdpa(query, key, value, mask.as_ref(), false, 1.0, 1.0)
    }
}

/// `softmax(query * key^T + mask) * value`; the scale is in the query's weights.
fn weigh(query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let scores = query.matmul(&key.transpose(D::Minus2, D::Minus1)?)?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    softmax(&scores)?.matmul(value)
}

/// On the CPU candle adds the exponentials up in the tensor's own dtype: over 512 keys in bf16 that moved a logit by
/// four. Its kernels for CUDA and Metal keep the sum in f32.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    if scores.device().is_cpu() {
        softmax_last_dim(&scores.to_dtype(DType::F32)?)?.to_dtype(scores.dtype())
    } else {
        softmax_last_dim(scores)
    }
}

impl<P> Layer<P> {
    /// What follows attention.
    fn finish(&self, x: &Tensor, context: &Tensor, activation: Activation) -> Result<Tensor> {
        let x = self.attention_norm.forward(&(self.output.forward(context)? + x)?)?;
        let inside = self.up.forward(&x)?;
        let inside = match activation {
            Activation::Gelu => inside.gelu_erf()?,
            Activation::GeluTanh => inside.gelu()?,
            Activation::Relu => inside.relu()?,
            Activation::Silu => inside.silu()?,
        };
        self.mlp_norm.forward(&(self.down.forward(&inside)? + x)?)
    }
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.epsilon)
    }
}

/// Brings weights to the device.
struct Upload<'a> {
    device: &'a Device,
    dtype: DType,
    epsilon: f32,
}

impl Upload<'_> {
    fn layer<P>(&self, weights: &LayerWeights, projections: P) -> Result<Layer<P>> {
        Ok(Layer {
            projections,
            output: self.linear(&weights.output)?,
            attention_norm: self.norm(&weights.attention_norm)?,
            up: self.linear(&weights.up)?,
            down: self.linear(&weights.down)?,
            mlp_norm: self.norm(&weights.mlp_norm)?,
        })
    }

    fn linear(&self, dense: &Dense) -> Result<Linear> {
        let inputs = dense.weight.len() / dense.bias.len();
        let weight = self.matrix(&dense.weight, inputs)?.t()?.contiguous()?;
        Ok(Linear { weight, bias: self.vector(&dense.bias)? })
    }

    fn norm(&self, norm: &Norm) -> Result<LayerNorm> {
        Ok(LayerNorm {
            weight: self.vector(&norm.weight)?,
            bias: self.vector(&norm.bias)?,
            epsilon: self.epsilon,
        })
    }

    fn matrix(&self, values: &[f32], width: usize) -> Result<Tensor> {
        Tensor::from_slice(values, (values.len() / width, width), self.device)?.to_dtype(self.dtype)
    }

    fn vector(&self, values: &[f32]) -> Result<Tensor> {
        Tensor::from_slice(values, values.len(), self.device)?.to_dtype(self.dtype)
    }
}

/// Takes the query, scaled for the softmax, apart from key and value.
fn split(mut layer: LayerWeights, hidden: usize, heads: usize) -> (LayerWeights, (Dense, Dense)) {
    let scale = 1.0 / ((hidden / heads) as f32).sqrt();
    let empty = Dense { weight: Vec::new(), bias: Vec::new() };
    let (mut query, key_value) = std::mem::replace(&mut layer.query_key_value, empty).split(hidden);
    for value in query.weight.iter_mut().chain(&mut query.bias) {
        *value *= scale;
    }
    (layer, (query, key_value))
}

fn join((mut first, second): (Dense, Dense)) -> Dense {
    first.weight.extend(second.weight);
    first.bias.extend(second.bias);
    first
}
