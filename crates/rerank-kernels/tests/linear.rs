//! Every kernel of a dense layer that this processor can run, against double precision and against the portable one.

use proptest::prelude::*;
use rerank_core::{Activation as FeedForward, Dense};
use rerank_kernels::{Activation, Cpu, Linear, LinearScratch, Precision, Rows};

/// A layer and rows for it.
#[derive(Clone, Debug)]
struct Case {
    dense: Dense,
    input: Vec<f32>,
    rows: usize,
}

impl Case {
    fn inputs(&self) -> usize {
        self.dense.weight.len() / self.dense.bias.len()
    }

    fn run(&self, precision: Precision<'_>, cpu: Cpu) -> Vec<f32> {
        self.activated(Activation::Identity, precision, cpu)
    }

    fn activated(&self, activation: Activation, precision: Precision<'_>, cpu: Cpu) -> Vec<f32> {
        let linear = Linear::new(&self.dense, activation, precision, cpu);
        let mut output = vec![f32::NAN; self.rows * linear.outputs()];
        let rows = Rows::contiguous(&self.input, self.inputs());
        linear.forward(rows, &mut LinearScratch::default(), &mut output);
        output
    }

    /// In double precision, with the sum of the products' magnitudes, which rounding errors scale with.
    fn exact(&self) -> Vec<(f64, f64)> {
        let inputs = self.inputs();
        let rows = self.input.chunks_exact(inputs);
        rows.flat_map(|row| {
            self.dense.weight.chunks_exact(inputs).zip(&self.dense.bias).map(move |(weight, &bias)| {
                let products = || weight.iter().zip(row).map(|(&w, &x)| f64::from(w) * f64::from(x));
                (products().sum::<f64>() + f64::from(bias), products().map(f64::abs).sum())
            })
        })
        .collect()
    }
}

fn case() -> impl Strategy<Value = Case> {
    (1..40_usize, 1..150_usize, 1..70_usize).prop_flat_map(|(rows, inputs, outputs)| {
        let floats = |n: usize, range: std::ops::Range<f32>| prop::collection::vec(range, n);
        (floats(inputs * outputs, -1.0..1.0), floats(outputs, -2.0..2.0), floats(rows * inputs, -3.0..5.0))
            .prop_map(move |(weight, bias, input)| Case { dense: Dense { weight, bias }, input, rows })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn f32_is_within_rounding_of_double_precision(case in case()) {
        for cpu in Cpu::detect().choices() {
            for (got, (exact, magnitude)) in case.run(Precision::F32, cpu).iter().zip(case.exact()) {
                prop_assert!((f64::from(*got) - exact).abs() <= 1e-6 * (magnitude + 4.0), "{cpu}: {got}, not {exact}");
            }
        }
    }

    /// With two terms bf16 is within 2^-8 of the weights, with three within 2^-16 of both operands.
    #[test]
    fn bf16_is_within_its_rounding(case in case()) {
        for cpu in Cpu::detect().choices() {
            let bounds = [
                (Precision::Bf16x2, 1.01 * 2.0_f64.powi(-8)),
                (Precision::Bf16x3, 2.0_f64.powi(-14)),
            ];
            for (precision, relative) in bounds {
                for (got, (exact, magnitude)) in case.run(precision, cpu).iter().zip(case.exact()) {
                    let error = (f64::from(*got) - exact).abs();
                    prop_assert!(error <= relative * magnitude + 1e-5, "{cpu} {precision:?}: {got}, not {exact}");
                }
            }
        }
    }

    /// The products of two bf16 are exact, so only the order of the sums differs.
    #[test]
    fn bf16_is_the_portable_kernel_on_every_instruction_set(case in case()) {
        for precision in [Precision::Bf16x2, Precision::Bf16x3] {
            let oracle = case.run(precision, Cpu::PORTABLE);
            for cpu in Cpu::detect().choices() {
                for ((got, expected), (_, magnitude)) in case.run(precision, cpu).iter().zip(&oracle).zip(case.exact()) {
                    let error = f64::from((got - expected).abs());
                    prop_assert!(error <= 2e-6 * (magnitude + 4.0), "{cpu} {precision:?}: {got}, not {expected}");
                }
            }
        }
    }

    /// Sums of bytes are exact, so only the scaling back may differ, by a fused operation.
    #[test]
    fn int8_is_the_portable_kernel_on_every_instruction_set(case in case()) {
        let oracle = case.run(Precision::Int8 { energy: None }, Cpu::PORTABLE);
        for cpu in Cpu::detect().choices() {
            for (got, expected) in case.run(Precision::Int8 { energy: None }, cpu).iter().zip(&oracle) {
                prop_assert!((got - expected).abs() <= 2e-5 * (1.0 + expected.abs()), "{cpu}: {got}, not {expected}");
            }
        }
    }

    /// A row's outputs do not depend on its neighbours, bit for bit, on any kernel.
    #[test]
    fn rows_are_alone(case in case(), pick in any::<prop::sample::Index>()) {
        let energy = vec![1.5; case.inputs()];
        let row = pick.index(case.rows);
        let inputs = case.inputs();
        let alone = Case {
            input: case.input[row * inputs..(row + 1) * inputs].to_vec(),
            rows: 1,
            ..case.clone()
        };
        let outputs = case.dense.bias.len();
        for cpu in Cpu::detect().choices() {
            let int8 = Precision::Int8 { energy: Some(&energy) };
            for precision in [Precision::F32, Precision::Bf16x2, Precision::Bf16x3, int8] {
                let together = case.run(precision, cpu);
                prop_assert_eq!(&alone.run(precision, cpu), &together[row * outputs..(row + 1) * outputs]);
            }
        }
    }
}

/// Weights and activations at the ends of their ranges, where a kernel that saturates would show.
#[test]
fn int8_does_not_saturate() {
    let inputs = 64;
    let weight: Vec<f32> = (0..16 * inputs).map(|_| 1.0).collect();
    let case = Case { dense: Dense { weight, bias: vec![0.0; 16] }, input: vec![1.0; inputs], rows: 1 };
    for cpu in Cpu::detect().choices() {
        for got in case.run(Precision::Int8 { energy: None }, cpu) {
            // Half a step of weights that have to share 128.
            assert!((got - inputs as f32).abs() < 0.01 * inputs as f32, "{cpu}: {got}");
        }
    }
}

/// A finite score that comes from a number that is none would look like an answer.
#[test]
fn nan_is_never_hidden() {
    let (inputs, outputs) = (70, 20);
    let mut input: Vec<f32> = (0..2 * inputs).map(|i| (i as f32).sin()).collect();
    input[inputs + 33] = f32::NAN;
    let weight = (0..inputs * outputs).map(|i| (i as f32).cos()).collect();
    let case = Case { dense: Dense { weight, bias: vec![0.5; outputs] }, input, rows: 2 };
    let feed_forward = [FeedForward::Gelu, FeedForward::GeluTanh, FeedForward::Relu, FeedForward::Silu];
    let activations = [Activation::Identity, Activation::Tanh];
    for activation in activations.into_iter().chain(feed_forward.map(Activation::FeedForward)) {
        let int8 = Precision::Int8 { energy: None };
        for precision in [Precision::F32, Precision::Bf16x2, Precision::Bf16x3, int8] {
            for cpu in Cpu::detect().choices() {
                let output = case.activated(activation, precision, cpu);
                let (finite, not) = output.split_at(outputs);
                assert!(
                    finite.iter().all(|x| x.is_finite()),
                    "{cpu} {precision:?} {activation:?}: {finite:?}"
                );
                assert!(not.iter().all(|x| x.is_nan()), "{cpu} {precision:?} {activation:?}: {not:?}");
            }
        }
    }
}
