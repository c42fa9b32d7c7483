//! The command line. Every flag is an environment variable too, so that a container needs no arguments; what the
//! flags mean together is checked in `config`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rerank_core::{DType, Device};

use crate::config::{Listen, millis, positive};
use crate::model_store::ModelRef;
use crate::select::{BackendName, Wish};

const EXAMPLES: &str = "\
Examples:
  rerank-server
      serve the built-in model on the best device that this build can use
  rerank-server --model BAAI/bge-reranker-base@main --backend candle --device cuda:0 --dtype f16
      serve a model from the hub on one GPU
  RERANK_MODEL=/models/minilm RERANK_HTTP=0.0.0.0:8080 RERANK_GRPC=off rerank-server
      serve a folder over HTTP only, configured by environment
  rerank-server backends
      list what this build can run, and why it cannot run the rest
  rerank-server rank --query 'how to list files' notes.txt
      rank the lines of a file and exit

  curl -s localhost:8080/rerank -d '{\"query\": \"capital of France\", \"documents\": [\"Paris\", \"Rome\"]}'";

const RANK_EXAMPLES: &str = "\
Examples:
  rerank-server rank --query 'how to list files' notes.txt
  ls /usr/share/doc | rerank-server rank --query 'text editor' --top-n 5 -
  rerank-server rank --query 'text editor' --json notes.txt | jq .document";

const PLAN_EXAMPLES: &str = "\
Examples:
  rerank-server plan
  rerank-server plan --model ./minilm --dtype int8 --rows 1 --length 512
  rerank-server plan --json | jq '[.steps[].flops] | add'";

/// Serves cross-encoders over HTTP and gRPC.
#[derive(Debug, Parser)]
#[command(name = "rerank-server", version = version(), after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the backends: compiled in, usable here, devices, dtypes, reasons
    Backends,
    /// Rank the lines of a file in this process, without a server
    Rank(Box<RankArgs>),
    /// Show the steps that a backend takes for a batch: kernels, shapes, bytes, operations
    Plan(Box<PlanArgs>),
}

/// Which model to load, and how to compute it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Folder with config.json, tokenizer.json and safetensors; or hub id, `ORG/NAME[@REVISION]`; or `builtin`
    #[arg(long, env = "RERANK_MODEL", value_name = "MODEL")]
    #[cfg_attr(feature = "embedded-model", arg(default_value = "builtin"))]
    pub model: ModelRef,
    /// Backend that computes, by name; `auto` takes the first that can run here and logs why others cannot
    #[arg(long, env = "RERANK_BACKEND", value_name = "NAME", default_value = "auto")]
    pub backend: Wish<BackendName>,
    /// Device: `cpu`, `cuda`, `cuda:N` or `metal`; `auto` takes the backend's best
    #[arg(long, env = "RERANK_DEVICE", value_name = "DEVICE", default_value = "auto")]
    pub device: Wish<Device>,
    /// Number format: `f32`, `f16`, `bf16`, `int8`; `auto` takes the device's best
    #[arg(long, env = "RERANK_DTYPE", value_name = "DTYPE", default_value = "auto")]
    pub dtype: Wish<DType>,
    /// TorchScript file that backend `torch` runs in the place of the model's weights: `forward(input_ids,
    /// attention_mask, token_type_ids)` to one logit a row
    #[arg(long, env = "RERANK_TORCH_MODULE", value_name = "FILE")]
    pub torch_module: Option<PathBuf>,
    /// CPU threads that each worker computes with [default: the usable cores, shared between the workers]
    #[arg(long, env = "RERANK_THREADS", value_name = "N", value_parser = positive)]
    pub threads: Option<NonZeroUsize>,
    /// Longest pair in tokens; what is longer is truncated [default: what the model takes]
    #[arg(long, env = "RERANK_MAX_LENGTH", value_name = "N", value_parser = positive)]
    pub max_length: Option<NonZeroUsize>,
    /// Load hub models from the local cache only (`HF_HUB_OFFLINE=1` does the same)
    #[arg(long, env = "RERANK_OFFLINE")]
    pub offline: bool,
}

/// How rows become batches.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batching")]
pub struct BatchArgs {
    /// Threads that tokenise [default: the usable cores, 8 at most]
    #[arg(long, env = "RERANK_TOKENIZER_THREADS", value_name = "N", value_parser = positive)]
    pub tokenizer_threads: Option<NonZeroUsize>,
    /// Tokens that one batch may cost, padding included [default: 16384]
    #[arg(long, env = "RERANK_MAX_BATCH_TOKENS", value_name = "N", value_parser = positive)]
    pub max_batch_tokens: Option<NonZeroUsize>,
    /// Rows that one batch may have; 1 turns dynamic batching off [default: the token budget alone decides]
    #[arg(long, env = "RERANK_MAX_BATCH_ROWS", value_name = "N", value_parser = positive)]
    pub max_batch_rows: Option<NonZeroUsize>,
}

/// How to serve.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Which model, and how.
    #[command(flatten)]
    pub model: ModelArgs,
    /// How its batches are made.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// Where the server listens, and for what.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// How much it takes on.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What it logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Addresses and lifetime.
#[derive(Debug, Args)]
#[command(next_help_heading = "Serving")]
pub struct ListenArgs {
    /// Where HTTP listens, or `off`
    #[arg(long, env = "RERANK_HTTP", value_name = "ADDRESS", default_value = default_listen(cfg!(feature = "http"), "127.0.0.1:8080"))]
    pub http: Listen,
    /// Where gRPC listens, or `off`
    #[arg(long, env = "RERANK_GRPC", value_name = "ADDRESS", default_value = default_listen(cfg!(feature = "grpc"), "127.0.0.1:50051"))]
    pub grpc: Listen,
    /// Seconds that requests in flight have to finish after SIGTERM or SIGINT; a second signal exits at once
    #[arg(long, env = "RERANK_DRAIN_TIMEOUT", value_name = "SECONDS", default_value_t = 30)]
    pub drain_timeout: u64,
    /// Threads for sockets and protocols, apart from those that tokenise and compute [default: a quarter of the usable cores]
    #[arg(long, env = "RERANK_IO_THREADS", value_name = "N", value_parser = positive)]
    pub io_threads: Option<NonZeroUsize>,
}

/// Queueing and what one request may ask.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Copies of the model, each on a thread of its own
    #[arg(long, env = "RERANK_WORKERS", value_name = "N", default_value = "1", value_parser = positive)]
    pub workers: NonZeroUsize,
    /// Tokens that may wait; a request beyond them is refused with 429 or `RESOURCE_EXHAUSTED` [default: 1048576]
    #[arg(long, env = "RERANK_QUEUE_TOKENS", value_name = "N", value_parser = positive)]
    pub queue_tokens: Option<NonZeroUsize>,
    /// Batches' worth of waiting rows that are sorted by length, so that like goes with like [default: 4]
    #[arg(long, env = "RERANK_LOOK_AHEAD", value_name = "N", value_parser = positive)]
    pub look_ahead: Option<NonZeroUsize>,
    /// Milliseconds that an idle worker waits for a batch to fill; 0 starts at once
    #[arg(long, env = "RERANK_MAX_WAIT_MS", value_name = "MS", default_value = "0", value_parser = millis)]
    pub max_wait_ms: std::time::Duration,
    /// Documents or pairs that one request may have
    #[arg(long, env = "RERANK_MAX_DOCUMENTS", value_name = "N", default_value = "10000", value_parser = positive)]
    pub max_documents: NonZeroUsize,
    /// Bytes that one request may have
    #[arg(long, env = "RERANK_PAYLOAD_LIMIT", value_name = "BYTES", default_value = "16777216", value_parser = positive)]
    pub payload_limit: NonZeroUsize,
    /// Deadline for requests that bring none, in milliseconds [default: none]
    #[arg(long, env = "RERANK_REQUEST_TIMEOUT_MS", value_name = "MS", value_parser = millis)]
    pub request_timeout_ms: Option<std::time::Duration>,
    /// Be ready as soon as the model is loaded, and let the first requests pay for the warm-up
    #[arg(long, env = "RERANK_NO_WARM_UP")]
    pub no_warm_up: bool,
}

/// What is logged, to standard error.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// Lines for people or JSON for machines
    #[arg(long, env = "RERANK_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Level, or `target=level` directives as tracing's `EnvFilter` reads them
    #[arg(long, env = "RERANK_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Ranks lines in-process.
#[derive(Debug, Args)]
#[command(after_help = RANK_EXAMPLES)]
pub struct RankArgs {
    /// What is asked
    #[arg(long, short, value_name = "TEXT")]
    pub query: String,
    /// File whose lines are the documents; `-` reads standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// How many of the best to print [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub top_n: Option<NonZeroUsize>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
    /// Which model, and how.
    #[command(flatten)]
    pub model: ModelArgs,
    /// How its batches are made.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Shows a plan.
#[derive(Debug, Args)]
#[command(after_help = PLAN_EXAMPLES)]
pub struct PlanArgs {
    /// Rows of the batch
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    pub rows: NonZeroUsize,
    /// Tokens of each row
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    pub length: NonZeroUsize,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Which model, and how.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// A transport that is not compiled in is off unless it is asked for, which is then refused by name.
const fn default_listen(compiled_in: bool, address: &'static str) -> &'static str {
    if compiled_in { address } else { "off" }
}

/// The version with the features that were compiled in, because that is what a bug report must say.
fn version() -> &'static str {
    static VERSION: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!("{} (features: {})", env!("CARGO_PKG_VERSION"), crate::registry::features().join(", "))
    });
    &VERSION
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
    fn every_flag_of_the_server_is_an_environment_variable_of_the_same_name() {
        for arg in Cli::command().get_arguments() {
            let Some(long) = arg.get_long().filter(|long| !["help", "version"].contains(long)) else {
                continue;
            };
            let expected = format!("RERANK_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "--{long}");
        }
    }
}
