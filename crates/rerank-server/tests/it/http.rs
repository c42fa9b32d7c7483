//! The JSON interface: both request shapes, every option, every refusal.

use serde_json::{Value, json};

use crate::harness::{Setup, TestServer, redact};

const QUERY: &str = "how many people live in berlin";

fn documents() -> Value {
    json!([
        "Rome has two airports.",
        "How many people live in Berlin? 3.7 million people.",
        "Berlin is green."
    ])
}

fn order(results: &Value) -> Vec<u64> {
    results.as_array().unwrap().iter().map(|place| place["index"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn texts_are_answered_with_a_bare_array() {
    let server = TestServer::start().await;
    let answer = server.post("/rerank", json!({"query": QUERY, "texts": documents()})).await;
    assert_eq!(answer.status, 200);
    insta::assert_snapshot!(redact(answer.body), @r#"[{"index":1,"score":"<float>"},{"index":2,"score":"<float>"},{"index":0,"score":"<float>"}]"#);

    let body = json!({"query": QUERY, "texts": documents(), "return_text": true, "top_n": 1});
    insta::assert_snapshot!(redact(server.post("/rerank", body).await.body), @r#"[{"index":1,"score":"<float>","text":"How many people live in Berlin? 3.7 million people."}]"#);
}

#[tokio::test]
async fn documents_are_answered_with_an_object_on_every_path() {
    let server = TestServer::start().await;
    let body = json!({
        "model": "any", "query": QUERY, "top_n": 2, "return_documents": true,
        "documents": ["Rome has two airports.", {"text": "How many people live in Berlin?", "title": "kept apart"}],
    });
    let mut answers = Vec::new();
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status, 200, "{path}");
        answers.push(redact(answer.body));
    }
    insta::assert_snapshot!(answers[0], @r#"{"id":"<id>","meta":{"api_version":{"version":"2"},"tokens":{"input_tokens":30}},"model":"tiny","results":[{"document":{"text":"How many people live in Berlin?"},"index":1,"relevance_score":"<float>"},{"document":{"text":"Rome has two airports."},"index":0,"relevance_score":"<float>"}],"usage":{"total_tokens":30}}"#);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn raw_scores_are_the_logits_whose_sigmoids_are_the_scores() {
    let server = TestServer::start().await;
    let ask = async |raw: bool| {
        let body = json!({"query": QUERY, "texts": documents(), "raw_scores": raw});
        server.post("/rerank", body).await.body
    };
    let (scores, logits) = (ask(false).await, ask(true).await);
    assert_eq!(order(&scores), [1, 2, 0]);
    assert_eq!(order(&logits), [1, 2, 0]);
    for (score, logit) in scores.as_array().unwrap().iter().zip(logits.as_array().unwrap()) {
        let (score, logit) = (score["score"].as_f64().unwrap(), logit["score"].as_f64().unwrap());
        assert!((score - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-12, "{score} {logit}");
    }
}

#[tokio::test]
async fn ids_differ_and_the_clock_adds_up() {
    let server = TestServer::start().await;
    let body = json!({"query": QUERY, "documents": documents()});
    let (first, second) = (server.post("/rerank", &body).await, server.post("/rerank", &body).await);
    assert_ne!(first.body["id"], second.body["id"]);
    let stages: Vec<(&str, f64)> = first
        .header("server-timing")
        .split(", ")
        .map(|stage| stage.split_once(";dur=").map(|(name, ms)| (name, ms.parse().unwrap())).unwrap())
        .collect();
    let names: Vec<&str> = stages.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["receive", "parse", "tokenise", "queue", "compute", "reply", "total"]);
    let sum: f64 = stages[..6].iter().map(|(_, ms)| ms).sum();
    assert!((sum - stages[6].1).abs() < 1e-5 && sum > 0.0, "{stages:?}");
}

#[tokio::test]
async fn long_pairs_are_cut_or_refused_as_asked() {
    let server = TestServer::start().await;
    let long = "word ".repeat(2000);
    let ask = async |extra: Value| {
        let mut body = json!({"query": "a query", "documents": [long]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        server.post("/rerank", body).await
    };
    assert_eq!(ask(json!({})).await.body["usage"]["total_tokens"], 512);
    assert_eq!(ask(json!({"truncation_strategy": "only_second"})).await.body["usage"]["total_tokens"], 512);
    assert_eq!(ask(json!({"truncation_direction": "Left"})).await.status, 200);
    insta::assert_snapshot!(ask(json!({"truncate": false})).await.refusal(), @"422 Validation: document 0 makes a row of 2005 tokens, the limit is 512: shorten it or allow truncation");
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let setup = Setup::default();
    let limits = rerank_server::config::Limits { max_documents: 3, payload: 2000, timeout: None };
    let server = Setup { limits, ..setup }.start().await;
    let refuse = async |body: &str| server.post("/rerank", body).await.refusal();
    insta::assert_snapshot!(refuse("{\"query\": ").await, @"400 Validation: the body is not JSON: EOF while parsing a value at line 1 column 10");
    insta::assert_snapshot!(refuse(r#"{"query": "", "texts": ["a"]}"#).await, @"400 Empty: the query is empty");
    insta::assert_snapshot!(refuse(r#"{"query": " \t", "documents": ["a"]}"#).await, @"400 Empty: the query is empty");
    insta::assert_snapshot!(refuse(r#"{"query": "q", "documents": []}"#).await, @"400 Empty: there are no documents to rank");
    insta::assert_snapshot!(refuse(r#"{"query": "q", "texts": [["a"]]}"#).await, @"422 Validation: `texts[0]`: invalid type: sequence, expected a string at line 1 column 25");
    insta::assert_snapshot!(refuse(r#"{"query": "q", "texts": ["a","a","a","a"]}"#).await, @"422 Validation: 4 documents, the limit is 3: split the request, or raise --max-documents");
    insta::assert_snapshot!(refuse(&json!({"query": "q", "texts": ["a".repeat(2000)]}).to_string()).await, @"413 Validation: the body is larger than 2000 bytes: split the request, or raise --payload-limit");
    insta::assert_snapshot!(server.post("/embed", "{}").await.refusal(), @"404 Validation: there is no `/embed`; GET /openapi.json lists what there is");
    insta::assert_snapshot!(server.get("/rerank").await.refusal(), @"405 Validation: `/rerank` does not answer GET");
    insta::assert_snapshot!(server.get("/telemetry?since=-1").await.refusal(), @"422 Validation: `since` is `-1`: a sample's `seq` is expected");
    let answer = server
        .post_with("/rerank", r#"{"query": "q", "texts": ["a"]}"#, |request| {
            request.header("x-request-timeout-ms", "1s")
        })
        .await;
    insta::assert_snapshot!(answer.refusal(), @r#"422 Validation: x-request-timeout-ms "1s" is not a whole number of milliseconds"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_much_too_large_is_still_told_so() {
    let server = TestServer::start().await;
    let body = json!({"query": "q", "texts": ["a".repeat(24 << 20)]});
    assert_eq!(server.post("/rerank", body).await.status, 413);
}

/// Invalid UTF-8, duplicate and deeply nested fields, numbers out of range: refused, and the server lives.
#[tokio::test]
async fn hostile_bodies_are_refused() {
    let server = TestServer::start().await;
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        b"\xff\xfe".to_vec(),
        b"{\"query\": \"\xff\", \"texts\": [\"a\"]}".to_vec(),
        br#"{"query": "a", "query": "b", "texts": ["a"]}"#.to_vec(),
        [b"[".repeat(100_000), b"]".repeat(100_000)].concat(),
        format!(r#"{{"query": "q", "texts": ["a"], "top_n": {}}}"#, "9".repeat(400)).into_bytes(),
        br#"{"query": "\ud800", "texts": ["a"]}"#.to_vec(),
        b"null".to_vec(),
    ];
    for body in bodies {
        let request = server.client.post(format!("{}/rerank", server.http)).body(body.clone());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        assert!(
            (400..500).contains(&status),
            "{status} for {}",
            String::from_utf8_lossy(&body[..body.len().min(60)])
        );
        let error: Value = response.json().await.unwrap();
        assert!(error["error"].is_string() && error["error_type"].is_string());
    }
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn tokens_are_counted_as_the_reference_does() {
    let server = TestServer::start().await;
    let answer = server
        .post("/tokenize", json!({"query": "a b", "documents": ["x", {"text": ""}], "ids": true}))
        .await;
    // [CLS] a b [SEP] x [SEP], as transformers' BertTokenizer gives them.
    insta::assert_snapshot!(answer.body, @r#"{"rows":[{"ids":[101,1037,1038,102,1060,102],"tokens":6,"type_ids":[0,0,0,0,1,1]},{"ids":[101,1037,1038,102,102],"tokens":5,"type_ids":[0,0,0,0,1]}],"tokens":11}"#);
    let answer = server.post("/tokenize", json!({"query": "", "documents": ["word ".repeat(2000)]})).await;
    insta::assert_snapshot!(answer.body, @r#"{"rows":[{"tokens":512}],"tokens":512}"#);
    insta::assert_snapshot!(server.post("/tokenize", json!({"query": "q", "documents": []})).await.refusal(), @"400 Empty: there are no documents to tokenise");
    insta::assert_snapshot!(server.post("/tokenize", json!({"documents": ["a"]})).await.refusal(), @"422 Validation: the body: missing field `query` at line 1 column 19");
}

#[tokio::test]
async fn probes_follow_the_model() {
    let plan =
        backend_mock::Plan { load_delay: std::time::Duration::from_millis(400), ..backend_mock::Plan::NONE };
    let server = Setup { wait: false, ..Setup::plan(plan) }.start().await;
    assert_eq!(server.get("/livez").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.body["status"].as_str()), (503, Some("loading")));
    let early = server.post("/rerank", json!({"query": "q", "texts": ["a"]})).await;
    insta::assert_snapshot!(early.refusal(), @"503 Unhealthy: not ready: the model is loading");
    assert_eq!(early.header("retry-after"), "1");
    assert_eq!(server.get("/info").await.status, 503);

    server.service.engine().ready().await.unwrap();
    for path in ["/readyz", "/health"] {
        assert_eq!(server.get(path).await.body["status"], "ready");
    }
}

#[tokio::test]
async fn info_says_what_runs() {
    let server = TestServer::start().await;
    let mut info = server.get("/info").await.body;
    info["features"] = "<features>".into();
    info["backend"]["details"] = "<the backend's own>".into();
    info["batching"]["tokenizer_threads"] = "<threads>".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&redact(info)).unwrap(), @r#"
    {
      "backend": {
        "details": "<the backend's own>",
        "device": "cpu",
        "device_name": "no device, scores are lexical",
        "dtype": "f32",
        "layout": "packed",
        "max_rows": null,
        "name": "mock",
        "shapes": "dynamic",
        "threads": 1,
        "workers": 1
      },
      "batching": {
        "look_ahead": 4,
        "max_batch_rows": null,
        "max_batch_tokens": 16384,
        "max_wait_ms": "<float>",
        "tokenizer_threads": "<threads>",
        "warm_up": true
      },
      "features": "<features>",
      "limits": {
        "max_documents": 1000,
        "payload_bytes": 1048576,
        "queue_tokens": 1048576,
        "request_timeout_ms": null
      },
      "model": {
        "bytes": 9174978,
        "config": {
          "activation": "gelu",
          "architecture": "BertForSequenceClassification",
          "heads": 4,
          "hidden_size": 128,
          "intermediate_size": 512,
          "layer_norm_eps": "<float>",
          "layers": 3,
          "max_position_embeddings": 512,
          "pad_token_id": 0,
          "type_vocab_size": 2,
          "vocab_size": 30522
        },
        "max_length": 512,
        "name": "tiny",
        "sha256": "7653f7852c1d6c8d90c1d6ce2863f756503b6807ba38a687bd94ebde7acfac76"
      },
      "version": "0.1.0"
    }
    "#);
}
