//! `cargo xtask check`: type checks of code that this machine cannot run, so that it does not break unseen until it
//! reaches one that can.
//!
//! Away from the workspace's target directory: build scripts see another environment here, and would throw away what they
//! made there. The type checks share one with each other, since most of what they compile is the same.

mod cuda;
mod metal;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::process;

#[derive(Args)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    target: Target,
}

#[derive(Subcommand)]
enum Target {
    /// The candle backend with its `metal` and `accelerate` features, on any system
    Metal,
    /// The candle backend with its `cuda` feature, without the CUDA toolkit
    Cuda {
        /// Compile candle's kernels as well, with NVIDIA's compiler from its Python packages: eight minutes on two cores
        #[arg(long)]
        kernels: bool,
    },
}

pub(crate) fn run(args: &CheckArgs) -> Result<()> {
    match args.target {
        Target::Metal => metal::check(),
        Target::Cuda { kernels: false } => cuda::check_types(),
        Target::Cuda { kernels: true } => cuda::check_kernels(),
    }
}

/// The crate whose features are checked.
const CRATE: &str = "backend-candle-metal";

/// The folder of one check, made if it is not there.
fn folder(check: &str) -> Result<PathBuf> {
    let folder = process::root().join("target/check").join(check);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Lints the crate's library with one feature on, warnings as errors: the code behind a feature has no other reader.
fn clippy(feature: &str, target_directory: &Path) -> Command {
    let mut command = process::cargo(&format!("clippy --package {CRATE} --lib --features {feature}"));
    command.arg("--target-dir").arg(target_directory);
    command
}

/// What clippy is told, last on its command line.
const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

/// Writes `contents` unless the file holds them already, so that nothing rebuilds because of a new time stamp.
fn write_if_changed(path: &Path, contents: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|present| present == contents) {
        return Ok(());
    }
    std::fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}
