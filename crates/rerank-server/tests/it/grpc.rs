//! The gRPC interface, with the metadata, error details, health and reflection that its clients rely on.

use rerank_proto::rerank::v1::{InfoRequest, Pair, RerankRequest, ScoreRequest};
use tonic::{Code, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

use crate::harness::{Setup, TestServer};

fn rerank(query: &str, documents: &[&str]) -> RerankRequest {
    let documents = documents.iter().map(|&document| document.to_owned()).collect();
    RerankRequest { query: query.to_owned(), documents, ..RerankRequest::default() }
}

/// Code, message and machine-readable reason in one line.
pub(crate) fn refusal(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| format!("{}/{}", info.domain, info.reason));
    format!("{:?} {}: {}", status.code(), reason.unwrap_or_default(), status.message())
}

#[tokio::test]
async fn documents_are_ranked_with_usage_and_timings() {
    let server = TestServer::start().await;
    let request = RerankRequest {
        top_n: Some(2),
        return_documents: true,
        ..rerank("people in berlin", &["Rome.", "People in Berlin.", "Berlin is green."])
    };
    let response = server.grpc().await.rerank(request).await.unwrap();
    let timing = response.metadata().get("server-timing").unwrap().to_str().unwrap().to_owned();
    let answer = response.into_inner();
    let order: Vec<_> = answer.results.iter().map(|place| (place.index, place.document.as_deref())).collect();
    assert_eq!(order, [(1, Some("People in Berlin.")), (2, Some("Berlin is green."))]);
    assert!(answer.results[0].score > answer.results[1].score);
    let usage = answer.usage.unwrap();
    // [CLS] and two [SEP] around three words of query and 2, 4 and 4 of document.
    assert_eq!((usage.pairs, usage.tokens), (3, 3 * 6 + 10));

    let inner = answer.timings.unwrap();
    assert!(inner.tokenise_ns > 0 && inner.compute_ns > 0, "{inner:?}");
    let total: f64 = timing.rsplit_once("total;dur=").unwrap().1.parse().unwrap();
    let sum = inner.receive_ns
        + inner.parse_ns
        + inner.tokenise_ns
        + inner.queue_ns
        + inner.compute_ns
        + inner.reply_ns;
    assert!(total * 1e6 >= sum as f64, "the trailers are written last: {timing} {inner:?}");
}

#[tokio::test]
async fn pairs_are_scored_in_order() {
    let server = TestServer::start().await;
    let pair = |query: &str, document: &str| Pair { query: query.into(), document: document.into() };
    let pairs = vec![pair("a b", "x"), pair("a b", "a b"), pair("c", "c")];
    let mut client = server.grpc().await;
    let scores = client
        .score(ScoreRequest { pairs: pairs.clone(), ..ScoreRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert!(scores.scores[1] > scores.scores[0]);
    let raw = client
        .score(ScoreRequest { pairs, raw_scores: true, ..ScoreRequest::default() })
        .await
        .unwrap()
        .into_inner();
    for (score, logit) in scores.scores.iter().zip(&raw.scores) {
        assert!((score - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-12);
    }
}

#[tokio::test]
async fn info_agrees_with_http() {
    let server = TestServer::start().await;
    let info = server.grpc().await.info(InfoRequest {}).await.unwrap().into_inner();
    let http = server.get("/info").await.body;
    assert_eq!(info.model_sha256, http["model"]["sha256"].as_str().unwrap());
    assert_eq!(info.backend, http["backend"]["name"].as_str().unwrap());
    assert_eq!(info.layout, http["backend"]["layout"].as_str().unwrap());
    assert_eq!(u64::from(info.max_length), http["model"]["max_length"].as_u64().unwrap());
    assert_eq!(info.max_batch_tokens, http["batching"]["max_batch_tokens"].as_u64().unwrap());
}

#[tokio::test]
async fn refusals_carry_a_reason() {
    let limits = rerank_server::config::Limits { max_documents: 2, payload: 4000, timeout: None };
    let server = Setup { limits, ..Setup::default() }.start().await;
    let mut client = server.grpc().await;
    let mut refuse = async |request| refusal(&client.rerank(request).await.unwrap_err());
    insta::assert_snapshot!(refuse(rerank("", &["a"])).await, @"InvalidArgument rerank.v1/EMPTY: the query is empty");
    insta::assert_snapshot!(refuse(rerank("q", &[])).await, @"InvalidArgument rerank.v1/EMPTY: there are no documents to rank");
    insta::assert_snapshot!(refuse(rerank("q", &["a", "b", "c"])).await, @"InvalidArgument rerank.v1/TOO_MANY: 3 documents, the limit is 2: split the request, or raise --max-documents");
    insta::assert_snapshot!(refuse(RerankRequest { top_n: Some(0), ..rerank("q", &["a"]) }).await, @"InvalidArgument rerank.v1/INVALID: top_n is 0: it must be at least 1; leave it out for all");
    insta::assert_snapshot!(refuse(RerankRequest { truncation: 77, ..rerank("q", &["a"]) }).await, @"InvalidArgument rerank.v1/INVALID: `truncation` 77 is not defined");
    insta::assert_snapshot!(refuse(RerankRequest { truncation: 3, ..rerank("q", &["a ".repeat(900).as_str()]) }).await, @"InvalidArgument rerank.v1/TOO_LONG: document 0 makes a row of 904 tokens, the limit is 512: shorten it or allow truncation");
    let too_large = client.rerank(rerank("q", &["a".repeat(5000).as_str()])).await.unwrap_err();
    assert_eq!(too_large.code(), Code::OutOfRange, "tonic's own word: {too_large:?}");
    let none = client.score(ScoreRequest::default()).await.unwrap_err();
    insta::assert_snapshot!(refusal(&none), @"InvalidArgument rerank.v1/EMPTY: there are no pairs to score");
    let pairs = vec![Pair::default()];
    let empty = client.score(ScoreRequest { pairs, ..ScoreRequest::default() }).await.unwrap_err();
    insta::assert_snapshot!(refusal(&empty), @"InvalidArgument rerank.v1/EMPTY: the query is empty");
}

#[tokio::test]
async fn health_follows_the_engine() {
    let mut server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", rerank_proto::SERVICE_NAME] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "`{service}`");
    }
    let unknown = health.check(HealthCheckRequest { service: "no.such.Service".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let request = HealthCheckRequest { service: rerank_proto::SERVICE_NAME.to_owned() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.ask_to_stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // The watch never ends by itself, and must not hold the server up for the whole drain timeout.
    let outcome = tokio::time::timeout(std::time::Duration::from_secs(5), server.ended()).await.unwrap();
    assert_eq!(outcome.unwrap(), rerank_server::serve::Outcome::Drained);
}

#[tokio::test]
async fn reflection_describes_every_service() {
    let server = TestServer::start().await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut ask = async |request| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut answers =
            client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("not a list")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    insta::assert_snapshot!(names.join("\n"), @r"
    grpc.health.v1.Health
    grpc.reflection.v1.ServerReflection
    rerank.v1.Rerank
    ");
    let symbol = MessageRequest::FileContainingSymbol("rerank.v1.Rerank.Score".to_owned());
    assert!(
        matches!(ask(symbol).await, MessageResponse::FileDescriptorResponse(file) if !file.file_descriptor_proto.is_empty())
    );
}
