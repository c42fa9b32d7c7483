//! A checkpoint as backends take it: a name, a configuration and weights.

use std::path::Path;

use crate::{BackendError, ModelConfig, Weights};

/// A cross-encoder's configuration and weights, not yet on any device.
#[derive(Debug)]
pub struct Model {
    /// What reports and `/info` call it: a hub id, a folder's name or `builtin`.
    pub name: String,
    /// Its sizes and kinds.
    pub config: ModelConfig,
    /// Its tensors.
    pub weights: Weights,
}

impl Model {
    /// Opens a folder that holds `config.json` and safetensors; the weights are memory-mapped, not read.
    pub fn open(dir: &Path, name: impl Into<String>) -> Result<Self, BackendError> {
        let path = dir.join("config.json");
        let json = std::fs::read(&path)
            .map_err(|error| BackendError::load_from(format!("cannot read {}", path.display()), error))?;
        Ok(Self { name: name.into(), config: ModelConfig::from_json(&json)?, weights: Weights::open(dir)? })
    }

    /// Takes the two files' contents: `config.json` and `model.safetensors`.
    pub fn from_bytes(
        name: impl Into<String>,
        config: &[u8],
        weights: impl Into<std::borrow::Cow<'static, [u8]>>,
    ) -> Result<Self, BackendError> {
        Ok(Self {
            name: name.into(),
            config: ModelConfig::from_json(config)?,
            weights: Weights::from_bytes(weights)?,
        })
    }
}
