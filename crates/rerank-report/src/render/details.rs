//! What one cell shows: latency, throughput, how the two go together, the server's samples, stages and workers.

use std::fmt::Write;

use super::{number, table::Table};
use crate::{
    histogram::DurationHistogram,
    serving::{Cell, Sample, ServerSide, Window},
    stats::{Series, correlation},
};

/// "Run k" of the detailed metrics.
pub(super) fn run(k: usize, cell: &Cell) -> String {
    let latency = cell.latency();
    let pairs = cell.window_pairs();
    let mut page = format!(
        "### Run {k}: {}, {}\n\n**Total:** {} pairs in {:.2}s ({}, {})\n\n",
        cell.server,
        cell.load.describe(),
        cell.pairs(),
        cell.seconds(),
        number::count(cell.runs.len() as u64, "round"),
        number::count(latency.n(), "request")
    );
    let errors = cell.errors();
    if !errors.is_empty() {
        let list: Vec<_> = errors.iter().map(|(code, count)| format!("{count} {code}")).collect();
        let _ = writeln!(page, "**Failed requests:** {}\n", list.join(", "));
    }
    let _ = writeln!(
        page,
        "### Latency\n\nMilliseconds, n={} requests.\n\n{}",
        latency.n(),
        latency_table(&latency)
    );
    if let Some(lag) = send_lag(cell) {
        let _ = writeln!(
            page,
            "Latency counts from the scheduled start. The client sent {} late on average (P99 {}, n={}).\n",
            number::or_na(lag.mean_ms(), |value| format!("{} ms", number::ms(value))),
            number::or_na(lag.percentile_ms(0.99), |value| format!("{} ms", number::ms(value))),
            lag.n()
        );
    }
    let _ = writeln!(
        page,
        "### Throughput\n\nPairs/s, n={} windows of 1 s.\n\n{}",
        pairs.n(),
        throughput_table(&pairs)
    );
    if let Some(note) = quantisation(cell, &latency) {
        let _ = writeln!(page, "{note}\n");
    }
    page.push_str("### Latency vs Throughput Analysis\n\n");
    page.push_str(&latency_against_throughput(cell));
    if cell.runs.len() > 1 {
        let _ = writeln!(page, "### Rounds\n\n{}", rounds(cell));
    }
    page
}

fn latency_table(latency: &DurationHistogram) -> Table {
    let mut table = Table::new(["Metric", "Value"]);
    let mut row =
        |name: &str, value: Option<f64>| table.row([name.to_owned(), number::or_na(value, number::ms)]);
    row("Average", latency.mean_ms());
    row("Min", latency.min_ms());
    row("Max", latency.max_ms());
    row("Std Dev", latency.std_dev_ms());
    for (name, p) in [("P50", 0.50), ("P90", 0.90), ("P95", 0.95), ("P99", 0.99)] {
        row(name, latency.percentile_ms(p));
    }
    table
}

fn throughput_table(pairs: &Series) -> Table {
    let mut table = Table::new(["Metric", "Value"]);
    let mut row =
        |name: &str, value: Option<f64>| table.row([name.to_owned(), number::or_na(value, number::rate)]);
    row("Average", pairs.mean());
    row("Min", pairs.min());
    row("Max", pairs.max());
    row("Std Dev", pairs.std_dev());
    row("P50", pairs.percentile(0.50));
    row("P90 (fast tail)", pairs.percentile(0.90));
    row("P95 (fast tail)", pairs.percentile(0.95));
    row("P99 (fast tail)", pairs.percentile(0.99));
    row("P10 (slow tail)", pairs.percentile(0.10));
    row("P5 (slow tail)", pairs.percentile(0.05));
    table
}

/// Says so where a window holds few requests: the spread then shows the grid, not the server.
fn quantisation(cell: &Cell, latency: &DurationHistogram) -> Option<String> {
    let windows = cell.windows().count();
    let per_window = cell.windows().map(|window| window.requests).sum::<u64>() as f64 / windows.max(1) as f64;
    (windows > 0 && per_window < 10.0).then(|| {
        format!(
            "A window holds {per_window:.1} requests on average (mean latency {} ms, {} pairs each), so window figures \
             move in steps of {} pairs/s; over a round of {} windows one request is {} pairs/s.",
            number::or_na(latency.mean_ms(), number::ms),
            cell.load.rows,
            cell.load.rows,
            windows / cell.runs.len().max(1),
            number::rate(cell.load.rows as f64 * cell.runs.len() as f64 / windows as f64)
        )
    })
}

fn latency_against_throughput(cell: &Cell) -> String {
    let points: Vec<(f64, f64)> = cell
        .windows()
        .filter_map(|window: &Window| Some((window.latency_ms?, window.pairs as f64)))
        .collect();
    let latencies = Series::new(points.iter().map(|point| point.0));
    let (Some(p50), Some(p75), Some(p90)) =
        (latencies.percentile(0.50), latencies.percentile(0.75), latencies.percentile(0.90))
    else {
        return format!("n/a: {} windows with an answer, 29 are needed.\n\n", points.len());
    };
    let ranges = [
        (format!("< {}ms (P50)", number::ms(p50)), f64::NEG_INFINITY, p50),
        (format!("{}-{}ms (P50-P75)", number::ms(p50), number::ms(p75)), p50, p75),
        (format!("{}-{}ms (P75-P90)", number::ms(p75), number::ms(p90)), p75, p90),
        (format!(">= {}ms (P90+)", number::ms(p90)), p90, f64::INFINITY),
    ];
    let mut table =
        Table::new(["Latency Range", "Avg Throughput", "Min Throughput", "Max Throughput", "Count"]);
    for (name, from, to) in ranges {
        let inside =
            Series::new(points.iter().filter(|(ms, _)| *ms >= from && *ms < to).map(|(_, pairs)| *pairs));
        table.row([
            name,
            number::or_na(inside.mean(), number::rate),
            number::or_na(inside.min(), number::rate),
            number::or_na(inside.max(), number::rate),
            inside.n().to_string(),
        ]);
    }
    let found = correlation(&points).map_or_else(
        || "n/a (one of the two does not vary)".to_owned(),
        |c| format!("{:.3} (95 % interval {:.3} to {:.3}, n={} windows)", c.r, c.low, c.high, c.n),
    );
    format!(
        "Mean latency and completed pairs of the same one-second window.\n\n{table}\n**Correlation:** {found}\n\n"
    )
}

fn rounds(cell: &Cell) -> Table {
    let mut table = Table::new([
        "Round",
        "Started",
        "Pairs",
        "Time(s)",
        "Lat Avg",
        "TP Avg",
        "Requests",
        "Windows",
        "Client cores",
        "Server cores",
    ]);
    for run in &cell.runs {
        let cores =
            run.server.as_ref().and_then(|server| column(&server.samples, |sample| sample.cpu_cores).mean());
        table.row([
            run.round.to_string(),
            run.started.clone(),
            run.pairs.to_string(),
            format!("{:.2}", run.seconds),
            number::or_na(run.latency.mean_ms(), number::ms),
            number::or_na(run.throughput(), number::rate),
            run.latency.n().to_string(),
            run.windows.len().to_string(),
            format!("{:.2}", run.client.cpu_cores),
            number::or_na(cores, |cores| format!("{cores:.2}")),
        ]);
    }
    table
}

fn send_lag(cell: &Cell) -> Option<DurationHistogram> {
    let mut all = DurationHistogram::default();
    for run in &cell.runs {
        all.merge(run.client.send_lag.as_ref()?);
    }
    (all.n() > 0).then_some(all)
}

fn servers(cell: &Cell) -> Option<Vec<&ServerSide>> {
    let sides: Option<Vec<_>> = cell.runs.iter().map(|run| run.server.as_ref()).collect();
    sides.filter(|sides| !sides.is_empty())
}

fn column<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
    value: impl Fn(&Sample) -> Option<f64>,
) -> Series {
    Series::new(samples.into_iter().filter_map(value))
}

/// A row of the dashboard: its name and where its value lies in a sample.
type Gauge = (&'static str, fn(&Sample) -> Option<f64>);

/// The seed's rows first, ours after.
const GAUGES: [Gauge; 12] = [
    ("GPU Memory (MB)", |s| s.gpu_memory_mib),
    ("GPU Utilization (%)", |s| s.gpu_utilisation.map(|share| share * 100.0)),
    ("CPU Usage (cores)", |s| s.cpu_cores),
    ("Tokenization (ms)", |s| s.tokenise_ms),
    ("Inference (ms)", |s| s.compute_ms),
    ("Queue Wait (ms)", |s| s.queue_ms),
    ("Padding Waste (%)", |s| s.padding_waste.map(|share| share * 100.0)),
    ("Device Busy (%)", |s| s.busy_share.map(|share| share * 100.0)),
    ("Batch Rows", |s| s.batch_rows),
    ("Queue (tokens)", |s| s.queue_tokens),
    ("Server Memory (MB)", |s| s.rss_mib),
    ("Pairs", |s| Some(s.pairs as f64)),
];

/// Dashboard metrics of one cell, all rounds.
pub(super) fn dashboard(cell: &Cell) -> Option<String> {
    let sides = servers(cell)?;
    let mut table = Table::new(["Metric", "Avg", "Min", "Max", "P50", "P95", "n"]);
    for (name, value) in GAUGES {
        let series = column(sides.iter().flat_map(|side| &side.samples), value);
        table.row([
            name.to_owned(),
            number::or_na(series.mean(), number::significant),
            number::or_na(series.min(), number::significant),
            number::or_na(series.max(), number::significant),
            number::or_na(series.percentile(0.50), number::significant),
            number::or_na(series.percentile(0.95), number::significant),
            series.n().to_string(),
        ]);
    }
    let (tokens, computed) =
        sides.iter().fold((0, 0), |sum, side| (sum.0 + side.tokens, sum.1 + side.computed_tokens));
    let waste = (computed > 0).then(|| 1.0 - tokens as f64 / computed as f64);
    Some(format!(
        "{table}\nOver the whole run: {computed} tokens computed, {tokens} of them real, padding waste {}.\n",
        number::or_na(waste, number::percent)
    ))
}

fn stage_title(name: &str) -> &str {
    match name {
        "receive" => "Receive",
        "parse" => "Parse",
        "tokenise" => "Tokenization",
        "queue" => "Queue Wait",
        "compute" => "Model Inference",
        "reply" => "Reply",
        other => other,
    }
}

/// Stage durations of one cell summed over its rounds, in a request's order: name and durations.
pub(super) fn merged_stages(cell: &Cell) -> Option<(Vec<(&str, DurationHistogram)>, DurationHistogram)> {
    let sides = servers(cell)?;
    let mut total = DurationHistogram::default();
    let mut stages: Vec<(&str, DurationHistogram)> = Vec::new();
    for side in sides {
        total.merge(&side.total);
        for stage in &side.stages {
            match stages.iter_mut().find(|(name, _)| *name == stage_title(&stage.name)) {
                Some((_, durations)) => durations.merge(&stage.durations),
                None => stages.push((stage_title(&stage.name), stage.durations.clone())),
            }
        }
    }
    Some((stages, total))
}

/// Stage timing of one cell, all rounds, with the residual as a row of its own.
pub(super) fn stages(cell: &Cell) -> Option<String> {
    let (stages, total) = merged_stages(cell)?;
    let whole = total.sum_ns() as f64;
    let share = |ns: f64| if whole > 0.0 { format!("{:.2}%", ns / whole * 100.0) } else { "n/a".to_owned() };
    let mut table = Table::new(["Stage", "Percentage", "Mean (ms)", "P50 (ms)", "P95 (ms)", "P99 (ms)", "n"]);
    let mut explained = 0.0;
    let mut row = |name: &str, percentage: String, durations: &DurationHistogram| {
        table.row([
            name.to_owned(),
            percentage,
            number::or_na(durations.mean_ms(), number::ms),
            number::or_na(durations.percentile_ms(0.50), number::ms),
            number::or_na(durations.percentile_ms(0.95), number::ms),
            number::or_na(durations.percentile_ms(0.99), number::ms),
            durations.n().to_string(),
        ]);
    };
    for (name, durations) in &stages {
        let sum = durations.sum_ns() as f64;
        explained += sum;
        row(name, share(sum), durations);
    }
    row("Total (server)", share(whole), &total);
    let residual = whole - explained;
    table.row([
        "Residual".to_owned(),
        share(residual),
        number::ms(residual / 1e6 / total.n().max(1) as f64),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
        total.n().to_string(),
    ]);
    let outside = cell.latency().mean_ms().zip(total.mean_ms()).map(|(client, server)| client - server);
    Some(format!(
        "{table}\nOutside the server (client latency less server total: transport, client, kernel): {} ms a request.\n",
        number::or_na(outside, number::ms)
    ))
}

/// Workers of one cell, all rounds.
pub(super) fn workers(cell: &Cell) -> Option<String> {
    let sides = servers(cell)?;
    let ids: std::collections::BTreeSet<u64> =
        sides.iter().flat_map(|side| side.workers.iter().map(|worker| worker.id)).collect();
    let seconds = cell.seconds();
    let mut table = Table::new([
        "Worker ID",
        "Avg Latency (ms)",
        "P95 Latency (ms)",
        "Throughput (q/s)",
        "Queries",
        "Batches",
        "Rows a batch",
        "Busy",
    ]);
    let mut all = 0;
    for id in ids {
        let own: Vec<_> =
            sides.iter().flat_map(|side| &side.workers).filter(|worker| worker.id == id).collect();
        let sum = |value: fn(&&crate::serving::Worker) -> u64| own.iter().map(value).sum::<u64>();
        let (pairs, batches, busy_ns) =
            (sum(|worker| worker.pairs), sum(|worker| worker.batches), sum(|worker| worker.busy_ns));
        all += pairs;
        let mut durations = DurationHistogram::default();
        own.iter().filter_map(|worker| worker.batch_durations.as_ref()).for_each(|d| durations.merge(d));
        table.row([
            id.to_string(),
            if batches > 0 { number::ms(busy_ns as f64 / 1e6 / batches as f64) } else { "n/a".to_owned() },
            number::or_na(durations.percentile_ms(0.95), number::ms),
            number::rate(pairs as f64 / seconds),
            pairs.to_string(),
            batches.to_string(),
            number::or_na((batches > 0).then(|| pairs as f64 / batches as f64), |rows| format!("{rows:.1}")),
            number::percent(busy_ns as f64 / 1e9 / seconds),
        ]);
    }
    Some(format!(
        "{table}\nLatency is that of a backend call; queries are pairs. Workers' pairs: {all}, the run's pairs: {}.\n",
        cell.pairs()
    ))
}
