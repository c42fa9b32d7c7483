//! `parity --against` between two stubs of the HTTP side: what is compared, what is judged and what is refused.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
};

use rerank_report::Parity;
use serde_json::{Value, json};

/// A server of `dtype` whose logit for a document is a function of the document's number.
#[derive(Clone, Copy)]
struct Stub {
    dtype: &'static str,
    sha256: &'static str,
    logit: fn(f64) -> f64,
}

impl Stub {
    fn answer(self, path: &str, body: &Value) -> Value {
        let documents = body["documents"].as_array().map_or(0, Vec::len);
        match path {
            "/info" => json!({
                "version": "0.1.0",
                "model": {"name": "m", "sha256": self.sha256, "max_length": 512},
                "backend": {
                    "name": "stub", "device": "cpu", "device_name": "CPU", "dtype": self.dtype, "threads": 1, "workers": 1
                }
            }),
            "/tokenize" => json!({"rows": vec![json!({"tokens": 3}); documents]}),
            "/rerank" => {
                let results: Vec<Value> = (0..documents)
                    .map(|at| json!({"index": at, "relevance_score": (self.logit)(at as f64)}))
                    .collect();
                json!({"results": results, "usage": {"total_tokens": 3 * documents}})
            }
            other => panic!("nobody should ask for {other}"),
        }
    }

    /// One request a connection.
    fn reply(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut length) = (String::new(), 0);
        reader.read_line(&mut head)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length is a number");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let path = head.split(' ').nth(1).expect("a request line has a path");
        let text = self.answer(path, &serde_json::from_slice(&body).unwrap_or(Value::Null)).to_string();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        )
    }

    /// Serves on a thread of its own until the test ends.
    fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                self.reply(stream).expect("the client waits for its answer");
            }
        });
        format!("http://{address}")
    }
}

const F32: Stub = Stub { dtype: "f32", sha256: "aa", logit: |at| 4.0 - 0.25 * at };

fn compare(server: Stub, reference: Stub) -> Output {
    let workload = concat!("jsonl:", env!("CARGO_MANIFEST_DIR"), "/../../benchmarks/data/workload.jsonl");
    Command::new(env!("CARGO_BIN_EXE_rerank-bench"))
        .args(["parity", "--json", "--protocol", "http", "--http", &server.serve()])
        .args(["--against", &reference.serve(), "--workload", workload])
        .output()
        .expect("the program starts")
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_query_of_the_workload_is_compared() {
    let output = compare(Stub { dtype: "int8", logit: |at| 4.1 - 0.25 * at, ..F32 }, F32);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let parity: Parity = serde_json::from_slice(&output.stdout).unwrap();
    let Parity::Checked { n, reference, ranking: Some(ranking), .. } = parity else { panic!("{parity:?}") };
    assert_eq!((n, ranking.queries, ranking.without_order), (128 * 32, 128, 0));
    assert_eq!(ranking.bounds.unwrap().same_top, Some(0.98));
    assert!(reference.contains("stub on cpu in f32, 128 requests of"), "{reference}");
}

#[test]
fn another_top_document_fails_int8_and_not_f16() {
    // The first two documents change places, by no more than f16 may err.
    let swapped = |at: f64| if at < 2.0 { 3.87 + 0.01 * at } else { 4.0 - 0.25 * at };
    let near = Stub { logit: |at| if at < 2.0 { 3.9 - 0.01 * at } else { 4.0 - 0.25 * at }, ..F32 };
    let told = complaint(&compare(Stub { dtype: "int8", logit: swapped, ..F32 }, near));
    assert!(told.contains("same top document 0.0000 is below 0.98, n=128 queries"), "{told}");
    let output = compare(Stub { dtype: "f16", logit: swapped, ..F32 }, near);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn other_weights_and_other_dtypes_are_no_reference() {
    let told = complaint(&compare(F32, Stub { dtype: "bf16", ..F32 }));
    assert!(told.contains("the reference computes in `bf16`; start it with --dtype f32"), "{told}");
    let told = complaint(&compare(F32, Stub { sha256: "bb", ..F32 }));
    assert!(told.contains("the reference serves other weights"), "{told}");
}
