//! The model as a function of arrays: weights and batch go in as inputs, so that MLX can compile it.
//!
//! Query, key and value come from one product; position and token type share one table, so that the embedding is two
//! lookups; and of the last layer only first tokens are computed once keys and values are there.

use mlx_rs::error::Result;
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops::{erf, maximum, sigmoid, split_equal, tanh};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype, Stream, with_stream};
use rerank_core::{Activation, BackendError, DType, Device, LoadSpec, Model, ModelConfig, TokenBatch};

use super::error::{self, MlxError};
use super::graphs::{self, Graphs};
use super::weights::{Operands, Products, Upload};
use super::{inputs, memory};

/// A cross-encoder on one device in one dtype.
pub(super) struct MlxModel {
    stream: Stream,
    config: ModelConfig,
    encoder: Encoder,
    /// In the order in which [`Encoder::logits`] takes them.
    weights: Vec<Array>,
    graphs: Graphs,
}

/// What the graph depends on besides arrays and shape.
#[derive(Clone, Copy)]
struct Encoder {
    layers: usize,
    hidden: i32,
    heads: i32,
    activation: Activation,
    epsilon: f32,
    /// Of activations.
    dtype: Dtype,
    products: Products,
}

impl MlxModel {
    /// Uploads the weights.
    pub(super) fn load(spec: &LoadSpec, graphs: Graphs) -> std::result::Result<Self, BackendError> {
        let config = &spec.model.config;
        let encoder = Encoder {
            layers: config.layers,
            hidden: config.hidden_size as i32,
            heads: config.heads as i32,
            activation: config.activation,
            epsilon: config.layer_norm_eps as f32,
            // Norms, softmax and what lies between int8 products are f32.
            dtype: match spec.dtype {
                DType::F32 | DType::Int8 => Dtype::Float32,
                DType::F16 => Dtype::Float16,
                DType::BF16 => Dtype::Bfloat16,
            },
            products: match spec.dtype {
                DType::Int8 => int8(&spec.model)?,
                DType::F32 | DType::F16 | DType::BF16 => Products::Plain,
            },
        };
        let device = match spec.device {
            Device::Cpu => mlx_rs::Device::cpu(),
            Device::Cuda(_) | Device::Metal => mlx_rs::Device::gpu(),
        };
        memory::room_for(memory::of_weights(config, encoder.width())).map_err(error::loading)?;
        let stream = Stream::try_default_on_device(&device).map_err(error::loading)?;
        let weights = with_stream(&stream, || upload(&spec.model, encoder))?;
        Ok(Self { stream, config: config.clone(), encoder, weights, graphs })
    }

    /// One logit per row, computed over rows of `len` tokens. The only wait is for the logits.
    pub(super) fn forward(
        &mut self,
        batch: &TokenBatch,
        len: usize,
    ) -> std::result::Result<Vec<f32>, MlxError> {
        memory::room_for(memory::of_batch(&self.config, batch.rows(), len, self.encoder.width()))?;
        let shape = (batch.rows() as i32, len as i32);
        let padded = batch.pad(len, self.config.pad_token_id);
        let mut arrays = inputs::arrays(&padded, self.config.type_vocab_size as u32).to_vec();
        arrays.extend_from_slice(&self.weights);
        let encoder = self.encoder;
        with_stream(&self.stream, || {
            let outputs = self.graphs.run(shape, &arrays, move |arrays| encoder.logits(shape, arrays))?;
            Ok(graphs::only(outputs)?.try_as_slice::<f32>()?.to_vec())
        })
    }
}

/// The largest group that divides the width of every product: fewer scales, and no group across two rows.
fn int8(model: &Model) -> std::result::Result<Products, BackendError> {
    let widths = [model.config.hidden_size, model.config.intermediate_size];
    let group = [64, 32].into_iter().find(|group| widths.iter().all(|width| width % group == 0));
    group.map(|group| Products::Int8 { group: group as i32 }).ok_or_else(|| {
        BackendError::unsupported(format!(
            "dtype `int8` for widths of {} and {}: MLX quantises by groups of 32 or 64; choose `f32` or `f16`",
            widths[0], widths[1]
        ))
    })
}

/// Everything that [`Encoder::logits`] takes after the batch, evaluated.
fn upload(model: &Model, encoder: Encoder) -> std::result::Result<Vec<Array>, BackendError> {
    let hidden = model.config.hidden_size;
    let mut upload = Upload { dtype: encoder.dtype, products: encoder.products, arrays: Vec::new() };
    let embedding = model.embeddings()?;
    let mut embed = || {
        upload.matrix(&embedding.word, hidden)?;
        upload.matrix(&embedding.position_type_sums(), hidden)?;
        upload.norm(&embedding.norm)
    };
    embed().map_err(error::loading)?;
    for index in 0..encoder.layers {
        let layer = model.layer(index)?;
        let mut push = || {
            if index + 1 < encoder.layers {
                upload.dense(&layer.query_key_value)?;
            } else {
                let (query, key_value) = layer.query_key_value.clone().split(hidden);
                upload.dense(&key_value)?;
                upload.dense(&query)?;
            }
            upload.dense(&layer.output)?;
            upload.norm(&layer.attention_norm)?;
            upload.dense(&layer.up)?;
            upload.dense(&layer.down)?;
            upload.norm(&layer.mlp_norm)?;
            // Layer by layer, so that the f32 originals of one layer are there at a time.
            eval(&upload.arrays)
        };
        push().map_err(error::loading)?;
    }
    let head = model.head()?;
    let mut finish = || {
        upload.plain(&head.dense)?;
        upload.plain(&head.out)?;
        eval(&upload.arrays)
    };
    finish().map_err(error::loading)?;
    Ok(upload.arrays)
}

impl Encoder {
    /// Bytes of a number.
    fn width(self) -> usize {
        match self.dtype {
            Dtype::Float16 | Dtype::Bfloat16 => 2,
            _ => 4,
        }
    }

    /// The logits, `[rows]` in f32, from a batch's arrays and the weights.
    fn logits(self, (rows, len): graphs::Shape, arrays: &[Array]) -> Result<Vec<Array>> {
        let mut operands = Operands { arrays: arrays.iter(), products: self.products, epsilon: self.epsilon };
        let (ids, places, real) = (operands.next()?, operands.next()?, operands.next()?);
        let (word, place) = (operands.next()?, operands.next()?);
        let x = word.take_axis(ids, 0)?.add(place.take_axis(places, 0)?)?;
        let mut x = operands.norm(&x)?;
        for _ in 1..self.layers {
            let [query, key, value] = self.split_heads(&operands.dense(&x)?, rows)?;
            let context = self.attend(&query, &key, &value, real)?.reshape(&[rows * len, self.hidden])?;
            x = self.finish(&mut operands, &x, &context)?;
        }
        let [key, value] = self.split_heads(&operands.dense(&x)?, rows)?;
        let first = x.reshape(&[rows, len, self.hidden])?.take_axis(Array::from_int(0), 1)?;
        let [query] = self.split_heads(&operands.dense(&first)?, rows)?;
        let context = self.attend(&query, &key, &value, real)?.reshape(&[rows, self.hidden])?;
        let first = self.finish(&mut operands, &first, &context)?;
        let pooled = tanh(operands.plain(&first)?)?;
        Ok(vec![operands.plain(&pooled)?.reshape(&[rows])?.as_dtype(Dtype::Float32)?])
    }

    /// Splits `[rows * len, N * hidden]` into `N` times `[rows, heads, len, head_dim]`, without a copy.
    fn split_heads<const N: usize>(self, projections: &Array, rows: i32) -> Result<[Array; N]> {
        let parts = split_equal(projections, N as i32, 1)?;
        let heads = parts.into_iter().map(|part| {
            part.reshape(&[rows, -1, self.heads, self.hidden / self.heads])?.transpose_axes(&[0, 2, 1, 3])
        });
        Ok(heads.collect::<Result<Vec<_>>>()?.try_into().expect("it was split into N parts"))
    }

    /// `[rows, len, heads, head_dim]`: what each token takes from the real tokens of its row.
    fn attend(self, query: &Array, key: &Array, value: &Array, real: &Array) -> Result<Array> {
        let scale = 1.0 / ((self.hidden / self.heads) as f32).sqrt();
        let real = ScaledDotProductAttentionMask::Array(real);
        scaled_dot_product_attention(query, key, value, scale, real, None)?.transpose_axes(&[0, 2, 1, 3])
    }

    /// What follows attention in a layer.
    fn finish(self, operands: &mut Operands, x: &Array, context: &Array) -> Result<Array> {
        let attended = operands.dense(context)?.add(x)?;
        let x = operands.norm(&attended)?;
        let inside = self.activate(&operands.dense(&x)?)?;
        let down = operands.dense(&inside)?.add(x)?;
        operands.norm(&down)
    }

    fn activate(self, x: &Array) -> Result<Array> {
        // An array without dimensions counts like any other when MLX chooses the dtype of a result.
        let number = |value: f32| Array::from_f32(value).as_dtype(self.dtype);
        match self.activation {
            Activation::Gelu => {
                let phi = erf(x.multiply(number(std::f32::consts::FRAC_1_SQRT_2)?)?)?.add(number(1.0)?)?;
                x.multiply(number(0.5)?)?.multiply(phi)
            }
            Activation::GeluTanh => {
                let cube = x.multiply(x)?.multiply(x)?.multiply(number(0.044_715)?)?;
                let inner = x.add(cube)?.multiply(number((2.0 / std::f32::consts::PI).sqrt())?)?;
                x.multiply(number(0.5)?)?.multiply(tanh(inner)?.add(number(1.0)?)?)
            }
            Activation::Relu => maximum(x, number(0.0)?),
            Activation::Silu => x.multiply(sigmoid(x)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use rerank_conformance::GoldenModel;
    use rerank_core::{DType, Device, LoadSpec, TokenBatch};

    use super::{Graphs, MlxModel};
    use crate::runtime::memory;

    fn spec(dtype: DType) -> LoadSpec {
        let model = GoldenModel::RerankTiny.model();
        LoadSpec {
            max_length: model.config.max_length(),
            model,
            device: Device::Cpu,
            dtype,
            threads: None,
            options: std::collections::BTreeMap::new(),
        }
    }

    fn filler(spec: &LoadSpec, rows: usize, len: usize) -> TokenBatch {
        TokenBatch::filler(spec.model.config.row_limits(spec.max_length), rows, len).unwrap()
    }

    /// What the GPU runs. It compiles for the CPU too, by the machine's C++ compiler, which is slow and fine for once.
    #[test]
    fn compiled_graphs_compute_what_the_function_does() {
        for dtype in [DType::F32, DType::Int8] {
            let spec = spec(dtype);
            let mut direct = MlxModel::load(&spec, Graphs::Direct).unwrap();
            let mut compiled = MlxModel::load(&spec, Graphs::Compiled(Vec::new())).unwrap();
            for (rows, len, padded) in [(3, 7, 8), (2, 16, 16), (3, 8, 8)] {
                let batch = filler(&spec, rows, len);
                let expected = direct.forward(&batch, padded).unwrap();
                let found = compiled.forward(&batch, padded).unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-4, "{dtype}: {found} {expected}");
                }
            }
        }
    }

    /// Alone in its process under nextest, so that MLX's count is this model's.
    #[test]
    fn a_batch_takes_no_more_memory_than_was_asked_for() {
        let spec = spec(DType::F32);
        let mut model = MlxModel::load(&spec, Graphs::Direct).unwrap();
        for (rows, len) in [(1, 512), (64, 16), (16, 128)] {
            let before = mlx_rs::memory::active_memory().unwrap();
            mlx_rs::memory::reset_peak_memory().unwrap();
            model.forward(&filler(&spec, rows, len), len).unwrap();
            let took = mlx_rs::memory::peak_memory().unwrap().saturating_sub(before);
            let asked = memory::of_batch(&spec.model.config, rows, len, 4);
            println!("{rows} rows of {len}: {took} of {asked}");
            assert!(took > 0 && took <= asked, "{rows} rows of {len}: {took} of {asked}");
        }
    }
}
