//! `POST /rerank` and its aliases.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::response::Response;
use rerank_engine::Stage;

use super::body::{Received, receive};
use super::reply;
use super::wire::{self, RerankBody};
use crate::error::ApiError;
use crate::service::{Service, Terms};

pub(super) async fn rerank(State(service): State<Arc<Service>>, request: Request) -> Response {
    match answer(&service, request).await {
        Ok(response) => response,
        Err(error) => reply::refuse(&service, &error),
    }
}

async fn answer(service: &Service, request: Request) -> Result<Response, ApiError> {
    let Received { body, mut timeline, deadline } = receive(service, request).await?;
    let call = wire::parse::<RerankBody>(&body)?.check(service.max_length())?;
    // The texts are owned now; a large body need not outlive its parsing.
    drop(body);
    timeline.end(Stage::Parse);
    let terms = Terms { truncation: call.truncation, deadline, timeline };
    let mut scored = service.rerank(call.query, call.documents, terms).await?;
    let body = wire::answer(call.answer, &scored, &next_id(), service.model());
    scored.timeline.end(Stage::Reply);
    service.answered(&scored);
    Ok(reply::timed(body, &scored.timeline))
}

/// An id that no other answer of this or another server has, to find a request again in both sides' logs.
fn next_id() -> String {
    static STARTED: LazyLock<u128> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("rerank-{:x}-{:x}", *STARTED, NEXT.fetch_add(1, Ordering::Relaxed))
}
