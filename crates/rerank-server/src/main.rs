//! The binary: parse, run, exit code.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use rerank_server::cli::{Cli, Command, ServeArgs};
use rerank_server::config::{self, Config};
use rerank_server::serve::{Outcome, Server};
use rerank_server::service::Service;
use rerank_server::{backends, load, logging, plan, rank, registry, shutdown};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve(&cli.serve),
        Some(Command::Backends) => backends::print(registry::BACKENDS).map(|()| ExitCode::SUCCESS),
        Some(Command::Plan(args)) => {
            logging::start(&args.log).and_then(|()| plan::run(&args)).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Rank(args)) => {
            logging::start(&args.log).and_then(|()| rank::run(&args)).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        #[expect(clippy::print_stderr, reason = "the last word must be seen whatever the log's level")]
        {
            eprintln!("error: {error:#}");
        }
        ExitCode::FAILURE
    })
}

fn serve(args: &ServeArgs) -> Result<ExitCode> {
    logging::start(&args.log)?;
    let config = Config::new(args)?;
    let loading = load::start(&args.model, config::engine_options(&args.batch, Some(&args.limits)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config::io_threads(args))
        .thread_name("rerank-io")
        .enable_all()
        .build()
        .context("cannot start the threads for sockets")?;
    let service = Arc::new(Service::new(loading.engine, loading.model, config.limits));
    let outcome = runtime.block_on(async {
        let signal = shutdown::signal()?;
        Server::bind(&config, service).await?.run(signal).await.map_err(anyhow::Error::from)
    });
    // Threads that are still in a backend call must not hold the exit up.
    runtime.shutdown_background();
    Ok(match outcome? {
        Outcome::Drained => ExitCode::SUCCESS,
        Outcome::Abandoned => ExitCode::FAILURE,
    })
}
