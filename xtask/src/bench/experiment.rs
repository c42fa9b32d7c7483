//! Experiment files: what is swept, on what, for how long. Every list is an axis; a table is the product of its axes,
//! and several tables are run one after the other.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::BenchArgs;
use crate::process::root;

/// Where experiment files lie.
const FOLDER: &str = "benchmarks/experiments";

/// The one axis that is a variable and not a flag.
const MOCK_PLAN: &str = "mock-plan";

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Experiment {
    /// The question, in one sentence.
    pub(super) description: String,
    /// `builtin`, `synth:PRESET`, a folder or a hub id.
    pub(super) model: String,
    /// As `rerank-bench run --workload`.
    pub(super) workload: String,
    #[serde(default)]
    pub(super) seed: u64,
    /// Measured seconds of a run.
    pub(super) seconds: u64,
    /// Seconds of the same load before each run.
    pub(super) warm_up: u64,
    /// Repeats of every cell.
    pub(super) rounds: u64,
    /// Backend that the others are compared with.
    pub(super) yardstick: Option<String>,
    #[serde(default = "grpc")]
    protocol: String,
    /// Threads of the load generator.
    #[serde(default = "one")]
    client_threads: usize,
    server: Vec<ServerAxes>,
    load: Vec<LoadAxes>,
}

fn grpc() -> String {
    "grpc".to_owned()
}

fn one() -> usize {
    1
}

/// Servers: each list is an axis, an absent one leaves the server its own default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerAxes {
    backend: Vec<String>,
    /// Cargo features to build with besides the backend; not an axis.
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    device: Vec<String>,
    #[serde(default)]
    dtype: Vec<String>,
    #[serde(default)]
    workers: Vec<u64>,
    #[serde(default)]
    threads: Vec<u64>,
    #[serde(default)]
    tokenizer_threads: Vec<u64>,
    #[serde(default)]
    io_threads: Vec<u64>,
    #[serde(default)]
    max_length: Vec<u64>,
    #[serde(default)]
    max_batch_tokens: Vec<u64>,
    #[serde(default)]
    max_batch_rows: Vec<u64>,
    #[serde(default)]
    max_wait_ms: Vec<u64>,
    #[serde(default)]
    look_ahead: Vec<u64>,
    #[serde(default)]
    queue_tokens: Vec<u64>,
    /// Plans of backend `mock`, which reads them from `RERANK_MOCK`.
    #[serde(default)]
    mock_plan: Vec<String>,
}

/// Loads: `rows` with either `concurrency` (closed loop) or `rate` (open loop).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadAxes {
    rows: Vec<u64>,
    #[serde(default)]
    concurrency: Vec<u64>,
    #[serde(default)]
    rate: Vec<f64>,
    /// `poisson` (default) or `constant`, for `rate`.
    arrivals: Option<String>,
}

/// One server to be measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ServerSpec {
    pub(super) label: String,
    pub(super) backend: String,
    pub(super) features: Vec<String>,
    /// Flags beside backend, model and addresses.
    pub(super) flags: Vec<String>,
    /// Variables, all others of the server's being removed.
    pub(super) environment: Vec<(String, String)>,
}

/// One load, as flags of the load generator.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LoadSpec {
    pub(super) flags: Vec<String>,
    pub(super) label: String,
}

impl Experiment {
    /// Reads an experiment by name and applies the command line's overrides.
    pub(super) fn read(args: &BenchArgs) -> Result<Self> {
        for (flag, is_given) in [
            ("--shapes", !args.shapes.is_empty()),
            ("--dtype", args.dtype.is_some()),
            ("--device", args.device.is_some()),
            ("--features", !args.features.is_empty()),
            ("--torch-python", args.torch_python.is_some()),
            ("--program", !args.program.is_empty()),
        ] {
            ensure!(!is_given, "{flag} belongs to `bench forward`; an experiment says it in its file");
        }
        let path = root().join(FOLDER).join(format!("{}.toml", args.experiment));
        let text = fs::read_to_string(&path).with_context(|| {
            let known = names().unwrap_or_default().join(", ");
            format!("no experiment `{}`; there are {known} and forward", args.experiment)
        })?;
        let mut experiment =
            Self::parse(&text).with_context(|| format!("in {FOLDER}/{}.toml", args.experiment))?;
        experiment.override_by(args)?;
        Ok(experiment)
    }

    fn parse(text: &str) -> Result<Self> {
        let experiment: Self = toml::from_str(text)?;
        ensure!(experiment.seconds >= 2, "`seconds` must be at least 2: the first second is not counted");
        ensure!(experiment.rounds >= 1, "`rounds` must be at least 1");
        for load in &experiment.load {
            ensure!(!load.rows.is_empty(), "`rows` is empty");
            ensure!(
                load.concurrency.is_empty() != load.rate.is_empty(),
                "a load has either `concurrency` (closed loop) or `rate` (open loop)"
            );
            ensure!(load.arrivals.is_none() || !load.rate.is_empty(), "`arrivals` needs `rate`");
        }
        for server in &experiment.server {
            ensure!(!server.backend.is_empty(), "`backend` is empty");
            let is_mock = server.backend.iter().all(|backend| backend == "mock");
            ensure!(server.mock_plan.is_empty() || is_mock, "`mock_plan` is for backend `mock` alone");
        }
        let labels: Vec<String> = experiment.servers().into_iter().map(|server| server.label).collect();
        let distinct: BTreeSet<&String> = labels.iter().collect();
        ensure!(distinct.len() == labels.len(), "two servers are the same: {}", labels.join("; "));
        Ok(experiment)
    }

    fn override_by(&mut self, args: &BenchArgs) -> Result<()> {
        self.seconds = args.seconds.unwrap_or(self.seconds);
        self.warm_up = args.warm_up.unwrap_or(self.warm_up);
        self.rounds = args.rounds.unwrap_or(self.rounds);
        if let Some(model) = &args.model {
            self.model.clone_from(model);
        }
        if args.yardstick.is_some() {
            self.yardstick.clone_from(&args.yardstick);
        }
        if !args.backends.is_empty() {
            for backend in &args.backends {
                if !self.server.iter().any(|server| server.backend.contains(backend)) {
                    bail!("the experiment measures no backend `{backend}`");
                }
            }
            for server in &mut self.server {
                server.backend.retain(|backend| args.backends.contains(backend));
            }
        }
        Ok(())
    }

    /// Every server, table by table.
    pub(super) fn servers(&self) -> Vec<ServerSpec> {
        self.server.iter().flat_map(ServerAxes::expand).collect()
    }

    /// Every load, table by table.
    pub(super) fn loads(&self) -> Vec<LoadSpec> {
        self.load.iter().flat_map(LoadAxes::expand).collect()
    }

    /// Flags that every load shares.
    pub(super) fn load_flags(&self) -> Vec<String> {
        [
            ("workload", self.workload.clone()),
            ("seed", self.seed.to_string()),
            ("seconds", self.seconds.to_string()),
            ("warm-up", self.warm_up.to_string()),
            ("protocol", self.protocol.clone()),
            ("threads", self.client_threads.to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [format!("--{flag}"), value])
        .collect()
    }
}

/// Experiments that there are.
pub(super) fn names() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(root().join(FOLDER))?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".toml").map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}

impl ServerAxes {
    fn expand(&self) -> Vec<ServerSpec> {
        let numbers = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>();
        let axes = [
            ("device", self.device.clone()),
            ("dtype", self.dtype.clone()),
            ("workers", numbers(&self.workers)),
            ("threads", numbers(&self.threads)),
            ("tokenizer-threads", numbers(&self.tokenizer_threads)),
            ("io-threads", numbers(&self.io_threads)),
            ("max-length", numbers(&self.max_length)),
            ("max-batch-tokens", numbers(&self.max_batch_tokens)),
            ("max-batch-rows", numbers(&self.max_batch_rows)),
            ("max-wait-ms", numbers(&self.max_wait_ms)),
            ("look-ahead", numbers(&self.look_ahead)),
            ("queue-tokens", numbers(&self.queue_tokens)),
            (MOCK_PLAN, self.mock_plan.clone()),
        ];
        let mut servers: Vec<ServerSpec> = self
            .backend
            .iter()
            .map(|backend| ServerSpec {
                label: backend.clone(),
                backend: backend.clone(),
                features: self.features.clone(),
                flags: Vec::new(),
                environment: Vec::new(),
            })
            .collect();
        for (name, values) in axes.iter().filter(|(_, values)| !values.is_empty()) {
            servers = servers
                .iter()
                .flat_map(|server| {
                    values.iter().map(|value| {
                        let mut server = server.clone();
                        if *name == MOCK_PLAN {
                            server.environment.push(("RERANK_MOCK".to_owned(), value.clone()));
                        } else {
                            server.flags.extend([format!("--{name}"), value.clone()]);
                        }
                        server.label = format!("{} {name}={value}", server.label);
                        server
                    })
                })
                .collect();
        }
        servers
    }
}

impl LoadAxes {
    fn expand(&self) -> Vec<LoadSpec> {
        let closed = self.concurrency.iter().map(|concurrency| {
            (vec!["--concurrency".to_owned(), concurrency.to_string()], format!("conc={concurrency}"))
        });
        let open = self.rate.iter().map(|rate| {
            let mut flags = vec!["--rate".to_owned(), rate.to_string()];
            if let Some(arrivals) = &self.arrivals {
                flags.extend(["--arrivals".to_owned(), arrivals.clone()]);
            }
            (flags, format!("rate={rate}/s"))
        });
        let paces: Vec<_> = closed.chain(open).collect();
        self.rows
            .iter()
            .flat_map(|rows| {
                paces.iter().map(move |(pace, label)| LoadSpec {
                    flags: [vec!["--rows".to_owned(), rows.to_string()], pace.clone()].concat(),
                    label: format!("batch={rows}, {label}"),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        description = "d"
        model = "builtin"
        workload = "fixed:64"
        seconds = 10
        warm_up = 2
        rounds = 3

        [[server]]
        backend = ["candle", "mock"]
        workers = [1, 2]

        [[server]]
        backend = ["candle"]
        dtype = ["bf16"]

        [[load]]
        rows = [8, 32]
        concurrency = [1]

        [[load]]
        rows = [8]
        rate = [50.0]
        arrivals = "constant"
    "#;

    #[test]
    fn tables_are_products_of_their_axes() {
        let experiment = Experiment::parse(FILE).unwrap();
        let servers: Vec<_> = experiment.servers().into_iter().map(|server| server.label).collect();
        assert_eq!(
            servers,
            ["candle workers=1", "candle workers=2", "mock workers=1", "mock workers=2", "candle dtype=bf16"]
        );
        let loads: Vec<_> = experiment.loads().into_iter().map(|load| load.flags.join(" ")).collect();
        assert_eq!(
            loads,
            [
                "--rows 8 --concurrency 1",
                "--rows 32 --concurrency 1",
                "--rows 8 --rate 50 --arrivals constant"
            ]
        );
    }

    #[test]
    fn unknown_keys_and_contradictions_are_errors() {
        let refused = |from: &str, to: &str| {
            let error = Experiment::parse(&FILE.replace(from, to)).unwrap_err();
            format!("{error:#}")
        };
        assert!(refused("workers = [1, 2]", "worker = [1]").contains("unknown field `worker`"));
        assert!(refused("rounds = 3", "rounds = 3\nround = 4").contains("unknown field `round`"));
        assert!(refused("rate = [50.0]", "").contains("`concurrency` (closed loop) or `rate`"));
        assert!(refused("workers = [1, 2]", "workers = [1, 1]").contains("two servers are the same"));
    }

    #[test]
    fn every_committed_experiment_parses() {
        let names = names().unwrap();
        assert!(names.contains(&"01_backend_comparison".to_owned()), "{names:?}");
        for name in names {
            let text = fs::read_to_string(root().join(FOLDER).join(format!("{name}.toml"))).unwrap();
            let experiment = Experiment::parse(&text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(
                !experiment.servers().is_empty() && !experiment.loads().is_empty(),
                "{name} measures nothing"
            );
        }
    }
}
