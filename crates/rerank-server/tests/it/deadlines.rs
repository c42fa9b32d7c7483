//! Deadlines are kept, and nothing is computed for those who have stopped waiting.

use std::time::{Duration, Instant};

use backend_mock::Plan;
use prost::Message;
use rerank_engine::EngineOptions;
use rerank_proto::rerank::v1::RerankRequest;
use serde_json::json;
use tonic::Code;

use crate::harness::Setup;

fn slow() -> Setup {
    Setup::plan(Plan { batch_delay: Duration::from_millis(800), ..Plan::NONE })
}

fn grpc_request() -> RerankRequest {
    RerankRequest { query: "q".into(), documents: vec!["a".into()], ..RerankRequest::default() }
}

fn body() -> serde_json::Value {
    json!({"query": "q", "documents": ["a"]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_answers_on_time() {
    let server = slow().start().await;
    let started = Instant::now();
    let answer =
        server.post_with("/rerank", body(), |request| request.header("x-request-timeout-ms", "100")).await;
    insta::assert_snapshot!(answer.refusal(), @"504 Timeout: the deadline passed before the request was scored");
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
    let patient =
        server.post_with("/rerank", body(), |request| request.header("x-request-timeout-ms", "60000")).await;
    assert_eq!(patient.status, 200);
}

/// By hand over HTTP/2: every gRPC client keeps the deadline itself as well, and would hide a server that does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_answers_on_time() {
    let server = slow().start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let message = grpc_request().encode_to_vec();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let started = Instant::now();
    let request = client
        .post(format!("{}/rerank.v1.Rerank/Rerank", server.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "100m");
    let response = request.body(frame).send().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
    assert_eq!(response.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED: {response:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_has_a_deadline_of_its_own() {
    let setup = slow();
    let limits = rerank_server::config::Limits { timeout: Some(Duration::from_millis(100)), ..setup.limits };
    let server = Setup { limits, ..setup }.start().await;
    assert_eq!(server.post("/rerank", body()).await.status, 504);
    let error = server.grpc().await.rerank(grpc_request()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

/// Three requests wait behind a slow batch; one loses its deadline and one its client. Only the third is scored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_computed_for_those_who_left() {
    // One row a batch, so that what waits cannot slip into the batch that is being put together.
    let setup = slow();
    let options = EngineOptions { max_batch_rows: Some(1), ..setup.options.clone() };
    let server = Setup { options, ..setup }.start().await;
    let first = server.post("/rerank", body());
    let others = async {
        server.until("the first is inside", |server| server.service.engine().in_flight() > 0).await;
        // Inside, it still has to pass the tokenizer before the worker takes it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let late =
            server.post_with("/rerank", body(), |request| request.header("x-request-timeout-ms", "150"));
        let gone = tokio::time::timeout(Duration::from_millis(150), server.post("/rerank", body()));
        let kept = server.post("/rerank", body());
        tokio::join!(late, gone, kept)
    };
    let (first, (late, gone, kept)) = tokio::join!(first, others);
    assert_eq!((first.status, late.status, kept.status), (200, 504, 200));
    assert!(gone.is_err(), "the client hung up");
    assert_eq!(server.rows_scored(), 2, "the first and the third");
    server.until("nobody is inside", |server| server.service.engine().in_flight() == 0).await;
    let failures = server.service.engine().telemetry().totals().failures;
    assert_eq!(failures.get("deadline_exceeded"), Some(&1), "{failures:?}");
    assert_eq!(failures.get("cancelled"), Some(&1), "{failures:?}");
}
