//! Load generator for rerank servers. It speaks the wire only and links neither server nor backend, so every server is
//! measured alike, and measures itself too, so that a slow client shows.

mod cli;
mod client;
mod drive;
mod info;
mod parity;
mod process;
mod progress;
mod recorder;
mod run;
mod schedule;
mod telemetry;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads = cli.command.threads();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads.get()).enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match &cli.command {
                Command::Run(args) => run::run(args).await,
                Command::Parity(args) => parity::run(args).await,
                Command::Workload(args) => workload::describe(args).await,
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::failed(&error);
            ExitCode::FAILURE
        }
    }
}
