//! The command line.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::workload::Source;

const EXAMPLES: &str = "\
Examples:
  rerank-bench run
      one request of 32 pairs in flight against a server on its default ports, for 30 s
  rerank-bench run --protocol http --rows 8 --concurrency 32 --seconds 60
      closed loop: 32 requests of 8 pairs in flight
  rerank-bench run --rate 50 --arrivals poisson --workload lognormal:90
      open loop: 50 requests a second on average, whatever the server does; latency from the scheduled start
  rerank-bench run --workload beir:datasets/scifact --rows 100
      a BEIR data set from a folder
  rerank-bench parity fixtures/parity.json
      compare the server's logits with reference logits
  rerank-bench parity --against http://127.0.0.1:8081 --workload jsonl:benchmarks/data/workload.jsonl
      compare its ranking with that of a server of the same weights in f32, query by query";

/// Puts load on a rerank server and reports what it did.
#[derive(Debug, Parser)]
#[command(name = "rerank-bench", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure a server under one load
    Run(RunArgs),
    /// Compare a server's logits with reference logits
    Parity(ParityArgs),
    /// Show what a workload would send: hash and token lengths
    Workload(WorkloadArgs),
}

impl Command {
    /// Threads of the runtime.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        match self {
            Self::Run(args) => args.threads,
            Self::Parity(_) | Self::Workload(_) => NonZeroUsize::MIN,
        }
    }
}

/// Where the server is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// Its gRPC side
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051")]
    pub(crate) grpc: String,
    /// Its HTTP side, from which identity, samples and token counts are read even when the load goes over gRPC; `off`
    /// leaves these out of the result
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) http: String,
    /// Which side takes the load
    #[arg(long, value_enum, default_value_t = Protocol::Grpc)]
    pub(crate) protocol: Protocol,
}

impl ServerArgs {
    /// The HTTP side, unless it was turned off.
    pub(crate) fn http_side(&self) -> Option<&str> {
        (self.http != "off").then(|| self.http.trim_end_matches('/'))
    }
}

/// A side of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// `rerank.v1.Rerank`.
    Grpc,
    /// `POST /rerank`.
    Http,
}

impl Protocol {
    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workload")]
pub(crate) struct PoolArgs {
    /// `jsonl:FILE`, `fixed:TOKENS`, `lognormal:MEAN[:SIGMA]`, `msmarco:FILE` (triples or top1000 .tsv) or `beir:FOLDER`
    #[arg(long, value_name = "SOURCE", default_value = "jsonl:benchmarks/data/workload.jsonl")]
    pub(crate) workload: Source,
    /// Pairs in a request
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) rows: NonZeroUsize,
    /// Most distinct requests; the load goes round them
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) pool: NonZeroUsize,
    /// Seed of everything random: texts, lengths, arrivals
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Closed loop: requests in flight
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub(crate) concurrency: NonZeroUsize,
    /// Open loop: scheduled requests a second, instead of --concurrency
    #[arg(long, value_name = "PER_SECOND", value_parser = positive, conflicts_with = "concurrency", help_heading = "Load")]
    pub(crate) rate: Option<f64>,
    /// Open loop: how arrivals are spaced
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson, requires = "rate", help_heading = "Load")]
    pub(crate) arrivals: Arrivals,
    /// Measured seconds
    #[arg(long, value_name = "S", default_value = "30", value_parser = clap::value_parser!(u64).range(2..), help_heading = "Load")]
    pub(crate) seconds: u64,
    /// Seconds of the same load before, in no figure
    #[arg(long, value_name = "S", default_value = "5", help_heading = "Load")]
    pub(crate) warm_up: u64,
    /// gRPC connections that requests are spread over
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub(crate) connections: NonZeroUsize,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub(crate) threads: NonZeroUsize,
    /// Round, where the caller repeats the run
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) round: usize,
    /// Progress and result as JSON lines instead of a bar and tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// How scheduled arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrivals {
    /// Independent users: exponential gaps.
    Poisson,
    /// A clock: equal gaps.
    Constant,
}

impl Arrivals {
    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Constant => "constant",
        }
    }
}

/// Arguments of `parity`.
#[derive(Debug, Args)]
pub(crate) struct ParityArgs {
    /// Reference logits: see crates/rerank-conformance/fixtures/parity.json
    #[arg(value_name = "FILE", required_unless_present = "against", conflicts_with_all = ["against", "PoolArgs"])]
    pub(crate) fixture: Option<PathBuf>,
    /// HTTP side of a server that computes the same weights in f32: its logits for the workload are the reference
    #[arg(long, value_name = "URL")]
    pub(crate) against: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Largest accepted difference of a logit [default: by the server's dtype]
    #[arg(long, value_name = "X", value_parser = positive)]
    pub(crate) tolerance: Option<f64>,
    /// The result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `workload`.
#[derive(Debug, Args)]
pub(crate) struct WorkloadArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(format!("`{text}` is not above zero")) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn parity_has_one_reference() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' ')).map(drop);
        assert!(parse("rerank-bench parity parity.json --tolerance 0.1").is_ok());
        assert!(parse("rerank-bench parity --against http://h:1 --workload jsonl:a.jsonl --rows 8").is_ok());
        assert!(parse("rerank-bench parity").is_err());
        assert!(parse("rerank-bench parity --workload jsonl:a.jsonl").is_err());
        assert!(parse("rerank-bench parity parity.json --against http://h:1").is_err());
        assert!(
            parse("rerank-bench parity parity.json --workload jsonl:a.jsonl").is_err(),
            "it would not be sent"
        );
    }

    #[test]
    fn an_open_loop_has_no_concurrency() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' ')).map(drop);
        assert!(parse("rerank-bench run --rate 5").is_ok());
        assert!(parse("rerank-bench run --rate 5 --concurrency 4").is_err());
        assert!(parse("rerank-bench run --arrivals constant").is_err());
        assert!(parse("rerank-bench run --rate 0").is_err());
    }
}
