//! `cargo xtask setup`: installs what the gate calls and Rust does not bring: three cargo subcommands at pinned
//! versions, built from crates.io, and the Python clients that call the server in its tests; on request, the libraries
//! that a backend is built against. What is there stays.

pub(crate) mod mlx;
pub(crate) mod torch;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::process::{self, cargo, command, root};

#[derive(Args)]
pub(crate) struct SetupArgs {
    /// What to set up [default: tools clients]
    #[arg(value_name = "WHAT", value_enum)]
    what: Vec<What>,
    /// Say what would be installed and install nothing
    #[arg(long)]
    dry_run: bool,
}

/// What can be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The cargo subcommands that the gate calls
    Tools,
    /// The Python clients that call the server in its tests
    Clients,
    /// libtorch, for the backend `torch`: a download of 5.6 GB, or the one that LIBTORCH or `python3` has
    Torch,
    /// MLX, for the backend `mlx`: some minutes of downloads and compiling
    Mlx,
}

/// Without a word: what every run of the gate needs.
const DEFAULT: [What; 2] = [What::Tools, What::Clients];

/// A cargo subcommand that the gate calls.
struct Tool {
    subcommand: &'static str,
    /// What the gate was seen to pass with; a newer one on the machine is accepted.
    version: &'static str,
    /// Further arguments of `cargo install`.
    arguments: &'static str,
}

const TOOLS: [Tool; 3] = [
    Tool { subcommand: "hack", version: "0.6.46", arguments: "" },
    // Updating itself is what this command is for.
    Tool {
        subcommand: "nextest",
        version: "0.9.151",
        arguments: "--no-default-features --features default-no-update",
    },
    Tool { subcommand: "deny", version: "0.20.2", arguments: "" },
];

/// What the tests install to be called by other people's clients, with pinned versions.
const CLIENTS: &str = "crates/rerank-server/tests/clients/requirements.txt";

pub(crate) fn run(args: &SetupArgs) -> Result<()> {
    let asked = if args.what.is_empty() { DEFAULT.as_slice() } else { args.what.as_slice() };
    for what in asked {
        match what {
            What::Tools => tools(args)?,
            What::Clients => python_clients(args)?,
            What::Torch => torch::run(args.dry_run)?,
            What::Mlx => mlx::run(args.dry_run)?,
        }
    }
    Ok(())
}

/// The Python that has the clients; the tests find it in `RERANK_CLIENTS_PYTHON`.
pub(crate) fn clients_python() -> PathBuf {
    root().join("target/clients/bin/python")
}

fn python_clients(args: &SetupArgs) -> Result<()> {
    let (python, environment) = (clients_python(), root().join("target/clients"));
    let wanted =
        fs::read_to_string(root().join(CLIENTS)).with_context(|| format!("cannot read {CLIENTS}"))?;
    let stamp = environment.join("requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        println!("Python clients in {}", environment.display());
        return Ok(());
    }
    let (mut create, mut install) = (command("python3"), command(&python));
    create.args(["-m", "venv", "--clear"]).arg(&environment);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        CLIENTS,
    ]);
    if args.dry_run {
        println!("would run: {}\nwould run: {}", process::shown(&create), process::shown(&install));
        return Ok(());
    }
    process::run(&mut create)
        .context("Python 3.11 or newer with its venv module is needed (Debian: python3-venv)")?;
    process::run(&mut install)?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn tools(args: &SetupArgs) -> Result<()> {
    // Shared by the tools, which have most of their dependencies in common.
    let target = root().join("target/setup");
    for tool in &TOOLS {
        let found = installed(tool);
        let Tool { subcommand, version, arguments } = tool;
        match found.as_deref() {
            Some(found) if at_least(found, version) => {
                println!("cargo-{subcommand} {found}");
                continue;
            }
            Some(found) => println!("cargo-{subcommand} {found} is older than {version}"),
            None => println!("cargo-{subcommand} is missing"),
        }
        // The tools run for seconds and compile for minutes: unoptimised, they are ready three times sooner.
        let mut install =
            cargo(&format!("install --locked --debug --force cargo-{subcommand}@{version} {arguments}"));
        install.env("CARGO_TARGET_DIR", &target).env("CARGO_PROFILE_DEV_DEBUG", "0");
        if args.dry_run {
            println!("would run: {}", process::shown(&install));
        } else {
            process::run(&mut install)?;
        }
    }
    if target.exists() && !args.dry_run {
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    Ok(())
}

/// The version of the tool on this machine's path, if it is there and runs.
fn installed(tool: &Tool) -> Option<String> {
    let said = process::read(&mut cargo(&format!("{} --version", tool.subcommand))).ok()?;
    version_in(&said).map(str::to_owned)
}

/// The first word that looks like a version in what `cargo X --version` prints.
fn version_in(said: &str) -> Option<&str> {
    said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

fn at_least(found: &str, wanted: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        let release = version.split(['-', '+']).next().unwrap_or_default();
        release.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    numbers(found) >= numbers(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_tools_print() {
        assert_eq!(version_in("cargo-deny 0.20.2\n"), Some("0.20.2"));
        assert_eq!(version_in("cargo-nextest 0.9.151 (f3b5a 2026-01-01)\nrelease: 0.9.151"), Some("0.9.151"));
        assert_eq!(version_in("error: no such command"), None);
    }

    #[test]
    fn an_older_tool_is_not_enough() {
        assert!(at_least("0.9.151", "0.9.151"));
        assert!(at_least("0.10.0", "0.9.151"), "numbers, not text");
        assert!(at_least("1.0.0-rc.1", "0.9.151"));
        assert!(!at_least("0.9.99", "0.9.151"));
    }
}
