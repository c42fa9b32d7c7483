//! The load generator as a child: its progress on a bar, its result from its last line.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rerank_report::{Event, LoadResult, Parity};

use super::{children::Guarded, server::Running};
use crate::process::root;

/// Reference logits of the models that are measured.
const PARITY_FIXTURE: &str = "crates/rerank-conformance/fixtures/parity.json";

/// A bar over all measured seconds of an experiment.
pub(super) fn bar(seconds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:24} {pos}/{len} s {msg}");
    ProgressBar::new(seconds).with_style(style.expect("the template is constant"))
}

/// Drives a running server.
pub(super) struct LoadGenerator {
    pub(super) program: PathBuf,
}

impl LoadGenerator {
    fn command(&self, subcommand: &str, server: &Running) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(subcommand)
            .args([
                "--http",
                &format!("http://{}", server.http),
                "--grpc",
                &format!("http://{}", server.grpc),
            ])
            .arg("--json")
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// One run. `what` goes before the live figures on the bar. A run that contradicts itself comes back all the same:
    /// its problems are found again by whoever reads the result.
    pub(super) fn run(
        &self,
        server: &Running,
        flags: &[String],
        round: u64,
        bar: &ProgressBar,
        what: &str,
    ) -> Result<LoadResult> {
        let mut command = self.command("run", server);
        command.args(flags).args(["--round", &round.to_string()]);
        let mut child = Guarded::spawn(&mut command).context("cannot start the load generator")?;
        let output = child.child().stdout.take().expect("standard output was piped");
        let mut result = None;
        let mut phase = String::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            let event = serde_json::from_str(&line)
                .with_context(|| format!("the load generator prints something unexpected: {line:.80}"))?;
            match event {
                Event::Phase { name, .. } => {
                    phase = name.replace('_', " ");
                    bar.set_message(format!("{what}: {phase}"));
                }
                Event::Second { pairs, latency_ms, errors, .. } => {
                    let latency =
                        latency_ms.map_or_else(|| "no answer".to_owned(), |ms| format!("{ms:.2} ms"));
                    let failed = if errors > 0 { format!(", {errors} failed") } else { String::new() };
                    bar.set_message(format!("{what}: {phase}, {pairs} pairs/s, {latency}{failed}"));
                    bar.inc(1);
                }
                Event::Result(found) => result = Some(*found),
            }
        }
        let errors = complaints(&mut child)?;
        let status = child.wait()?;
        result.with_context(|| format!("the load generator ended with {status}: {errors}"))
    }

    /// Compares the server's logits with the reference.
    pub(super) fn parity(&self, server: &Running) -> Result<Parity> {
        let mut command = self.command("parity", server);
        command.arg(Path::new(PARITY_FIXTURE));
        let mut child = Guarded::spawn(&mut command).context("cannot start the load generator")?;
        let mut output = String::new();
        child.child().stdout.take().expect("standard output was piped").read_to_string(&mut output)?;
        let errors = complaints(&mut child)?;
        let status = child.wait()?;
        // A failed comparison is printed before the status tells of it.
        match serde_json::from_str(&output) {
            Ok(parity) => Ok(parity),
            Err(_) => bail!("parity could not be checked ({status}): {errors}"),
        }
    }
}

fn complaints(child: &mut Guarded) -> Result<String> {
    let mut text = String::new();
    child.child().stderr.take().expect("standard error was piped").read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}
