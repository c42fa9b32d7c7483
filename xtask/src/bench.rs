//! `cargo xtask bench`: measures what an experiment file asks for, or the backends' forward passes, and writes a result
//! with its report.

mod children;
mod experiment;
mod forward;
mod forward_child;
mod load;
mod machine;
mod output;
mod server;
mod serving;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

/// Name that stands for the backends' own benches instead of an experiment file.
const FORWARD: &str = "forward";

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask bench 01_backend_comparison\n      the seed's cell on every backend of the file, into benchmarks/results/\n  \
    cargo xtask bench 01_backend_comparison --seconds 3 --rounds 1\n      a trial, into target/benchmarks/trials/\n  \
    cargo xtask bench forward --backends candle --torch-python python3\n      forward passes in their own processes, next to PyTorch's")]
pub(crate) struct BenchArgs {
    /// An experiment of benchmarks/experiments/ without `.toml`, or `forward`
    experiment: String,
    /// Folder of the result [default: benchmarks/results/EXPERIMENT/DATE-MACHINE, or target/benchmarks/trials/ when
    /// another flag overrides the experiment]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Short name of this machine in results [default: its CPU]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Measure only these backends
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        help_heading = "Overrides, recorded in the result"
    )]
    backends: Vec<String>,
    /// Measured seconds of a run
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(2..), help_heading = "Overrides, recorded in the result")]
    seconds: Option<u64>,
    /// Seconds of warm-up before each run
    #[arg(long, value_name = "S", help_heading = "Overrides, recorded in the result")]
    warm_up: Option<u64>,
    /// Rounds of every cell, A B A B
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Overrides, recorded in the result")]
    rounds: Option<u64>,
    /// Model: `builtin`, `synth:PRESET`, a folder or a hub id
    #[arg(long, value_name = "MODEL", help_heading = "Overrides, recorded in the result")]
    model: Option<String>,
    /// What the others are compared with: a backend, or `torch-eager` for forward passes
    #[arg(long, value_name = "NAME", help_heading = "Overrides, recorded in the result")]
    yardstick: Option<String>,
    /// forward: shapes, `ROWSxTOKENS` or `mix32` [default: 32x128,8x128,1x128,mix32]
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        help_heading = "Overrides, recorded in the result"
    )]
    shapes: Vec<String>,
    /// forward: dtype of the backends
    #[arg(long, value_name = "DTYPE", help_heading = "Overrides, recorded in the result")]
    dtype: Option<String>,
    /// forward: dtype of PyTorch [default: the backends', and f32 beside int8]
    #[arg(
        long,
        value_name = "DTYPE",
        requires = "torch_python",
        help_heading = "Overrides, recorded in the result"
    )]
    torch_dtype: Option<String>,
    /// forward: device of the backends
    #[arg(long, value_name = "DEVICE", help_heading = "Overrides, recorded in the result")]
    device: Option<String>,
    /// forward: cargo features of the backend crates (`cuda`, `accelerate`, `mkl`)
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        help_heading = "Overrides, recorded in the result"
    )]
    features: Vec<String>,
    /// forward: a backend's forward bench that was built elsewhere, instead of building it: for machines without a
    /// toolchain. The other backends are then left out
    #[arg(long, value_name = "BACKEND=PATH", value_parser = program, help_heading = "Overrides, recorded in the result")]
    program: Vec<(String, PathBuf)>,
    /// forward: a Python that has torch and transformers, for PyTorch eager as a further subject; `setup` makes one
    /// under target/ with pip
    #[arg(long, value_name = "PATH")]
    torch_python: Option<String>,
}

fn program(text: &str) -> Result<(String, PathBuf), String> {
    let (backend, path) = text.split_once('=').ok_or("a backend's name, `=`, and the path of its program")?;
    Ok((backend.to_owned(), path.into()))
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    children::end_with_this_process()?;
    if args.experiment == FORWARD { forward::run(args) } else { serving::run(args) }
}

impl BenchArgs {
    /// The flags that replace values of the experiment, as a person would type them again.
    fn overrides(&self) -> Vec<String> {
        let list = |name: &str, values: &[String]| {
            (!values.is_empty()).then(|| format!("--{name} {}", values.join(",")))
        };
        let text =
            |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name} {value}"));
        let number = |name: &str, value: Option<u64>| value.map(|value| format!("--{name} {value}"));
        [
            list("backends", &self.backends),
            number("seconds", self.seconds),
            number("warm-up", self.warm_up),
            number("rounds", self.rounds),
            text("model", &self.model),
            text("yardstick", &self.yardstick),
            list("shapes", &self.shapes),
            text("dtype", &self.dtype),
            text("torch-dtype", &self.torch_dtype),
            text("device", &self.device),
            list("features", &self.features),
            list("program", &self.program.iter().map(|(backend, _)| backend.clone()).collect::<Vec<_>>()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
