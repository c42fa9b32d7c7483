//! Reading a request: its body within the limit, its timeout header, and the first two stages of its clock.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::HeaderMap;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rerank_engine::{Stage, Timeline};

use crate::error::ApiError;
use crate::service::{Service, in_time};

/// How long the sender waits, in milliseconds.
const TIMEOUT: &str = "x-request-timeout-ms";

/// How long the rest of a body that is too large is read and thrown away before its sender is told.
const LINGER: Duration = Duration::from_secs(1);

/// A request that has arrived in full.
pub(super) struct Received {
    pub(super) body: Bytes,
    pub(super) timeline: Timeline,
    pub(super) deadline: Option<Instant>,
}

/// Reads the whole request, and gives up when its deadline passes on the way.
pub(super) async fn receive(service: &Service, request: Request) -> Result<Received, ApiError> {
    let mut timeline = Timeline::start();
    let deadline = service.deadline(&timeline, timeout(request.headers())?);
    let body = in_time(deadline, read(request, service.limits().payload)).await?;
    timeline.end(Stage::Receive);
    Ok(Received { body, timeline, deadline })
}

async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let mut body = request.into_body();
    match Limited::new(&mut body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            // Most clients look for an answer only after they have sent everything; a connection that is closed in
            // their face hides it.
            let discard = async { while let Some(Ok(_)) = body.frame().await {} };
            if tokio::time::timeout(LINGER, discard).await.is_err() {
                tracing::debug!("a body that is too large did not end");
            }
            Err(ApiError::PayloadTooLarge { limit })
        }
        Err(error) => Err(ApiError::Interrupted(error.to_string())),
    }
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let ms = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    ms.map(|ms| Some(Duration::from_millis(ms))).ok_or_else(|| {
        ApiError::Invalid(format!("{TIMEOUT} {value:?} is not a whole number of milliseconds"))
    })
}
