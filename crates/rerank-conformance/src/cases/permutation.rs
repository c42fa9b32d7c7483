//! Permuted rows have permuted logits.

use rerank_model_synth::Stream;

use crate::subject::{Failure, Row, Subject, real_rows, rows};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let mut loaded = subject.load_tiny()?;
    let golden = real_rows(128);
    let all: Vec<Row> = rows(&golden).collect();
    let straight = loaded.score(all.iter().copied())?;

    let count = all.len();
    let mut by_length: Vec<usize> = (0..count).collect();
    by_length.sort_by_key(|&row| all[row].0.len());
    let mut shuffled: Vec<usize> = (0..count).collect();
    let random = Stream::new(1, "permutation");
    shuffled.sort_by_key(|&row| random.bits(row as u64));

    let orders = [
        ("reversed", (0..count).rev().collect::<Vec<_>>()),
        ("rotated", (0..count).map(|row| (row + count / 3) % count).collect()),
        ("sorted by length", by_length),
        ("shuffled", shuffled),
    ];
    for (order, rows) in orders {
        let permuted = loaded.score(rows.iter().map(|&row| all[row]))?;
        for (&found, &row) in permuted.iter().zip(&rows) {
            subject.agree(found, straight[row], format!("row {row}, {order}"))?;
        }
    }
    Ok(())
}
