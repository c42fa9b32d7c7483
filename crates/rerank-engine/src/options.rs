//! What an operator may choose about the engine, and the bounds of it.

use std::time::Duration;

use serde::Serialize;

use crate::EngineError;

/// How the engine runs. The defaults suit one machine with one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineOptions {
    /// Worker threads, each with its own copy of the model.
    pub workers: usize,
    /// Threads that tokenise.
    pub tokenizer_threads: usize,
    /// The most tokens that one batch may cost, padding included.
    pub max_batch_tokens: usize,
    /// The most rows in one batch; `None` leaves it to the token budget. 1 turns dynamic batching off.
    pub max_batch_rows: Option<usize>,
    /// The most tokens that may wait or be in work; above it requests are refused.
    pub queue_tokens: usize,
    /// How long an idle worker waits for a batch to fill. Zero: not at all.
    pub max_wait: Duration,
    /// How many batches' worth of queued rows are considered when rows of like length are put together.
    pub look_ahead: usize,
    /// Whether a batch of filler is scored after loading, before the first request.
    pub warm_up: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            tokenizer_threads: std::thread::available_parallelism().map_or(1, usize::from).min(8),
            max_batch_tokens: 16_384,
            max_batch_rows: None,
            queue_tokens: 1 << 20,
            max_wait: Duration::ZERO,
            look_ahead: 4,
            warm_up: true,
        }
    }
}

impl EngineOptions {
    /// Refuses what cannot work with rows of up to `max_length` tokens.
    pub(crate) fn check(&self, max_length: usize) -> Result<(), EngineError> {
        let positive = [
            ("workers", self.workers),
            ("tokenizer-threads", self.tokenizer_threads),
            ("look-ahead", self.look_ahead),
            ("max-batch-rows", self.max_batch_rows.unwrap_or(1)),
        ];
        if let Some((name, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err(EngineError::options(format!("{name} is 0: it must be at least 1")));
        }
        if self.max_batch_tokens < max_length {
            return Err(EngineError::options(format!(
                "max-batch-tokens {} is below max-length {max_length}: the longest row would fit no batch; raise the \
                 first or lower the second",
                self.max_batch_tokens
            )));
        }
        if self.queue_tokens < max_length {
            return Err(EngineError::options(format!(
                "queue-tokens {} is below max-length {max_length}: the longest row would never be admitted; raise the \
                 first or lower the second",
                self.queue_tokens
            )));
        }
        Ok(())
    }
}
