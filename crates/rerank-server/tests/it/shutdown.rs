//! An orderly end: what is in flight is answered, nobody new comes in, and the exit code tells how it went.

use std::time::Duration;

use backend_mock::Plan;
use rerank_server::serve::Outcome;
use serde_json::json;

use crate::harness::Setup;

fn body() -> serde_json::Value {
    json!({"query": "q", "documents": ["a"]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_answers_what_is_inside_and_refuses_the_rest() {
    let mut server =
        Setup::plan(Plan { batch_delay: Duration::from_millis(800), ..Plan::NONE }).start().await;
    // A connection from before: new ones will not be accepted.
    let mut grpc = server.grpc().await;
    let url = format!("{}/rerank", server.http);
    let inside = tokio::spawn(server.client.post(url.clone()).body(body().to_string()).send());
    server.until("the request is inside", |server| server.service.engine().in_flight() > 0).await;
    server.ask_to_stop();
    server.until("it drains", |s| s.service.engine().status() == rerank_engine::Status::Draining).await;

    let late = reqwest::Client::new().post(url).body(body().to_string()).send().await;
    assert!(late.is_err(), "the listener is closed: {late:?}");
    let request = rerank_proto::rerank::v1::RerankRequest {
        query: "q".into(),
        documents: vec!["a".into()],
        ..Default::default()
    };
    assert!(grpc.rerank(request).await.is_err(), "an old connection takes no new requests");

    assert_eq!(inside.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.ended().await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_timeout_ends_it() {
    let setup = Setup::plan(Plan { batch_delay: Duration::from_secs(20), ..Plan::NONE });
    let mut server = Setup { drain_timeout: Duration::from_millis(200), ..setup }.start().await;
    let request = server.client.post(format!("{}/rerank", server.http)).body(body().to_string());
    let inside = tokio::spawn(request.send());
    server.until("the request is inside", |server| server.service.engine().in_flight() > 0).await;
    server.ask_to_stop();
    let outcome = tokio::time::timeout(Duration::from_secs(10), server.ended()).await.unwrap();
    assert_eq!(outcome.unwrap(), Outcome::Abandoned);
    inside.abort();
}

/// The same on the real binary, by real signals.
#[cfg(unix)]
mod signals {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use crate::binary::Running;

    const MOCK: &[&str] = &["--backend", "mock", "--model", "builtin"];

    /// Sends a request whose answer is not read yet.
    fn ask(address: &str) -> TcpStream {
        let body = r#"{"query": "q", "texts": ["a"]}"#;
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "POST /rerank HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        stream
    }

    fn answer(mut stream: TcpStream) -> String {
        let mut text = String::new();
        // A process that exits at once resets its connections, which reads as an error or as nothing.
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    #[cfg_attr(not(feature = "mock"), ignore = "needs a build with --features mock")]
    fn sigterm_drains_and_exits_with_success() {
        for signal in ["TERM", "INT"] {
            let mut server = Running::start(MOCK, &[("RERANK_MOCK", "delay_us=700000")]);
            let (http, _) = server.addresses();
            server.wait_for("ready");
            let stream = ask(&http);
            std::thread::sleep(std::time::Duration::from_millis(200));
            server.signal(signal);
            server.wait_for("draining");
            assert!(answer(stream).starts_with("HTTP/1.1 200 OK"), "what was in flight is answered");
            assert_eq!(server.exit().code(), Some(0), "{:#?}", server.lines);
            assert!(TcpStream::connect(&http).is_err());
        }
    }

    #[test]
    #[cfg_attr(not(feature = "mock"), ignore = "needs a build with --features mock")]
    fn a_second_signal_exits_at_once() {
        let mut server = Running::start(MOCK, &[("RERANK_MOCK", "delay_us=60000000")]);
        let (http, _) = server.addresses();
        server.wait_for("ready");
        let stream = ask(&http);
        std::thread::sleep(std::time::Duration::from_millis(200));
        server.signal("TERM");
        server.wait_for("draining");
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(143), "{:#?}", server.lines);
        drop(stream);
    }

    #[test]
    #[cfg_attr(not(feature = "mock"), ignore = "needs a build with --features mock")]
    fn requests_that_outlive_the_drain_timeout_are_an_error() {
        let arguments = [MOCK, &["--drain-timeout", "1"]].concat();
        let mut server = Running::start(&arguments, &[("RERANK_MOCK", "delay_us=60000000")]);
        let (http, _) = server.addresses();
        server.wait_for("ready");
        let stream = ask(&http);
        std::thread::sleep(std::time::Duration::from_millis(200));
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(1), "{:#?}", server.lines);
        drop(stream);
    }

    #[test]
    #[cfg_attr(not(feature = "mock"), ignore = "needs a build with --features mock")]
    fn a_signal_while_loading_ends_it_too() {
        let mut server = Running::start(MOCK, &[("RERANK_MOCK", "load_ms=60000")]);
        server.addresses();
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0), "{:#?}", server.lines);
    }
}
