//! `cargo xtask bench forward`: the backends' forward passes, each backend in a process of its own, all of them alive and
//! measured in turn, shape by shape and round by round.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::{Message, MetadataCommand};
use rerank_report::{
    BenchResult, ComparedQuery, Experiment as Account, ForwardResult, ForwardRound, ForwardSubject, Parity,
    SCHEMA_VERSION,
};

use super::{
    BenchArgs,
    forward_child::{ForwardChild, Measured},
    load::bar,
    machine, output,
    server::workshop,
};
use crate::{
    model,
    process::{self, cargo, command, root},
    setup,
};

const SHAPES: [&str; 4] = ["32x128", "8x128", "1x128", "mix32"];
const TORCH: &str = "torch-eager";
const TORCH_SORTED: &str = "torch-eager, sorted by 8";
const TORCH_SCRIPT: &str = "crates/rerank-conformance/scripts/torch_forward.py";
/// What the reference logits were made with, and what `--torch-python setup` adds to PyTorch.
const TORCH_REQUIREMENTS: [&str; 3] = ["transformers==5.23.0", "safetensors==0.8.0", "numpy==2.4.6"];
/// Seconds of each shape, of its warm-up, and rounds, unless overridden.
const DEFAULTS: (u64, u64, u64) = (4, 2, 5);

/// What one process has shown so far.
struct Subject {
    child: ForwardChild,
    rounds: Vec<ForwardRound>,
    /// Logits of each shape.
    logits: BTreeMap<String, Vec<Option<f64>>>,
}

/// The command.
pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let (seconds, warm_up, rounds) = (
        args.seconds.unwrap_or(DEFAULTS.0),
        args.warm_up.unwrap_or(DEFAULTS.1),
        args.rounds.unwrap_or(DEFAULTS.2),
    );
    let shapes: Vec<String> =
        if args.shapes.is_empty() { SHAPES.map(str::to_owned).to_vec() } else { args.shapes.clone() };
    let started = output::now()?;
    let environment = machine::environment(args.machine.as_deref(), "profile bench")?;
    let mut subjects = start(args)?;
    let yardstick = yardstick(args, &subjects)?;

    let n_subjects = subjects.len() as u64;
    let bar = bar((rounds * seconds + warm_up) * shapes.len() as u64 * n_subjects);
    for round in 0..=rounds {
        for shape in &shapes {
            for subject in &mut subjects {
                bar.set_message(format!("round {round}/{rounds} {} {shape}", subject.child.label));
                let time = if round == 0 { warm_up } else { seconds };
                let measured = subject.child.measure(shape, time as f64)?;
                subject.note(round, shape, measured)?;
                bar.inc(time);
            }
        }
    }
    bar.finish_and_clear();

    let model = one_model(&subjects)?;
    let reference = subjects.iter().find(|subject| subject.child.label == TORCH);
    let result = ForwardResult {
        schema_version: SCHEMA_VERSION,
        experiment: Account {
            name: super::FORWARD.to_owned(),
            description: "Forward passes of the backends, each in its own process, in alternating rounds"
                .to_owned(),
            overrides: overrides(args),
            started,
            finished: output::now()?,
        },
        environment: environment.clone(),
        model,
        yardstick,
        subjects: subjects.iter().map(|subject| subject.account(reference)).collect(),
    };
    let wrong: Vec<String> = result
        .subjects
        .iter()
        .flat_map(|subject| {
            subject.parity.failures().into_iter().map(|failure| format!("{}: {failure}", subject.label))
        })
        .collect();
    output::publish(args, &environment, &BenchResult::Forward(Box::new(result)))?;
    ensure!(wrong.is_empty(), "the result must not be used:\n  {}", wrong.join("\n  "));
    Ok(())
}

/// Which backends and which yardstick is what the command is asked, not a deviation from it.
fn overrides(args: &BenchArgs) -> Vec<String> {
    let asked = ["--backends", "--yardstick"];
    args.overrides().into_iter().filter(|flag| !asked.iter().any(|name| flag.starts_with(name))).collect()
}

/// Builds and starts everything that is measured.
fn start(args: &BenchArgs) -> Result<Vec<Subject>> {
    let programs = programs(args)?;
    let model = args.model.as_deref().map(folder_of).transpose()?;
    let flags = |dtype: &Option<String>| -> Vec<String> {
        [("--dtype", dtype), ("--device", &args.device), ("--model", &model)]
            .into_iter()
            .filter_map(|(flag, value)| Some([flag.to_owned(), value.clone()?]))
            .flatten()
            .collect()
    };
    let mut subjects = Vec::new();
    for (name, program) in programs {
        let mut command = Command::new(program);
        command.arg("--bench").args(flags(&args.dtype)).current_dir(root());
        subjects.push(ForwardChild::start(name, &mut command)?);
    }
    if let Some(python) = &args.torch_python {
        let torch_dtype = args.torch_dtype.clone().or_else(|| default_torch_dtype(args.dtype.as_deref()));
        let python: PathBuf = if python == "setup" { torch_environment()? } else { python.into() };
        // As most programs run it, and with its rows sorted by length, which pads least.
        for (label, further) in [(TORCH, &[][..]), (TORCH_SORTED, &["--sorted-by", "8"])] {
            let mut command = Command::new(&python);
            command.arg(TORCH_SCRIPT).args(flags(&torch_dtype)).args(further);
            subjects.push(ForwardChild::start(label.to_owned(), command.current_dir(root()))?);
        }
    }
    ensure!(!subjects.is_empty(), "no backend to measure");
    Ok(subjects
        .into_iter()
        .map(|child| Subject { child, rounds: Vec::new(), logits: BTreeMap::new() })
        .collect())
}

/// The forward bench of each backend that is measured: as given, or built.
fn programs(args: &BenchArgs) -> Result<Vec<(String, PathBuf)>> {
    if !args.program.is_empty() {
        ensure!(args.backends.is_empty(), "--program names the backends: leave --backends out");
        ensure!(args.features.is_empty(), "--program is built already: leave --features out");
        return Ok(args.program.clone());
    }
    let packages = packages()?;
    let names: Vec<String> = if args.backends.is_empty() {
        packages.iter().filter(|package| package.is_default).map(|package| package.backend.clone()).collect()
    } else {
        args.backends.clone()
    };
    let built = |name: String| {
        let package = packages.iter().find(|package| package.backend == name).with_context(|| {
            let known: Vec<_> = packages.iter().map(|package| package.backend.as_str()).collect();
            format!("no backend `{name}` with a forward bench; there are {}", known.join(", "))
        })?;
        Ok((name, build(&package.name, &args.features)?))
    };
    names.into_iter().map(built).collect()
}

/// PyTorch computes in what the backends compute in, but int8 is judged against f32, and eager models have no int8.
fn default_torch_dtype(asked: Option<&str>) -> Option<String> {
    asked.map(|dtype| if dtype == "int8" { "f32" } else { dtype }.to_owned())
}

/// PyTorch if it is there, because that is what readers know; else the first backend.
fn yardstick(args: &BenchArgs, subjects: &[Subject]) -> Result<Option<String>> {
    let is_there = |name: &str| subjects.iter().any(|subject| subject.child.label == name);
    match &args.yardstick {
        Some(name) if is_there(name) => Ok(Some(name.clone())),
        Some(name) => bail!("the yardstick `{name}` is not among what is measured"),
        None if is_there(TORCH) => Ok(Some(TORCH.to_owned())),
        None => Ok(subjects.first().map(|subject| subject.child.label.clone())),
    }
}

/// A folder for the forward benches' `--model`.
fn folder_of(model: &str) -> Result<String> {
    let folder = match model {
        "builtin" => "crates/rerank-model-tiny/model".to_owned(),
        other => model::resolve(other)?,
    };
    ensure!(root().join(&folder).is_dir(), "{folder} is no folder with a model; forward passes know no hub");
    Ok(folder)
}

/// A backend crate with a forward bench.
struct Package {
    name: String,
    backend: String,
    is_default: bool,
}

/// Backend crates, under the names that the server's features give them.
fn packages() -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec().context("cargo metadata")?;
    let server = metadata.packages.iter().find(|package| *package.name == "rerank-server");
    let features = &server.context("the workspace has no rerank-server")?.features;
    let backend_of = |package: &str| {
        let dependency = format!("dep:{package}");
        features.iter().find(|(_, needs)| needs.contains(&dependency)).map(|(feature, _)| feature.clone())
    };
    let default = &metadata.workspace_default_members;
    Ok(metadata
        .packages
        .iter()
        .filter(|package| package.targets.iter().any(|target| target.is_bench() && target.name == "forward"))
        .filter_map(|package| {
            Some(Package {
                name: package.name.to_string(),
                backend: backend_of(&package.name)?,
                is_default: default.contains(&package.id),
            })
        })
        .collect())
}

/// The program of a crate's forward bench.
fn build(package: &str, features: &[String]) -> Result<PathBuf> {
    let mut build = cargo("bench --no-run --bench forward --message-format json-render-diagnostics");
    build.args(["--package", package]).arg("--target-dir").arg(workshop().join("build"));
    if !features.is_empty() {
        build.args(["--features", &features.join(",")]);
    }
    eprintln!("$ {}", process::shown(&build));
    let output = build.stderr(std::process::Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "building the forward bench of {package} ended with {}", output.status);
    for message in Message::parse_stream(output.stdout.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == "forward"
            && let Some(program) = artifact.executable
        {
            return Ok(program.into());
        }
    }
    bail!("cargo names no program for the forward bench of {package}")
}

/// The Python of `cargo xtask setup torch`, with what the script needs besides.
fn torch_environment() -> Result<PathBuf> {
    let python = setup::torch::environment()?;
    let stamp = python.with_file_name("yardstick.txt");
    let wanted = TORCH_REQUIREMENTS.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    process::run(command(&python).args(["-m", "pip", "install", "--quiet"]).args(TORCH_REQUIREMENTS))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// The model that all processes hold, by name; refuses to compare different ones.
fn one_model(subjects: &[Subject]) -> Result<String> {
    let loaded = |subject: &Subject| subject.child.loaded.model_sha256.clone();
    let first = subjects.first().context("no subject")?;
    if let Some(other) = subjects.iter().find(|subject| loaded(subject) != loaded(first)) {
        bail!("{} and {} hold different weights", first.child.label, other.child.label);
    }
    Ok(format!("{} (sha256 {:.16})", first.child.loaded.model, loaded(first)))
}

impl Subject {
    fn note(&mut self, round: u64, shape: &str, measured: Measured) -> Result<()> {
        let Measured { rows, iterations, tokens, seconds, logits } = measured;
        ensure!(logits.iter().all(Option::is_some), "{}: a logit of {shape} is not finite", self.child.label);
        let known = self.logits.entry(shape.to_owned()).or_insert_with(|| logits.clone());
        // Accelerators may add in another order from call to call; parity tells how far logits may lie apart.
        ensure!(known.len() == logits.len(), "{}: another number of logits than before", self.child.label);
        if round > 0 {
            let round = round as usize;
            let tokens = tokens / iterations;
            self.rounds.push(ForwardRound { round, shape: shape.to_owned(), rows, tokens, seconds });
        }
        Ok(())
    }

    fn account(&self, reference: Option<&Self>) -> ForwardSubject {
        let backend = &self.child.loaded.backend;
        ForwardSubject {
            label: self.child.label.clone(),
            device: format!("{} ({})", backend.device, backend.device_name),
            dtype: backend.dtype.clone(),
            threads: backend.threads,
            details: backend.details.clone(),
            parity: self.parity(reference),
            rounds: self.rounds.clone(),
        }
    }

    fn parity(&self, reference: Option<&Self>) -> Parity {
        let not_applicable = |reason: &str| Parity::NotApplicable { reason: reason.to_owned() };
        if let Some(reason) = self.child.loaded.backend.details.get("no_reference") {
            return not_applicable(reason);
        }
        let Some(reference) = reference else {
            return not_applicable("the reference is PyTorch in the same run: --torch-python");
        };
        if std::ptr::eq(self, reference) {
            return not_applicable("it is the reference");
        }
        let number = |logits: &[Option<f64>]| logits.iter().map(|l| l.unwrap_or(f64::NAN)).collect();
        // Every shape's rows stand for one query with its documents. They are random tokens: how an order among them is
        // kept, is told, but decides nothing.
        let queries: Vec<ComparedQuery> = self
            .logits
            .iter()
            .map(|(shape, logits)| ComparedQuery {
                logits: number(logits),
                reference: number(&reference.logits[shape]),
            })
            .collect();
        let details = &reference.child.loaded.backend.details;
        let version = details.get("torch").map_or("", String::as_str);
        let source = format!("PyTorch {version} {} in the same run", reference.child.loaded.backend.dtype);
        let dtype = &self.child.loaded.backend.dtype;
        Parity::of(source, &queries, dtype, rerank_report::logit_tolerance(dtype)).without_ranking_bounds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_is_compared_with_f32() {
        let asked = [None, Some("int8"), Some("bf16")];
        assert_eq!(asked.map(default_torch_dtype), [None, Some("f32".to_owned()), Some("bf16".to_owned())]);
    }
}
