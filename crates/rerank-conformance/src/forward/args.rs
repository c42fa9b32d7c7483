//! The command line of a forward bench.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rerank_core::{DType, Device, LoadSpec, Model};

use super::rows::Shape;
use crate::failure::Failure;
use crate::golden::synthetic;

/// Measure this backend's forward pass; requests come as JSON lines on standard input unless --shapes is given
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Measure these and end: <rows>x<tokens> or mix32, with commas between them
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(super) shapes: Vec<Shape>,
    /// Seconds for each of --shapes
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds, requires = "shapes")]
    pub(super) seconds: Duration,
    /// Dtype to compute in
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    dtype: DType,
    /// Device to run on
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// CPU threads that one call may use [default: the backend's choice]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Folder with config.json and safetensors [default: the synthetic preset minilm-l6]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What `cargo bench` passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(super) fn spec(&self) -> Result<LoadSpec, Failure> {
        let model = match &self.model {
            Some(dir) => Model::open(dir, dir.display().to_string())?,
            None => synthetic("minilm-l6"),
        };
        Ok(LoadSpec {
            max_length: model.config.max_length(),
            model: Arc::new(model),
            device: self.device,
            dtype: self.dtype,
            threads: self.threads,
            options: BTreeMap::new(),
        })
    }
}

/// A time span as `--seconds` and the protocol give it.
pub(super) fn span(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{seconds} seconds: {error}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    span(text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?)
}
