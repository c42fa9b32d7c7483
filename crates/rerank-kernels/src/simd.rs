//! Run-time choice of instruction set, and the few vector functions that the standard library lacks.

use pulp::{Scalar, Simd, WithSimd};

use crate::{Cpu, Feature};

/// Floats that kernels handle together: one AVX-512 register, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// One group of floats.
pub(crate) type Lanes = [f32; LANES];

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const CLAIMED: &str = "a `Cpu` claims only what was detected";

/// Runs `op` compiled for the widest vectors that `cpu` may use.
pub(crate) fn dispatch<Op: WithSimd>(cpu: Cpu, op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};

        if cpu.has(Feature::Avx512) {
            return Simd::vectorize(V4::try_new().expect(CLAIMED), op);
        }
        if cpu.has(Feature::Avx2) {
            return Simd::vectorize(V3::try_new().expect(CLAIMED), op);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if cpu.has(Feature::Neon) {
        return Simd::vectorize(pulp::aarch64::Neon::try_new().expect(CLAIMED), op);
    }
    Simd::vectorize(Scalar, op)
}

/// The vectors that f32 kernels use on `cpu`, as reports name them.
pub fn instruction_set(cpu: Cpu) -> &'static str {
    if cpu.has(Feature::Avx512) {
        "avx512"
    } else if cpu.has(Feature::Avx2) {
        "avx2+fma"
    } else if cpu.has(Feature::Neon) {
        "neon"
    } else {
        "portable"
    }
}

/// `a * b + c`, fused where the instruction set has it: without, `f32::mul_add` is a library call.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::IS_SCALAR { a * b + c } else { a.mul_add(b, c) }
}

/// The polynomial with these coefficients, lowest first, at `x`.
#[inline(always)]
pub(crate) fn polynomial<S: Simd, const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut value = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        value = mul_add::<S>(value, x, coefficients[i]);
    }
    value
}

/// `2^x` within 2e-7 of its value for `x` in `-126.0..=127.0`; below, the smallest normal number; NaN stays.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // Minimax polynomial of 2^f on -0.5..=0.5, relative error 2e-9.
    const POWER: [f32; 7] = [
        1.0,
        std::f32::consts::LN_2,
        0.240_226_47,
        0.055_503_29,
        0.009_618_489,
        0.001_339_993_1,
        0.000_153_458_12,
    ];
    let x = if x < -126.0 { -126.0 } else { x };
    let rounded = x + ROUND;
    let fraction = x - (rounded - ROUND);
    let exponent = rounded.to_bits() << 23;
    f32::from_bits(polynomial::<S, 7>(POWER, fraction).to_bits().wrapping_add(exponent))
}

/// `erf(x)` within 4e-7.
#[inline(always)]
pub(crate) fn erf<S: Simd>(x: f32) -> f32 {
    // From here on erf differs from one by less than half a unit in the last place of what the quotient can express.
    const LIMIT: f32 = 3.8;
    // Minimax rational function of x^2 for erf(x) / x on 0..=3.8, absolute error of erf 1e-8.
    const ABOVE: [f32; 6] = [
        std::f32::consts::FRAC_2_SQRT_PI,
        0.188_116_14,
        0.052_547_34,
        0.003_693_613,
        0.000_287_999_75,
        2.132_136_6e-6,
    ];
    const BELOW: [f32; 6] = [1.0, 0.500_045_84, 0.113_254_88, 0.014_822_927, 0.001_153_745_6, 3.909_792e-5];
    let square = x * x;
    let value = x * polynomial::<S, 6>(ABOVE, square) / polynomial::<S, 6>(BELOW, square);
    if x.abs() < LIMIT { value } else { 1f32.copysign(x) }
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, Simd, WithSimd};

    use super::{dispatch, erf, exp2};
    use crate::Cpu;

    /// The largest error of `approximate` against `exact`, on a fine grid and in the instruction set at hand.
    struct Sweep {
        range: std::ops::RangeInclusive<f64>,
        relative: bool,
        exact: fn(f64) -> f64,
        kind: Kind,
    }

    enum Kind {
        Exp2,
        Erf,
    }

    impl WithSimd for Sweep {
        type Output = f64;

        fn with_simd<S: Simd>(self, _: S) -> f64 {
            let (low, high) = (*self.range.start(), *self.range.end());
            (0..=200_000)
                .map(|step| (low + (high - low) * f64::from(step) / 200_000.0) as f32)
                .map(|x| {
                    let got = match self.kind {
                        Kind::Exp2 => exp2::<S>(x),
                        Kind::Erf => erf::<S>(x),
                    };
                    let exact = (self.exact)(f64::from(x));
                    let error = (f64::from(got) - exact).abs();
                    if self.relative { error / exact } else { error }
                })
                .fold(0.0, f64::max)
        }
    }

    /// The error function by its Maclaurin series, exact to double precision on `-6.0..=6.0`.
    fn exact_erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn exp2_stays_within_its_stated_error() {
        let sweep = || Sweep { range: -126.0..=126.0, relative: true, exact: f64::exp2, kind: Kind::Exp2 };
        for cpu in Cpu::detect().choices() {
            assert!(dispatch(cpu, sweep()) < 2e-7, "{cpu}");
        }
        assert_eq!(exp2::<Scalar>(0.0), 1.0);
        assert!(exp2::<Scalar>(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn erf_stays_within_its_stated_error() {
        let sweep = || Sweep { range: -4.5..=4.5, relative: false, exact: exact_erf, kind: Kind::Erf };
        for cpu in Cpu::detect().choices() {
            assert!(dispatch(cpu, sweep()) < 4e-7, "{cpu}");
        }
        assert_eq!(erf::<Scalar>(0.0), 0.0);
        assert_eq!(erf::<Scalar>(50.0), 1.0);
        assert_eq!(erf::<Scalar>(-50.0), -1.0);
    }
}
