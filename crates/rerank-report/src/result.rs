//! `result.json`: what every kind of result shares, reading, writing and the version check.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{error::ReportError, forward::ForwardResult, serving::ServingResult};

/// Version of the schema; raised by every change that an older reader would misread. A field that is added with a default
/// does not raise it: older results stay readable, and older readers refuse a field that they do not know by its name.
pub const SCHEMA_VERSION: u32 = 1;

/// One result file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum BenchResult {
    /// Servers measured through the wire.
    Serving(Box<ServingResult>),
    /// Backends measured in their own process, without a server.
    Forward(Box<ForwardResult>),
}

/// What was run, and how it differed from the committed experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment file without its suffix.
    pub name: String,
    /// One sentence: the question that the experiment answers.
    pub description: String,
    /// Flags that replaced values of the experiment file (`--seconds 3`); a result with overrides is a trial.
    pub overrides: Vec<String>,
    /// When measuring began, UTC, RFC 3339.
    pub started: String,
    /// When it ended, UTC, RFC 3339.
    pub finished: String,
}

impl BenchResult {
    /// Reads a result; refuses other schema versions by number.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = fs::read_to_string(path).map_err(|source| ReportError::File {
            what: "read",
            path: path.to_owned(),
            source,
        })?;
        let schema = |reason: String| ReportError::Schema { path: path.to_owned(), reason };
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| schema(format!("is not JSON: {error}")))?;
        match value.get("schema_version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(SCHEMA_VERSION) => {}
            Some(version) => {
                return Err(schema(format!(
                    "has schema_version {version}, this build reads {SCHEMA_VERSION}; render it with the release that wrote it"
                )));
            }
            None => return Err(schema("has no schema_version; is it a result.json?".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| schema(format!("does not fit the schema: {error}")))
    }

    /// Writes `result.json`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let text = serde_json::to_string(self).expect("results hold no map with keys other than strings");
        fs::write(path, text + "\n").map_err(|source| ReportError::File {
            what: "write",
            path: path.to_owned(),
            source,
        })
    }

    /// What was run.
    pub fn experiment(&self) -> &Experiment {
        match self {
            Self::Serving(result) => &result.experiment,
            Self::Forward(result) => &result.experiment,
        }
    }
}
