//! Is it alive, is it ready, and what is it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use rerank_engine::Status;
use serde::Serialize;

use super::reply;
use crate::error::ApiError;
use crate::service::Service;

#[derive(Serialize)]
struct Probe<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Probe<'_> {
    fn respond(&self, status: u16) -> Response {
        reply::json(status, serde_json::to_vec(self).expect("strings always have a JSON form"))
    }
}

/// 200 as long as the process answers at all: restarting it would help only when this fails.
pub(super) async fn livez() -> Response {
    Probe { status: "alive", reason: None }.respond(200)
}

/// 200 while requests are taken, else 503 and why.
pub(super) async fn readyz(State(service): State<Arc<Service>>) -> Response {
    match service.engine().status() {
        Status::Ready => Probe { status: "ready", reason: None }.respond(200),
        Status::Loading => Probe { status: "loading", reason: None }.respond(503),
        Status::Unready { reason } => Probe { status: "unready", reason: Some(&reason) }.respond(503),
        Status::Draining => Probe { status: "draining", reason: None }.respond(503),
    }
}

/// What was really loaded; 503 until it is.
pub(super) async fn info(State(service): State<Arc<Service>>) -> Response {
    match service.info() {
        Ok(info) => {
            reply::json(200, serde_json::to_vec(&info).expect("numbers and strings always have a JSON form"))
        }
        Err(error) => reply::error(&ApiError::from(error)),
    }
}
