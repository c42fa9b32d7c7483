//! How far a logit may be from PyTorch's f32 logit, for each dtype.

use rerank_core::DType;

/// Largest absolute difference of a logit. The golden logits span -12 to +7.
///
/// The 16-bit figures are twice what PyTorch itself is away from its own f32 when it runs the fixtures' models in that
/// dtype on a CPU (0.032 and 0.38, both at `rerank-tiny`, whose head amplifies most). int8 is a bound against nonsense:
/// what it must keep is the ranking, which is checked for all rows that f32 sets apart by twice this.
pub(crate) fn of(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => 1e-4,
        DType::F16 => 6.4e-2,
        DType::BF16 => 7.7e-1,
        DType::Int8 => 1.5,
    }
}
