//! More than the server takes on: refused at the door, whole or not at all, with the time to come back.

use std::time::Duration;

use backend_mock::Plan;
use rerank_engine::EngineOptions;
use rerank_proto::rerank::v1::RerankRequest;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Setup, TestServer};

/// One slow worker, and room for about two requests of these tests.
async fn narrow() -> TestServer {
    let setup = Setup::plan(Plan { batch_delay: Duration::from_millis(600), ..Plan::NONE });
    let options = EngineOptions { queue_tokens: 1024, max_batch_tokens: 512, ..setup.options.clone() };
    Setup { options, ..setup }.start().await
}

/// Five documents at the length limit: 2,560 tokens unless the queue says no.
fn large() -> serde_json::Value {
    json!({"query": "q", "documents": vec!["word ".repeat(600); 2]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let server = narrow().await;
    let first = server.post("/rerank", large());
    let then = async {
        server
            .until("the first request is inside", |server| server.rows_scored() > 0 || inside(server) > 0)
            .await;
        let refused = server.post("/rerank", large()).await;
        assert_eq!(refused.status, 429, "{}", refused.body);
        assert_eq!(refused.body["error_type"], "Overloaded");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&seconds));

        let documents = vec!["word ".repeat(600); 2];
        let request = RerankRequest { query: "q".into(), documents, ..RerankRequest::default() };
        let refused = server.grpc().await.rerank(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(1));
    };
    let (first, ()) = tokio::join!(first, then);
    assert_eq!(first.status, 200, "what was admitted is answered");
    assert_eq!(server.post("/rerank", large()).await.status, 200, "and then there is room again");
}

fn inside(server: &TestServer) -> usize {
    server.service.engine().in_flight()
}

#[tokio::test]
async fn a_request_that_could_never_fit_is_refused_for_good() {
    let server = narrow().await;
    let refused =
        server.post("/rerank", json!({"query": "q", "documents": vec!["word ".repeat(600); 5]})).await;
    insta::assert_snapshot!(refused.refusal(), @"413 Validation: the request has 2560 tokens, the queue holds 1024: split the request or raise --queue-tokens");
    assert_eq!(refused.header("retry-after"), "", "coming back would not help");
}
