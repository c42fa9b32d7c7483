//! The binary with MLX inside: it finds its libraries, loads the built-in model and answers.

use serde_json::{Value, json};

use crate::binary::Running;

#[tokio::test]
async fn the_binary_reranks_on_mlx() {
    let mut server = Running::start(&["--backend", "mlx", "--dtype", "f32"], &[]);
    let (http, _) = server.addresses();
    server.wait_for("ready");
    let client = reqwest::Client::new();
    let body = json!({
        "query": "how many people live in berlin",
        "documents": ["Tomatoes are red.", "Berlin has a population of 3.7 million people."],
    });
    let answer = client.post(format!("http://{http}/rerank")).body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer["results"][0]["index"], 1, "{answer}");
    let info = client.get(format!("http://{http}/info")).send().await.unwrap();
    let info: Value = serde_json::from_slice(&info.bytes().await.unwrap()).unwrap();
    assert_eq!((&info["backend"]["name"], &info["backend"]["threads"]), (&json!("mlx"), &json!(1)), "{info}");
}
