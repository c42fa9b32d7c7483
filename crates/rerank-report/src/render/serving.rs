//! `report.md` of a serving result: the seed's sections in the seed's order, then ours.

use std::fmt::Write;

use super::{context, details, head, interval, number, parity, table::Table};
use crate::{
    compare::versus_yardstick,
    serving::{Cell, Outcome, ServingResult},
    stats::{Interval, Ratio},
};

/// The whole page.
pub(super) fn report(result: &ServingResult) -> String {
    let mut page = head(&result.experiment);
    page.push_str(&context::models_and_backends(result));
    let _ = writeln!(page, "## Summary\n\n{}", summary(result));
    page.push_str(SUMMARY_NOTE);
    page.push_str("\n## Detailed Metrics\n\n");
    for (k, cell) in result.cells.iter().enumerate() {
        page.push_str(&details::run(k + 1, cell));
    }
    let _ = writeln!(page, "## Overall Summary\n\n{}", overall(result));
    page.push_str("## Dashboard Metrics\n\n");
    page.push_str(DASHBOARD_NOTE);
    per_run(&mut page, result, details::dashboard);
    page.push_str("### Stage Timing\n\n");
    page.push_str(STAGE_NOTE);
    per_run(&mut page, result, details::stages);
    page.push_str("### Worker Metrics\n\n");
    per_run(&mut page, result, details::workers);
    page.push_str("Full time-series data is available in: [`timeseries.md`](timeseries.md)\n\n");
    page.push_str("![throughput over time](throughput.svg)\n![latency distribution](latency.svg)\n");
    page.push_str("![stages](stages.svg)\n![comparison](comparison.svg)\n\n");
    page.push_str(&context::environment(&result.environment));
    page.push_str(&context::workload(result));
    page.push_str(&parity::section(
        "Server",
        result.servers.iter().filter_map(|server| match &server.outcome {
            Outcome::Served { parity, .. } => Some((server.label.as_str(), parity)),
            Outcome::Refused { .. } => None,
        }),
    ));
    page.push_str(&comparison(result));
    page
}

const SUMMARY_NOTE: &str = "\
Batch: pairs in a request. Latency: every answered request of all rounds. TP: completed pairs of one-second windows of \
the steady state, all rounds; its P95 is the fast tail, its P5 the slow one. A percentile that n cannot carry is `n/a` \
(Wilks: 29 samples for P90, 59 for P95 and P5, 299 for P99). ± is the 95 % confidence interval over rounds \
(Student's t), for TP at least one request more or less in a round.\n";

const DASHBOARD_NOTE: &str = "\
Sampled once a second by the server itself; only samples wholly inside the measured window; n is their number. Times are means \
over the requests answered in a second, and a batch counts in the second in which it ends, so one that takes longer makes \
a sample's busy share exceed 100 %.\n\n";

const STAGE_NOTE: &str = "\
Disjoint intervals of one monotonic clock in the server, as shares of the total from the first byte received to the \
reply handed to the transport. The residual is what they leave unexplained.\n\n";

fn per_run(page: &mut String, result: &ServingResult, section: fn(&Cell) -> Option<String>) {
    for (k, cell) in result.cells.iter().enumerate() {
        let text =
            section(cell).unwrap_or_else(|| "n/a: the server's HTTP side was not reachable.\n".to_owned());
        let _ = writeln!(page, "#### Run {}: {}, {}\n\n{text}", k + 1, cell.server, cell.load.describe());
    }
}

/// The seed's columns, ours after them.
fn summary(result: &ServingResult) -> Table {
    let mut table = Table::new([
        "Batch",
        "Conc",
        "Pairs",
        "Time(s)",
        "Lat Avg",
        "Lat P95",
        "Lat P99",
        "TP Avg",
        "TP P95",
        "TP P5",
        "Tokens/s",
        "Server",
        "Lat Avg ± (rounds)",
        "TP Avg ± (rounds)",
        "Requests",
        "Windows",
        "Failed",
        "Client cores",
    ]);
    for cell in &result.cells {
        let latency = cell.latency();
        let pairs = cell.window_pairs();
        table.row([
            cell.load.rows.to_string(),
            cell.load.concurrency(),
            cell.pairs().to_string(),
            format!("{:.2}", cell.seconds()),
            number::or_na(latency.mean_ms(), milliseconds),
            number::or_na(latency.percentile_ms(0.95), milliseconds),
            number::or_na(latency.percentile_ms(0.99), milliseconds),
            number::or_na(pairs.mean(), number::rate),
            number::or_na(pairs.percentile(0.95), number::rate),
            number::or_na(pairs.percentile(0.05), number::rate),
            number::or_na(cell.token_throughput(), number::rate),
            cell.server.clone(),
            spread(cell.mean_latencies().interval()),
            spread(cell.throughput()),
            format!("n={}", latency.n()),
            format!("n={}", pairs.n()),
            cell.errors().values().sum::<u64>().to_string(),
            number::or_na(client_cores(cell), |cores| format!("{cores:.2}")),
        ]);
    }
    table
}

/// The columns that fit a terminal.
pub(super) fn terminal_summary(result: &ServingResult) -> Table {
    let mut table = Table::new([
        "Server",
        "Batch",
        "Conc",
        "Pairs",
        "Lat Avg",
        "Lat P95",
        "TP Avg ± (rounds)",
        "Tokens/s",
        "Vs yardstick",
        "Failed",
    ]);
    let versus = versus_yardstick(result);
    for cell in &result.cells {
        let latency = cell.latency();
        let ratio = versus
            .iter()
            .find(|versus| versus.server == cell.server && versus.load == cell.load.describe())
            .and_then(|versus| versus.throughput);
        table.row([
            cell.server.clone(),
            cell.load.rows.to_string(),
            cell.load.concurrency(),
            cell.pairs().to_string(),
            number::or_na(latency.mean_ms(), milliseconds),
            number::or_na(latency.percentile_ms(0.95), milliseconds),
            spread(cell.throughput()),
            number::or_na(cell.token_throughput(), number::rate),
            ratio_text(ratio),
            cell.errors().values().sum::<u64>().to_string(),
        ]);
    }
    for server in &result.servers {
        if matches!(server.outcome, Outcome::Refused { .. }) {
            let dashes = std::iter::repeat_n("-", 8);
            table.row([server.label.as_str(), "refused"].into_iter().chain(dashes));
        }
    }
    table
}

fn milliseconds(value: f64) -> String {
    format!("{}ms", number::ms(value))
}

fn spread(value: Option<Interval>) -> String {
    value.as_ref().map_or_else(|| "n/a".to_owned(), interval)
}

fn client_cores(cell: &Cell) -> Option<f64> {
    crate::stats::Series::new(cell.runs.iter().map(|run| run.client.cpu_cores)).mean()
}

fn overall(result: &ServingResult) -> Table {
    let mut table = Table::new(["Metric", "Value", "Config"]);
    let config = |cell: &Cell| format!("{}, {}", cell.server, cell.load.describe());
    let throughput: Vec<_> =
        result.cells.iter().filter_map(|cell| Some((cell.throughputs().mean()?, config(cell)))).collect();
    let latency: Vec<_> =
        result.cells.iter().filter_map(|cell| Some((cell.latency().mean_ms()?, config(cell)))).collect();
    let per_second = |value: f64| format!("{} p/s", number::rate(value));
    if let Some((value, config)) = throughput.iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        table.row(["Best Throughput".to_owned(), per_second(*value), config.clone()]);
    }
    if let Some((value, config)) = latency.iter().min_by(|a, b| a.0.total_cmp(&b.0)) {
        table.row(["Best Latency".to_owned(), milliseconds(*value), config.clone()]);
    }
    // The seed averaged over all configurations; over different backends that is a number without meaning, so the
    // average is per server.
    for server in &result.servers {
        let mean = |values: &[(f64, String)]| {
            let own = format!("{}, ", server.label);
            let own = values.iter().filter(|(_, config)| config.starts_with(&own)).map(|(value, _)| *value);
            crate::stats::Series::new(own).mean()
        };
        let Some(average) = mean(&throughput) else { continue };
        let configs = format!("{}, all configs", server.label);
        table.row(["Avg Throughput".to_owned(), per_second(average), configs.clone()]);
        table.row(["Avg Latency".to_owned(), number::or_na(mean(&latency), milliseconds), configs]);
    }
    table
}

fn comparison(result: &ServingResult) -> String {
    let mut page = "## Comparison\n\n".to_owned();
    let versus = versus_yardstick(result);
    if versus.is_empty() {
        page.push_str("n/a: no yardstick was measured in this run.\n");
        return page;
    }
    let _ = writeln!(
        page,
        "Against `{}`, measured in the same run in alternating rounds; each ratio is taken within a round.\n",
        versus[0].yardstick
    );
    let mut table =
        Table::new(["Server", "Load", "Throughput ratio", "Min..max", "Latency ratio", "Min..max", "Rounds"]);
    for entry in &versus {
        let range = |ratio: Option<Ratio>| {
            ratio.map_or_else(
                || "n/a".to_owned(),
                |r| format!("{}..{}", number::ratio(r.min), number::ratio(r.max)),
            )
        };
        table.row([
            entry.server.clone(),
            entry.load.clone(),
            number::or_na(entry.throughput.map(|ratio| ratio.median), number::ratio),
            range(entry.throughput),
            number::or_na(entry.latency.map(|ratio| ratio.median), number::ratio),
            range(entry.latency),
            format!("n={}", entry.throughput.map_or(0, |ratio| ratio.n)),
        ]);
    }
    let _ = writeln!(page, "{table}");
    page
}

fn ratio_text(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(
        || "n/a".to_owned(),
        |r| {
            let [median, min, max] = [r.median, r.min, r.max].map(number::ratio);
            format!("{median} ({min}..{max}, n={})", r.n)
        },
    )
}
