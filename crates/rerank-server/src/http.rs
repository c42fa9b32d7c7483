//! HTTP: decode, call the service, encode. No logic of its own.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::ApiError;
use crate::service::Service;

mod body;
mod probes;
mod reply;
mod rerank;
mod telemetry;
mod tokenize;
mod wire;

/// Everything that is served, for the router and for the test that holds openapi.json against it.
pub const PATHS: &[&str] = &[
    "/health",
    "/info",
    "/livez",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/rerank",
    "/telemetry",
    "/tokenize",
    "/v1/rerank",
    "/v2/rerank",
];

/// The description of all this for machines.
pub const OPENAPI: &str = include_str!("http/openapi.json");

/// The routes. `service` is shared by all connections.
pub fn router(service: Arc<Service>) -> Router {
    let rerank = post(rerank::rerank);
    Router::new()
        .route("/rerank", rerank.clone())
        .route("/v1/rerank", rerank.clone())
        .route("/v2/rerank", rerank)
        .route("/tokenize", post(tokenize::tokenize))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/health", get(probes::readyz))
        .route("/info", get(probes::info))
        .route("/openapi.json", get(|| async { reply::json(200, OPENAPI.into()) }))
        .route("/metrics", get(telemetry::metrics))
        .route("/telemetry", get(telemetry::samples))
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(service)
}

async fn no_such_path(State(service): State<Arc<Service>>, uri: Uri) -> Response {
    reply::refuse(&service, &ApiError::NoSuchPath(uri.path().to_owned()))
}

async fn method_not_allowed(
    State(service): State<Arc<Service>>,
    method: Method,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    reply::refuse(&service, &ApiError::MethodNotAllowed { path, method: method.to_string() })
}

/// No request is known to get here; one that does costs an answer and not the connection.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = what.unwrap_or("of unknown kind"), "a handler panicked");
    reply::error(&ApiError::Panicked)
}
