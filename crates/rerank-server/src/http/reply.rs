//! Answers that are the same everywhere: JSON bodies, and errors in the one shape that all of our errors have.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use rerank_engine::Timeline;
use serde::Serialize;

use crate::error::ApiError;
use crate::service::Service;
use crate::timing::{SERVER_TIMING, server_timing};

/// Text Embeddings Inference's error body, whose clients read both fields; the others print what they get.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    error_type: &'a str,
}

/// A JSON answer.
pub(super) fn json(status: u16, body: Vec<u8>) -> Response {
    typed(status, "application/json", body)
}

/// A JSON answer with the stage clock.
pub(super) fn timed(body: Vec<u8>, timeline: &Timeline) -> Response {
    let mut response = json(200, body);
    let value = HeaderValue::try_from(server_timing(timeline)).expect("names, digits and punctuation");
    response.headers_mut().insert(SERVER_TIMING, value);
    response
}

/// Any other answer.
pub(super) fn typed(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("the table of codes holds valid ones");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Counts an error that the engine did not see, and answers with it.
pub(super) fn refuse(service: &Service, error: &ApiError) -> Response {
    service.count(error);
    self::error(error)
}

/// The answer to a request that gets no scores.
pub(super) fn error(error: &ApiError) -> Response {
    let codes = error.codes();
    let text = error.to_string();
    let body = serde_json::to_vec(&ErrorBody { error: &text, error_type: codes.error_type });
    let mut response = json(codes.http, body.expect("strings always have a JSON form"));
    if let Some(after) = error.retry_after() {
        // Whole seconds is all that the header knows; rounding down would send clients back too early.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, seconds.max(1).into());
    }
    response
}
