//! Pages from a result: one report for a whole experiment, its time series and its plots.

mod context;
mod details;
mod forward;
mod number;
mod parity;
mod plots;
mod serving;
mod table;
mod timeseries;

use std::{fs, path::Path};

pub use self::{number::significant, table::Table};
use crate::{
    compare::changes,
    error::ReportError,
    result::{BenchResult, Experiment},
    stats::Interval,
};

/// Renders everything that can be made from a result into `dir`: `report.md`, `timeseries.md` and SVG plots.
pub fn write_all(result: &BenchResult, dir: &Path) -> Result<(), ReportError> {
    match result {
        BenchResult::Serving(serving) => {
            write(&dir.join("report.md"), &serving::report(serving))?;
            write(&dir.join("timeseries.md"), &timeseries::page(serving))?;
            plots::serving(serving, dir)
        }
        BenchResult::Forward(forward) => {
            write(&dir.join("report.md"), &forward::report(forward))?;
            plots::forward(forward, dir)
        }
    }
}

/// The summary of a result as a table for the terminal.
pub fn summary_table(result: &BenchResult) -> Table {
    match result {
        BenchResult::Serving(serving) => serving::terminal_summary(serving),
        BenchResult::Forward(forward) => forward::summary(forward),
    }
}

/// A page that sets two results side by side.
pub fn compare_results(before: &BenchResult, after: &BenchResult) -> Result<String, ReportError> {
    let mut table = Table::new(["Cell", "Before (pairs/s)", "After (pairs/s)", "After / before", "Verdict"]);
    for change in changes(before, after)? {
        table.row([
            change.what.clone(),
            interval(&change.before),
            interval(&change.after),
            format!("{:.3}", change.ratio()),
            change.verdict().to_owned(),
        ]);
    }
    let place = |result: &BenchResult| {
        let environment = match result {
            BenchResult::Serving(result) => &result.environment,
            BenchResult::Forward(result) => &result.environment,
        };
        format!(
            "{} ({}, commit {}{}, machine {})",
            result.experiment().name,
            result.experiment().started,
            environment.commit.as_deref().unwrap_or("n/a"),
            if environment.dirty == Some(true) { " with changes" } else { "" },
            environment.machine
        )
    };
    Ok(format!(
        "# Comparison\n\n**Before:** {}\n\n**After:** {}\n\n{table}\nIntervals are 95 % over repeats (Student's t); \
         a verdict needs intervals that do not overlap. Results from different machines or days compare machines and \
         days as well: a ratio measured in one run is worth more.\n",
        place(before),
        place(after)
    ))
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(|source| ReportError::File { what: "write", path: path.to_owned(), source })
}

/// Title, description and time, with a warning where the run was not the committed experiment.
fn head(experiment: &Experiment) -> String {
    let trial = if experiment.overrides.is_empty() {
        String::new()
    } else {
        format!(
            "\n> **Trial:** the experiment was run with `{}`; these are not the experiment's own figures.\n",
            experiment.overrides.join(" ")
        )
    };
    format!(
        "# {}\n\n_{}_\n\n**Timestamp:** {}\n{trial}\n",
        experiment.name, experiment.description, experiment.started
    )
}

/// `12.3 ± 0.4 (n=3)`.
fn interval(interval: &Interval) -> String {
    let spread =
        interval.half_width.map_or_else(|| "± n/a".to_owned(), |half| format!("± {}", number::rate(half)));
    format!("{} {spread} (n={})", number::rate(interval.mean), interval.n)
}
