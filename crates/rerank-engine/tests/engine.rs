//! The engine under load and under faults, through its public face, over the mock backend.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use backend_mock::{MockFactory, Plan};
use rerank_core::{
    Backend, BackendError, BackendFactory, DType, Device, DeviceInfo, LoadSpec, Model, Unavailable,
};
use rerank_engine::{
    Direction, Engine, EngineError, EngineOptions, PairTokenizer, RerankRequest, ScoreRequest, Scored, Stage,
    Status, Strategy, Timeline, Truncation,
};

const QUERY: &str = "how many people live in berlin";
const DOCUMENTS: [&str; 4] = [
    "Rome has two airports.",
    "Many people live in Berlin.",
    "How many people live in Berlin? About 3.7 million live there.",
    "",
];

fn started(plan: Plan, options: EngineOptions) -> Engine {
    started_on(MockFactory::with_plan(plan), options)
}

fn started_on(factory: impl BackendFactory + 'static, options: EngineOptions) -> Engine {
    let factory: &'static dyn BackendFactory = Box::leak(Box::new(factory));
    let model = Model::from_bytes("tiny", rerank_model_tiny::config(), rerank_model_tiny::weights())
        .expect("the built-in model is sound");
    let tokenizer = PairTokenizer::from_bytes(rerank_model_tiny::tokenizer(), &model.config, None)
        .expect("its tokenizer is sound");
    let max_length = tokenizer.limits().max_length;
    let spec = LoadSpec {
        model: Arc::new(model),
        device: Device::Cpu,
        dtype: DType::F32,
        threads: None,
        options: BTreeMap::new(),
        max_length,
    };
    Engine::start(options, factory, spec, tokenizer).expect("the options are sound")
}

async fn ready(plan: Plan, options: EngineOptions) -> Engine {
    let engine = started(plan, options);
    engine.ready().await.expect("the mock loads");
    engine
}

fn request(documents: &[&str]) -> RerankRequest {
    RerankRequest {
        query: QUERY.to_owned(),
        documents: documents.iter().map(ToString::to_string).collect(),
        truncation: Truncation::default(),
        deadline: None,
        timeline: Timeline::start(),
    }
}

fn many(n: usize) -> RerankRequest {
    let documents: Vec<String> =
        (0..n).map(|i| format!("document {i} {}", "berlin ".repeat(i % 40))).collect();
    RerankRequest { documents, ..request(&[""]) }
}

fn every(n: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(n)
}

fn slow(batch_ms: u64) -> Plan {
    Plan { batch_delay: Duration::from_millis(batch_ms), ..Plan::NONE }
}

fn order(scored: &Scored) -> Vec<usize> {
    scored.ranked(None).iter().map(|ranked| ranked.index).collect()
}

#[tokio::test]
async fn ranks_returns_the_texts_and_clocks_every_stage() {
    let engine = ready(Plan::NONE, EngineOptions::default()).await;
    let started = Instant::now();
    let mut scored = engine.rerank(request(&DOCUMENTS)).await.unwrap();
    scored.timeline.end(Stage::Reply);
    let measured = started.elapsed();

    assert_eq!(order(&scored)[..2], [2, 1]);
    assert_eq!(scored.ranked(Some(1)).len(), 1);
    assert_eq!(scored.texts.document(1), DOCUMENTS[1]);
    let stages: Duration = Stage::ALL.iter().map(|&stage| scored.timeline.stage(stage)).sum();
    assert_eq!(stages, scored.timeline.total());
    assert!(scored.timeline.total() <= measured + Duration::from_millis(1));
    assert!(!scored.timeline.stage(Stage::Tokenise).is_zero());

    let info = engine.info().unwrap();
    assert_eq!((info.backend.backend.as_str(), info.model.as_str(), info.max_length), ("mock", "tiny", 512));
}

#[tokio::test]
async fn a_large_request_is_split_and_comes_back_in_order() {
    let options =
        EngineOptions { max_batch_tokens: 600, workers: 2, tokenizer_threads: 3, ..Default::default() };
    let engine = ready(Plan::NONE, options).await;
    let whole = ready(Plan::NONE, EngineOptions { max_batch_tokens: 1 << 20, ..Default::default() }).await;
    let (split, whole) = (engine.rerank(many(300)).await.unwrap(), whole.rerank(many(300)).await.unwrap());
    assert_eq!(split.logits, whole.logits);
    let totals = engine.telemetry().totals();
    assert_eq!(totals.workers.iter().map(|worker| worker.rows).sum::<u64>(), 300);
    assert!(totals.workers.iter().map(|worker| worker.batches).sum::<u64>() > 5);
}

#[tokio::test]
async fn score_takes_a_query_for_each_document_and_agrees_with_rerank() {
    let engine = ready(Plan::NONE, EngineOptions::default()).await;
    let reranked = engine.rerank(request(&DOCUMENTS)).await.unwrap();
    let pairs: Vec<(String, String)> =
        DOCUMENTS.iter().map(|document| (QUERY.to_owned(), (*document).to_owned())).collect();
    let truncation = Truncation::default();
    let request = ScoreRequest { pairs, truncation, deadline: None, timeline: Timeline::start() };
    assert_eq!(engine.score(request).await.unwrap().logits, reranked.logits);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let engine = ready(Plan::NONE, EngineOptions::default()).await;
    let empty = RerankRequest { query: String::new(), ..request(&DOCUMENTS) };
    for (request, wanted) in [(empty, "query is empty"), (request(&[]), "no documents")] {
        let error = engine.rerank(request).await.unwrap_err();
        assert!(
            matches!(error, EngineError::Invalid { .. }) && error.to_string().contains(wanted),
            "{error}"
        );
    }
    let long = "berlin ".repeat(600);
    let refuse = Truncation { strategy: Strategy::Refuse, direction: Direction::Right };
    let request = RerankRequest { truncation: refuse, ..request(&["short", &long]) };
    let error = engine.rerank(request).await.unwrap_err();
    assert!(matches!(error, EngineError::TooLong { index: 1, limit: 512, .. }), "{error}");
}

#[tokio::test]
async fn a_full_queue_refuses_whole_requests_and_says_when_to_come_back() {
    let options = EngineOptions { queue_tokens: 1024, ..Default::default() };
    let engine = ready(slow(200), options).await;
    let (first, second) = tokio::join!(engine.rerank(many(20)), engine.rerank(many(20)));
    first.expect("it came first, and the queue was empty");
    let refused = second.unwrap_err();
    assert!(
        matches!(refused, EngineError::Overloaded { retry_after } if retry_after >= Duration::from_secs(1)),
        "{refused}"
    );
    engine.rerank(request(&DOCUMENTS)).await.expect("there is room again");
    let error = engine.rerank(many(400)).await.unwrap_err();
    assert!(matches!(error, EngineError::TooLarge { limit: 1024, .. }), "{error}");
}

#[tokio::test]
async fn what_is_late_or_abandoned_is_not_computed() {
    let engine = ready(slow(150), EngineOptions { max_batch_rows: Some(1), ..Default::default() }).await;
    let busy = tokio::spawn({
        let engine = engine.clone();
        async move { engine.rerank(request(&["one"])).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let abandoned = tokio::time::timeout(Duration::from_millis(20), engine.rerank(many(50))).await;
    assert!(abandoned.is_err(), "its future was dropped while it waited");
    let late = RerankRequest { deadline: Some(Instant::now() + Duration::from_millis(20)), ..many(50) };
    let error = engine.rerank(late).await.unwrap_err();
    assert!(matches!(error, EngineError::DeadlineExceeded), "{error}");
    busy.await.unwrap().unwrap();
    engine.rerank(request(&["two"])).await.unwrap();
    let totals = engine.telemetry().totals();
    assert_eq!(totals.workers[0].rows, 2, "only the two answered rows were computed");
    assert_eq!(totals.failures["cancelled"], 1);
}

#[tokio::test]
async fn a_failed_batch_fails_its_requests_and_no_other() {
    let engine = ready(Plan { fail_every: every(2), ..Plan::NONE }, EngineOptions::default()).await;
    for round in 0..3 {
        engine.rerank(request(&DOCUMENTS)).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let error = engine.rerank(request(&DOCUMENTS)).await.unwrap_err();
        assert!(
            matches!(&error, EngineError::Backend(e) if matches!(**e, BackendError::Inference { .. })),
            "{error}"
        );
    }
    assert_eq!(engine.status(), Status::Ready);
}

#[tokio::test]
async fn answers_that_are_not_finite_or_not_complete_never_reach_a_client() {
    for plan in [Plan { nan_every: every(1), ..Plan::NONE }, Plan { short_every: every(1), ..Plan::NONE }] {
        let engine = ready(plan, EngineOptions::default()).await;
        let error = engine.rerank(request(&DOCUMENTS)).await.unwrap_err();
        assert!(matches!(error, EngineError::Backend(_)), "{error}");
    }
}

#[tokio::test]
async fn out_of_memory_halves_the_batch_once() {
    let plan = Plan { oom_above: NonZeroUsize::new(2), ..Plan::NONE };
    let engine = ready(plan, EngineOptions { warm_up: false, ..EngineOptions::default() }).await;
    let scored = engine.rerank(request(&DOCUMENTS)).await.expect("two halves of two rows fit");
    assert_eq!(order(&scored)[..2], [2, 1]);
    let error = engine.rerank(many(8)).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Backend(e) if matches!(**e, BackendError::OutOfMemory { .. })),
        "{error}"
    );
    engine.rerank(request(&DOCUMENTS)).await.expect("the engine goes on");
}

#[tokio::test]
async fn a_panic_or_a_lost_device_costs_one_batch_and_is_loaded_again() {
    for plan in
        [Plan { panic_every: every(2), ..Plan::NONE }, Plan { lose_device_every: every(2), ..Plan::NONE }]
    {
        let engine = ready(plan, EngineOptions::default()).await;
        for _ in 0..3 {
            // The plan counts from one in every loaded backend: the first batch succeeds, the second is lost.
            while engine.rerank(request(&DOCUMENTS)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let error = engine.rerank(request(&DOCUMENTS)).await.unwrap_err();
            assert!(
                matches!(&error, EngineError::Backend(e) if matches!(**e, BackendError::DeviceLost { .. })),
                "{error}"
            );
        }
    }
}

/// One mock that loses its device at once and one that does not; after them nothing can be loaded.
struct LostForGood {
    loads: AtomicUsize,
}

impl BackendFactory for LostForGood {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        backend_mock::FACTORY.probe()
    }

    fn load(&self, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
        let plan = match self.loads.fetch_add(1, Ordering::SeqCst) {
            0 => Plan { lose_device_every: every(1), ..Plan::NONE },
            1 => Plan::NONE,
            _ => return Err(BackendError::load("the device is gone")),
        };
        MockFactory::with_plan(plan).load(spec)
    }
}

#[tokio::test]
async fn a_worker_that_waits_to_load_again_takes_nobodys_turn() {
    let factory = LostForGood { loads: AtomicUsize::new(0) };
    let engine = started_on(factory, EngineOptions { workers: 2, ..EngineOptions::default() });
    engine.ready().await.unwrap();
    while engine.rerank(request(&DOCUMENTS)).await.is_ok() {}
    // Both workers wait now: for rows, and for the time of the next load. Who has just answered needs the pause to wait again,
    // behind the other: in that order a notice went to the wrong one.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let answer =
            tokio::time::timeout(Duration::from_millis(500), engine.rerank(request(&DOCUMENTS))).await;
        answer.expect("the other worker is idle").expect("and its device is there");
    }
}

#[tokio::test]
async fn warming_up_keeps_to_the_rows_that_a_batch_may_have() {
    let plan = || Plan { oom_above: NonZeroUsize::new(4), ..Plan::NONE };
    let options = EngineOptions { warm_up: true, max_batch_rows: Some(4), ..EngineOptions::default() };
    started(plan(), options.clone()).ready().await.unwrap();
    let error = started(plan(), EngineOptions { max_batch_rows: None, ..options }).ready().await.unwrap_err();
    assert!(error.to_string().contains("lower --max-batch-tokens"), "{error}");
}

#[tokio::test]
async fn an_end_that_comes_before_the_model_is_told_to_who_waits_for_it() {
    let engine =
        started(Plan { load_delay: Duration::from_millis(300), ..Plan::NONE }, EngineOptions::default());
    engine.drain().await;
    assert!(matches!(engine.ready().await.unwrap_err(), EngineError::Draining));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_reported_and_nothing_is_taken() {
    let factory: &'static dyn BackendFactory = &backend_mock::FACTORY;
    let model = Model::from_bytes("tiny", rerank_model_tiny::config(), rerank_model_tiny::weights()).unwrap();
    let tokenizer = PairTokenizer::from_bytes(rerank_model_tiny::tokenizer(), &model.config, None).unwrap();
    let spec = LoadSpec {
        model: Arc::new(model),
        device: Device::Cuda(0),
        dtype: DType::F32,
        threads: None,
        options: BTreeMap::new(),
        max_length: 512,
    };
    let engine = Engine::start(EngineOptions::default(), factory, spec, tokenizer).unwrap();
    let error = engine.ready().await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Backend(e) if matches!(**e, BackendError::Unsupported { .. })),
        "{error}"
    );
    assert!(matches!(engine.status(), Status::Unready { .. }));
    assert!(matches!(engine.rerank(request(&DOCUMENTS)).await.unwrap_err(), EngineError::NotReady { .. }));
}

#[tokio::test]
async fn requests_wait_for_no_model_that_is_still_loading() {
    let engine =
        started(Plan { load_delay: Duration::from_millis(200), ..Plan::NONE }, EngineOptions::default());
    assert_eq!(engine.status(), Status::Loading);
    assert!(engine.info().is_none());
    let error = engine.rerank(request(&DOCUMENTS)).await.unwrap_err();
    assert!(matches!(error, EngineError::NotReady { .. }), "{error}");
    engine.ready().await.unwrap();
    engine.rerank(request(&DOCUMENTS)).await.unwrap();
}

#[tokio::test]
async fn drain_answers_what_is_inside_and_refuses_what_comes() {
    let engine = ready(slow(100), EngineOptions::default()).await;
    let inside = tokio::spawn({
        let engine = engine.clone();
        async move { engine.rerank(request(&DOCUMENTS)).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let drained = tokio::spawn({
        let engine = engine.clone();
        async move { engine.drain().await }
    });
    while engine.status() != Status::Draining {
        tokio::task::yield_now().await;
    }
    assert!(matches!(engine.rerank(request(&DOCUMENTS)).await.unwrap_err(), EngineError::Draining));
    inside.await.unwrap().expect("what was inside is answered");
    drained.await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_batch_to_fill_puts_requests_together() {
    let options = EngineOptions { max_wait: Duration::from_millis(80), ..Default::default() };
    let engine = ready(Plan::NONE, options).await;
    let requests: Vec<_> = (0..8)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.rerank(request(&["a berlin document"])).await })
        })
        .collect();
    for request in requests {
        request.await.unwrap().unwrap();
    }
    assert_eq!(engine.telemetry().totals().workers[0].batches, 1);
}

#[tokio::test]
async fn samples_hold_every_answered_request_and_their_stages_add_up() {
    let engine = ready(Plan::NONE, EngineOptions::default()).await;
    for _ in 0..20 {
        let mut scored = engine.rerank(request(&DOCUMENTS)).await.unwrap();
        scored.timeline.end(Stage::Reply);
        engine.telemetry().answered(&scored.timeline, scored.logits.len(), scored.tokens);
    }
    assert_eq!(engine.telemetry().totals().pairs, 80, "totals include the open sample");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let samples = engine.telemetry().samples_since(0);
    assert_eq!(samples.iter().map(|sample| sample.requests).sum::<u64>(), 20);
    assert_eq!(samples.iter().flat_map(|s| &s.workers).map(|worker| worker.rows).sum::<u64>(), 80);
    for sample in &samples {
        let stages: u64 = sample.stages.iter().map(|stage| stage.sum_ns).sum();
        assert_eq!(stages, sample.total.sum_ns);
        assert!(sample.gauges.resident_bytes.unwrap() > 0);
    }
    let last = samples.last().unwrap().seq;
    assert!(engine.telemetry().samples_since(last + 1).is_empty());
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_by_name() {
    let refused = |options: EngineOptions| {
        let model =
            Model::from_bytes("tiny", rerank_model_tiny::config(), rerank_model_tiny::weights()).unwrap();
        let tokenizer =
            PairTokenizer::from_bytes(rerank_model_tiny::tokenizer(), &model.config, None).unwrap();
        let spec = LoadSpec {
            model: Arc::new(model),
            device: Device::Cpu,
            dtype: DType::F32,
            threads: None,
            options: BTreeMap::new(),
            max_length: 512,
        };
        Engine::start(options, &backend_mock::FACTORY, spec, tokenizer).err().unwrap().to_string()
    };
    assert!(refused(EngineOptions { workers: 0, ..Default::default() }).contains("workers is 0"));
    assert!(
        refused(EngineOptions { max_batch_tokens: 100, ..Default::default() })
            .contains("max-batch-tokens 100")
    );
    assert!(refused(EngineOptions { queue_tokens: 100, ..Default::default() }).contains("queue-tokens 100"));
}
