//! What must hold in every run, or its figures mean nothing.

use crate::serving::{Run, ServerSide};

/// A run that contradicts itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem(pub String);

/// Largest share of the total that the stages may leave unexplained.
const MAX_RESIDUAL: f64 = 0.01;

impl ServerSide {
    /// Total minus all stages, as a share of the total: what the stages do not explain. Negative if they overlap.
    pub fn residual(&self) -> Option<f64> {
        let total = self.total.sum_ns() as f64;
        let stages: f64 = self.stages.iter().map(|stage| stage.durations.sum_ns() as f64).sum();
        (total > 0.0).then(|| (total - stages) / total)
    }
}

/// Checks one run against itself: stages against the total, workers and server against the client.
pub fn check_run(run: &Run) -> Vec<Problem> {
    let mut problems = Vec::new();
    if run.requests == 0 {
        problems.push(Problem(format!("round {}: no request was answered", run.round)));
    }
    let Some(server) = &run.server else { return problems };
    match server.residual() {
        Some(residual) if residual.abs() > MAX_RESIDUAL => problems.push(Problem(format!(
            "round {}: the stages leave {:.2} % of the total unexplained, more than {:.0} %",
            run.round,
            residual * 100.0,
            MAX_RESIDUAL * 100.0
        ))),
        Some(_) => {}
        None => problems.push(Problem(format!("round {}: the server timed no request", run.round))),
    }
    if server.total.n() != run.requests {
        problems.push(Problem(format!(
            "round {}: the client got {} answers but the server timed {}; was something else talking to it?",
            run.round,
            run.requests,
            server.total.n()
        )));
    }
    let worked: u64 = server.workers.iter().map(|worker| worker.pairs).sum();
    // A worker may finish rows of a request that then missed its deadline, so failed requests lift the bound.
    let matches = if run.errors.is_empty() { worked == run.pairs } else { worked >= run.pairs };
    if !matches {
        problems.push(Problem(format!(
            "round {}: the workers scored {worked} pairs, the client got {}",
            run.round, run.pairs
        )));
    }
    problems
}
