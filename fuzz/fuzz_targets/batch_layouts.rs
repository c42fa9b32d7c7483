//! Whatever rows a batch has, in whatever order, every kernel gives the logits of the portable one.
#![no_main]

#[path = "../../crates/backend-compiled/tests/layouts/agreement.rs"]
mod agreement;

use std::cell::RefCell;

use agreement::Agreement;
use arbitrary::Arbitrary;
use libfuzzer_sys::{Corpus, fuzz_target};
use rerank_core::DType;

/// What the fuzzer's bytes mean.
#[derive(Arbitrary, Debug)]
struct Layout {
    dtype: Choice,
    /// Many short rows: bytes are lengths.
    short: Vec<u8>,
    /// A few that may be as long as the model takes.
    long: [u16; 2],
    tokens: Vec<u32>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Choice {
    F32,
    BF16,
    Int8,
}

/// Tokens of a batch: beyond it an input only takes longer.
const MOST: usize = 2048;

thread_local! {
    static SUBJECTS: [RefCell<Agreement>; 3] =
        [DType::F32, DType::BF16, DType::Int8].map(|dtype| RefCell::new(Agreement::load(dtype)));
}

fuzz_target!(|layout: Layout| -> Corpus {
    let lengths = layout.short.iter().map(|&length| usize::from(length));
    let lengths: Vec<usize> = lengths.chain(layout.long.map(|length| usize::from(length) % 513)).collect();
    if lengths.iter().sum::<usize>() > MOST {
        return Corpus::Reject;
    }
    SUBJECTS.with(|subjects| {
        let outcome = subjects[layout.dtype as usize].borrow_mut().check(&lengths, &layout.tokens);
        if let Err(disagreement) = outcome {
            panic!("{disagreement}");
        }
    });
    Corpus::Keep
});
