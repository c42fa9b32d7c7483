//! The program against a stub of the gRPC service: what it counts is what the stub served.

use std::{
    net::SocketAddr,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rerank_proto::rerank::v1::{
    InfoRequest, InfoResponse, RankedDocument, RerankRequest, RerankResponse, ScoreRequest, ScoreResponse,
    Usage,
    rerank_server::{Rerank, RerankServer},
};
use rerank_report::{Event, LoadResult};
use tonic::{Code, Request, Response, Status, transport::Server};

/// Serves; refuses every `refuse_every`-th request with `refusal`.
#[derive(Clone)]
struct Stub {
    seen: Arc<AtomicU64>,
    refuse_every: u64,
    refusal: Code,
    delay: Duration,
}

#[tonic::async_trait]
impl Rerank for Stub {
    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if seen.is_multiple_of(self.refuse_every) {
            return Err(Status::new(self.refusal, "as planned"));
        }
        tokio::time::sleep(self.delay).await;
        let documents = request.into_inner().documents.len() as u32;
        let results =
            (0..documents).map(|index| RankedDocument { index, score: 0.5, document: None }).collect();
        let usage = Some(Usage { pairs: documents.into(), tokens: 10 * u64::from(documents) });
        Ok(Response::new(RerankResponse { results, usage, timings: None }))
    }

    async fn score(&self, _: Request<ScoreRequest>) -> Result<Response<ScoreResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// Serves `stub` on a thread of its own until the test ends.
fn serve(stub: Stub) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime
            .block_on(Server::builder().add_service(RerankServer::new(stub)).serve(address))
            .expect("it serves");
    });
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::yield_now();
    }
    address
}

fn stub(refuse_every: u64, refusal: Code) -> Stub {
    Stub { seen: Arc::default(), refuse_every, refusal, delay: Duration::from_millis(2) }
}

fn run(address: SocketAddr, flags: &str) -> Output {
    let workload = concat!("jsonl:", env!("CARGO_MANIFEST_DIR"), "/../../benchmarks/data/workload.jsonl");
    Command::new(env!("CARGO_BIN_EXE_rerank-bench"))
        .args([
            "run",
            "--json",
            "--http",
            "off",
            "--grpc",
            &format!("http://{address}"),
            "--workload",
            workload,
        ])
        .args(flags.split(' '))
        .output()
        .expect("the program starts")
}

fn result(output: &Output) -> LoadResult {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().expect("a line is printed");
    match serde_json::from_str(last).expect("every line is an event") {
        Event::Result(result) => *result,
        other => panic!("the last line is {other:?}; {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn closed_loop_counts_what_was_served() {
    let stub = stub(u64::MAX, Code::Ok);
    let output = run(serve(stub.clone()), "--rows 8 --concurrency 3 --seconds 2 --warm-up 0");
    let LoadResult { run, workload, .. } = result(&output);
    assert!(output.status.success());
    assert_eq!(run.requests, stub.seen.load(Ordering::SeqCst));
    assert_eq!((run.pairs, run.tokens), (8 * run.requests, Some(80 * run.requests)));
    assert_eq!((run.latency.n(), run.windows.len(), workload.distinct_requests), (run.requests, 1, 512));
    assert!(run.latency.min_ms() >= Some(2.0), "the stub sleeps for 2 ms");
    assert_eq!(run.client.max_in_flight, 3);
}

#[test]
fn open_loop_keeps_its_rate_and_warm_up_is_not_counted() {
    let stub = stub(u64::MAX, Code::Ok);
    let output = run(serve(stub.clone()), "--rows 4 --rate 50 --arrivals constant --seconds 2 --warm-up 1");
    let LoadResult { run, .. } = result(&output);
    assert_eq!(run.requests, 100);
    assert_eq!(stub.seen.load(Ordering::SeqCst), 150);
    assert_eq!(run.client.send_lag.map(|lag| lag.n()), Some(100));
}

#[test]
fn refusals_are_counted_by_code_and_the_load_goes_on() {
    let stub = stub(4, Code::ResourceExhausted);
    let output = run(serve(stub.clone()), "--rows 4 --concurrency 2 --seconds 2 --warm-up 0");
    let LoadResult { run, .. } = result(&output);
    let refused = run.errors["ResourceExhausted"];
    assert_eq!(refused, stub.seen.load(Ordering::SeqCst) / 4);
    assert_eq!(run.requests + refused, stub.seen.load(Ordering::SeqCst));
}

#[test]
fn a_server_that_goes_away_ends_the_run_with_its_words() {
    let output = run(serve(stub(5, Code::Unavailable)), "--rows 4 --seconds 2 --warm-up 0");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the server stopped serving: as planned (Unavailable)"), "{told}");
}
