//! Kernels of our own for NVIDIA GPUs, as candle custom ops on packed rows.
//!
//! candle's operations write every bias, every residual and every score to memory and read it back. Here a layer is
//! four products (cuBLAS, through candle) and four kernels: attention straight over what the product of query, key and
//! value left, bias with activation, and twice bias with residual and layer norm. Each reads and writes a value once.

use std::ops::Range;

use candle_core::{CudaDevice, DType, Device, Result, Tensor, bail};
use rerank_core::{Activation, ModelConfig, TokenBatch};

mod launch;
mod ops;

use launch::Kernel;
pub(crate) use ops::{Activate, AddNorm, Attend, AttendFirst, Embed, LayerNorm, Score, TakeFirst};

/// Widest head, and the widest hidden state, that kernels exist for.
const MAX_HEAD_DIM: usize = 128;
const MAX_HIDDEN: usize = 1024;

/// Heads that the tensor cores' kernel was compiled for.
const TENSOR_HEAD_DIMS: [usize; 3] = [32, 64, 128];

/// Values of a row that a lane of a warp may hold, over four: the layer norms that were compiled.
const NORM_PIECES: [usize; 6] = [1, 2, 3, 4, 6, 8];

mod ptx {
    pub(super) const ROWS: &str = include_str!(concat!(env!("OUT_DIR"), "/rows.ptx"));
    pub(super) const ATTENTION: &str = include_str!(concat!(env!("OUT_DIR"), "/attention.ptx"));
    pub(super) const TENSOR_ATTENTION: &str = include_str!(concat!(env!("OUT_DIR"), "/tensor_attention.ptx"));
}

/// Whether kernels exist for a model of this shape.
pub(crate) fn fits(config: &ModelConfig) -> bool {
    // Rows are read 16 bytes at a time.
    let whole = config.hidden_size.is_multiple_of(8) && config.intermediate_size.is_multiple_of(8);
    whole && config.hidden_size <= MAX_HIDDEN && config.head_dim() <= MAX_HEAD_DIM
}

/// The kernels of one model in one dtype, compiled for its device.
pub(crate) struct Kernels {
    embed: Kernel,
    add_norm: Kernel,
    activate: Kernel,
    tanh: Kernel,
    attention: Attention,
    attend_first: Kernel,
    take_first: Kernel,
    score: Kernel,
    heads: usize,
    head_dim: usize,
}

/// How whole rows attend.
enum Attention {
    TensorCores(Kernel),
    General(Kernel),
}

impl Kernels {
    /// Compiles what a model that [`fits`] needs.
    pub(crate) fn load(device: &Device, dtype: DType, config: &ModelConfig) -> Result<Self> {
        let device = device.as_cuda_device()?;
        let name = dtype_name(dtype)?;
        let pieces = norm_pieces(config.hidden_size);
        let head_dim = config.head_dim();
        let columns = head_dim.div_ceil(32);
        let rows = |name: &str| Kernel::load(device, name, "rerank-rows", ptx::ROWS);
        let attention = |name: &str| Kernel::load(device, name, "rerank-attention", ptx::ATTENTION);
        let on_tensor_cores =
            dtype != DType::F32 && TENSOR_HEAD_DIMS.contains(&head_dim) && has_tensor_kernels();
        Ok(Self {
            embed: rows(&format!("embed_{name}_{pieces}"))?,
            add_norm: rows(&format!("add_norm_{name}_{pieces}"))?,
            activate: rows(&format!("activate_{name}_{}", activation_name(config.activation)))?,
            tanh: rows(&format!("activate_{name}_tanh"))?,
            attention: if on_tensor_cores {
                Attention::TensorCores(tensor_attention(device, &format!("tensor_attend_{name}_{head_dim}"))?)
            } else {
                Attention::General(attention(&format!("attend_{name}_{columns}"))?)
            },
            attend_first: attention(&format!("attend_first_{name}_{columns}"))?,
            take_first: rows(&format!("take_first_{name}"))?,
            score: rows(&format!("score_{name}"))?,
            heads: config.heads,
            head_dim,
        })
    }

    /// What a report says of them.
    pub(crate) fn description(&self) -> &'static str {
        match self.attention {
            Attention::TensorCores(_) => "own, attention on tensor cores",
            Attention::General(_) => "own, attention without tensor cores",
        }
    }
}

fn tensor_attention(device: &CudaDevice, name: &str) -> Result<Kernel> {
    Kernel::load(device, name, "rerank-tensor-attention", ptx::TENSOR_ATTENTION)
}

/// Whether this build's kernels were compiled for GPUs with the tensor cores that they are written for.
fn has_tensor_kernels() -> bool {
    env!("KERNELS_COMPUTE_CAPABILITY").parse::<u32>().is_ok_and(|capability| capability >= 80)
}

fn dtype_name(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::F16 => Ok("f16"),
        DType::BF16 => Ok("bf16"),
        other => bail!("no kernels for {other:?}"),
    }
}

fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_tanh",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
    }
}

/// The fewest pieces of four values a lane that hold a row.
fn norm_pieces(hidden: usize) -> usize {
    let needed = hidden.div_ceil(4 * 32);
    NORM_PIECES.into_iter().find(|&pieces| pieces >= needed).expect("`fits` was asked, and no wider row fits")
}

/// A batch's indices on the device, uploaded in one piece.
pub(crate) struct Indices {
    /// Token ids, `[tokens]`; indices into the table of positions and types, `[tokens]`; `cu_seqlens`, `[rows + 1]`.
    all: Tensor,
    tokens: usize,
}

impl Indices {
    pub(crate) fn upload(batch: &TokenBatch, token_types: u32, device: &Device) -> Result<Self> {
        let all = indices(batch, token_types);
        Ok(Self {
            all: Tensor::from_vec(all, 2 * batch.tokens() + batch.rows() + 1, device)?,
            tokens: batch.tokens(),
        })
    }
}

fn indices(batch: &TokenBatch, token_types: u32) -> Vec<u32> {
    let mut all = Vec::with_capacity(2 * batch.tokens() + batch.rows() + 1);
    all.extend_from_slice(batch.ids());
    all.extend(batch.positions().iter().zip(batch.type_ids()).map(|(at, kind)| at * token_types + kind));
    all.extend_from_slice(batch.cu_seqlens());
    all
}

/// Consecutive rows of a batch that pass through the model together.
pub(crate) struct Span<'a> {
    indices: &'a Indices,
    rows: Range<usize>,
    tokens: Range<usize>,
    longest: usize,
}

impl<'a> Span<'a> {
    pub(crate) fn new(batch: &TokenBatch, indices: &'a Indices, rows: Range<usize>) -> Self {
        let tokens = batch.row(rows.start).start..batch.row(rows.end - 1).end;
        let longest = rows.clone().map(|row| batch.row(row).len()).max().unwrap_or(0);
        Self { indices, rows, tokens, longest }
    }
}

#[cfg(test)]
mod tests {
    use rerank_core::{PositionScheme, RowLimits, TokenBatch};

    use super::{Indices, Span, indices, norm_pieces};

    fn batch(lens: &[usize]) -> TokenBatch {
        let limits = RowLimits {
            max_length: 8,
            vocab_size: 10,
            type_vocab_size: 2,
            positions: PositionScheme::FromZero,
        };
        let mut builder = TokenBatch::builder(limits);
        for &len in lens {
            builder.push(&vec![3; len], &(0..len).map(|i| u32::from(i > 0)).collect::<Vec<_>>()).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn indices_are_ids_then_places_then_starts() {
        assert_eq!(indices(&batch(&[2, 3]), 2), [3, 3, 3, 3, 3, 0, 3, 0, 3, 5, 0, 2, 5]);
    }

    #[test]
    fn a_span_knows_its_tokens_and_its_longest_row() {
        let batch = batch(&[1, 2, 8, 3]);
        let all = candle_core::Tensor::from_vec(indices(&batch, 2), 33, &candle_core::Device::Cpu).unwrap();
        let indices = Indices { all, tokens: batch.tokens() };
        let span = Span::new(&batch, &indices, 1..3);
        assert_eq!((span.tokens, span.longest), (1..11, 8));
    }

    #[test]
    fn rows_have_lanes_enough() {
        assert_eq!([8, 128, 160, 384, 768, 1024].map(norm_pieces), [1, 1, 2, 3, 6, 8]);
    }
}
