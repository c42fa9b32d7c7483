//! One logit for each row, in row order.

use crate::subject::{Failure, Subject, ensure, real_rows, rows};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let mut loaded = subject.load_tiny()?;
    let golden = real_rows(128);
    let alone = loaded.score_alone(rows(&golden))?;
    // Rows that all look alike would hide any order.
    let distinct =
        alone.windows(2).filter(|pair| (pair[0] - pair[1]).abs() > 2.0 * subject.tolerance).count();
    ensure!(
        2 * distinct >= alone.len(),
        "only {distinct} of {} neighbours have logits that can be told apart: {alone:?}",
        alone.len()
    );
    let together = loaded.score(rows(&golden))?;
    for (row, (&found, &expected)) in together.iter().zip(&alone).enumerate() {
        subject.agree(found, expected, format!("row {row} of {}", alone.len()))?;
    }
    Ok(())
}
