//! The machine and the software that a result comes from. A result from an unknown machine is void.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything about the place of measurement that can move a number. `None` renders as `n/a`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Short name of the machine, used in the folder of the result.
    pub machine: String,
    /// CPU model as the system names it.
    pub cpu: Option<String>,
    /// Physical cores.
    pub physical_cores: Option<usize>,
    /// Logical cores that this process may use (affinity and control groups respected).
    pub usable_cores: usize,
    /// Instruction sets that matter to the backends (`avx2`, `avx512f`, `amx-bf16`, ...).
    pub cpu_features: Vec<String>,
    /// Frequency governor of the first core.
    pub governor: Option<String>,
    /// Main memory in MiB.
    pub memory_mib: Option<u64>,
    /// GPUs with driver, one line each, from the driver's own tool.
    pub gpus: Vec<String>,
    /// Operating system and kernel.
    pub os: String,
    /// One-minute load average before the first server started: not near zero means a busy machine.
    pub load_average: Option<f64>,
    /// `rustc --version`.
    pub rustc: String,
    /// Cargo profile and flags that built the servers.
    pub build: String,
    /// Commit of the working tree.
    pub commit: Option<String>,
    /// Whether the working tree differed from the commit.
    pub dirty: Option<bool>,
    /// Versions of the libraries that do the work.
    pub libraries: BTreeMap<String, String>,
    /// Environment variables that steer threads and libraries, where set.
    pub variables: BTreeMap<String, String>,
}
