//! Everything that a request can be answered with instead of scores, and the only table from errors to HTTP and gRPC
//! codes. Both matches are exhaustive on purpose: a new error must be given its codes here before it compiles.

use std::time::Duration;

use rerank_core::BackendError;
use rerank_engine::EngineError;

/// A request that gets no scores.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is no JSON.
    #[error("the body is not JSON: {0}")]
    Malformed(String),
    /// A field has a wrong type or value.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing to score.
    #[error("{0}")]
    Empty(&'static str),
    /// The request has more documents or pairs than the server takes.
    #[error("{count} documents, the limit is {limit}: split the request, or raise --max-documents")]
    TooMany {
        /// Documents or pairs in the request.
        count: usize,
        /// The server's limit.
        limit: usize,
    },
    /// The body has more bytes than the server takes.
    #[error("the body is larger than {limit} bytes: split the request, or raise --payload-limit")]
    PayloadTooLarge {
        /// The server's limit.
        limit: usize,
    },
    /// The body stopped before its end.
    #[error("the body ended early: {0}")]
    Interrupted(String),
    /// No such path.
    #[error("there is no `{0}`; GET /openapi.json lists what there is")]
    NoSuchPath(String),
    /// The path exists, the method does not.
    #[error("`{path}` does not answer {method}")]
    MethodNotAllowed {
        /// The path asked for.
        path: String,
        /// The method used.
        method: String,
    },
    /// A handler panicked. Only a bug gets here.
    #[error("internal error; the server's log says more")]
    Panicked,
    /// The engine's answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// gRPC's status codes, as far as we answer with them; numbers as in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcCode {
    /// The sender must mend the request.
    InvalidArgument = 3,
    /// Too late.
    DeadlineExceeded = 4,
    /// Come back later.
    ResourceExhausted = 8,
    /// No such method.
    Unimplemented = 12,
    /// Our fault.
    Internal = 13,
    /// Try another replica, or again soon.
    Unavailable = 14,
}

/// What an error is called on each wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// HTTP's status.
    pub http: u16,
    /// gRPC's status.
    pub grpc: GrpcCode,
    /// `error_type` in JSON: Text Embeddings Inference's words, since its clients match on them, and `Timeout`, which it
    /// lacks.
    pub error_type: &'static str,
    /// `reason` in gRPC's `ErrorInfo`, and the label of the error counter.
    pub reason: &'static str,
}

impl ApiError {
    /// The table.
    pub fn codes(&self) -> Codes {
        use GrpcCode::{InvalidArgument, Unimplemented};
        match self {
            Self::Malformed(_) => codes(400, InvalidArgument, "Validation", "malformed"),
            Self::Invalid(_) => codes(422, InvalidArgument, "Validation", "invalid"),
            Self::Empty(_) => codes(400, InvalidArgument, "Empty", "empty"),
            Self::TooMany { .. } => codes(422, InvalidArgument, "Validation", "too_many"),
            Self::PayloadTooLarge { .. } => codes(413, InvalidArgument, "Validation", "payload_too_large"),
            Self::Interrupted(_) => codes(400, InvalidArgument, "Validation", "interrupted"),
            Self::NoSuchPath(_) => codes(404, Unimplemented, "Validation", "no_such_path"),
            Self::MethodNotAllowed { .. } => codes(405, Unimplemented, "Validation", "method_not_allowed"),
            Self::Panicked => codes(500, GrpcCode::Internal, "Backend", "panicked"),
            Self::Engine(error) => engine_codes(error),
        }
    }

    /// When to come back, for errors that pass by themselves.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Engine(EngineError::Overloaded { retry_after }) => Some(*retry_after),
            Self::Engine(EngineError::NotReady { .. } | EngineError::Draining) => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}

fn engine_codes(error: &EngineError) -> Codes {
    use GrpcCode::{DeadlineExceeded, Internal, InvalidArgument, ResourceExhausted, Unavailable};
    match error {
        EngineError::Invalid { .. } => codes(422, InvalidArgument, "Validation", "invalid"),
        EngineError::TooLong { .. } => codes(422, InvalidArgument, "Validation", "too_long"),
        // Not RESOURCE_EXHAUSTED: clients retry that, and this request can never succeed.
        EngineError::TooLarge { .. } => codes(413, InvalidArgument, "Validation", "too_large"),
        EngineError::Overloaded { .. } => codes(429, ResourceExhausted, "Overloaded", "overloaded"),
        EngineError::DeadlineExceeded => codes(504, DeadlineExceeded, "Timeout", "deadline_exceeded"),
        EngineError::NotReady { .. } => codes(503, Unavailable, "Unhealthy", "not_ready"),
        EngineError::Draining => codes(503, Unavailable, "Unhealthy", "draining"),
        EngineError::Backend(error) => match &**error {
            BackendError::InvalidRow { .. } => codes(422, InvalidArgument, "Validation", "invalid_row"),
            BackendError::DeviceLost { .. } => codes(503, Unavailable, "Unhealthy", "device_lost"),
            BackendError::OutOfMemory { .. } => codes(500, Internal, "Backend", "out_of_memory"),
            BackendError::Inference { .. } => codes(500, Internal, "Backend", "inference"),
            BackendError::Unsupported { .. } => codes(503, Unavailable, "Unhealthy", "unsupported"),
            BackendError::Load { .. } => codes(503, Unavailable, "Unhealthy", "load"),
        },
        EngineError::Tokenizer { .. } => codes(422, InvalidArgument, "Tokenizer", "tokenizer"),
        EngineError::Options { .. } => codes(500, Internal, "Backend", "options"),
    }
}

const fn codes(http: u16, grpc: GrpcCode, error_type: &'static str, reason: &'static str) -> Codes {
    Codes { http, grpc, error_type, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_says_when_to_come_back() {
        let error = ApiError::from(EngineError::Overloaded { retry_after: Duration::from_secs(3) });
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!((error.codes().http, error.codes().grpc), (429, GrpcCode::ResourceExhausted));
        assert_eq!(ApiError::from(EngineError::DeadlineExceeded).retry_after(), None);
    }
}
