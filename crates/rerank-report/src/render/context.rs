//! Who was measured, on what and with what: models, backends, environment, workload.

use std::fmt::Write;

use super::{number, table::Table};
use crate::{
    environment::Environment,
    serving::{Outcome, ServingResult},
};

/// The head's model and backend lines, from the running servers.
pub(super) fn models_and_backends(result: &ServingResult) -> String {
    let mut page = String::new();
    let identities = result.servers.iter().filter_map(|server| result.identity(&server.label));
    let mut models: Vec<_> =
        identities.map(|identity| (identity.model.as_str(), identity.model_sha256.as_str())).collect();
    models.dedup();
    for (model, sha256) in models {
        let _ = writeln!(
            page,
            "**Model:** `{model}` (weights sha256 `{}`)\n",
            sha256.get(..16).unwrap_or(sha256)
        );
    }
    for server in &result.servers {
        let _ = match &server.outcome {
            Outcome::Served { identity, .. } => writeln!(
                page,
                "**Backend:** `{}` | **Device:** `{}` ({}), dtype {}, {} of {}, max length {} \
                 (`{}`, server {})\n",
                identity.backend,
                identity.device,
                identity.device_name,
                identity.dtype,
                number::count(identity.workers, "worker"),
                number::count(identity.threads, "thread"),
                identity.max_length,
                server.label,
                identity.version
            ),
            Outcome::Refused { reason } => {
                writeln!(
                    page,
                    "**Backend:** `{}` did not start (`{}`): {reason}\n",
                    server.backend, server.label
                )
            }
        };
    }
    page
}

/// The machine and what was built on it.
pub(super) fn environment(environment: &Environment) -> String {
    let na = || "n/a".to_owned();
    let mut table = Table::new(["Property", "Value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("Machine", environment.machine.clone());
    row("CPU", environment.cpu.clone().unwrap_or_else(na));
    let physical = environment.physical_cores.map_or_else(na, |cores| cores.to_string());
    row("Cores", format!("{physical} physical, {} usable", environment.usable_cores));
    row(
        "CPU features",
        if environment.cpu_features.is_empty() { na() } else { environment.cpu_features.join(" ") },
    );
    row("Frequency governor", environment.governor.clone().unwrap_or_else(na));
    row("Memory", environment.memory_mib.map_or_else(na, |mib| format!("{mib} MiB")));
    row("GPU and driver", if environment.gpus.is_empty() { na() } else { environment.gpus.join("; ") });
    row("OS", environment.os.clone());
    row("Load average before", environment.load_average.map_or_else(na, |load| format!("{load:.2}")));
    row("rustc", environment.rustc.clone());
    row("Build", environment.build.clone());
    let dirty = match environment.dirty {
        Some(true) => " with uncommitted changes",
        Some(false) => ", clean",
        None => "",
    };
    row("Commit", environment.commit.as_ref().map_or_else(na, |commit| format!("{commit}{dirty}")));
    for (name, version) in environment.libraries.iter().chain(&environment.variables) {
        row(name, version.clone());
    }
    format!("## Environment\n\n{table}\n")
}

/// What was sent, one row for each different pool.
pub(super) fn workload(result: &ServingResult) -> String {
    let mut table = Table::new([
        "Workload",
        "Batch",
        "Server",
        "Requests in pool",
        "Seed",
        "Tokens a pair: mean",
        "P50",
        "P95",
        "Max",
        "n",
        "SHA-256",
    ]);
    let mut seen = Vec::new();
    for cell in &result.cells {
        let key = (&cell.workload, cell.load.rows, cell.server.as_str());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let tokens = cell.workload.tokens.as_ref();
        let na = || "n/a".to_owned();
        table.row([
            cell.workload.name.clone(),
            cell.load.rows.to_string(),
            cell.server.clone(),
            cell.workload.distinct_requests.to_string(),
            cell.workload.seed.to_string(),
            number::or_na(tokens.map(|tokens| tokens.mean), |mean| format!("{mean:.1}")),
            tokens.map_or_else(na, |tokens| tokens.percentile(0.50).to_string()),
            tokens.map_or_else(na, |tokens| tokens.percentile(0.95).to_string()),
            tokens.map_or_else(na, |tokens| tokens.max().to_string()),
            tokens.map_or_else(na, |tokens| tokens.n.to_string()),
            cell.workload.sha256.clone(),
        ]);
    }
    format!(
        "## Workload\n\n{table}\nTokens as the running server counts them, special tokens and truncation included. \
         SHA-256 is that of the request pool as sent.\n\n"
    )
}
