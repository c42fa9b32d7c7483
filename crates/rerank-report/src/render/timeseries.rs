//! `timeseries.md`: every window of every round, and what the server sampled meanwhile.

use std::fmt::Write;

use super::{number, table::Table};
use crate::serving::{Run, Sample, ServingResult};

/// The whole page.
pub(super) fn page(result: &ServingResult) -> String {
    let mut page =
        format!("# {}: time series\n\n_{}_\n\n", result.experiment.name, result.experiment.description);
    for (k, cell) in result.cells.iter().enumerate() {
        for run in &cell.runs {
            let _ = writeln!(
                page,
                "## Run {}, round {}: {}, {}\n\nStarted {}.\n\n### Client, windows of 1 s\n\n{}",
                k + 1,
                run.round,
                cell.server,
                cell.load.describe(),
                run.started,
                windows(run)
            );
            if let Some(server) = &run.server {
                let _ = writeln!(page, "### Server, samples of 1 s\n\n{}", samples(&server.samples));
            }
        }
    }
    page
}

fn windows(run: &Run) -> Table {
    let mut table = Table::new(["Second", "Requests", "Pairs", "Tokens", "Mean latency (ms)", "Failed"]);
    for window in &run.windows {
        table.row([
            window.second.to_string(),
            window.requests.to_string(),
            window.pairs.to_string(),
            window.tokens.map_or_else(|| "n/a".to_owned(), |tokens| tokens.to_string()),
            number::or_na(window.latency_ms, number::ms),
            window.errors.to_string(),
        ]);
    }
    table
}

fn samples(samples: &[Sample]) -> Table {
    let mut table = Table::new([
        "Unix time",
        "Pairs",
        "CPU (cores)",
        "Memory (MB)",
        "GPU (%)",
        "GPU memory (MB)",
        "Busy (%)",
        "Queue (tokens)",
        "Tokenise (ms)",
        "Queue (ms)",
        "Compute (ms)",
        "Batch rows",
        "Padding (%)",
    ]);
    let hundred = |value: Option<f64>| number::or_na(value.map(|share| share * 100.0), number::significant);
    for sample in samples {
        table.row([
            format!("{:.3}", sample.time),
            sample.pairs.to_string(),
            number::or_na(sample.cpu_cores, |cores| format!("{cores:.2}")),
            number::or_na(sample.rss_mib, |mib| format!("{mib:.0}")),
            hundred(sample.gpu_utilisation),
            number::or_na(sample.gpu_memory_mib, |mib| format!("{mib:.0}")),
            hundred(sample.busy_share),
            number::or_na(sample.queue_tokens, |tokens| format!("{tokens:.0}")),
            number::or_na(sample.tokenise_ms, number::ms),
            number::or_na(sample.queue_ms, number::ms),
            number::or_na(sample.compute_ms, number::ms),
            number::or_na(sample.batch_rows, |rows| format!("{rows:.1}")),
            hundred(sample.padding_waste),
        ]);
    }
    table
}
