//! Prometheus' view of the engine's totals. Nothing is counted here: a scrape reads the same numbers that `/telemetry`
//! shows, so a dashboard and a report cannot disagree.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rerank_engine::{Gauges, Stage, Status, Totals};

use crate::info::ServerInfo;
use crate::service::Service;

/// Upper bounds in seconds, from a cached answer of a small model to a large batch on a slow machine.
const SECONDS: &[f64] = &[
    1e-4,
    2.5e-4,
    5e-4,
    1e-3,
    2.5e-3,
    5e-3,
    1e-2,
    2.5e-2,
    5e-2,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    f64::INFINITY,
];
/// Upper bounds in rows a batch.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, f64::INFINITY];

/// All metrics as `OpenMetrics` text.
pub(crate) fn render(service: &Service) -> String {
    let engine = service.engine();
    let snapshot = Snapshot {
        totals: engine.telemetry().totals(),
        gauges: engine.telemetry().samples_since(0).last().map(|sample| sample.gauges),
        ready: engine.status() == Status::Ready,
        info: service.info().ok(),
    };
    let mut registry = Registry::with_prefix("rerank");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

/// The state of the engine at one scrape.
#[derive(Debug)]
struct Snapshot {
    totals: Totals,
    gauges: Option<Gauges>,
    ready: bool,
    info: Option<ServerInfo>,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        families.gauge("ready", "Whether requests are taken", f64::from(u8::from(self.ready)))?;
        self.requests(&mut families)?;
        self.workers(&mut families)?;
        self.process(&mut families)?;
        self.build(&mut families)
    }
}

impl Snapshot {
    fn requests(&self, families: &mut Families<'_>) -> fmt::Result {
        let totals = &self.totals;
        families.counter("requests", "Requests answered with scores", totals.requests)?;
        families.counter("pairs", "Pairs in those requests", totals.pairs)?;
        families.counter("tokens", "Tokens in those requests, padding not counted", totals.tokens)?;
        let failures =
            totals.failures.iter().map(|(reason, count)| ([("reason", (*reason).to_owned())], *count));
        families.counters("request_failures", "Requests that got an error", failures)?;
        families.histogram("request_seconds", "First byte to reply", |metric| {
            let seconds = &totals.total;
            let (buckets, sum) = (buckets(&seconds.histogram, SECONDS, 1e9), seconds.sum_ns as f64 / 1e9);
            metric.encode_histogram::<NoLabelSet>(sum, seconds.histogram.len(), &buckets, None)
        })?;
        families.histogram(
            "stage_seconds",
            "Time in each stage; the stages of a request sum to it",
            |metric| {
                for (stage, seconds) in Stage::ALL.iter().zip(&totals.stages) {
                    let (buckets, sum) =
                        (buckets(&seconds.histogram, SECONDS, 1e9), seconds.sum_ns as f64 / 1e9);
                    let labels = [("stage", stage.name())];
                    let mut metric = metric.encode_family(&labels)?;
                    metric.encode_histogram::<NoLabelSet>(sum, seconds.histogram.len(), &buckets, None)?;
                }
                Ok(())
            },
        )
    }

    fn workers(&self, families: &mut Families<'_>) -> fmt::Result {
        let totals = &self.totals;
        let rows: u64 = totals.workers.iter().map(|worker| worker.rows).sum();
        families.histogram("batch_rows", "Rows a batch", |metric| {
            let (histogram, buckets) = (&totals.batch_rows, buckets(&totals.batch_rows, ROWS, 1.0));
            metric.encode_histogram::<NoLabelSet>(rows as f64, histogram.len(), &buckets, None)
        })?;
        let label = |worker: usize| [("worker", worker.to_string())];
        let workers = || totals.workers.iter().enumerate();
        let batches = workers().map(|(index, worker)| (label(index), worker.batches));
        families.counters("worker_batches", "Batches scored", batches)?;
        let rows = workers().map(|(index, worker)| (label(index), worker.rows));
        families.counters("worker_rows", "Rows scored", rows)?;
        let tokens = workers().map(|(index, worker)| (label(index), worker.tokens));
        families.counters("worker_tokens", "Tokens scored, padding not counted", tokens)?;
        let computed = workers().map(|(index, worker)| (label(index), worker.computed_tokens));
        families.counters("worker_computed_tokens", "Tokens computed, padding counted", computed)?;
        let busy = workers().map(|(index, worker)| (label(index), worker.busy.sum_ns as f64 / 1e9));
        families.counters("worker_busy_seconds", "Time in the backend", busy)
    }

    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(gauges) = &self.gauges else { return Ok(()) };
        families.gauge("in_flight", "Requests inside", gauges.in_flight as f64)?;
        families.gauge("queued_rows", "Rows that wait for a worker", gauges.queued_rows as f64)?;
        families.gauge("queued_tokens", "Tokens in them", gauges.queued_tokens as f64)?;
        families.gauge("admitted_tokens", "Tokens of all requests inside", gauges.admitted_tokens as f64)?;
        if let Some(bytes) = gauges.resident_bytes {
            families.gauge("resident_bytes", "Memory of the process", bytes as f64)?;
        }
        if let Some(cores) = gauges.cpu_cores {
            families.gauge("cpu_cores", "Cores kept busy over the last second", cores)?;
        }
        Ok(())
    }

    /// One constant series whose labels say what runs, to join the others with.
    fn build(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(info) = &self.info else { return Ok(()) };
        let labels = [
            ("version", info.version.to_owned()),
            ("model", info.model.name.clone()),
            ("backend", info.backend.name.clone()),
            ("device", info.backend.device.to_string()),
            ("dtype", info.backend.dtype.to_string()),
        ];
        let mut metric = families.0.encode_descriptor("build", "What runs", None, MetricType::Info)?;
        metric.encode_info(&labels)
    }
}

/// Writes metric families; saves the callers from repeating how each kind begins.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn counters<N>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = ([(&'static str, String); 1], N)>,
    ) -> fmt::Result
    where
        ConstCounter<N>: EncodeMetric,
    {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(&mut self.0.encode_descriptor(name, help, None, MetricType::Histogram)?)
    }
}

/// Counts between bounds, as the encoder takes them. `scale` is how many of the histogram's units one of the bounds' is.
fn buckets(histogram: &hdrhistogram::Histogram<u64>, bounds: &[f64], scale: f64) -> Vec<(f64, u64)> {
    let mut below = 0;
    bounds
        .iter()
        .map(|&bound| {
            let upper = (bound * scale).min(u64::MAX as f64) as u64;
            let count = if upper < below { 0 } else { histogram.count_between(below, upper) };
            below = upper.saturating_add(1);
            (bound, count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_every_value_once() {
        let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        for value in [1, 1, 2, 3, 40, 5000] {
            histogram.record(value).unwrap();
        }
        let counts = buckets(&histogram, ROWS, 1.0);
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 6);
        assert_eq!(counts[0], (1.0, 2));
        assert_eq!(counts[2], (4.0, 1));
        assert_eq!(counts.last().unwrap().1, 1);
    }
}
