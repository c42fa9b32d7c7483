//! What can go wrong with a request, by what its sender does next.

use std::sync::Arc;
use std::time::Duration;

use rerank_core::BackendError;

/// A request that was not answered with scores. `Clone`, because one failed batch may answer several requests.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The request makes no sense: mend it.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// A row is longer than the model takes and truncation was refused: allow it or send less text.
    #[error(
        "document {index} makes a row of {tokens} tokens, the limit is {limit}: shorten it or allow truncation"
    )]
    TooLong {
        /// The document's or pair's place in the request.
        index: usize,
        /// The row's length without truncation.
        tokens: usize,
        /// The longest row.
        limit: usize,
    },
    /// The request alone is larger than the whole queue: split it.
    #[error(
        "the request has {tokens} tokens, the queue holds {limit}: split the request or raise --queue-tokens"
    )]
    TooLarge {
        /// Tokens in the request.
        tokens: usize,
        /// Tokens that the queue holds.
        limit: usize,
    },
    /// The queue is full: come back later.
    #[error("the queue is full: try again in {} s", retry_after.as_secs().max(1))]
    Overloaded {
        /// How long what is queued will take at the present rate.
        retry_after: Duration,
    },
    /// The deadline passed before the scores were there.
    #[error("the deadline passed before the request was scored")]
    DeadlineExceeded,
    /// The model is not loaded, or lost its device: try another replica, or wait.
    #[error("not ready: {reason}")]
    NotReady {
        /// Loading, or what was lost.
        reason: String,
    },
    /// The engine finishes what it has and takes nothing new: try another replica.
    #[error("shutting down")]
    Draining,
    /// The backend failed on this request's batch.
    #[error("{0}")]
    Backend(Arc<BackendError>),
    /// The tokenizer is damaged or does not fit the model, or failed on a text.
    #[error("tokenizer: {what}")]
    Tokenizer {
        /// What failed.
        what: String,
    },
    /// The options cannot be honoured. Refuse at start.
    #[error("{what}")]
    Options {
        /// Which option, its value, and what would do.
        what: String,
    },
}

impl EngineError {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    pub(crate) fn tokenizer(what: impl Into<String>) -> Self {
        Self::Tokenizer { what: what.into() }
    }

    pub(crate) fn options(what: impl Into<String>) -> Self {
        Self::Options { what: what.into() }
    }

    /// A short fixed name for counters and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::TooLong { .. } => "too_long",
            Self::TooLarge { .. } => "too_large",
            Self::Overloaded { .. } => "overloaded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotReady { .. } => "not_ready",
            Self::Draining => "draining",
            Self::Backend(_) => "backend",
            Self::Tokenizer { .. } => "tokenizer",
            Self::Options { .. } => "options",
        }
    }
}

impl From<BackendError> for EngineError {
    fn from(error: BackendError) -> Self {
        Self::Backend(Arc::new(error))
    }
}
