//! Warming up changes no logit, whatever shape it is given.

use crate::subject::{Failure, Row, Subject, ensure, real_rows, rows};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let golden = real_rows(64);
    let all: Vec<Row> = rows(&golden).collect();
    let cold = subject.load_tiny()?.score(all.iter().copied())?;

    let mut loaded = subject.load_tiny()?;
    let info = loaded.backend.info().clone();
    for (count, len) in [(1, 1), (8, 128), (1, info.max_length)] {
        let filler = loaded.filler(count, len)?;
        loaded.backend.warm_up(&filler)?;
    }
    ensure!(*loaded.backend.info() == info, "warming up changed what the backend says of itself");
    let warm = loaded.score(all.iter().copied())?;
    for (row, (&found, &expected)) in warm.iter().zip(&cold).enumerate() {
        subject.agree(found, expected, format!("row {row} after warming up"))?;
    }
    Ok(())
}
