//! A fixed synthetic result, rendered: the pages must not change by accident.

use std::{collections::BTreeMap, time::Duration};

use rerank_report::{
    BenchResult, Cell, ClientSide, ComparedQuery, DurationHistogram, Environment, Experiment, ForwardResult,
    ForwardRound, ForwardSubject, Identity, Load, Outcome, Pace, Parity, Run, SCHEMA_VERSION, Sample,
    ServerSide, ServerUnderTest, ServingResult, Stage, TokenStats, Window, Worker, Workload, check_run,
    compare_results, summary_table, write_all,
};

const STAGES: [(&str, f64); 6] = [
    ("receive", 0.01),
    ("parse", 0.01),
    ("tokenise", 0.08),
    ("queue", 0.1),
    ("compute", 0.79),
    ("reply", 0.01),
];

fn environment() -> Environment {
    Environment {
        machine: "desk".to_owned(),
        cpu: Some("Example CPU @ 3.00GHz".to_owned()),
        physical_cores: Some(2),
        usable_cores: 2,
        cpu_features: vec!["avx2".to_owned(), "avx512f".to_owned()],
        governor: None,
        memory_mib: Some(16_000),
        gpus: Vec::new(),
        os: "Linux 6.1".to_owned(),
        load_average: Some(0.03),
        rustc: "rustc 1.95.0".to_owned(),
        build: "profile bench".to_owned(),
        commit: Some("0123abc".to_owned()),
        dirty: Some(false),
        libraries: BTreeMap::from([("candle-core".to_owned(), "0.11.1".to_owned())]),
        variables: BTreeMap::new(),
    }
}

/// A run of `seconds` with `per_second` requests of 32 pairs in each, whose latencies step up by 0.1 ms.
fn run(round: usize, seconds: u64, per_second: u64, latency_ms: f64) -> Run {
    let requests = seconds * per_second;
    let mut latency = DurationHistogram::default();
    let mut total = DurationHistogram::default();
    let mut stages: Vec<Stage> = STAGES
        .map(|(name, _)| Stage { name: name.to_owned(), durations: DurationHistogram::default() })
        .into_iter()
        .collect();
    for request in 0..requests {
        let seconds = (latency_ms + 0.1 * (request % 10) as f64) / 1e3;
        latency.record(Duration::from_secs_f64(seconds));
        total.record(Duration::from_secs_f64(seconds * 0.9));
        for (stage, (_, share)) in stages.iter_mut().zip(STAGES) {
            stage.durations.record(Duration::from_secs_f64(seconds * 0.9 * share));
        }
    }
    let windows = (1..seconds)
        .map(|second| Window {
            second,
            requests: per_second + second % 3,
            pairs: 32 * (per_second + second % 3),
            tokens: Some(32 * 60 * (per_second + second % 3)),
            latency_ms: Some(latency_ms - 0.2 * (second % 3) as f64),
            errors: 0,
        })
        .collect();
    let samples = (1..seconds)
        .map(|second| Sample {
            time: 1_767_300_000.0 + second as f64,
            pairs: 32 * per_second,
            cpu_cores: Some(1.9),
            rss_mib: Some(120.0),
            busy_share: Some(0.8),
            queue_tokens: Some(0.0),
            tokenise_ms: Some(0.7),
            queue_ms: Some(0.9),
            compute_ms: Some(7.1),
            batch_rows: Some(32.0),
            padding_waste: Some(0.25),
            ..Sample::default()
        })
        .collect();
    let worker = Worker {
        id: 0,
        batches: requests,
        pairs: 32 * requests,
        busy_ns: (requests as f64 * latency_ms * 0.7 * 1e6) as u64,
        batch_durations: None,
    };
    Run {
        round,
        started: "2026-01-01T20:52:38Z".to_owned(),
        seconds: seconds as f64,
        requests,
        pairs: 32 * requests,
        tokens: Some(32 * 60 * requests),
        errors: BTreeMap::new(),
        latency,
        windows,
        client: ClientSide { cpu_cores: 0.05, threads: 1, max_in_flight: 1, send_lag: None },
        server: Some(ServerSide {
            total,
            stages,
            workers: vec![worker],
            samples,
            tokens: 32 * 60 * requests,
            computed_tokens: 32 * 80 * requests,
        }),
    }
}

/// Three queries of eight documents that keep their order.
fn checked(dtype: &str, tolerance: f64) -> Parity {
    let reference: Vec<f64> = (0..8).map(|at| 0.5 - f64::from(at)).collect();
    let logits = reference.iter().map(|logit| logit + 2.0_f64.powi(-16)).collect();
    let query = ComparedQuery { logits, reference };
    Parity::of("parity.json".to_owned(), &[query.clone(), query.clone(), query], dtype, tolerance)
}

fn served(backend: &str, parity: Parity) -> ServerUnderTest {
    ServerUnderTest {
        label: backend.to_owned(),
        backend: backend.to_owned(),
        command: vec!["--backend".to_owned(), backend.to_owned()],
        outcome: Outcome::Served {
            identity: Box::new(Identity {
                version: "0.1.0".to_owned(),
                backend: backend.to_owned(),
                device: "cpu".to_owned(),
                device_name: "Example CPU".to_owned(),
                dtype: "f32".to_owned(),
                threads: 2,
                workers: 1,
                model: "rerank-tiny".to_owned(),
                model_sha256: "00112233445566778899aabbccddeeff".to_owned(),
                max_length: 512,
                details: BTreeMap::new(),
            }),
            parity,
        },
    }
}

fn experiment(name: &str) -> Experiment {
    Experiment {
        name: name.to_owned(),
        description: "Compare all backends".to_owned(),
        overrides: Vec::new(),
        started: "2026-01-01T20:52:38Z".to_owned(),
        finished: "2026-01-01T20:58:38Z".to_owned(),
    }
}

fn serving() -> ServingResult {
    let cell = |server: &str, runs| Cell {
        server: server.to_owned(),
        load: Load { protocol: "grpc".to_owned(), rows: 32, pace: Pace::Closed { concurrency: 1 } },
        workload: Workload {
            name: "workload.jsonl".to_owned(),
            sha256: "feedface".to_owned(),
            distinct_requests: 128,
            seed: 0,
            tokens: TokenStats::new((0..100).map(|row| 20 + row)),
        },
        runs,
    };
    let checked = checked("f32", 1e-4);
    let mut refused = served("mlx", checked.clone());
    refused.outcome = Outcome::Refused { reason: "needs macOS".to_owned() };
    ServingResult {
        schema_version: SCHEMA_VERSION,
        experiment: experiment("01_backend_comparison"),
        environment: environment(),
        yardstick: Some("candle".to_owned()),
        servers: vec![
            served("candle", checked),
            served("mock", Parity::NotApplicable { reason: "scores words, has no reference".to_owned() }),
            refused,
        ],
        cells: vec![
            cell("candle", vec![run(1, 31, 10, 9.0), run(2, 31, 11, 9.1), run(3, 31, 10, 9.2)]),
            cell("mock", vec![run(1, 31, 100, 0.9), run(2, 31, 104, 0.8), run(3, 31, 99, 0.95)]),
        ],
    }
}

fn forward(speed: f64) -> ForwardResult {
    let subject = |label: &str, parity: Parity, base: f64| ForwardSubject {
        label: label.to_owned(),
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        threads: 2,
        details: BTreeMap::from([("kernels".to_owned(), "f32 avx2+fma".to_owned())]),
        parity,
        rounds: (1..=3)
            .flat_map(|round| {
                [("32x128", 32, 4096), ("mix32", 32, 2880)].map(|(shape, rows, tokens)| ForwardRound {
                    round,
                    shape: shape.to_owned(),
                    rows,
                    tokens,
                    seconds: (0..6)
                        .map(|call| base * (1.0 + 0.01 * f64::from(call) + 0.02 * round as f64))
                        .collect(),
                })
            })
            .collect(),
    };
    ForwardResult {
        schema_version: SCHEMA_VERSION,
        experiment: experiment("forward"),
        environment: environment(),
        model: "minilm-l6 (synthetic, seed 0)".to_owned(),
        yardstick: Some("torch-eager".to_owned()),
        subjects: vec![
            subject("candle", checked("f32", 1e-4), 0.6 / speed),
            subject("torch-eager", Parity::NotApplicable { reason: "it is the reference".to_owned() }, 0.65),
        ],
    }
}

fn rendered(result: &BenchResult, page: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_all(result, dir.path()).expect("a fixed result renders");
    for entry in std::fs::read_dir(dir.path()).expect("the folder is there") {
        let path = entry.expect("its entries can be read").path();
        if path.extension().is_some_and(|suffix| suffix == "svg") {
            let svg = std::fs::read_to_string(&path).expect("a plot is text");
            assert!(svg.starts_with("<svg") && svg.contains("<text"), "{} is no plot", path.display());
            assert!(!svg.contains("NaN") && !svg.contains("nothing was measured"), "{}", path.display());
        }
    }
    std::fs::read_to_string(dir.path().join(page)).expect("the page was written")
}

#[test]
fn serving_report() {
    insta::assert_snapshot!(rendered(&BenchResult::Serving(Box::new(serving())), "report.md"));
}

#[test]
fn forward_report() {
    insta::assert_snapshot!(rendered(&BenchResult::Forward(Box::new(forward(1.0))), "report.md"));
}

#[test]
fn time_series_hold_every_window() {
    let page = rendered(&BenchResult::Serving(Box::new(serving())), "timeseries.md");
    // Two cells of three rounds, each with 30 windows and 30 samples, and two lines of header above each table.
    assert_eq!(page.lines().filter(|line| line.starts_with('|')).count(), 6 * (32 + 32));
}

#[test]
fn terminal_summary() {
    insta::assert_snapshot!(summary_table(&BenchResult::Serving(Box::new(serving()))), @r#"
    | Server | Batch   | Conc | Pairs  | Lat Avg | Lat P95 | TP Avg ± (rounds)   | Tokens/s | Vs yardstick              | Failed |
    |--------|---------|------|--------|---------|---------|---------------------|----------|---------------------------|--------|
    | candle | 32      | 1    | 30752  | 9.550ms | 10.00ms | 362.7 ± 45.90 (n=3) | 21760    | 1.000 (1.000..1.000, n=3) | 0      |
    | mock   | 32      | 1    | 300576 | 1.332ms | 1.800ms | 3264 ± 210.3 (n=3)  | 195840   | 9.091 (8.750..9.182, n=3) | 0      |
    | mlx    | refused | -    | -      | -       | -       | -                   | -        | -                         | -      |
    "#);
}

#[test]
fn result_json_survives_a_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result.json");
    for result in [BenchResult::Serving(Box::new(serving())), BenchResult::Forward(Box::new(forward(1.0)))] {
        result.write(&path).unwrap();
        assert_eq!(BenchResult::read(&path).unwrap(), result);
    }
}

/// A result outlives the release that wrote it: those that are committed say nothing of the ranking yet.
#[test]
fn committed_results_are_read_and_rendered() {
    let results = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benchmarks/results");
    let folders = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let runs: Vec<_> = folders(results.as_ref()).iter().flat_map(|path| folders(path)).collect();
    assert!(runs.len() >= 2, "{results} holds {runs:?}");
    for run in runs {
        let result = BenchResult::read(&run.join("result.json")).unwrap();
        let page = rendered(&result, "report.md");
        assert!(page.contains("## Parity") && page.contains("NDCG@10"), "{}", run.display());
    }
}

#[test]
fn another_schema_version_is_refused_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result.json");
    std::fs::write(&path, r#"{"kind": "serving", "schema_version": 99}"#).unwrap();
    let error = BenchResult::read(&path).unwrap_err().to_string();
    assert!(error.contains("schema_version 99, this build reads 1"), "{error}");
}

#[test]
fn comparison_needs_intervals_that_do_not_overlap() {
    let result = |speed| BenchResult::Forward(Box::new(forward(speed)));
    let page = compare_results(&result(1.0), &result(1.5)).unwrap();
    insta::assert_snapshot!(page.lines().filter(|line| line.starts_with('|')).collect::<Vec<_>>().join("\n"), @r#"
    | Cell                | Before (pairs/s)    | After (pairs/s)     | After / before | Verdict      |
    |---------------------|---------------------|---------------------|----------------|--------------|
    | candle, 32x128      | 50.09 ± 2.337 (n=3) | 75.14 ± 3.506 (n=3) | 1.500          | faster       |
    | candle, mix32       | 50.09 ± 2.337 (n=3) | 75.14 ± 3.506 (n=3) | 1.500          | faster       |
    | torch-eager, 32x128 | 46.24 ± 2.158 (n=3) | 46.24 ± 2.158 (n=3) | 1.000          | within noise |
    | torch-eager, mix32  | 46.24 ± 2.158 (n=3) | 46.24 ± 2.158 (n=3) | 1.000          | within noise |
    "#);
    let error = compare_results(&result(1.0), &BenchResult::Serving(Box::new(serving()))).unwrap_err();
    assert!(error.to_string().contains("share no cell"), "{error}");
}

#[test]
fn a_consistent_run_has_no_problem() {
    assert_eq!(check_run(&run(1, 31, 10, 9.0)), []);
}

#[test]
fn contradictions_are_named() {
    let mut broken = run(1, 31, 10, 9.0);
    let server = broken.server.as_mut().unwrap();
    server.stages.retain(|stage| stage.name != "queue");
    server.workers[0].pairs -= 32;
    let problems: Vec<String> = check_run(&broken).into_iter().map(|problem| problem.0).collect();
    insta::assert_snapshot!(problems.join("\n"), @r#"
    round 1: the stages leave 10.00 % of the total unexplained, more than 1 %
    round 1: the workers scored 9888 pairs, the client got 9920
    "#);
}
