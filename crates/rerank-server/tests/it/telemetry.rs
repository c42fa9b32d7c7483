//! What the server measures of itself is exact, and the same on every page that shows it.

use base64::Engine as _;
use hdrhistogram::serialization::Deserializer;
use serde_json::{Value, json};

use crate::harness::TestServer;

fn decode(histogram: &Value) -> hdrhistogram::Histogram<u64> {
    let bytes = base64::prelude::BASE64_STANDARD.decode(histogram.as_str().unwrap()).unwrap();
    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_add_up_to_what_was_asked() {
    let server = TestServer::start().await;
    for _ in 0..5 {
        let answer = server.post("/rerank", json!({"query": "q", "documents": ["a", "b", "c"]})).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(server.post("/rerank", "{").await.status, 400);
    let closed = |server: &TestServer| {
        let samples = server.service.engine().telemetry().samples_since(0);
        samples.iter().map(|sample| sample.requests).sum::<u64>() == 5
    };
    server.until("the requests' sample is closed", closed).await;

    let page = server.get("/telemetry").await.body;
    assert_eq!((page["schema"].as_u64(), page["missed"].as_u64()), (Some(1), Some(0)));
    let samples = page["samples"].as_array().unwrap();
    let sum = |field: &str| samples.iter().map(|sample| sample[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("requests"), sum("pairs"), sum("tokens")), (5, 15, 15 * 5));
    assert_eq!(samples.iter().filter_map(|sample| sample["failures"]["malformed"].as_u64()).sum::<u64>(), 1);
    for sample in samples {
        let stages = sample["stages"].as_array().unwrap();
        let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
        assert_eq!(names, ["receive", "parse", "tokenise", "queue", "compute", "reply"]);
        let stage_sum: u64 = stages.iter().map(|stage| stage["sum_ns"].as_u64().unwrap()).sum();
        assert_eq!(
            stage_sum,
            sample["total"]["sum_ns"].as_u64().unwrap(),
            "stages are disjoint and complete"
        );
        for durations in stages.iter().chain([&sample["total"]]) {
            let histogram = decode(&durations["histogram"]);
            assert_eq!(histogram.len(), sample["requests"].as_u64().unwrap());
        }
        let workers = sample["workers"].as_array().unwrap();
        let rows: u64 = workers.iter().map(|worker| worker["rows"].as_u64().unwrap()).sum();
        let batches: u64 = workers.iter().map(|worker| worker["batches"].as_u64().unwrap()).sum();
        assert_eq!(rows, sample["pairs"].as_u64().unwrap());
        assert_eq!(decode(&sample["batch_rows"]).len(), batches);
    }

    let next = page["next"].as_u64().unwrap();
    let later = server.get(&format!("/telemetry?since={next}")).await.body;
    let first = later["samples"].as_array().unwrap().first().map(|sample| sample["seq"].as_u64().unwrap());
    assert!(first.is_none_or(|first| first >= next), "no sample is seen twice");
}

#[tokio::test]
async fn prometheus_reads_the_same_totals() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        server.post("/rerank", json!({"query": "q", "documents": ["a", "b"]})).await;
    }
    server.post("/rerank", json!({"query": "", "documents": ["a"]})).await;
    let text = server.text("/metrics").await;
    for line in [
        "rerank_ready 1.0",
        "rerank_requests_total 3",
        "rerank_pairs_total 6",
        "rerank_request_failures_total{reason=\"empty\"} 1",
        "rerank_request_seconds_count 3",
        "rerank_request_seconds_bucket{le=\"+Inf\"} 3",
        "rerank_stage_seconds_count{stage=\"compute\"} 3",
        "rerank_batch_rows_sum 6.0",
        "rerank_worker_rows_total{worker=\"0\"} 6",
        "rerank_build_info{",
        "# EOF",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}
