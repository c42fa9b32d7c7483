//! HTTP and gRPC are two doors to one room: the same request gets the same scores, usage and reasons through both.

use rerank_proto::rerank::v1::RerankRequest;
use serde_json::json;

use crate::harness::TestServer;

#[tokio::test]
async fn the_same_request_gets_the_same_answer() {
    let server = TestServer::start().await;
    let documents =
        ["", "Berlin", "people live in Rome", "🦀 crab", "how many people live in berlin", "柏林有多少人"];
    for (raw, direction) in [(false, 1), (true, 2)] {
        let query = "how many people live in berlin".to_owned();
        let http = json!({
            "query": query, "documents": documents, "raw_scores": raw,
            "truncation_direction": if direction == 1 { "Right" } else { "Left" },
        });
        let grpc = RerankRequest {
            query,
            documents: documents.map(str::to_owned).to_vec(),
            raw_scores: raw,
            truncation_direction: direction,
            ..RerankRequest::default()
        };
        let http = server.post("/rerank", http).await.body;
        let grpc = server.grpc().await.rerank(grpc).await.unwrap().into_inner();
        assert_eq!(http["usage"]["total_tokens"], grpc.usage.unwrap().tokens);
        let http: Vec<_> = http["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|place| (place["index"].as_u64().unwrap(), place["relevance_score"].as_f64().unwrap()))
            .collect();
        let grpc: Vec<_> = grpc.results.iter().map(|place| (u64::from(place.index), place.score)).collect();
        assert_eq!(http, grpc, "bit for bit: both come from the same logits");
    }
}

#[tokio::test]
async fn the_same_mistake_gets_the_same_reason() {
    let server = TestServer::start().await;
    for (query, documents) in [("", vec!["a"]), ("q", vec![]), ("q", vec!["a"; 1001])] {
        let http = server.post("/rerank", json!({"query": query, "documents": documents})).await;
        let documents = documents.into_iter().map(str::to_owned).collect();
        let request = RerankRequest { query: query.to_owned(), documents, ..RerankRequest::default() };
        let grpc = server.grpc().await.rerank(request).await.unwrap_err();
        assert_eq!(http.body["error"].as_str().unwrap(), grpc.message());
    }
}
