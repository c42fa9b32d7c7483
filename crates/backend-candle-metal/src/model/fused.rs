//! The model on CUDA: rows end to end, cuBLAS for products, kernels of our own for everything between them.
//!
//! Nothing is computed for padding, and of the last layer only first tokens are once keys and values are there. Rows pass
//! through in spans, so that memory does not grow with the batch. No wait before the logits: one upload, one download.

use candle_core::{DType, Device, Result, Tensor};
use rerank_core::{BackendError, Dense, LayerWeights, Model, Norm, TokenBatch};

use super::spans;
use crate::cuda::{
    Activate, AddNorm, Attend, AttendFirst, Embed, Indices, Kernels, LayerNorm, Score, Span, TakeFirst,
};
use crate::error;

/// Tokens that pass through the model together, so that memory does not grow with the batch: the activations of a model 384
/// wide (12 KB a token at most) take 800 MB at most. Measured on an H100 with 512 rows of 128 tokens in f16: spans half as
/// long are 4 % slower, of an eighth 14 %, of a sixteenth 36 %.
const SPAN_TOKENS: usize = 64 << 10;

/// A cross-encoder on one GPU in one dtype.
pub(crate) struct FusedModel {
    device: Device,
    kernels: Kernels,
    token_types: u32,
    /// `[vocab, hidden]`.
    word: Tensor,
    /// `[positions * types, hidden]`: every sum of a position's and a type's embedding.
    place: Tensor,
    embedding_norm: LayerNorm,
    /// All layers but the last: query, key and value from one product, `[hidden, 3 * hidden]`.
    layers: Vec<Layer<Tensor>>,
    /// The last layer: query apart from key and value, because only first tokens need one.
    last: Layer<(Tensor, Tensor)>,
    head: Linear,
    /// f32, `[hidden]`.
    out_weight: Tensor,
    out_bias: f32,
}

/// Products that kernels finish have their weights here and their biases, always f32, beside them.
struct Layer<P> {
    projections: P,
    query_bias: Tensor,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

/// `weight` is `[inputs, outputs]`; `bias` is f32, `[outputs]`, and left to the kernel that follows the product.
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl FusedModel {
    /// Uploads the weights and compiles the kernels.
    pub(crate) fn load(
        model: &Model,
        device: &Device,
        dtype: DType,
    ) -> std::result::Result<Self, BackendError> {
        let config = &model.config;
        let (hidden, heads) = (config.hidden_size, config.heads);
        let upload = Upload { device, dtype, epsilon: config.layer_norm_eps as f32 };
        let kernels = Kernels::load(device, dtype, config).map_err(error::loading)?;
        let embedding = model.embeddings()?;
        let place = embedding.position_type_sums();
        let mut layers = Vec::with_capacity(config.layers - 1);
        for index in 0..config.layers - 1 {
            let (layer, projections) = fold(model.layer(index)?, hidden, heads);
            let load = || {
                let weights = [projections.query.weight.as_slice(), &projections.key_value].concat();
                upload.layer(&layer, upload.weight(&weights, hidden)?, &projections.query.bias)
            };
            layers.push(load().map_err(error::loading)?);
        }
        let (layer, projections) = fold(model.layer(config.layers - 1)?, hidden, heads);
        let head = model.head()?;
        let load = || {
            let query = upload.weight(&projections.query.weight, hidden)?;
            let key_value = upload.weight(&projections.key_value, hidden)?;
            let model = Self {
                kernels,
                token_types: config.type_vocab_size as u32,
                word: upload.matrix(&embedding.word, hidden)?,
                place: upload.matrix(&place, hidden)?,
                embedding_norm: upload.norm(&embedding.norm)?,
                layers,
                last: upload.layer(&layer, (query, key_value), &projections.query.bias)?,
                head: upload.linear(&head.dense)?,
                out_weight: upload.vector(&head.out.weight)?,
                out_bias: head.out.bias[0],
                device: device.clone(),
            };
            device.synchronize()?;
            Ok(model)
        };
        load().map_err(error::loading)
    }

    /// What a report says of the kernels.
    pub(crate) fn kernels(&self) -> &'static str {
        self.kernels.description()
    }

    /// One logit per row.
    pub(crate) fn forward(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        let indices = Indices::upload(batch, self.token_types, &self.device)?;
        let spans = spans(batch, span_tokens(batch));
        let (mut firsts, mut contexts) = (Vec::with_capacity(spans.len()), Vec::with_capacity(spans.len()));
        for rows in spans {
            let (first, context) = self.encode(&Span::new(batch, &indices, rows))?;
            firsts.push(first);
            contexts.push(context);
        }
        self.classify(&joined(firsts)?, &joined(contexts)?)?.to_vec1()
    }

    /// Everything up to the last layer's attention: of each row's first token the residual stream before that layer, and
    /// what attention made of it, `[rows, hidden]` each.
    fn encode(&self, span: &Span) -> Result<(Tensor, Tensor)> {
        let kernels = &self.kernels;
        let (word, place, norm) = (&self.word, &self.place, &self.embedding_norm);
        let x = Embed { kernels, span, word, place, norm }.forward()?;
        for layer in &self.layers {
            let attend = Attend { kernels, span, query_bias: &layer.query_bias };
            let context = x.matmul(&layer.projections)?.apply_op1_no_bwd(&attend)?;
            layer.finish(kernels, &x, &context)?;
        }
        let (query, key_value) = &self.last.projections;
        let key_value = x.matmul(key_value)?;
        let first = x.apply_op1_no_bwd(&TakeFirst { kernels, span })?;
        let attend = AttendFirst { kernels, span, query_bias: &self.last.query_bias };
        let context = first.matmul(query)?.apply_op2_no_bwd(&key_value, &attend)?;
        Ok((first, context))
    }

    /// The rest of the last layer and the head, for first tokens of all rows together. Logits, f32, `[rows]`.
    fn classify(&self, first: &Tensor, context: &Tensor) -> Result<Tensor> {
        let kernels = &self.kernels;
        self.last.finish(kernels, first, context)?;
        let inside = first.matmul(&self.head.weight)?;
        inside.inplace_op1(&Activate { kernels, in_head: true, shift: &self.head.bias })?;
        inside.apply_op1_no_bwd(&Score { kernels, weight: &self.out_weight, bias: self.out_bias })
    }
}

impl<P> Layer<P> {
    /// What follows attention, in place on the residual stream `x`.
    fn finish(&self, kernels: &Kernels, x: &Tensor, context: &Tensor) -> Result<()> {
        let delta = context.matmul(&self.output.weight)?;
        x.inplace_op2(&delta, &AddNorm { kernels, shift: &self.output.bias, norm: &self.attention_norm })?;
        let inside = x.matmul(&self.up.weight)?;
        inside.inplace_op1(&Activate { kernels, in_head: false, shift: &self.up.bias })?;
        let delta = inside.matmul(&self.down.weight)?;
        x.inplace_op2(&delta, &AddNorm { kernels, shift: &self.down.bias, norm: &self.mlp_norm })
    }
}

/// Tokens of a span, so that spans are of like size.
fn span_tokens(batch: &TokenBatch) -> usize {
    let tokens = batch.tokens();
    tokens.div_ceil(tokens.div_ceil(SPAN_TOKENS)) + batch.max_len()
}

fn joined(mut parts: Vec<Tensor>) -> Result<Tensor> {
    if parts.len() == 1 { Ok(parts.remove(0)) } else { Tensor::cat(&parts, 0) }
}

/// What attention begins with.
struct Projections {
    query: Dense,
    /// `[2 * hidden, hidden]`
    key_value: Vec<f32>,
}

/// Takes the projections out of a layer, in the form that the attention kernels want.
///
/// The softmax's scale and `log2(e)`, since the kernels raise 2 to their scores, go into the query. A key's bias adds the same
/// to all scores of a query, which the softmax takes out again: it is left out. A value's bias passes through attention
/// unchanged, since weights sum to one, and joins the output's bias.
fn fold(mut layer: LayerWeights, hidden: usize, heads: usize) -> (LayerWeights, Projections) {
    let scale = std::f32::consts::LOG2_E / ((hidden / heads) as f32).sqrt();
    let empty = Dense { weight: Vec::new(), bias: Vec::new() };
    let (mut query, key_value) = std::mem::replace(&mut layer.query_key_value, empty).split(hidden);
    for value in query.weight.iter_mut().chain(&mut query.bias) {
        *value *= scale;
    }
    let value_bias = &key_value.bias[hidden..];
    for (bias, row) in layer.output.bias.iter_mut().zip(layer.output.weight.chunks_exact(hidden)) {
        *bias += row.iter().zip(value_bias).map(|(weight, value)| weight * value).sum::<f32>();
    }
    (layer, Projections { query, key_value: key_value.weight })
}

/// Brings weights to the device.
struct Upload<'a> {
    device: &'a Device,
    dtype: DType,
    epsilon: f32,
}

impl Upload<'_> {
    fn layer<P>(&self, weights: &LayerWeights, projections: P, query_bias: &[f32]) -> Result<Layer<P>> {
        Ok(Layer {
            projections,
            query_bias: self.vector(query_bias)?,
            output: self.linear(&weights.output)?,
            attention_norm: self.norm(&weights.attention_norm)?,
            up: self.linear(&weights.up)?,
            down: self.linear(&weights.down)?,
            mlp_norm: self.norm(&weights.mlp_norm)?,
        })
    }

    fn linear(&self, dense: &Dense) -> Result<Linear> {
        let inputs = dense.weight.len() / dense.bias.len();
        Ok(Linear { weight: self.weight(&dense.weight, inputs)?, bias: self.vector(&dense.bias)? })
    }

    /// `[outputs, inputs]` as checkpoints have it, seen as `[inputs, outputs]`: cuBLAS takes it either way.
    fn weight(&self, values: &[f32], inputs: usize) -> Result<Tensor> {
        self.matrix(values, inputs)?.t()
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

    /// Biases and norms stay f32: they are small, and the kernels compute in f32.
    fn vector(&self, values: &[f32]) -> Result<Tensor> {
        Tensor::from_slice(values, values.len(), self.device)
    }
}

#[cfg(test)]
mod tests {
    use rerank_core::{Dense, LayerWeights, Norm};

    use super::fold;

    #[test]
    fn biases_of_key_and_value_move_and_the_scale_joins_the_query() {
        let norm = || Norm { weight: vec![1.0; 2], bias: vec![0.0; 2] };
        let dense = || Dense { weight: vec![1.0, 2.0, 3.0, 4.0], bias: vec![10.0, 20.0] };
        let layer = LayerWeights {
            query_key_value: Dense {
                weight: (0..12).map(|value| value as f32).collect(),
                bias: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            },
            output: dense(),
            attention_norm: norm(),
            up: dense(),
            down: dense(),
            mlp_norm: norm(),
        };
        let (layer, projections) = fold(layer, 2, 2);
        let scale = std::f32::consts::LOG2_E;
        assert_eq!(projections.query.weight, [0.0, 1.0, 2.0, 3.0].map(|value| value * scale));
        assert_eq!(projections.query.bias, [1.0, 2.0].map(|value| value * scale));
        assert_eq!(projections.key_value, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        // The value's bias is 5, 6: 5 + 2 * 6 and 3 * 5 + 4 * 6 join the output's.
        assert_eq!(layer.output.bias, [27.0, 59.0]);
    }
}
