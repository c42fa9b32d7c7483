//! From the command line to one validated configuration: what the flags mean together.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use rerank_engine::EngineOptions;

use crate::cli::{BatchArgs, LimitArgs, ModelArgs, ServeArgs};
use crate::select::{BackendName, Wish, Wishes};

/// Where a transport listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// At this address; port 0 lets the system choose.
    At(SocketAddr),
}

/// The text is no address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither HOST:PORT nor `off`")]
pub struct ParseListenError(String);

impl FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let error = || ParseListenError(text.to_owned());
        let mut addresses = text.to_socket_addrs().map_err(|_| error())?;
        addresses.next().map(Self::At).ok_or_else(error)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Milliseconds as a duration, fractions allowed.
pub(crate) fn millis(text: &str) -> Result<Duration, String> {
    let ms: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of milliseconds"))?;
    Duration::try_from_secs_f64(ms / 1000.0)
        .map_err(|_| format!("`{text}` is not a duration in milliseconds"))
}

/// A count, at least one.
pub(crate) fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a whole number of at least 1 is expected".to_owned())
}

/// The flags contradict each other or this build.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing would listen.
    #[error("both --http and --grpc are off: nothing would be served")]
    Deaf,
    /// The transport is not compiled in.
    #[error(
        "--{transport} {address}: this build is without {transport}; rebuild with `--features {transport}`"
    )]
    NoTransport {
        /// `http` or `grpc`, the flag and the feature.
        transport: &'static str,
        /// What was asked for.
        address: SocketAddr,
    },
}

/// What one request may ask.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Documents or pairs.
    pub max_documents: usize,
    /// Bytes.
    pub payload: usize,
    /// Deadline of requests that bring none.
    pub timeout: Option<Duration>,
}

/// Everything that serving needs to know, the model aside.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP listens.
    pub http: Listen,
    /// Where gRPC listens.
    pub grpc: Listen,
    /// How long requests in flight have after the first signal.
    pub drain_timeout: Duration,
    /// What one request may ask.
    pub limits: Limits,
}

impl Config {
    /// Checks the flags against each other and against the build.
    pub fn new(args: &ServeArgs) -> Result<Self, ConfigError> {
        let (http, grpc) = (args.listen.http, args.listen.grpc);
        for (transport, listen, compiled_in) in
            [("http", http, cfg!(feature = "http")), ("grpc", grpc, cfg!(feature = "grpc"))]
        {
            if let (Listen::At(address), false) = (listen, compiled_in) {
                return Err(ConfigError::NoTransport { transport, address });
            }
        }
        if (http, grpc) == (Listen::Off, Listen::Off) {
            return Err(ConfigError::Deaf);
        }
        let limits = Limits {
            max_documents: args.limits.max_documents.get(),
            payload: args.limits.payload_limit.get(),
            timeout: args.limits.request_timeout_ms,
        };
        Ok(Self { http, grpc, drain_timeout: Duration::from_secs(args.listen.drain_timeout), limits })
    }
}

/// The engine's options with what the user set.
pub fn engine_options(batch: &BatchArgs, limits: Option<&LimitArgs>) -> EngineOptions {
    let default = EngineOptions::default();
    let or = |choice: Option<NonZeroUsize>, default| choice.map_or(default, NonZeroUsize::get);
    EngineOptions {
        workers: limits.map_or(default.workers, |limits| limits.workers.get()),
        tokenizer_threads: or(batch.tokenizer_threads, default.tokenizer_threads),
        max_batch_tokens: or(batch.max_batch_tokens, default.max_batch_tokens),
        max_batch_rows: batch.max_batch_rows.map(NonZeroUsize::get),
        queue_tokens: or(limits.and_then(|limits| limits.queue_tokens), default.queue_tokens),
        max_wait: limits.map_or(default.max_wait, |limits| limits.max_wait_ms),
        look_ahead: or(limits.and_then(|limits| limits.look_ahead), default.look_ahead),
        warm_up: limits.is_some_and(|limits| !limits.no_warm_up),
    }
}

/// What the user wishes to run. A TorchScript file names its backend, as an alias would.
pub fn wishes(model: &ModelArgs) -> Wishes {
    let backend = match (&model.backend, &model.torch_module) {
        (Wish::Auto, Some(_)) => Wish::Named(BackendName::of("torch")),
        (backend, _) => backend.clone(),
    };
    Wishes { backend, device: model.device, dtype: model.dtype, options: backend_options(model) }
}

/// What only some backends take, by the names under which [`rerank_core::LoadSpec`] has it.
pub fn backend_options(model: &ModelArgs) -> BTreeMap<String, String> {
    let module = model.torch_module.as_ref().map(|file| file.display().to_string());
    module.map(|file| ("torch-module".to_owned(), file)).into_iter().collect()
}

/// Threads for sockets: protocol work is a small part of a request, and cores are worth more to tokenizer and backend.
pub fn io_threads(args: &ServeArgs) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    args.listen.io_threads.map_or_else(|| cores.div_ceil(4), NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn config(args: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from([&["rerank-server", "--model", "builtin"], args].concat());
        let cli = cli.map_err(|error| error.to_string())?;
        Config::new(&cli.serve).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_names_numbers_or_off() {
        assert_eq!("127.0.0.1:80".parse::<Listen>().unwrap().to_string(), "127.0.0.1:80");
        assert!(matches!("localhost:0".parse(), Ok(Listen::At(address)) if address.port() == 0));
        assert_eq!("off".parse::<Listen>().unwrap(), Listen::Off);
        for text in ["", "8080", ":", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(text.parse::<Listen>().unwrap_err().to_string().contains("HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn waits_are_milliseconds() {
        assert_eq!(millis("1.5").unwrap(), Duration::from_micros(1500));
        for text in ["-1", "NaN", "inf", "1s"] {
            assert!(millis(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_that_hears_nothing_is_refused() {
        assert_eq!(config(&["--http", "off", "--grpc", "off"]).unwrap_err(), ConfigError::Deaf.to_string());
    }

    #[test]
    fn a_transport_that_is_not_compiled_in_is_refused_by_name() {
        for (transport, compiled_in) in [("http", cfg!(feature = "http")), ("grpc", cfg!(feature = "grpc"))] {
            let outcome = config(&[&format!("--{transport}"), "127.0.0.1:0"]);
            if compiled_in {
                outcome.unwrap();
            } else {
                assert!(outcome.unwrap_err().contains(&format!("--features {transport}")));
            }
        }
    }
}
