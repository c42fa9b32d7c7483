//! The server's own samples of a run, cut so that they hold exactly the run's requests.
//!
//! The server closes a sample once a second. Before the run and after it nothing is in flight, and the run begins and
//! ends at the close of a sample: so the samples between belong to the run and to nothing else, without any clock that
//! client and server would have to share.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use hdrhistogram::{Histogram, serialization::Deserializer};
use rerank_report::{DurationHistogram, Sample, ServerSide, Stage, Worker};
use serde::Deserialize;

use crate::info::HttpSide;

/// Reads the samples one after the other.
#[derive(Debug)]
pub(crate) struct Samples {
    http: HttpSide,
    /// The first sample that was not read yet.
    next: u64,
}

/// What `/telemetry?since=` answers, as far as it is read here.
#[derive(Debug, Deserialize)]
struct Page {
    next: u64,
    missed: u64,
    samples: Vec<Second>,
}

#[derive(Debug, Clone, Deserialize)]
struct Second {
    unix_ms: u64,
    seconds: f64,
    requests: u64,
    pairs: u64,
    stages: Vec<Durations>,
    total: Durations,
    workers: Vec<WorkerSecond>,
    gauges: Gauges,
}

#[derive(Debug, Clone, Deserialize)]
struct Durations {
    stage: String,
    count: u64,
    sum_ns: u64,
    histogram: String,
}

#[derive(Debug, Clone, Deserialize)]
struct WorkerSecond {
    worker: u64,
    batches: u64,
    rows: u64,
    tokens: u64,
    computed_tokens: u64,
    busy: Durations,
}

#[derive(Debug, Clone, Deserialize)]
struct Gauges {
    queued_tokens: u64,
    resident_bytes: u64,
    cpu_cores: f64,
}

/// Longest time to wait for the server to close a sample; it does so once a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a request still records after its answer has reached the client, with room to spare.
const SETTLE: Duration = Duration::from_millis(50);

impl Samples {
    /// Begins with the samples closed from now on. To be called with nothing in flight.
    pub(crate) async fn begin(http: &HttpSide) -> Result<Self> {
        let page: Page = http.get("/telemetry?since=0").await?;
        let mut samples = Self { http: http.clone(), next: page.next };
        samples.close().await?;
        Ok(samples)
    }

    /// The server's side of everything since the beginning. To be called with nothing in flight.
    pub(crate) async fn end(mut self) -> Result<ServerSide> {
        let seconds = self.close().await?;
        fold(&seconds)
    }

    /// Waits until the server has closed the sample that is open now, and reads all that were closed since the last
    /// call.
    async fn close(&mut self) -> Result<Vec<Second>> {
        tokio::time::sleep(SETTLE).await;
        let mut seconds = self.read().await?;
        let wait = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let closed = self.read().await?;
                if !closed.is_empty() {
                    return Ok::<_, anyhow::Error>(closed);
                }
            }
        };
        let closed = tokio::time::timeout(PATIENCE, wait).await.with_context(|| {
            format!("the server closed no sample for {} s; is it stopped?", PATIENCE.as_secs())
        })??;
        seconds.extend(closed);
        Ok(seconds)
    }

    async fn read(&mut self) -> Result<Vec<Second>> {
        let page: Page = self.http.get(&format!("/telemetry?since={}", self.next)).await?;
        if page.missed > 0 {
            bail!(
                "the server no longer keeps {} of the run's samples; measure for fewer seconds",
                page.missed
            );
        }
        self.next = page.next;
        Ok(page.samples)
    }
}

/// Adds the samples up.
fn fold(seconds: &[Second]) -> Result<ServerSide> {
    let mut side = ServerSide {
        total: DurationHistogram::default(),
        stages: Vec::new(),
        workers: Vec::new(),
        samples: Vec::new(),
        tokens: 0,
        computed_tokens: 0,
    };
    for second in seconds {
        side.total.merge(&second.total.decode()?);
        for stage in &second.stages {
            let durations = stage.decode()?;
            match side.stages.iter_mut().find(|known| known.name == stage.stage) {
                Some(known) => known.durations.merge(&durations),
                None => side.stages.push(Stage { name: stage.stage.clone(), durations }),
            }
        }
        for part in &second.workers {
            let busy = part.busy.decode()?;
            side.tokens += part.tokens;
            side.computed_tokens += part.computed_tokens;
            match side.workers.iter_mut().find(|known| known.id == part.worker) {
                Some(known) => {
                    known.batches += part.batches;
                    known.pairs += part.rows;
                    known.busy_ns += part.busy.sum_ns;
                    known.batch_durations.get_or_insert_default().merge(&busy);
                }
                None => side.workers.push(Worker {
                    id: part.worker,
                    batches: part.batches,
                    pairs: part.rows,
                    busy_ns: part.busy.sum_ns,
                    batch_durations: Some(busy),
                }),
            }
        }
    }
    // The first and the last sample with work hold idle time before and after the run.
    let working =
        |second: &Second| second.workers.iter().any(|worker| worker.batches > 0) || second.requests > 0;
    let first = seconds.iter().position(working).unwrap_or(seconds.len());
    let last = seconds.iter().rposition(working).unwrap_or(0);
    side.samples = seconds.get(first + 1..last).unwrap_or_default().iter().map(Second::gauges).collect();
    Ok(side)
}

impl Durations {
    fn decode(&self) -> Result<DurationHistogram> {
        let what = || format!("the server's histogram of `{}` does not decode", self.stage);
        let bytes = base64::prelude::BASE64_STANDARD.decode(&self.histogram).with_context(what)?;
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).with_context(what)?;
        let buckets: Vec<(u64, u64)> = histogram
            .iter_recorded()
            .map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration()))
            .collect();
        if histogram.len() != self.count {
            bail!("{}: it holds {} durations, not {}", what(), histogram.len(), self.count);
        }
        Ok(DurationHistogram::from_buckets(&buckets, self.sum_ns))
    }

    fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / 1e6 / self.count as f64)
    }
}

impl Second {
    /// The sample as a row of the dashboard.
    fn gauges(&self) -> Sample {
        let stage =
            |name: &str| self.stages.iter().find(|stage| stage.stage == name).and_then(Durations::mean_ms);
        let sum = |value: fn(&WorkerSecond) -> u64| self.workers.iter().map(value).sum::<u64>() as f64;
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        Sample {
            time: self.unix_ms as f64 / 1e3,
            pairs: self.pairs,
            cpu_cores: Some(self.gauges.cpu_cores),
            rss_mib: Some(self.gauges.resident_bytes as f64 / f64::from(1 << 20)),
            gpu_memory_mib: None,
            gpu_utilisation: None,
            busy_share: share(
                sum(|worker| worker.busy.sum_ns) / 1e9,
                self.seconds * self.workers.len() as f64,
            ),
            queue_tokens: Some(self.gauges.queued_tokens as f64),
            tokenise_ms: stage("tokenise"),
            queue_ms: stage("queue"),
            compute_ms: stage("compute"),
            batch_rows: share(sum(|worker| worker.rows), sum(|worker| worker.batches)),
            padding_waste: share(sum(|worker| worker.tokens), sum(|worker| worker.computed_tokens))
                .map(|real| 1.0 - real),
        }
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};

    use super::*;

    fn durations(stage: &str, values: &[u64]) -> Durations {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits");
        for value in values {
            histogram.record(*value).expect("it resizes");
        }
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut bytes).expect("memory takes it");
        Durations {
            stage: stage.to_owned(),
            count: values.len() as u64,
            sum_ns: values.iter().sum(),
            histogram: base64::prelude::BASE64_STANDARD.encode(bytes),
        }
    }

    fn second(requests: u64) -> Second {
        let each = |ns: u64| vec![ns; requests as usize];
        Second {
            unix_ms: 1000,
            seconds: 1.0,
            requests,
            pairs: 8 * requests,
            stages: vec![durations("queue", &each(1_000_000)), durations("compute", &each(3_000_000))],
            total: durations("total", &each(4_000_000)),
            workers: vec![WorkerSecond {
                worker: 0,
                batches: requests,
                rows: 8 * requests,
                tokens: 80 * requests,
                computed_tokens: 100 * requests,
                busy: durations("busy", &each(3_000_000)),
            }],
            gauges: Gauges { queued_tokens: 0, resident_bytes: 1 << 20, cpu_cores: 1.5 },
        }
    }

    #[test]
    fn sums_hold_every_sample_and_the_dashboard_only_those_inside() {
        let side = fold(&[second(0), second(3), second(10), second(11), second(2)]).unwrap();
        assert_eq!((side.total.n(), side.workers[0].pairs), (26, 8 * 26));
        assert_eq!(side.residual(), Some(0.0));
        let pairs: Vec<_> = side.samples.iter().map(|sample| sample.pairs).collect();
        assert_eq!(pairs, [80, 88], "the first and the last second of work are only partly the run's");
        let sample = &side.samples[0];
        assert_eq!((sample.queue_ms, sample.compute_ms, sample.rss_mib), (Some(1.0), Some(3.0), Some(1.0)));
        assert!((sample.padding_waste.unwrap() - 0.2).abs() < 1e-9);
        assert!((sample.busy_share.unwrap() - 0.03).abs() < 1e-9);
    }

    #[test]
    fn a_run_too_short_for_a_whole_sample_has_none() {
        assert_eq!(fold(&[second(3), second(10)]).unwrap().samples, []);
        assert_eq!(fold(&[]).unwrap().samples, []);
    }

    #[test]
    fn a_histogram_that_lost_counts_is_refused() {
        let mut broken = durations("queue", &[5, 6]);
        broken.count = 3;
        assert!(broken.decode().unwrap_err().to_string().contains("holds 2 durations, not 3"));
    }
}
