//! Progress for people (a bar) or for a program (JSON lines).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rerank_report::Event;

/// Live counters of the current phase.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: AtomicU64,
    pairs: AtomicU64,
    latency_us: AtomicU64,
    errors: AtomicU64,
}

impl Meter {
    /// Counts an answered request.
    pub(crate) fn answered(&self, pairs: u64, latency: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.pairs.fetch_add(pairs, Ordering::Relaxed);
        self.latency_us.fetch_add(latency.as_micros() as u64, Ordering::Relaxed);
    }

    /// Counts a failed request.
    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the last call, as the second that ended.
    fn take(&self, second: u64) -> Event {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let (requests, latency_us) = (take(&self.requests), take(&self.latency_us));
        Event::Second {
            second,
            pairs: take(&self.pairs),
            latency_ms: (requests > 0).then(|| latency_us as f64 / 1e3 / requests as f64),
            errors: take(&self.errors),
        }
    }
}

/// Where progress goes.
#[derive(Clone)]
pub(crate) enum Progress {
    Json,
    Bar(ProgressBar),
}

impl Progress {
    /// A bar on the terminal's standard error, or JSON lines on standard output.
    pub(crate) fn new(json: bool) -> Self {
        if json {
            return Self::Json;
        }
        let bar = ProgressBar::no_length();
        let style = "{msg:12} {wide_bar} {pos}/{len} s {prefix}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is constant"));
        Self::Bar(bar)
    }

    /// Announces a phase.
    pub(crate) fn phase(&self, name: &str, seconds: Option<u64>) {
        match self {
            Self::Json => {
                line(&Event::Phase { name: name.to_owned(), seconds: seconds.map(|seconds| seconds as f64) });
            }
            Self::Bar(bar) => {
                bar.set_message(name.replace('_', " "));
                bar.set_length(seconds.unwrap_or(0));
                bar.set_position(0);
            }
        }
    }

    /// Reports every second from `meter` until the returned guard is dropped.
    pub(crate) fn watch(&self, meter: &Arc<Meter>) -> Watch {
        let (progress, meter) = (self.clone(), Arc::clone(meter));
        meter.take(0);
        Watch(tokio::spawn(async move {
            let mut every_second = tokio::time::interval(Duration::from_secs(1));
            every_second.tick().await;
            for second in 0.. {
                every_second.tick().await;
                progress.second(&meter.take(second));
            }
        }))
    }

    fn second(&self, event: &Event) {
        match self {
            Self::Json => line(event),
            Self::Bar(bar) => {
                if let Event::Second { second, pairs, latency_ms, errors } = event {
                    bar.set_position(second + 1);
                    let latency = latency_ms.map_or_else(|| "n/a".to_owned(), |ms| format!("{ms:.2} ms"));
                    let failed = if *errors > 0 { format!(", {errors} failed") } else { String::new() };
                    bar.set_prefix(format!("{pairs} pairs/s, {latency}{failed}"));
                }
            }
        }
    }

    /// Prints the last line, or clears the bar.
    pub(crate) fn finish(&self, event: &Event) {
        match self {
            Self::Json => line(event),
            Self::Bar(bar) => bar.finish_and_clear(),
        }
    }
}

/// Stops reporting when dropped.
pub(crate) struct Watch(tokio::task::JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[expect(clippy::print_stdout, reason = "the JSON lines are this program's output")]
fn line(event: &Event) {
    println!("{}", serde_json::to_string(event).expect("events hold no map with keys other than strings"));
}

/// Tells why the program failed, on standard error.
#[expect(clippy::print_stderr, reason = "errors go to standard error")]
pub(crate) fn failed(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
