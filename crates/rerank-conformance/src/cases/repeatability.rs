//! The same batch again has the same logits: bit for bit on a CPU, within tolerance elsewhere. So has a second load.

use crate::subject::{Failure, Row, Subject, ensure, real_rows, rows};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let golden = real_rows(160);
    let all: Vec<Row> = rows(&golden).collect();
    let mut loaded = subject.load_tiny()?;
    let first = loaded.score(all.iter().copied())?;
    for call in 2..=4 {
        // Other work in between moves buffers around.
        loaded.score(all.iter().copied().take(call))?;
        same(subject, &first, &loaded.score(all.iter().copied())?, &format!("call {call}"))?;
    }
    let mut again = subject.load_tiny()?;
    same(subject, &first, &again.score(all.iter().copied())?, "a second load")
}

fn same(subject: &Subject, first: &[f32], found: &[f32], what: &str) -> Result<(), Failure> {
    for (row, (&found, &first)) in found.iter().zip(first).enumerate() {
        if subject.is_cpu() {
            ensure!(found.to_bits() == first.to_bits(), "{what}: row {row} has logit {found}, first {first}");
        } else {
            subject.agree(found, first, format!("{what}: row {row}"))?;
        }
    }
    Ok(())
}
