//! Activations, applied to sums that are still in registers.

use pulp::Simd;
use rerank_core::Activation as FeedForward;

use crate::simd::{Lanes, erf, exp2};

/// What a dense layer does to its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// The classification head's.
    Tanh,
    /// One of the feed-forward's.
    FeedForward(FeedForward),
}

/// Work that is compiled for each activation.
pub(crate) trait Choose {
    fn with<A: Activate>(self);
}

impl Activation {
    /// Does `work` with the activation that this is.
    pub(crate) fn choose(self, work: impl Choose) {
        match self {
            Self::Identity => work.with::<Identity>(),
            Self::Tanh => work.with::<Tanh>(),
            Self::FeedForward(FeedForward::Gelu) => work.with::<Gelu>(),
            Self::FeedForward(FeedForward::GeluTanh) => work.with::<GeluTanh>(),
            Self::FeedForward(FeedForward::Relu) => work.with::<Relu>(),
            Self::FeedForward(FeedForward::Silu) => work.with::<Silu>(),
        }
    }
}

/// An activation as a type, so that a kernel is compiled for each.
pub(crate) trait Activate {
    fn activate<S: Simd>(x: f32) -> f32;

    #[inline(always)]
    fn lanes<S: Simd>(x: Lanes) -> Lanes {
        x.map(|x| Self::activate::<S>(x))
    }
}

pub(crate) struct Identity;
struct Tanh;
struct Gelu;
struct GeluTanh;
struct Relu;
struct Silu;

impl Activate for Identity {
    #[inline(always)]
    fn activate<S: Simd>(x: f32) -> f32 {
        x
    }
}

impl Activate for Tanh {
    #[inline(always)]
    fn activate<S: Simd>(x: f32) -> f32 {
        tanh::<S>(x)
    }
}

impl Activate for Gelu {
    #[inline(always)]
    fn activate<S: Simd>(x: f32) -> f32 {
        0.5 * x * (1.0 + erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2))
    }
}

impl Activate for GeluTanh {
    #[inline(always)]
    fn activate<S: Simd>(x: f32) -> f32 {
        // sqrt(2 / pi)
        const SCALE: f32 = 0.797_884_6;
        0.5 * x * (1.0 + tanh::<S>(SCALE * (x + 0.044_715 * x * x * x)))
    }
}

impl Activate for Relu {
    #[inline(always)]
    fn activate<S: Simd>(x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }
}

impl Activate for Silu {
    #[inline(always)]
    fn activate<S: Simd>(x: f32) -> f32 {
        x / (1.0 + exp2::<S>(bounded(-x * std::f32::consts::LOG2_E)))
    }
}

/// `1 - 2 / (e^(2x) + 1)`, within 3e-7 of tanh.
#[inline(always)]
fn tanh<S: Simd>(x: f32) -> f32 {
    1.0 - 2.0 / (exp2::<S>(bounded(x * (2.0 * std::f32::consts::LOG2_E))) + 1.0)
}

/// An exponent that `exp2` can raise two to without leaving the finite numbers; NaN stays.
#[inline(always)]
fn bounded(x: f32) -> f32 {
    if x > 126.0 { 126.0 } else { x }
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::{Activate, Gelu, GeluTanh, Relu, Silu, Tanh};
    use crate::Cpu;
    use crate::simd::dispatch;

    struct Errors;

    fn largest_error<S: Simd, A: Activate>(exact: fn(f64) -> f64) -> f64 {
        (-30_000..=30_000)
            .map(|step| step as f32 / 1000.0)
            .map(|x| (f64::from(A::activate::<S>(x)) - exact(f64::from(x))).abs())
            .fold(0.0, f64::max)
    }

    /// The normal distribution by Simpson's rule from zero: slow, but independent of what it checks.
    fn normal(x: f64) -> f64 {
        let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (steps, end) = (200, x.clamp(-8.0, 8.0));
        let width = end / f64::from(steps);
        let inner: f64 =
            (1..steps).map(|i| density(width * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        0.5 + (density(0.0) + inner + density(end)) * width / 3.0
    }

    impl WithSimd for Errors {
        type Output = [f64; 5];

        fn with_simd<S: Simd>(self, _: S) -> [f64; 5] {
            [
                largest_error::<S, Tanh>(f64::tanh),
                largest_error::<S, Gelu>(|x| x * normal(x)),
                largest_error::<S, GeluTanh>(|x| {
                    0.5 * x
                        * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
                }),
                largest_error::<S, Relu>(|x| x.max(0.0)),
                largest_error::<S, Silu>(|x| x / (1.0 + (-x).exp())),
            ]
        }
    }

    #[test]
    fn activations_agree_with_double_precision() {
        for cpu in Cpu::detect().choices() {
            let [tanh, gelu, gelu_tanh, relu, silu] = dispatch(cpu, Errors);
            assert!(tanh < 3e-7, "{cpu}: {tanh:e}");
            assert!(gelu < 2e-6, "{cpu}: {gelu:e}");
            assert!(gelu_tanh < 2e-6, "{cpu}: {gelu_tanh:e}");
            assert_eq!(relu, 0.0);
            assert!(silu < 4e-6, "{cpu}: {silu:e}");
        }
    }
}
