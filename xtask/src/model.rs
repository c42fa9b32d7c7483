//! `cargo xtask model`: makes checkpoints for benchmarks and tests, without a hub.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use rerank_model_synth::{PRESETS, Synth};

use crate::process::root;

#[derive(Args)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Write a seeded synthetic checkpoint with a real tokenizer
    Synth(SynthArgs),
}

#[derive(Args)]
struct SynthArgs {
    /// Shape of the model
    #[arg(value_parser = PRESETS)]
    preset: String,
    /// Folder to write: its name is the model's name in reports
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A tokenizer whose ids the preset's vocabulary has.
fn tokenizer(preset: &str) -> PathBuf {
    let path = match preset {
        "roberta-small" => "crates/rerank-conformance/fixtures/tokenizers/roberta.json",
        "xlm-roberta-small" => "crates/rerank-conformance/fixtures/tokenizers/xlm-roberta.json",
        _ => "crates/rerank-model-tiny/model/tokenizer.json",
    };
    root().join(path)
}

pub(crate) fn run(args: &ModelArgs) -> Result<()> {
    let ModelCommand::Synth(SynthArgs { preset, out }) = &args.command;
    write_synthetic(preset, out)?;
    println!("{}: {preset}, synthetic", out.display());
    Ok(())
}

/// Writes config.json, model.safetensors and tokenizer.json; the same bytes for the same preset.
fn write_synthetic(preset: &str, out: &Path) -> Result<()> {
    let checkpoint = Synth::preset(preset)?.generate()?;
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        fs::write(out.join(name), bytes).with_context(|| format!("cannot write {}/{name}", out.display()))
    };
    write("model.safetensors", &checkpoint.weights)?;
    let tokenizer = tokenizer(preset);
    let bytes = fs::read(&tokenizer).with_context(|| format!("cannot read {}", tokenizer.display()))?;
    write("tokenizer.json", &bytes)?;
    // Last, so that a folder with a config.json is complete.
    write("config.json", &checkpoint.config)
}

/// The `--model` of a server for a model as an experiment names it: `synth:PRESET` is written under target/ first.
pub(crate) fn resolve(model: &str) -> Result<String> {
    let Some(preset) = model.strip_prefix("synth:") else { return Ok(model.to_owned()) };
    ensure!(PRESETS.contains(&preset), "no synthetic preset `{preset}`; there are {}", PRESETS.join(", "));
    let out = root().join("target/benchmarks/models").join(format!("synthetic-{preset}"));
    if !out.join("config.json").exists() {
        write_synthetic(preset, &out)?;
    }
    Ok(out.strip_prefix(root()).unwrap_or(&out).to_string_lossy().into_owned())
}
