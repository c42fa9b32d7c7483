//! The project's own commands, so that what a machine does for the project has one name everywhere: on a desk, in
//! continuous integration, in the documents. One file per command.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands talk to the terminal")]

mod bench;
mod check;
mod ci;
mod codegen;
mod model;
mod new_backend;
mod process;
mod report;
mod setup;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole gate, cheapest check first
    Ci(ci::CiArgs),
    /// Install the tools that the gate calls, where they are missing
    Setup(setup::SetupArgs),
    /// Generate the gRPC code from proto/, or check that it is up to date
    Codegen(codegen::CodegenArgs),
    /// Type-check code for devices that this machine does not have
    Check(check::CheckArgs),
    /// Check the workspace's invariants: arrows, names, sizes, `unsafe`, documents
    Tidy(tidy::TidyArgs),
    /// Measure what an experiment asks for, or the backends' forward passes, and write a result with its report
    Bench(Box<bench::BenchArgs>),
    /// Render results again, or compare two of them
    Report(report::ReportArgs),
    /// Make checkpoints without a hub
    Model(model::ModelArgs),
    /// Start a backend from the mock: a crate, its registration and its manifest lines
    NewBackend(new_backend::NewBackendArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Ci(args) => ci::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Codegen(args) => codegen::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Tidy(args) => tidy::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Model(args) => model::run(&args),
        Command::NewBackend(args) => new_backend::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
