//! `cargo xtask ci`: the whole gate in one command, cheapest check first, so that most mistakes show within seconds.
//! What passes here passes in continuous integration, because that runs this and nothing else.

mod dependencies;
mod round_trip;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    process::{self, cargo},
    setup,
};

#[derive(Args)]
pub(crate) struct CiArgs {
    /// Run only these steps, in the gate's order
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// List the steps and stop
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    /// Returns a word for the summary: counts, mostly.
    run: fn() -> Result<String>,
}

/// Every check, by cost. The ones that compile come in an order in which each reuses what the one before it built.
const STEPS: &[Step] = &[
    Step { name: "setup", about: "the tools that the gate calls are there", run: || xtask("setup") },
    Step { name: "fmt", about: "formatting", run: || plain("fmt --all -- --check --files-with-diff") },
    Step { name: "tidy", about: "the workspace's invariants", run: || xtask("tidy") },
    Step {
        name: "codegen",
        about: "generated code belongs to its sources",
        run: || xtask("codegen --check"),
    },
    Step { name: "dependencies", about: "what each part may and may not pull in", run: dependencies::check },
    Step {
        name: "deny",
        about: "banned crates, licences, sources",
        run: || plain("deny --workspace check --hide-inclusion-graph bans licenses sources"),
    },
    Step {
        name: "clippy",
        about: "lints of every target, as errors",
        run: || plain("clippy --all-targets -- -D warnings"),
    },
    Step {
        name: "fuzz",
        about: "fuzz targets still compile; docs/testing.md says how to run one",
        run: || {
            plain(
                "clippy --locked --manifest-path fuzz/Cargo.toml --no-default-features --target-dir target -- -D warnings",
            )
        },
    },
    Step { name: "docs", about: "documentation, warnings as errors", run: docs },
    Step { name: "test", about: "unit, conformance and server tests", run: test },
    Step {
        name: "portable",
        about: "the compiled backend without vector instructions, bf16 too",
        run: portable,
    },
    Step { name: "doctest", about: "examples in the documentation", run: || plain("test --doc") },
    Step { name: "features", about: "the server with each feature alone", run: features },
    Step { name: "torch", about: "the torch backend conforms, and the server serves with it", run: torch },
    Step { name: "metal", about: "the code for Apple's GPUs still compiles", run: || xtask("check metal") },
    Step { name: "cuda", about: "the code for NVIDIA's GPUs still compiles", run: || xtask("check cuda") },
    Step { name: "mlx", about: "the MLX backend on MLX's CPU device, and a server with it", run: mlx },
    Step { name: "new-backend", about: "a generated backend builds and conforms", run: round_trip::check },
];

/// What `test` runs, and every step that runs some of it again.
const DEFAULT_TESTS: &str = "nextest run --features rerank-server/mock";

pub(crate) fn run(args: &CiArgs) -> Result<()> {
    if args.list {
        for Step { name, about, .. } in STEPS {
            println!("{name:<14}{about}");
        }
        return Ok(());
    }
    let steps = chosen(&args.only)?;
    let begun = Instant::now();
    let mut done = Vec::new();
    for step in steps {
        eprintln!("\n=== {}: {}", step.name, step.about);
        let begun = Instant::now();
        let outcome = (step.run)();
        let row = Row {
            name: step.name,
            took: begun.elapsed(),
            note: outcome.as_ref().cloned().unwrap_or_default(),
        };
        done.push((row, outcome.is_ok()));
        if let Err(error) = outcome {
            eprintln!("\n{}", summary(&done, begun.elapsed()));
            bail!("{error:#}\n`{}` failed; to run it alone: cargo xtask ci --only {}", step.name, step.name);
        }
    }
    eprintln!("\n{}", summary(&done, begun.elapsed()));
    Ok(())
}

/// The steps to run, in the gate's order; an unknown name is refused with the names there are.
fn chosen(only: &[String]) -> Result<Vec<&'static Step>> {
    let names = || STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("no step is called `{unknown}`; there are: {}", names());
    }
    Ok(STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect())
}

struct Row {
    name: &'static str,
    took: Duration,
    note: String,
}

fn summary(rows: &[(Row, bool)], total: Duration) -> String {
    let mut lines = vec![format!("{:<14}{:>9}  result", "step", "time")];
    for (Row { name, took, note }, passed) in rows {
        let result = if *passed { "ok" } else { "FAILED" };
        let note = if note.is_empty() { String::new() } else { format!("; {note}") };
        lines.push(format!("{name:<14}{:>7.1} s  {result}{note}", took.as_secs_f64()));
    }
    lines.push(format!("{:<14}{:>7.1} s", "total", total.as_secs_f64()));
    lines.join("\n")
}

fn plain(arguments: &str) -> Result<String> {
    process::run(&mut cargo(arguments))?;
    Ok(String::new())
}

/// Through cargo, not by calling the function: what failed is then printed as a command to type.
fn xtask(arguments: &str) -> Result<String> {
    plain(&format!("xtask {arguments}"))
}

fn docs() -> Result<String> {
    process::run(cargo("doc --no-deps").env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(String::new())
}

fn test() -> Result<String> {
    // The mock lets the server's own binary be tested under load and signals; its tests say so and stay out without it.
    let mut command = cargo(DEFAULT_TESTS);
    command.env("RERANK_CLIENTS_PYTHON", setup::clients_python());
    if process::wants_colour() {
        command.arg("--color=always");
    }
    summary_of_tests(&mut command)
}

/// The forms that the other kernels are held against, through the whole model. bf16 has no other where there are no
/// instructions for it.
fn portable() -> Result<String> {
    // Filtered, since `--package` would compile all of it once more with fewer features.
    let mut command = cargo(&format!("{DEFAULT_TESTS} --filterset package(backend-compiled)"));
    summary_of_tests(command.env("RERANK_CPU_FEATURES", "portable"))
}

fn torch() -> Result<String> {
    xtask("setup torch")?;
    beside_the_default_members(
        "torch",
        "mlx",
        "package(backend-torch) or package(rerank-server) and test(torch::)",
    )
}

/// Linted, not only checked: what a feature leaves unused is a warning. `cuda`, `metal`, `accelerate` and `mkl` want
/// what a bare machine lacks, and so do `torch` and `mlx`; the steps of those names cover all but two of them.
fn features() -> Result<String> {
    const ABSENT: &str = "cuda,metal,accelerate,mkl,torch,mlx";
    plain(&format!(
        "hack clippy --each-feature --exclude-features {ABSENT} --package rerank-server -- -D warnings"
    ))
}

/// The whole suite in f32; in the other dtypes, which MLX's CPU device computes several times more slowly, what differs
/// between dtypes.
fn mlx() -> Result<String> {
    const BACKEND: &str = "not test(/cpu.(f16|bf16|int8)/) or test(/golden|refused|garbage/)";
    if !setup::mlx::EXISTS {
        return Ok("there is no MLX for this machine".to_owned());
    }
    xtask("setup mlx")?;
    beside_the_default_members(
        "mlx",
        "torch",
        &format!("package(backend-mlx) and ({BACKEND}) or package(rerank-server) and test(mlx::)"),
    )
}

/// Checks a backend that links to what a bare machine lacks, and the server with it, without the `other` of that kind.
///
/// Together with all default members and their features: what the steps before have built is then used again, where a
/// selection of two packages would compile two hundred crates once more with other features.
fn beside_the_default_members(backend: &str, other: &str, tests: &str) -> Result<String> {
    let selection = format!(
        "--workspace --exclude backend-{other} --features rerank-server/mock,rerank-server/{backend}"
    );
    plain(&format!("clippy {selection} --all-targets -- -D warnings"))?;
    let mut doc = cargo(&format!("doc --no-deps {selection}"));
    process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    summary_of_tests(cargo(&format!("nextest run {selection} --filterset")).arg(tests))
}

fn summary_of_tests(nextest: &mut Command) -> Result<String> {
    let lines = process::run_and_pick(nextest, |line| line.trim_start().starts_with("Summary ["))?;
    Ok(lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_distinct_names_and_keep_the_gates_order() {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        let picked = chosen(&["test".to_owned(), "fmt".to_owned()]).unwrap();
        assert_eq!(picked.iter().map(|step| step.name).collect::<Vec<_>>(), ["fmt", "test"]);
    }

    #[test]
    fn an_unknown_step_is_refused_by_name() {
        let Err(error) = chosen(&["lint".to_owned()]) else { panic!("`lint` is no step") };
        assert!(
            error.to_string().starts_with("no step is called `lint`; there are: setup, fmt, "),
            "{error}"
        );
    }

    #[test]
    fn the_summary_shows_what_failed_and_what_the_tests_said() {
        let row =
            |name, secs, note: &str| Row { name, took: Duration::from_secs(secs), note: note.to_owned() };
        let rows =
            [(row("test", 61, "Summary [ 60.1s] 210 tests run"), true), (row("features", 2, ""), false)];
        let shown = summary(&rows, Duration::from_secs(63));
        let expected = "\
step               time  result
test             61.0 s  ok; Summary [ 60.1s] 210 tests run
features          2.0 s  FAILED
total            63.0 s";
        assert_eq!(shown, expected);
    }
}
