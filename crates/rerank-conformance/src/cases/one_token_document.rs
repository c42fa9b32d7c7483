//! The smallest rows: a document of one token, an empty pair, and a row of a single token.

use crate::subject::{Failure, Row, Subject, ensure};

/// `[CLS]` and `[SEP]` of the trained model's vocabulary.
const CLS: u32 = 101;
const SEP: u32 = 102;

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let mut loaded = subject.load_tiny()?;
    let documents = [4068_u32, 3000, 1037, 999];
    let with_document = documents.map(|word| [CLS, 4068, SEP, word, SEP]);
    let empty_pair = [CLS, SEP, SEP];
    let one_token = [CLS];

    let mut all: Vec<Row> = with_document.iter().map(|ids| (&ids[..], &[0, 0, 0, 1, 1][..])).collect();
    all.push((&empty_pair, &[0, 0, 1]));
    all.push((&one_token, &[0]));

    let alone = loaded.score_alone(all.iter().copied())?;
    let together = loaded.score(all.iter().copied())?;
    for ((&found, &expected), (ids, _)) in together.iter().zip(&alone).zip(&all) {
        subject.agree(found, expected, format!("row {ids:?}"))?;
    }
    // The one token must count: the query's own word against three that are not.
    for (word, &other) in documents.iter().zip(&alone).skip(1) {
        ensure!(
            alone[0] > other,
            "document [4068] scores {}, document [{word}] {other}, under query [4068]",
            alone[0]
        );
    }
    Ok(())
}
