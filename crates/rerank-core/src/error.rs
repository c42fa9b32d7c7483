//! What can go wrong in a backend, by what the caller does next.

use crate::BatchShape;

/// Any error, kept as the source of one of ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A failure of a model or a backend. Not `#[non_exhaustive]`: a new variant must break every match that decides on it.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The backend, the device or this build cannot do what was asked. Refuse at start; another choice may work.
    #[error("unsupported: {what}")]
    Unsupported {
        /// What was asked, and what is supported instead.
        what: String,
    },
    /// The model's files are missing, damaged or not what they claim to be. Refuse at start.
    #[error("cannot load the model: {what}")]
    Load {
        /// Which file or tensor, and what is wrong with it.
        what: String,
        /// The error underneath, where there is one.
        #[source]
        source: Option<BoxError>,
    },
    /// The device had no memory for this batch. Halve it, once.
    #[error("out of memory for a batch of {} rows and {} tokens", shape.rows, shape.tokens)]
    OutOfMemory {
        /// The batch that did not fit.
        shape: BatchShape,
    },
    /// The device is gone or its context is broken. Fail what is queued, go not-ready, load again.
    #[error("device lost: {what}")]
    DeviceLost {
        /// What the driver said.
        what: String,
        /// The error underneath, where there is one.
        #[source]
        source: Option<BoxError>,
    },
    /// This batch failed; the next may succeed.
    #[error("inference failed: {what}")]
    Inference {
        /// What failed.
        what: String,
        /// The error underneath, where there is one.
        #[source]
        source: Option<BoxError>,
    },
    /// A row cannot be scored by this model: empty, too long, or with ids outside its vocabulary. Refuse the request.
    #[error("invalid row: {what}")]
    InvalidRow {
        /// Which limit was broken, with both numbers.
        what: String,
    },
}

impl BackendError {
    /// [`BackendError::Unsupported`] from a message.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    /// [`BackendError::Load`] without a source.
    pub fn load(what: impl Into<String>) -> Self {
        Self::Load { what: what.into(), source: None }
    }

    /// [`BackendError::Load`] that keeps the error underneath.
    pub fn load_from(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Load { what: what.into(), source: Some(source.into()) }
    }

    /// [`BackendError::Inference`] from a message.
    pub fn inference(what: impl Into<String>) -> Self {
        Self::Inference { what: what.into(), source: None }
    }

    /// [`BackendError::Inference`] that keeps the error underneath.
    pub fn inference_from(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Inference { what: what.into(), source: Some(source.into()) }
    }

    /// [`BackendError::DeviceLost`] that keeps the error underneath.
    pub fn device_lost_from(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::DeviceLost { what: what.into(), source: Some(source.into()) }
    }

    /// [`BackendError::InvalidRow`] from a message.
    pub fn invalid_row(what: impl Into<String>) -> Self {
        Self::InvalidRow { what: what.into() }
    }
}
