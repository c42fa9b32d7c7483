//! The server's binary on libtorch, which it must find by itself: no variable says where it is.

use reqwest::Client;
use serde_json::{Value, json};

use crate::binary::{Running, command};

#[tokio::test]
async fn it_serves_without_being_told_where_libtorch_is() {
    let mut server = Running::start(
        &["--backend", "pytorch", "--device", "cpu", "--threads", "2"],
        &[("LD_LIBRARY_PATH", ""), ("DYLD_LIBRARY_PATH", "")],
    );
    let (http, _) = server.addresses();
    server.wait_for("ready");
    let client = Client::new();
    let info: Value = client.get(format!("http://{http}/info")).send().await.unwrap().json().await.unwrap();
    let text = info.to_string();
    for part in [r#""name":"torch""#, r#""dtype":"f32""#, r#""threads":2"#, r#""libtorch":"2.13.0""#] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let request = json!({
        "query": "how many people live in berlin",
        "documents": ["Berlin has 3.5 million inhabitants.", "Bread is baked from flour.", "Rome is in Italy."],
    });
    let answer = client.post(format!("http://{http}/rerank")).json(&request).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["results"][0]["index"], 0, "{answer}");
}

#[test]
fn a_torch_module_that_is_not_there_is_refused() {
    let output = command(&["--torch-module", "absent.pt", "--http", "127.0.0.1:0", "--grpc", "off"]).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("absent.pt"), "{said}");
}

#[test]
fn a_torch_module_is_for_the_torch_backend() {
    let output = command(&["--backend", "candle", "--torch-module", "x.pt"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("takes no option `torch-module`") || said.contains("not in this build"), "{said}");
}
