//! How a tokenizer puts two sequences together: which special tokens stand before, between and behind them.
//!
//! Read off the tokenizer itself by encoding one probe pair, so that every kind of post-processor (BERT's, RoBERTa's,
//! templates) is understood without parsing its settings.

use rerank_core::{Architecture, ModelConfig};
use tokenizers::Tokenizer;

use super::rows::Rows;
use crate::EngineError;

/// Special tokens and type ids around a query and a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PairTemplate {
    before: Vec<Special>,
    between: Vec<Special>,
    behind: Vec<Special>,
    query_type: u32,
    document_type: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Special {
    id: u32,
    type_id: u32,
}

impl PairTemplate {
    pub(super) fn of(tokenizer: &Tokenizer, config: &ModelConfig) -> Result<Self, EngineError> {
        let probe = tokenizer
            .encode(("a", "a"), true)
            .map_err(|error| EngineError::tokenizer(format!("a probe pair cannot be tokenised: {error}")))?;
        // RoBERTa's tokenizers may number the sequences, but their models are never given type ids.
        let has_types = config.architecture == Architecture::Bert && config.type_vocab_size > 1;
        let type_of = |type_id: u32| if has_types { type_id } else { 0 };

        let mut parts: [Vec<Special>; 3] = Default::default();
        let mut types = [None, None];
        for ((&id, &type_id), sequence) in
            probe.get_ids().iter().zip(probe.get_type_ids()).zip(probe.get_sequence_ids())
        {
            match sequence {
                Some(sequence @ 0..=1) => types[sequence] = Some(type_of(type_id)),
                Some(_) => return Err(EngineError::tokenizer("a pair has more than two sequences")),
                None => {
                    let part = usize::from(types[0].is_some()) + usize::from(types[1].is_some());
                    parts[part].push(Special { id, type_id: type_of(type_id) });
                }
            }
        }
        let [Some(query_type), Some(document_type)] = types else {
            return Err(EngineError::tokenizer("a probe pair loses one of its two sequences"));
        };
        let [before, between, behind] = parts;
        Ok(Self { before, between, behind, query_type, document_type })
    }

    /// Special tokens in every row.
    pub(super) fn overhead(&self) -> usize {
        self.before.len() + self.between.len() + self.behind.len()
    }

    pub(super) fn append(&self, query: &[u32], document: &[u32], rows: &mut Rows) {
        let tokens = query.len() + document.len() + self.overhead();
        rows.ids.reserve(tokens);
        rows.type_ids.reserve(tokens);
        push_specials(&self.before, rows);
        push_sequence(query, self.query_type, rows);
        push_specials(&self.between, rows);
        push_sequence(document, self.document_type, rows);
        push_specials(&self.behind, rows);
        rows.ends.push(rows.ids.len());
    }
}

fn push_specials(specials: &[Special], rows: &mut Rows) {
    rows.ids.extend(specials.iter().map(|special| special.id));
    rows.type_ids.extend(specials.iter().map(|special| special.type_id));
}

fn push_sequence(ids: &[u32], type_id: u32, rows: &mut Rows) {
    rows.ids.extend_from_slice(ids);
    rows.type_ids.resize(rows.type_ids.len() + ids.len(), type_id);
}
