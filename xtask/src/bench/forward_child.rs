//! One process that holds one loaded model and measures its forward pass on request: the driver's side of the protocol
//! that `rerank_conformance::forward` documents.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::children::Guarded;

/// What the process says when it has loaded.
#[derive(Debug, Deserialize)]
pub(super) struct Loaded {
    pub(super) backend: BackendInfo,
    pub(super) model: String,
    pub(super) model_sha256: String,
}

/// What was really chosen.
#[derive(Debug, Deserialize)]
pub(super) struct BackendInfo {
    pub(super) device: String,
    pub(super) device_name: String,
    pub(super) dtype: String,
    pub(super) threads: u64,
    pub(super) details: BTreeMap<String, String>,
}

/// One shape, measured.
#[derive(Debug, Deserialize)]
pub(super) struct Measured {
    pub(super) rows: u64,
    pub(super) iterations: u64,
    pub(super) tokens: u64,
    pub(super) seconds: Vec<f64>,
    /// A logit that is not finite is written as `null`.
    pub(super) logits: Vec<Option<f64>>,
}

#[derive(Deserialize)]
struct Failed {
    error: String,
}

/// The process. Ends when dropped.
pub(super) struct ForwardChild {
    pub(super) label: String,
    pub(super) loaded: Loaded,
    /// Closed first: the end of its input is what ends the process.
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _process: Guarded,
}

impl ForwardChild {
    /// Starts the process and waits until it has loaded its model.
    pub(super) fn start(label: String, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Guarded::spawn(command).with_context(|| format!("cannot start {label}"))?;
        let input = process.child().stdin.take().expect("standard input was piped");
        let mut output = BufReader::new(process.child().stdout.take().expect("standard output was piped"));
        let loaded = answer(&label, &mut output)?;
        Ok(Self { label, loaded, input, output, _process: process })
    }

    /// Measures one shape for a time.
    pub(super) fn measure(&mut self, shape: &str, seconds: f64) -> Result<Measured> {
        let request = json!({"shape": shape, "seconds": seconds});
        writeln!(self.input, "{request}").with_context(|| format!("{} is gone", self.label))?;
        let measured: Measured = answer(&self.label, &mut self.output)?;
        if measured.seconds.len() as u64 != measured.iterations || measured.iterations == 0 {
            bail!("{}: {} times for {} iterations", self.label, measured.seconds.len(), measured.iterations);
        }
        Ok(measured)
    }
}

fn answer<T: DeserializeOwned>(label: &str, output: &mut BufReader<ChildStdout>) -> Result<T> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.is_empty() {
        bail!("{label} ended without an answer");
    }
    if let Ok(Failed { error }) = serde_json::from_str(&line) {
        bail!("{label}: {error}");
    }
    serde_json::from_str(&line).with_context(|| format!("{label} answers something unexpected: {line:.80}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that follows the protocol by rote.
    fn scripted(script: &str) -> Result<ForwardChild> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        ForwardChild::start("scripted".to_owned(), &mut command)
    }

    const READY: &str = r#"echo '{"ready":true,"backend":{"backend":"x","device":"cpu","device_name":"c","dtype":"f32",
        "threads":2,"details":{}},"model":"m","model_sha256":"ab","load_seconds":0.1}' | tr -d '\n'; echo;"#;

    #[test]
    fn shapes_are_asked_for_and_answered() {
        let script = format!(
            r#"{READY} read request; echo '{{"shape":"2x4","rows":2,"max_len":4,"iterations":2,"pairs":4,"tokens":16,
            "computed_tokens":16,"seconds":[0.5,0.25],"logits":[1.5,null]}}' | tr -d '\n'; echo; cat"#
        );
        let mut child = scripted(&script).unwrap();
        assert_eq!((child.loaded.model.as_str(), child.loaded.backend.threads), ("m", 2));
        let measured = child.measure("2x4", 1.0).unwrap();
        assert_eq!((measured.rows, measured.logits), (2, vec![Some(1.5), None]));
    }

    #[test]
    fn an_error_comes_through_with_its_sender() {
        let error = scripted("echo '{\"error\":\"mock in bf16: it computes in f32\"}'").err().unwrap();
        assert_eq!(error.to_string(), "scripted: mock in bf16: it computes in f32");
        let error = scripted("exit 3").err().unwrap();
        assert_eq!(error.to_string(), "scripted ended without an answer");
    }
}
