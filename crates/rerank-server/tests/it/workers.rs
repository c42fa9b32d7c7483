//! Two workers are two: they double what one does.

use std::time::{Duration, Instant};

use backend_mock::Plan;
use rerank_engine::EngineOptions;
use serde_json::json;

use crate::harness::Setup;

/// Requests, each a batch of its own, that keep the workers busy.
const REQUESTS: usize = 40;

async fn seconds(workers: usize) -> f64 {
    let setup = Setup::plan(Plan { batch_delay: Duration::from_millis(50), ..Plan::NONE });
    let options = EngineOptions { workers, max_batch_rows: Some(1), ..setup.options.clone() };
    let server = std::sync::Arc::new(Setup { options, ..setup }.start().await);
    let started = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        let server = std::sync::Arc::clone(&server);
        requests.spawn(async move {
            server.post("/rerank", json!({"query": "q", "documents": ["a"]})).await.status
        });
    }
    assert!(requests.join_all().await.into_iter().all(|status| status == 200));
    let totals = server.service.engine().telemetry().totals();
    assert_eq!(totals.workers.len(), workers);
    assert_eq!(totals.workers.iter().map(|worker| worker.rows).sum::<u64>(), totals.pairs);
    assert!(
        totals.workers.iter().all(|worker| worker.batches as usize >= REQUESTS / workers / 2),
        "both work"
    );
    started.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_double_the_rate() {
    // Sleeping workers need no cores, so the ratio holds on any machine that is not drowning.
    let (one, two) = (seconds(1).await, seconds(2).await);
    assert!(one / two >= 1.7, "{REQUESTS} requests took one worker {one:.2} s and two {two:.2} s");
}
