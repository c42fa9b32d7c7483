//! A backend that fails, panics, answers nonsense or runs out of memory costs its own requests an error and the server
//! nothing.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use backend_mock::Plan;
use rerank_proto::rerank::v1::RerankRequest;
use serde_json::json;

use crate::grpc::refusal;
use crate::harness::{Setup, TestServer};

/// Every second batch goes wrong.
const SECOND: Option<NonZeroU64> = NonZeroU64::new(2);

async fn ask(server: &TestServer) -> String {
    let answer = server.post("/rerank", json!({"query": "q", "documents": ["a", "b"]})).await;
    if answer.status == 200 { "200".to_owned() } else { answer.refusal() }
}

/// The first request succeeds, the second meets the fault, and then the server is as before.
async fn fault(plan: Plan) -> String {
    let server = Setup::plan(plan).start().await;
    assert_eq!(ask(&server).await, "200");
    let refused = ask(&server).await;
    // While a lost backend is loaded again, the server says so and computes nothing.
    let mut then = ask(&server).await;
    while then.starts_with("503 Unhealthy: not ready") {
        tokio::time::sleep(Duration::from_millis(10)).await;
        then = ask(&server).await;
    }
    assert_eq!(then, "200");
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_batch_fails_its_requests_alone() {
    insta::assert_snapshot!(fault(Plan { fail_every: SECOND, ..Plan::NONE }).await, @"500 Backend: inference failed: planned failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_lost_device() {
    insta::assert_snapshot!(fault(Plan { panic_every: SECOND, ..Plan::NONE }).await, @"503 Unhealthy: device lost: the backend panicked: planned panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_device_is_loaded_again() {
    insta::assert_snapshot!(fault(Plan { lose_device_every: SECOND, ..Plan::NONE }).await, @"503 Unhealthy: device lost: planned loss of the device");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nan_is_an_error_and_not_a_score() {
    insta::assert_snapshot!(fault(Plan { nan_every: SECOND, ..Plan::NONE }).await, @"500 Backend: inference failed: the logit of document 1 is NaN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_logit_is_an_error() {
    insta::assert_snapshot!(fault(Plan { short_every: SECOND, ..Plan::NONE }).await, @"500 Backend: inference failed: the backend answered 1 logits for 2 rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_does_not_fit_is_halved_once() {
    let setup = |rows| {
        let mut setup = Setup::plan(Plan { oom_above: NonZeroUsize::new(rows), ..Plan::NONE });
        setup.options.warm_up = false;
        setup
    };
    let documents = json!({"query": "q", "documents": ["a", "b", "c", "d"]});
    let server = setup(2).start().await;
    assert_eq!(server.post("/rerank", &documents).await.status, 200, "two halves of two fit");

    let server = setup(1).start().await;
    insta::assert_snapshot!(server.post("/rerank", &documents).await.refusal(), @"500 Backend: out of memory for a batch of 2 rows and 10 tokens");
    assert_eq!(server.post("/rerank", json!({"query": "q", "documents": ["a"]})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_says_the_same() {
    let server = Setup::plan(Plan { fail_every: NonZeroU64::new(1), ..Plan::NONE }).start().await;
    let request =
        RerankRequest { query: "q".into(), documents: vec!["a".into()], ..RerankRequest::default() };
    let status = server.grpc().await.rerank(request).await.unwrap_err();
    insta::assert_snapshot!(refusal(&status), @"Internal rerank.v1/INFERENCE: inference failed: planned failure");
}
