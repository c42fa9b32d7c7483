//! Linear layers: in floating point, and libtorch's dynamically quantised one.

use rerank_core::DType;
use tch::{CModule, IValue, Kind, TchError, Tensor};

/// The one quantised layer that `scripts/quantised_linear.py` writes: it is loaded for each layer and given weights.
const QUANTISED: &[u8] = include_bytes!("quantised_linear.pt");

/// What products are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Everything in this kind.
    Float(Kind),
    /// Weights in int8 with a scale for each output, activations with one scale a call; all else in f32.
    Int8,
}

impl Precision {
    /// What `dtype` means here. int8 is for the CPU: libtorch has no such layer elsewhere.
    pub(crate) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::Float(Kind::Float),
            DType::F16 => Self::Float(Kind::Half),
            DType::BF16 => Self::Float(Kind::BFloat16),
            DType::Int8 => Self::Int8,
        }
    }

    /// The kind of everything but int8 products.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Float(kind) => kind,
            Self::Int8 => Kind::Float,
        }
    }
}

/// A linear layer.
pub(crate) enum Linear {
    /// `weight` is `[outputs, inputs]`, `bias` is `[outputs]`.
    Float { weight: Tensor, bias: Tensor },
    /// The activations' scale is that of the call's largest number, so a row's logit moves, within what int8 costs, with
    /// the rows beside it: PyTorch's `quantize_dynamic` does the same.
    Quantised(CModule),
}

impl Linear {
    /// Rounds f32 weights, `[outputs, inputs]`, to int8.
    pub(crate) fn quantised(weight: Tensor, bias: Tensor) -> Result<Self, TchError> {
        let module = CModule::load_data(&mut &*QUANTISED)?;
        module.method_is("pack", &[IValue::Tensor(weight), IValue::Tensor(bias)])?;
        Ok(Self::Quantised(module))
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Float { weight, bias } => x.f_linear(weight, Some(bias)),
            Self::Quantised(module) => module.forward_ts(&[x]),
        }
    }
}

/// The dtype that a kind of libtorch's is.
pub(crate) fn dtype_of(kind: Kind) -> Option<DType> {
    match kind {
        Kind::Float => Some(DType::F32),
        Kind::Half => Some(DType::F16),
        Kind::BFloat16 => Some(DType::BF16),
        _ => None,
    }
}
