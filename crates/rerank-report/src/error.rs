//! What can go wrong with a result file, by what the reader does next.

use std::path::PathBuf;

/// Errors of reading, writing and rendering results.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read or written: check the path.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried: `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a result of this schema: measure again, or use the release that wrote it.
    #[error("{}: {reason}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A plot could not be drawn.
    #[error("cannot draw {}: {reason}", path.display())]
    Plot {
        /// The file.
        path: PathBuf,
        /// The reason given by the drawing library.
        reason: String,
    },
    /// Two results cannot be set side by side.
    #[error("cannot compare: {0}")]
    Incomparable(String),
}
