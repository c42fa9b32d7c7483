//! openapi.json is written by hand and proved here: every path is served and described, every answer that the server
//! gives fits its schema to the last field, and every request field that is described is understood.

use rerank_server::http::{OPENAPI, PATHS};
use serde_json::{Value, json};

use crate::harness::{Answer, TestServer};
use crate::schema::violations;

fn described() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// The schema of an answer.
fn schema(openapi: &Value, path: &str, method: &str, status: u16) -> Value {
    let answer = &openapi["paths"][path][method]["responses"][status.to_string()];
    let schema = &answer["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} does not describe {status}");
    schema.clone()
}

fn check(openapi: &Value, path: &str, method: &str, answer: &Answer) {
    let schema = schema(openapi, path, method, answer.status);
    let found = violations(openapi, &schema, &answer.body, "$");
    assert!(found.is_empty(), "{method} {path} {}: {found:#?}", answer.status);
}

#[test]
fn every_path_is_described_and_every_description_is_of_a_path() {
    let openapi = described();
    let mut paths: Vec<&String> = openapi["paths"].as_object().unwrap().keys().collect();
    paths.sort();
    assert_eq!(paths, PATHS);
    assert_eq!(openapi["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_description_is_served() {
    let (server, openapi) = (TestServer::start().await, described());
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let response =
                server.client.request(method, format!("{}{path}", server.http)).send().await.unwrap();
            assert!(![404, 405].contains(&response.status().as_u16()), "{path}: {}", response.status());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_fits_its_schema() {
    let (server, openapi) = (TestServer::start().await, described());
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let bodies = [
            json!({"query": "q", "texts": ["a", "b"]}),
            json!({"query": "q", "texts": ["a"], "return_text": true}),
            json!({"query": "q", "documents": ["a", {"text": "b"}]}),
            json!({"query": "q", "documents": ["a"], "return_documents": true}),
            json!({"query": "q"}),
            json!({"query": "", "texts": ["a"]}),
        ];
        for body in bodies {
            check(&openapi, path, "post", &server.post(path, &body).await);
        }
    }
    for ids in [false, true] {
        let body = json!({"query": "q", "documents": ["a"], "ids": ids});
        check(&openapi, "/tokenize", "post", &server.post("/tokenize", body).await);
    }
    check(&openapi, "/tokenize", "post", &server.post("/tokenize", "7").await);
    server.until("a sample is closed", |s| !s.service.engine().telemetry().samples_since(0).is_empty()).await;
    for path in ["/livez", "/readyz", "/health", "/info", "/telemetry", "/openapi.json"] {
        check(&openapi, path, "get", &server.get(path).await);
    }
    check(&openapi, "/telemetry", "get", &server.get("/telemetry?since=soon").await);
}

/// A described field that the server ignored would be accepted whatever its type; an understood one is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_described_request_field_is_understood() {
    let (server, openapi) = (TestServer::start().await, described());
    for (shape, path, body) in [
        ("TextsRequest", "/rerank", json!({"query": "q", "texts": ["a"]})),
        ("DocumentsRequest", "/rerank", json!({"query": "q", "documents": ["a"]})),
        ("TokenizeRequest", "/tokenize", json!({"query": "q", "documents": ["a"]})),
    ] {
        let fields = openapi["components"]["schemas"][shape]["properties"].as_object().unwrap();
        for field in fields.keys().filter(|field| *field != "model") {
            let mut wrong = body.clone();
            wrong[field] = json!({"no": "such type"});
            let answer = server.post(path, wrong).await;
            assert_eq!(answer.status, 422, "{shape}.{field} is not read: {}", answer.body);
            let error = answer.body["error"].as_str().unwrap();
            assert!(error.contains(&format!("`{field}`")), "{shape}.{field}: {error}");
        }
    }
}
