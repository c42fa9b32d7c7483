//! How far a logit may be from PyTorch's f32 logit, for each dtype.

use rerank_core::DType;

/// Largest absolute difference of a logit. The golden logits span -12 to +7.
///
/// f16 is twice what PyTorch itself is away from its own f32 when it runs the fixtures' models in f16 on a CPU (0.032 at
/// `rerank-tiny`, whose head amplifies most). bf16 is what a backend reaches that keeps activations in f32 and rounds
/// for products only; PyTorch, which rounds all of them, is 0.38 away, and so is whoever computes as it does: such a
/// backend lists a [`WiderTolerance`](crate::WiderTolerance). int8 is a bound against nonsense: what it must keep is the
/// ranking, which is checked for all rows that f32 sets apart by twice this.
pub(crate) fn of(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => 1e-4,
        DType::F16 => 6.4e-2,
        DType::BF16 => 3e-2,
        DType::Int8 => 1.5,
    }
}
