//! The longest row that the model takes is scored, alone and beside the shortest: the position table is used to its end.

use crate::golden::GoldenModel;
use crate::subject::{Failure, Subject, ensure, rows};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    for golden_model in [GoldenModel::RerankTiny, GoldenModel::XlmRobertaSmall] {
        let model = golden_model.model();
        let longest = model.config.max_length();
        let golden = golden_model.golden();
        let row = |len: usize| rows(&golden.rows).find(|(ids, _)| ids.len() == len);
        let long = row(longest)
            .ok_or_else(|| format!("{} has no golden row of {longest} tokens", golden_model.name()))?;
        let short = row(3).ok_or_else(|| format!("{} has no golden row of 3 tokens", golden_model.name()))?;

        let mut loaded = subject.load(model)?;
        let alone = loaded.score_alone([long, short])?;
        let mixed = loaded.score([short, long, short])?;
        for (place, &found, &expected) in
            [(0, &mixed[0], &alone[1]), (1, &mixed[1], &alone[0]), (2, &mixed[2], &alone[1])]
        {
            subject.agree(
                found,
                expected,
                format!("{}: row {place} of [3, {longest}, 3] tokens", golden_model.name()),
            )?;
        }
        ensure!(alone[0] != alone[1], "the longest and the shortest row have the same logit {}", alone[0]);
    }
    Ok(())
}
