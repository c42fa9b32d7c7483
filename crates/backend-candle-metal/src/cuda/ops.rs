//! The kernels as candle ops. `kernels/*.cu` say what each computes; the parameters' order here is theirs.

#![expect(unsafe_code, reason = "a launch trusts its arguments")]

use candle_core::backend::BackendStorage as _;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, DType, Error, InplaceOp1, InplaceOp2, Layout, Result,
    Shape, Tensor, bail,
};

use super::launch::{Argument, address, address_behind, address_of, allocate};
use super::{Attention, Kernels, Span};

/// Threads of a block whose warps have a row each.
const ROW_THREADS: u32 = 128;
const ROWS_PER_BLOCK: usize = 4;
const ACTIVATION_THREADS: u32 = 256;
/// Of the kernel on tensor cores: threads of a block, and queries that it answers.
const TENSOR_THREADS: u32 = 128;
const TENSOR_QUERIES: usize = 64;
/// Of the general kernel: most warps of a block, queries of a warp, and keys in shared memory.
const MAX_WARPS: usize = 4;
const WARP_QUERIES: usize = 8;
const KEYS: usize = 32;
/// What every GPU gives a block without being asked.
const SHARED_BYTES: usize = 48 << 10;

/// Ops have no form on the CPU: there the model has another.
fn refuse<T>(name: &str) -> Result<T> {
    bail!("`{name}` runs on CUDA only")
}

/// Scale, shift and epsilon of a layer norm; both tensors f32, `[hidden]`.
pub(crate) struct LayerNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) epsilon: f32,
}

/// Indices of a batch to the normed embedding of a span's tokens, `[tokens, hidden]`.
pub(crate) struct Embed<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) span: &'a Span<'a>,
    /// `[vocab, hidden]`.
    pub(crate) word: &'a Tensor,
    /// `[positions * types, hidden]`.
    pub(crate) place: &'a Tensor,
    pub(crate) norm: &'a LayerNorm,
}

impl Embed<'_> {
    /// Runs it.
    pub(crate) fn forward(&self) -> Result<Tensor> {
        self.span.indices.all.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for Embed<'_> {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        refuse(self.name())
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        let Span { indices, tokens, .. } = self.span;
        let (rows, hidden) = (tokens.len(), self.word.dim(1)?);
        let shape = Shape::from((rows, hidden));
        let device = self.word.device().as_cuda_device()?;
        let out = allocate(device, &shape, self.word.dtype())?;
        let arguments = [
            address_of(&indices.all.narrow(0, tokens.start, rows)?)?,
            address_of(&indices.all.narrow(0, indices.tokens + tokens.start, rows)?)?,
            address_of(self.word)?,
            address_of(self.place)?,
            address_of(&self.norm.weight)?,
            address_of(&self.norm.bias)?,
            address(&out, &Layout::contiguous(&shape))?,
            Argument::F32(self.norm.epsilon),
            Argument::U32(rows as u32),
            Argument::I32(hidden as i32),
        ];
        let grid = (rows.div_ceil(ROWS_PER_BLOCK), 1);
        // SAFETY: ids and places were checked against the tables when the batch was built; both slices and `out` have
        // `rows` rows, tables and norms are `hidden` wide.
        unsafe { self.kernels.embed.launch(grid, ROW_THREADS, 0, &arguments) }?;
        Ok((out, shape))
    }
}

/// In place: the residual stream `[rows, hidden]`, plus a product of that shape and its bias, normed.
pub(crate) struct AddNorm<'a> {
    pub(crate) kernels: &'a Kernels,
    /// The product's bias, f32, `[hidden]`.
    pub(crate) shift: &'a Tensor,
    pub(crate) norm: &'a LayerNorm,
}

impl InplaceOp2 for AddNorm<'_> {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        refuse(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &mut CudaStorage,
        x_l: &Layout,
        delta: &CudaStorage,
        delta_l: &Layout,
    ) -> Result<()> {
        let (rows, hidden) = x_l.shape().dims2()?;
        if delta_l.dims() != x_l.dims() || delta.dtype() != x.dtype() {
            bail!("add-norm of {:?} and {:?}", x_l.shape(), delta_l.shape());
        }
        let arguments = [
            address(x, x_l)?,
            address(delta, delta_l)?,
            address_of(self.shift)?,
            address_of(&self.norm.weight)?,
            address_of(&self.norm.bias)?,
            Argument::F32(self.norm.epsilon),
            Argument::U32(rows as u32),
            Argument::I32(hidden as i32),
        ];
        let grid = (rows.div_ceil(ROWS_PER_BLOCK), 1);
        // SAFETY: both tensors are `[rows, hidden]` of the kernels' dtype, the vectors are `hidden` long.
        unsafe { self.kernels.add_norm.launch(grid, ROW_THREADS, 0, &arguments) }
    }
}

/// In place: `[rows, width]` plus its product's bias, through an activation.
pub(crate) struct Activate<'a> {
    pub(crate) kernels: &'a Kernels,
    /// Of the classifier's head: tanh. Of a layer: what the model has.
    pub(crate) in_head: bool,
    /// The product's bias, f32, `[width]`.
    pub(crate) shift: &'a Tensor,
}

impl InplaceOp1 for Activate<'_> {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        refuse(self.name())
    }

    fn cuda_fwd(&self, x: &mut CudaStorage, x_l: &Layout) -> Result<()> {
        let (rows, width) = x_l.shape().dims2()?;
        let piece = 16 / x.dtype().size_in_bytes();
        let all = rows * width / piece;
        let arguments = [
            address(x, x_l)?,
            address_of(self.shift)?,
            Argument::U32(u32::try_from(all).map_err(Error::wrap)?),
            Argument::U32((width / piece) as u32),
        ];
        let kernel = if self.in_head { &self.kernels.tanh } else { &self.kernels.activate };
        let grid = (all.div_ceil(ACTIVATION_THREADS as usize), 1);
        // SAFETY: `x` has `all` pieces of 16 bytes, `width` is a multiple of a piece as `fits` has it, and the bias is
        // `width` long.
        unsafe { kernel.launch(grid, ACTIVATION_THREADS, 0, &arguments) }
    }
}

/// A span's query, key and value, `[tokens, 3 * hidden]`, to what its tokens make of each other, `[tokens, hidden]`.
pub(crate) struct Attend<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) span: &'a Span<'a>,
    /// f32, `[hidden]`.
    pub(crate) query_bias: &'a Tensor,
}

impl CustomOp1 for Attend<'_> {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        refuse(self.name())
    }

    fn cuda_fwd(&self, qkv: &CudaStorage, qkv_l: &Layout) -> Result<(CudaStorage, Shape)> {
        let Kernels { heads, head_dim, ref attention, .. } = *self.kernels;
        let hidden = heads * head_dim;
        let tokens = self.span.tokens.len();
        if qkv_l.dims() != [tokens, 3 * hidden] {
            bail!("attention over {:?} of {tokens} tokens", qkv_l.shape());
        }
        let shape = Shape::from((tokens, hidden));
        let out = allocate(qkv.device(), &shape, qkv.dtype())?;
        let out_at = address(&out, &Layout::contiguous(&shape))?;
        let (query_bias, starts) = (address_of(self.query_bias)?, self.span.starts()?);
        let blocks = self.span.rows.len() * heads;
        match attention {
            Attention::TensorCores(kernel) => {
                let arguments = [
                    address(qkv, qkv_l)?,
                    query_bias,
                    out_at,
                    starts,
                    self.span.base(),
                    Argument::I32(heads as i32),
                ];
                let grid = (blocks, self.span.longest.div_ceil(TENSOR_QUERIES));
                // SAFETY: `qkv` and `out` have the span's tokens, which are those of the rows that begin at `starts`;
                // the kernel was chosen by dtype and head.
                unsafe { kernel.launch(grid, TENSOR_THREADS, 0, &arguments) }?;
            }
            Attention::General(kernel) => {
                let warps = warps(head_dim);
                let arguments = [
                    address(qkv, qkv_l)?,
                    Argument::U32(3 * hidden as u32),
                    query_bias,
                    address_behind(qkv, qkv_l, hidden)?,
                    address_behind(qkv, qkv_l, 2 * hidden)?,
                    Argument::U32(3 * hidden as u32),
                    out_at,
                    starts,
                    self.span.base(),
                    Argument::I32(heads as i32),
                    Argument::I32(head_dim as i32),
                ];
                let grid = (blocks, self.span.longest.div_ceil(warps * WARP_QUERIES));
                let shared = shared_bytes(head_dim, warps * WARP_QUERIES);
                // SAFETY: as above; shared memory holds the keys, values and queries of a block.
                unsafe { kernel.launch(grid, 32 * warps as u32, shared, &arguments) }?;
            }
        }
        Ok((out, shape))
    }
}

/// First tokens' queries, `[rows, hidden]`, and a span's keys and values, `[tokens, 2 * hidden]`, to `[rows, hidden]`.
pub(crate) struct AttendFirst<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) span: &'a Span<'a>,
    /// f32, `[hidden]`.
    pub(crate) query_bias: &'a Tensor,
}

impl CustomOp2 for AttendFirst<'_> {
    fn name(&self) -> &'static str {
        "attend-first"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        refuse(self.name())
    }

    fn cuda_fwd(
        &self,
        query: &CudaStorage,
        query_l: &Layout,
        key_value: &CudaStorage,
        key_value_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let Kernels { heads, head_dim, ref attend_first, .. } = *self.kernels;
        let (hidden, rows, tokens) = (heads * head_dim, self.span.rows.len(), self.span.tokens.len());
        if query_l.dims() != [rows, hidden] || key_value_l.dims() != [tokens, 2 * hidden] {
            bail!("attention of {:?} over {:?}", query_l.shape(), key_value_l.shape());
        }
        let shape = Shape::from((rows, hidden));
        let out = allocate(query.device(), &shape, query.dtype())?;
        let arguments = [
            address(query, query_l)?,
            Argument::U32(hidden as u32),
            address_of(self.query_bias)?,
            address(key_value, key_value_l)?,
            address_behind(key_value, key_value_l, hidden)?,
            Argument::U32(2 * hidden as u32),
            address(&out, &Layout::contiguous(&shape))?,
            self.span.starts()?,
            self.span.base(),
            Argument::I32(heads as i32),
            Argument::I32(head_dim as i32),
        ];
        // SAFETY: the shapes are those that the kernel reads, its rows are the span's, and shared memory holds the keys,
        // the values and one query.
        unsafe { attend_first.launch((rows * heads, 1), 32, shared_bytes(head_dim, 1), &arguments) }?;
        Ok((out, shape))
    }
}

/// A span's residual stream, `[tokens, hidden]`, to that of each row's first token, `[rows, hidden]`.
pub(crate) struct TakeFirst<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) span: &'a Span<'a>,
}

impl CustomOp1 for TakeFirst<'_> {
    fn name(&self) -> &'static str {
        "take-first"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        refuse(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_l: &Layout) -> Result<(CudaStorage, Shape)> {
        let (tokens, hidden) = x_l.shape().dims2()?;
        let rows = self.span.rows.len();
        if tokens != self.span.tokens.len() {
            bail!("first tokens of {:?}, which has not the span's rows", x_l.shape());
        }
        let shape = Shape::from((rows, hidden));
        let out = allocate(x.device(), &shape, x.dtype())?;
        let arguments = [
            address(x, x_l)?,
            self.span.starts()?,
            address(&out, &Layout::contiguous(&shape))?,
            self.span.base(),
            Argument::I32(hidden as i32),
        ];
        // SAFETY: `x` has the span's tokens, among which the rows begin; `out` has a row for each block.
        unsafe { self.kernels.take_first.launch((rows, 1), 96, 0, &arguments) }?;
        Ok((out, shape))
    }
}

/// The classifier's last product: `[rows, hidden]` to logits in f32, `[rows]`.
pub(crate) struct Score<'a> {
    pub(crate) kernels: &'a Kernels,
    /// f32, `[hidden]`.
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: f32,
}

impl CustomOp1 for Score<'_> {
    fn name(&self) -> &'static str {
        "score"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        refuse(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_l: &Layout) -> Result<(CudaStorage, Shape)> {
        let (rows, hidden) = x_l.shape().dims2()?;
        let shape = Shape::from(rows);
        let out = allocate(x.device(), &shape, DType::F32)?;
        let arguments = [
            address(x, x_l)?,
            address_of(self.weight)?,
            address(&out, &Layout::contiguous(&shape))?,
            Argument::F32(self.bias),
            Argument::U32(rows as u32),
            Argument::I32(hidden as i32),
        ];
        let grid = (rows.div_ceil(ROWS_PER_BLOCK), 1);
        // SAFETY: `x` is `[rows, hidden]`, the weight is `hidden` long and `out` is `rows` long.
        unsafe { self.kernels.score.launch(grid, ROW_THREADS, 0, &arguments) }?;
        Ok((out, shape))
    }
}

impl Span<'_> {
    /// Where the rows' starts lie, counted from the batch's first token.
    fn starts(&self) -> Result<Argument> {
        let from = 2 * self.indices.tokens + self.rows.start;
        address_of(&self.indices.all.narrow(0, from, self.rows.len() + 1)?)
    }

    /// What to take off them.
    fn base(&self) -> Argument {
        Argument::U32(self.tokens.start as u32)
    }
}

/// Warps of the general kernel, as many as have room in shared memory.
fn warps(head_dim: usize) -> usize {
    (1..=MAX_WARPS)
        .rev()
        .find(|&warps| shared_bytes(head_dim, warps * WARP_QUERIES) as usize <= SHARED_BYTES)
        .unwrap_or(1)
}

/// What the general kernel keeps in shared memory: keys and values, an odd number of floats apart, and queries.
fn shared_bytes(head_dim: usize, queries: usize) -> u32 {
    (size_of::<f32>() * (2 * KEYS * (head_dim | 1) + queries * head_dim)) as u32
}

#[cfg(test)]
mod tests {
    use super::super::MAX_HEAD_DIM;
    use super::*;

    #[test]
    fn shared_memory_stays_within_what_every_gpu_gives_a_block() {
        assert_eq!(shared_bytes(32, 1), 4 * (64 * 33 + 32));
        assert_eq!([32, 64, 96, MAX_HEAD_DIM].map(warps), [4, 4, 4, 3]);
        for head_dim in 1..=MAX_HEAD_DIM {
            assert!(shared_bytes(head_dim, warps(head_dim) * WARP_QUERIES) as usize <= SHARED_BYTES);
        }
    }
}
