//! The engine's samples and totals on the wire: `/telemetry` for programs that want every second exactly, `/metrics`
//! for Prometheus.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use rerank_engine::Sample;
use serde::{Deserialize, Serialize};

use super::reply;
use crate::error::ApiError;
use crate::metrics;
use crate::service::Service;

/// Raised when a reader of the version before could misread this one.
const SCHEMA: u32 = 1;

#[derive(Deserialize)]
pub(super) struct Since {
    /// The first sample wanted; a string, so that the refusal of what is no number can be ours.
    since: Option<String>,
}

#[derive(Serialize)]
struct Page {
    schema: u32,
    /// What to pass as `since` next time, so that no sample is seen twice.
    next: u64,
    /// Samples that were asked for and are no longer kept.
    missed: u64,
    samples: Vec<Arc<Sample>>,
}

pub(super) async fn samples(
    State(service): State<Arc<Service>>,
    since: Result<Query<Since>, QueryRejection>,
) -> Response {
    let asked = since.ok().and_then(|Query(since)| since.since).unwrap_or_else(|| "0".to_owned());
    let Ok(since) = asked.parse() else {
        return reply::error(&ApiError::Invalid(format!(
            "`since` is `{asked}`: a sample's `seq` is expected"
        )));
    };
    let samples = service.engine().telemetry().samples_since(since);
    let answer = Page {
        schema: SCHEMA,
        next: samples.last().map_or(since, |last| last.seq + 1),
        missed: samples.first().map_or(0, |first| first.seq.saturating_sub(since)),
        samples,
    };
    reply::json(200, serde_json::to_vec(&answer).expect("numbers and strings always have a JSON form"))
}

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    reply::typed(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics::render(&service))
}
