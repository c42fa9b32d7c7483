//! A row alone has the logit that it has in any batch: padding, neighbours and place must not matter.

use crate::subject::{Failure, Row, Subject, real_rows, rows};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let mut loaded = subject.load_tiny()?;
    let golden = real_rows(usize::MAX);
    let all: Vec<Row> = rows(&golden).collect();
    let alone = loaded.score_alone(all.iter().copied())?;
    // The longest and the shortest row are the hardest company: all padding, or none.
    let longest = (0..all.len()).max_by_key(|&row| all[row].0.len()).expect("the fixture has rows");
    let shortest = (0..all.len()).min_by_key(|&row| all[row].0.len()).expect("the fixture has rows");
    for row in 0..all.len() {
        let company = [
            ("before the longest", vec![row, longest], 0),
            ("between the shortest", vec![shortest, row, shortest], 1),
            ("behind itself and the longest", vec![row, longest, row], 2),
        ];
        for (place, batch, at) in company {
            let together = loaded.score(batch.iter().map(|&row| all[row]))?;
            let what = format!("row {row} of {} tokens {place}", all[row].0.len());
            subject.agree(together[at], alone[row], what)?;
        }
    }
    Ok(())
}
