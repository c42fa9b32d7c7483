//! Comparisons: servers against the yardstick within one result, and one result against another.

use crate::{
    error::ReportError,
    result::BenchResult,
    serving::{Cell, Run, ServingResult},
    stats::{Interval, Ratio, ratio},
};

/// One cell against the yardstick's cell under the same load.
#[derive(Debug, Clone, PartialEq)]
pub struct Versus {
    /// Server compared.
    pub server: String,
    /// Yardstick's server.
    pub yardstick: String,
    /// Load that both ran.
    pub load: String,
    /// Throughput over the yardstick's, round by round: above 1 is faster.
    pub throughput: Option<Ratio>,
    /// Mean latency over the yardstick's, round by round: below 1 is faster.
    pub latency: Option<Ratio>,
}

/// Sets every cell beside the yardstick's cell of the same load. Where the sweep has several servers of the yardstick
/// backend, the first is the yardstick.
pub fn versus_yardstick(result: &ServingResult) -> Vec<Versus> {
    let Some(yardstick) = result.yardstick.as_ref().and_then(|name| {
        result
            .servers
            .iter()
            .find(|server| server.backend == *name && result.identity(&server.label).is_some())
    }) else {
        return Vec::new();
    };
    let base_of = |cell: &Cell| {
        result.cells.iter().find(|base| base.server == yardstick.label && base.load == cell.load)
    };
    result
        .cells
        .iter()
        .filter_map(|cell| {
            let base = base_of(cell)?;
            let pair = |value: fn(&Run) -> Option<f64>| {
                ratio(cell.runs.iter().filter_map(|run| {
                    let twin = base.runs.iter().find(|twin| twin.round == run.round)?;
                    Some((value(run)?, value(twin)?))
                }))
            };
            Some(Versus {
                server: cell.server.clone(),
                yardstick: yardstick.label.clone(),
                load: cell.load.describe(),
                throughput: pair(Run::throughput),
                latency: pair(|run| run.latency.mean_ms()),
            })
        })
        .collect()
}

/// One quantity in two results.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which cell: server and load, or subject and shape.
    pub what: String,
    /// Before, in pairs/s.
    pub before: Interval,
    /// After, in pairs/s.
    pub after: Interval,
}

impl Change {
    /// After over before.
    pub fn ratio(&self) -> f64 {
        self.after.mean / self.before.mean
    }

    /// In words: `faster`, `slower`, `within noise`, or that repeats are missing.
    pub fn verdict(&self) -> &'static str {
        match self.before.is_apart_from(&self.after) {
            Some(true) if self.ratio() > 1.0 => "faster",
            Some(true) => "slower",
            Some(false) => "within noise",
            None => "n/a (one repeat has no interval)",
        }
    }
}

/// Throughput of all cells that both results measured. Refuses results of different kinds or with nothing in common.
pub fn changes(before: &BenchResult, after: &BenchResult) -> Result<Vec<Change>, ReportError> {
    let (before, after) = (throughputs(before), throughputs(after));
    let changes: Vec<_> = after
        .into_iter()
        .filter_map(|(what, after)| {
            let before = before.iter().find(|(name, _)| *name == what)?.1;
            Some(Change { what, before, after })
        })
        .collect();
    if changes.is_empty() {
        return Err(ReportError::Incomparable(
            "the two results share no cell (same server, workload and load, or same subject and shape)"
                .to_owned(),
        ));
    }
    Ok(changes)
}

fn throughputs(result: &BenchResult) -> Vec<(String, Interval)> {
    match result {
        BenchResult::Serving(result) => result
            .cells
            .iter()
            .filter_map(|cell| {
                let what = format!("{}, {}, {}", cell.server, cell.load.describe(), cell.workload.name);
                Some((what, cell.throughput()?))
            })
            .collect(),
        BenchResult::Forward(result) => result
            .subjects
            .iter()
            .flat_map(|subject| {
                result.shapes().into_iter().filter_map(|shape| {
                    let what = format!("{}, {shape}", subject.label);
                    Some((what, subject.pairs_per_second(shape).interval()?))
                })
            })
            .collect(),
    }
}
