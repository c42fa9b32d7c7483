//! The loaded backend: scores rows by the words that query and document share.

use std::num::NonZeroU64;

use rerank_core::{Backend, BackendError, BackendInfo, TokenBatch};

use crate::Plan;

/// A loaded mock on one thread.
pub(crate) struct MockBackend {
    info: BackendInfo,
    plan: Plan,
    batches: u64,
}

impl MockBackend {
    pub(crate) fn new(info: BackendInfo, plan: Plan) -> Self {
        Self { info, plan, batches: 0 }
    }

    fn due(&self, every: Option<NonZeroU64>) -> bool {
        every.is_some_and(|every| self.batches.is_multiple_of(every.get()))
    }
}

impl Backend for MockBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
        self.batches += 1;
        let delay = self.plan.delay(batch.tokens());
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.fits(batch)?;
        if self.due(self.plan.lose_device_every) {
            return Err(BackendError::DeviceLost {
                what: "planned loss of the device".to_owned(),
                source: None,
            });
        }
        if self.due(self.plan.fail_every) {
            return Err(BackendError::inference("planned failure"));
        }
        assert!(!self.due(self.plan.panic_every), "planned panic");

        let mut logits: Vec<f32> = (0..batch.rows()).map(|row| logit(&batch.ids()[batch.row(row)])).collect();
        if self.due(self.plan.nan_every)
            && let Some(last) = logits.last_mut()
        {
            *last = f32::NAN;
        }
        if self.due(self.plan.short_every) {
            logits.pop();
        }
        Ok(logits)
    }

    fn warm_up(&mut self, filler: &TokenBatch) -> Result<(), BackendError> {
        // Nothing to allocate or compile, and a filler batch would shift the count that plans are written against.
        self.fits(filler)
    }
}

impl MockBackend {
    fn fits(&self, batch: &TokenBatch) -> Result<(), BackendError> {
        if self.plan.oom_above.is_some_and(|rows| batch.rows() > rows.get()) {
            return Err(BackendError::OutOfMemory { shape: batch.shape() });
        }
        Ok(())
    }
}

/// -6 where a document shares no word with the query, +4 where it holds them all.
///
/// A row ends with its separator, whose first occurrence ends the query: true of BERT's and of RoBERTa's template.
fn logit(row: &[u32]) -> f32 {
    let Some((separator, inner)) = row.split_last() else { return -6.0 };
    let inner = inner.get(1..).unwrap_or_default();
    let end = inner.iter().position(|id| id == separator).unwrap_or(inner.len());
    let (query, document) = inner.split_at(end);
    let shared = query.iter().filter(|id| document.contains(id)).count();
    -6.0 + 10.0 * shared as f32 / query.len().max(1) as f32 + fingerprint(row)
}

/// Below 0.01, by the ids alone: keeps rows with equally many shared words apart, so that a test sees them swapped.
fn fingerprint(row: &[u32]) -> f32 {
    let hash = row.iter().fold(0x811c_9dc5_u32, |hash, id| (hash ^ id).wrapping_mul(0x0100_0193));
    (hash >> 16) as f32 / 65_536.0 * 0.01
}

#[cfg(test)]
mod tests {
    use super::logit;

    #[test]
    fn a_document_that_shares_words_ranks_above_the_rest() {
        let bert = |document: &[u32]| logit(&[&[101, 7, 8, 9, 102], document, &[102]].concat());
        let [all, one, none, empty] = [&[1, 9, 8, 7][..], &[9, 4, 5], &[4, 5, 6], &[]].map(bert);
        assert!(all > one && one > none && one > empty, "{all} {one} {none} {empty}");
        assert!(all > 3.9 && none < -5.9, "{all} {none}");

        let roberta = |document: &[u32]| logit(&[&[0, 7, 8, 9, 2, 2], document, &[2]].concat());
        assert!(roberta(&[9, 8, 7]) > roberta(&[9]) && roberta(&[9]) > roberta(&[]));
    }

    #[test]
    fn any_row_has_a_finite_logit() {
        for row in [&[][..], &[5], &[5, 5], &[5, 6, 7]] {
            assert!(logit(row).is_finite());
        }
    }
}
