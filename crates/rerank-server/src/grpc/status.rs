//! Errors as gRPC statuses, with the details that Google's error model defines, so that a client can act on a reason
//! and not on a sentence.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{ApiError, GrpcCode};

/// Who `reason`s belong to.
const DOMAIN: &str = "rerank.v1";

/// The status for an error, with `ErrorInfo` and, where coming back makes sense, `RetryInfo`.
pub(super) fn status(error: &ApiError) -> Status {
    let codes = error.codes();
    let mut details = ErrorDetails::with_error_info(codes.reason.to_uppercase(), DOMAIN, HashMap::new());
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(code(codes.grpc), error.to_string(), details)
}

fn code(code: GrpcCode) -> Code {
    match code {
        GrpcCode::InvalidArgument => Code::InvalidArgument,
        GrpcCode::DeadlineExceeded => Code::DeadlineExceeded,
        GrpcCode::ResourceExhausted => Code::ResourceExhausted,
        GrpcCode::Unimplemented => Code::Unimplemented,
        GrpcCode::Internal => Code::Internal,
        GrpcCode::Unavailable => Code::Unavailable,
    }
}
