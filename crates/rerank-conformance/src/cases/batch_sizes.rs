//! From 1 to 256 rows in a batch: every size up to 17, then those around powers of two.

use crate::subject::{Failure, Row, Subject, real_rows};

const MOST_ROWS: usize = 256;

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let mut loaded = subject.load_tiny()?;
    let golden = real_rows(48);
    // As many different rows as the largest batch has: each fixture row, its last word replaced.
    let varied: Vec<(Vec<u32>, &[u32])> = (0..MOST_ROWS)
        .map(|row| {
            let source = &golden[row % golden.len()];
            let mut ids = source.ids.clone();
            let last_word = ids.len() - 2;
            ids[last_word] = 2000 + row as u32;
            (ids, source.type_ids.as_slice())
        })
        .collect();
    let all: Vec<Row> = varied.iter().map(|(ids, type_ids)| (ids.as_slice(), *type_ids)).collect();
    let alone = loaded.score_alone(all.iter().copied())?;

    for count in (1..=17).chain([31, 32, 33, 63, 64, 65, 127, 128, 129, 255, MOST_ROWS]) {
        if !loaded.takes(count) {
            break;
        }
        let together = loaded.score(all[..count].iter().copied())?;
        for (row, (&found, &expected)) in together.iter().zip(&alone).enumerate() {
            subject.agree(found, expected, format!("row {row} of {count}"))?;
        }
    }
    Ok(())
}
