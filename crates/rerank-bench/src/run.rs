//! One measured run: prepare, warm up, let the server fall idle, measure, let it fall idle again, read its samples.

use std::{sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use rerank_report::{
    ClientSide, Event, Load as LoadShape, LoadResult, Pace as PaceShape, Run, Table, check_run, significant,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::RunArgs,
    client::Client,
    drive::{Load, Pace, drive},
    info::HttpSide,
    process::OwnCpu,
    progress::{Meter, Progress},
    recorder::record,
    telemetry::Samples,
    workload::Pool,
};

/// The subcommand.
pub(crate) async fn run(args: &RunArgs) -> Result<()> {
    let progress = Progress::new(args.json);
    let result = measure(args, &progress).await?;
    let problems = check_run(&result.run);
    let event = Event::Result(Box::new(result));
    progress.finish(&event);
    if let (false, Event::Result(result)) = (args.json, &event) {
        print(result);
    }
    if problems.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = problems.into_iter().map(|problem| problem.0).collect();
    Err(anyhow::anyhow!("the run contradicts itself: {}", list.join("; ")))
}

async fn measure(args: &RunArgs, progress: &Progress) -> Result<LoadResult> {
    let http = args.server.http_side().map(HttpSide::new);
    progress.phase("prepare", None);
    let identity = match &http {
        Some(http) => Some(http.identity().await?),
        None => None,
    };
    let pool = Pool::prepare(&args.pool, http.as_ref()).await?;
    let client = Client::connect(&args.server, args.connections.get()).await?;
    let bodies = pool.requests.iter().map(|request| client.encode(request)).collect();
    let meter = Arc::new(Meter::default());
    let load = Arc::new(Load { client, bodies, meter: Arc::clone(&meter) });
    let pace = match args.rate {
        Some(rate) => Pace::Open { rate, arrivals: args.arrivals, seed: args.pool.seed },
        None => Pace::Closed { concurrency: args.concurrency.get() },
    };

    let mut warm = 0;
    if args.warm_up > 0 {
        progress.phase("warm_up", Some(args.warm_up));
        let _watch = progress.watch(&meter);
        warm = drive(&load, pace, args.warm_up, 0).await.context("warm-up")?.observations.len();
    }
    let samples = match &http {
        Some(http) => Some(Samples::begin(http).await?),
        None => None,
    };

    progress.phase("measure", Some(args.seconds));
    let started = SystemTime::now();
    let cpu = OwnCpu::start()?;
    let watch = progress.watch(&meter);
    let driven = drive(&load, pace, args.seconds, warm).await?;
    drop(watch);
    let cpu_cores = cpu.cores()?;

    progress.phase("drain", None);
    let server = match samples {
        Some(samples) => Some(samples.end().await?),
        None => None,
    };
    let recorded = record(&driven.observations, args.seconds);
    Ok(LoadResult {
        identity,
        load: LoadShape {
            protocol: args.server.protocol.name().to_owned(),
            rows: args.pool.rows.get(),
            pace: match pace {
                Pace::Closed { concurrency } => PaceShape::Closed { concurrency },
                Pace::Open { rate, arrivals, .. } => {
                    PaceShape::Open { rate, arrivals: arrivals.name().to_owned() }
                }
            },
        },
        workload: pool.workload,
        run: Run {
            round: args.round,
            started: OffsetDateTime::from(started).replace_nanosecond(0)?.format(&Rfc3339)?,
            seconds: recorded.seconds,
            requests: recorded.requests,
            pairs: recorded.pairs,
            tokens: recorded.tokens,
            errors: recorded.errors,
            latency: recorded.latency,
            windows: recorded.windows,
            client: ClientSide {
                cpu_cores,
                threads: args.threads.get(),
                max_in_flight: driven.max_in_flight,
                send_lag: args.rate.map(|_| recorded.send_lag),
            },
            server,
        },
    })
}

/// For people: who, what, how fast.
#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
fn print(result: &LoadResult) {
    let LoadResult { identity, load, workload, run } = result;
    if let Some(identity) = identity {
        println!(
            "{} on {} ({}), {}, workers {} with threads {}, model {}\n",
            identity.backend,
            identity.device,
            identity.device_name,
            identity.dtype,
            identity.workers,
            identity.threads,
            identity.model
        );
    }
    let number = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "n/a".to_owned(), |v| format!("{} {unit}", significant(v)))
    };
    let pairs = run.window_pairs();
    let mut table = Table::new(["Quantity", "Value", "n"]);
    let mut row = |name: &str, value: String, n: String| table.row([name.to_owned(), value, n]);
    let requests = format!("{} requests", run.latency.n());
    row("Load", format!("{}, {} over {}", load.describe(), workload.name, load.protocol), String::new());
    row("Latency, mean", number(run.latency.mean_ms(), "ms"), requests.clone());
    for (name, p) in [("P50", 0.5), ("P90", 0.9), ("P95", 0.95), ("P99", 0.99)] {
        row(&format!("Latency, {name}"), number(run.latency.percentile_ms(p), "ms"), requests.clone());
    }
    if let Some(lag) = &run.client.send_lag {
        row("Sent late by, mean", number(lag.mean_ms(), "ms"), requests.clone());
        row("Sent late by, P99", number(lag.percentile_ms(0.99), "ms"), requests);
    }
    let windows = format!("{} windows of 1 s", pairs.n());
    row("Throughput, mean", number(run.throughput(), "pairs/s"), windows.clone());
    row("Throughput, P5 (slow tail)", number(pairs.percentile(0.05), "pairs/s"), windows.clone());
    row("Throughput, tokens", number(run.token_throughput(), "tokens/s"), windows);
    row("Requests", format!("{:.1} /s", run.requests as f64 / run.seconds), run.requests.to_string());
    let failed: u64 = run.errors.values().sum();
    row("Failed requests", failed.to_string(), run.errors.keys().cloned().collect::<Vec<_>>().join(" "));
    row(
        "Client CPU",
        format!("{:.2} cores of {} threads", run.client.cpu_cores, run.client.threads),
        String::new(),
    );
    if let Some(server) = &run.server {
        for stage in &server.stages {
            row(
                &format!("Stage {}, mean", stage.name),
                number(stage.durations.mean_ms(), "ms"),
                stage.durations.n().to_string(),
            );
        }
        row("Server total, mean", number(server.total.mean_ms(), "ms"), server.total.n().to_string());
        row(
            "Residual",
            number(server.residual().map(|residual| residual * 100.0), "% of total"),
            String::new(),
        );
    }
    print!("{table}");
    if run.client.cpu_cores > 0.9 * run.client.threads as f64 {
        println!(
            "\nThe client used all of its threads: it, not the server, may be the limit; raise --threads."
        );
    }
}
