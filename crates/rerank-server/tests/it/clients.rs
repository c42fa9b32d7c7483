//! Real third-party clients against a real server: their own code decides whether our wire is theirs. Runs where
//! `RERANK_CLIENTS_PYTHON` names a Python that has them; `tests/clients/requirements.txt` lists them.

use std::process::Command;

use crate::harness::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn third_party_clients_are_content() {
    let Some(python) = std::env::var_os("RERANK_CLIENTS_PYTHON").filter(|python| !python.is_empty()) else {
        // libtest cannot skip at run time; saying so is the next best.
        println!("skipped: RERANK_CLIENTS_PYTHON is not set");
        return;
    };
    let server = TestServer::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/check.py");
    let grpc = server.grpc.trim_start_matches("http://").to_owned();
    let arguments = [script.to_owned(), server.http.clone(), grpc];
    let output = tokio::task::spawn_blocking(move || Command::new(python).args(arguments).output())
        .await
        .unwrap()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    assert!(output.status.success(), "{stdout}\n{stderr}");
}
