//! From a query and a document to one row of token ids, exactly as PyTorch transformers builds it.
//!
//! The query is tokenised once a request and each document once; a pair is then put together from the two by the
//! tokenizer's own template ([`template`]) and cut by Hugging Face's truncation rules ([`truncate`]). That gives the ids
//! that `tokenizer(query, document, truncation=...)` gives, without tokenising the query again for every document.

use std::path::Path;

use rerank_core::{ModelConfig, RowLimits};
use tokenizers::Tokenizer;

use crate::EngineError;

mod rows;
mod template;
mod truncate;
mod wordpiece;

pub use rows::Rows;
use template::PairTemplate;
pub use truncate::{Direction, Strategy, Truncation};
use wordpiece::AsciiWordPiece;

/// Tokenises texts and assembles pairs for one model. Shared between threads.
pub struct PairTokenizer {
    tokenizer: Tokenizer,
    ascii: Option<AsciiWordPiece>,
    template: PairTemplate,
    limits: RowLimits,
}

impl PairTokenizer {
    /// Reads a `tokenizer.json` for a model of this configuration. Rows are at most `max_length` tokens long; `None`
    /// takes the model's own limit. A limit above the model's, or too low for one token of text, is refused.
    pub fn from_bytes(
        json: &[u8],
        config: &ModelConfig,
        max_length: Option<usize>,
    ) -> Result<Self, EngineError> {
        let mut tokenizer = Tokenizer::from_bytes(json)
            .map_err(|error| EngineError::tokenizer(format!("tokenizer.json cannot be read: {error}")))?;
        // Padding and truncation are ours: the file's own settings describe its author's last batch.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| EngineError::tokenizer(format!("truncation cannot be turned off: {error}")))?;
        let template = PairTemplate::of(&tokenizer, config)?;

        let model_length = config.max_length();
        let max_length = max_length.unwrap_or(model_length);
        let least = template.overhead() + 2;
        if max_length > model_length || max_length < least {
            return Err(EngineError::options(format!(
                "max-length {max_length}: this model takes {least} to {model_length}"
            )));
        }
        let ascii = AsciiWordPiece::of(json);
        Ok(Self { tokenizer, ascii, template, limits: config.row_limits(max_length) })
    }

    /// Reads `tokenizer.json` in a model's folder.
    pub fn open(dir: &Path, config: &ModelConfig, max_length: Option<usize>) -> Result<Self, EngineError> {
        let path = dir.join("tokenizer.json");
        let json = std::fs::read(&path)
            .map_err(|error| EngineError::tokenizer(format!("cannot read {}: {error}", path.display())))?;
        Self::from_bytes(&json, config, max_length)
    }

    /// What every row keeps to.
    pub fn limits(&self) -> RowLimits {
        self.limits
    }

    /// Token ids of one text, without special tokens, untruncated.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        match &self.ascii {
            Some(ascii) => ascii.encode(text, &mut ids, |word, ids| self.encode_general(word, ids))?,
            None => self.encode_general(text, &mut ids)?,
        }
        Ok(ids)
    }

    fn encode_general(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| EngineError::tokenizer(format!("a text cannot be tokenised: {error}")))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// Appends the row of a query and a document to `rows`. `index` is the document's place in the request, for errors.
    ///
    /// [`EngineError::TooLong`] if the row is longer than the limit and `truncation` cannot or must not cut it.
    pub fn pair(
        &self,
        query: &[u32],
        document: &[u32],
        truncation: Truncation,
        index: usize,
        rows: &mut Rows,
    ) -> Result<(), EngineError> {
        let room = self.limits.max_length - self.template.overhead();
        let (keep_query, keep_document) =
            truncation.keep(query.len(), document.len(), room).ok_or_else(|| EngineError::TooLong {
                index,
                tokens: query.len() + document.len() + self.template.overhead(),
                limit: self.limits.max_length,
            })?;
        let query = truncation.direction.cut(query, keep_query);
        let document = truncation.direction.cut(document, keep_document);
        self.template.append(query, document, rows);
        Ok(())
    }

    /// An upper bound of the tokens that a text of `bytes` bytes makes, before any truncation.
    pub(crate) fn bound(&self, query_bytes: usize, document_bytes: usize) -> usize {
        (query_bytes + document_bytes + self.template.overhead()).min(self.limits.max_length)
    }
}
