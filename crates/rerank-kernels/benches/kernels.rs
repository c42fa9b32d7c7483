//! One thread's speed of every kernel that this processor can run, beside the peak of its multiply-adds.
//!
//! `cargo bench -p rerank-kernels --bench kernels`, on a quiet machine. Kernels alternate, round by round; the median of
//! the rounds and the spread between the quartiles are shown.
#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::inline_always, reason = "an instruction set holds for one function")]

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rerank_core::{Activation as FeedForward, Dense, Norm};
use rerank_kernels::{
    Activation, Attention, AttentionScratch, Cpu, LayerNorm, Linear, LinearScratch, Precision, Rows,
};

const ROUNDS: usize = 15;
const TOKENS: usize = 128;
const HIDDEN: usize = 384;
const INTERMEDIATE: usize = 1536;

/// One kernel: what it is called, how many operations a call takes, and the call.
struct Subject {
    name: String,
    operations: f64,
    call: Box<dyn FnMut()>,
}

fn main() {
    let mut subjects = vec![peak()];
    for cpu in Cpu::detect().choices() {
        subjects.extend(dense(cpu));
        subjects.extend(others(cpu));
    }
    let mut times = vec![Vec::new(); subjects.len()];
    for round in 0..=ROUNDS {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            let started = Instant::now();
            (subject.call)();
            // The first round warms up.
            if round > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
    }
    println!("{:<44} {:>10} {:>10} {:>10} {:>8}", "kernel", "ms", "spread", "GOP/s", "of peak");
    let mut peak = None;
    for (subject, mut times) in subjects.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let (low, median, high) = (times[ROUNDS / 4], times[ROUNDS / 2], times[3 * ROUNDS / 4]);
        let rate = subject.operations / median / 1e9;
        let peak = *peak.get_or_insert(rate);
        println!(
            "{:<44} {:>10.3} {:>9.1}% {rate:>10.1} {:>7.0}%",
            subject.name,
            median * 1e3,
            100.0 * (high - low) / median,
            100.0 * rate / peak
        );
    }
}

/// Multiply-adds on registers alone: what no product can exceed.
fn peak() -> Subject {
    /// Enough chains to hide a latency of five at two a cycle.
    const CHAINS: usize = 12;
    const STEPS: usize = 200_000;

    struct Chains;

    impl WithSimd for Chains {
        /// Lanes of a register.
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> usize {
            let (x, y) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
            let mut sums = [simd.splat_f32s(1.0); CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = simd.mul_add_f32s(*sum, x, y);
                }
            }
            black_box(sums);
            S::F32_LANES
        }
    }

    let lanes = Arch::new().dispatch(Chains);
    Subject {
        name: "multiply-adds on registers (the peak)".to_owned(),
        operations: (2 * lanes * CHAINS * STEPS) as f64,
        call: Box::new(|| {
            black_box(Arch::new().dispatch(Chains));
        }),
    }
}

/// Products of the shapes of a MiniLM layer.
fn dense(cpu: Cpu) -> Vec<Subject> {
    let gelu = Activation::FeedForward(FeedForward::Gelu);
    // bf16 with as many terms as a plan gives the product.
    let shapes = [
        ("up + gelu", HIDDEN, INTERMEDIATE, gelu, Precision::Bf16x3),
        ("down", INTERMEDIATE, HIDDEN, Activation::Identity, Precision::Bf16x2),
        // Little but the inputs' way into the kernel.
        ("1536 to 16", INTERMEDIATE, 16, Activation::Identity, Precision::Bf16x2),
    ];
    let mut subjects = Vec::new();
    for (name, inputs, outputs, activation, bf16) in shapes {
        let dense = Dense { weight: noise(inputs * outputs), bias: noise(outputs) };
        for precision in [Precision::F32, bf16, Precision::Int8 { energy: None }] {
            let linear = Linear::new(&dense, activation, precision, cpu);
            let (input, mut output) = (noise(TOKENS * inputs), vec![0.0; TOKENS * outputs]);
            let mut scratch = LinearScratch::default();
            subjects.push(Subject {
                name: format!("{name}, {}", linear.kernel()),
                operations: (2 * TOKENS * inputs * outputs) as f64,
                call: Box::new(move || {
                    linear.forward(Rows::contiguous(&input, inputs), &mut scratch, &mut output);
                }),
            });
        }
    }
    subjects
}

/// Everything that is no product of weights.
fn others(cpu: Cpu) -> Vec<Subject> {
    let projections = noise(TOKENS * 3 * HIDDEN);
    let (mut context, mut scratch) = (vec![0.0; TOKENS * HIDDEN], AttentionScratch::default());
    let attention = move || {
        Attention {
            heads: 12,
            query: Rows::strided(&projections, HIDDEN, 3 * HIDDEN),
            key_value: Rows::strided(&projections[HIDDEN..], 2 * HIDDEN, 3 * HIDDEN),
            keys: TOKENS,
        }
        .attend(cpu, &mut scratch, &mut context);
    };
    let norm = LayerNorm::new(Norm { weight: noise(HIDDEN), bias: noise(HIDDEN) }, 1e-12);
    let (mut x, delta) = (noise(TOKENS * HIDDEN), noise(TOKENS * HIDDEN));
    let add_norm = move || norm.add(cpu, &mut x, Rows::contiguous(&delta, HIDDEN));
    vec![
        Subject {
            name: format!("attention, {cpu}"),
            operations: (4 * TOKENS * TOKENS * HIDDEN) as f64,
            call: Box::new(attention),
        },
        Subject {
            name: format!("residual + norm, {cpu}"),
            operations: (8 * TOKENS * HIDDEN) as f64,
            call: Box::new(add_norm),
        },
    ]
}

fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 12.9898).sin()).collect()
}
