//! Random batch layouts, each kernel against the portable one. `fuzz/` looks for them further and longer.

mod agreement;

use agreement::Agreement;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rerank_core::DType;

/// Layouts of short and long rows, few and many, with seeds of tokens.
fn layouts() -> impl Strategy<Value = (Vec<usize>, Vec<u32>)> {
    let length = prop_oneof![4 => 1..20_usize, 2 => 20..140_usize, 1 => 140..=512_usize];
    (prop::collection::vec(length, 1..12), prop::collection::vec(any::<u32>(), 0..40))
}

fn hold(dtype: DType) {
    let agreement = std::cell::RefCell::new(Agreement::load(dtype));
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let outcome = runner.run(&layouts(), |(lengths, tokens)| {
        agreement.borrow_mut().check(&lengths, &tokens).map_err(TestCaseError::fail)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn f32_layouts_agree() {
    hold(DType::F32);
}

#[test]
fn bf16_layouts_agree() {
    hold(DType::BF16);
}

#[test]
fn int8_layouts_agree() {
    hold(DType::Int8);
}
