//! The server's HTTP side beside the load: who it is, what a text costs, why it refused.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use rerank_report::Identity;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A client of everything that is not load.
#[derive(Debug, Clone)]
pub(crate) struct HttpSide {
    client: reqwest::Client,
    base: String,
}

impl HttpSide {
    /// For a base URL without a slash at its end.
    pub(crate) fn new(base: &str) -> Self {
        Self { client: reqwest::Client::new(), base: base.to_owned() }
    }

    /// `GET` of a JSON document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.read(self.client.get(format!("{}{path}", self.base)), path).await
    }

    async fn read<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.base);
        let response = request.timeout(Duration::from_secs(30)).send().await.with_context(|| {
            format!(
                "no HTTP server at {}; name it with --http, or leave its figures out with --http off",
                self.base
            )
        })?;
        let status = response.status();
        let body = response.bytes().await.with_context(|| format!("{url} broke off"))?;
        if !status.is_success() {
            bail!("{url} answers {status}: {}", reason(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{url} answers something unexpected"))
    }

    /// What the server says it is.
    pub(crate) async fn identity(&self) -> Result<Identity> {
        identity(&self.get::<Value>("/info").await?)
    }

    /// Tokens of each pair as the server would score it: special tokens included, truncated to the server's limit.
    pub(crate) async fn token_lengths(&self, query: &str, documents: &[String]) -> Result<Vec<u64>> {
        let body = json!({"query": query, "documents": documents});
        let request = self.client.post(format!("{}/tokenize", self.base)).json(&body);
        let tokens: Tokenized = self.read(request, "/tokenize").await?;
        if tokens.rows.len() != documents.len() {
            bail!(
                "{}/tokenize answers {} rows for {} documents",
                self.base,
                tokens.rows.len(),
                documents.len()
            );
        }
        Ok(tokens.rows.into_iter().map(|row| row.tokens).collect())
    }
}

/// What `/tokenize` answers, as far as it is read here.
#[derive(Deserialize)]
struct Tokenized {
    rows: Vec<TokenizedRow>,
}

#[derive(Deserialize)]
struct TokenizedRow {
    tokens: u64,
}

/// The human part of an error body, or the body itself.
pub(crate) fn reason(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let told = json.as_ref().and_then(|json| {
        ["/error/message", "/error", "/message", "/detail"].iter().find_map(|at| json.pointer(at)?.as_str())
    });
    told.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned)
}

/// Reads `/info`. What a report labels must be there; the rest is carried along by its path.
fn identity(info: &Value) -> Result<Identity> {
    let at = |pointer: &str| info.pointer(pointer).with_context(|| format!("/info has no `{pointer}`"));
    let text = |pointer: &str| Ok::<_, anyhow::Error>(written(at(pointer)?));
    let number =
        |pointer: &str| at(pointer)?.as_u64().with_context(|| format!("/info: `{pointer}` is no number"));
    let mut details = BTreeMap::new();
    flatten("", info, &mut details);
    Ok(Identity {
        version: text("/version")?,
        backend: text("/backend/name")?,
        device: text("/backend/device")?,
        device_name: text("/backend/device_name")?,
        dtype: text("/backend/dtype")?,
        threads: number("/backend/threads")?,
        workers: number("/backend/workers")?,
        model: text("/model/name")?,
        model_sha256: text("/model/sha256")?,
        max_length: number("/model/max_length")?,
        details,
    })
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        Value::Null => {}
        other => {
            into.insert(path.to_owned(), written(other));
        }
    }
}

fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_from_info_and_the_rest_is_carried_along() {
        let info = json!({
            "version": "0.1.0",
            "model": {"name": "m", "sha256": "ab", "max_length": 512, "config": {"layers": 6}},
            "backend": {
                "name": "candle", "device": "cpu", "device_name": "CPU", "dtype": "f32", "threads": 2, "workers": 1,
                "max_rows": null, "details": {"gemm": "packed"}
            }
        });
        let found = identity(&info).unwrap();
        assert_eq!((found.backend.as_str(), found.max_length, found.workers), ("candle", 512, 1));
        assert_eq!(found.details["model.config.layers"], "6");
        assert_eq!(found.details["backend.details.gemm"], "packed");
        assert!(!found.details.contains_key("backend.max_rows"), "null says nothing");
        let error = identity(&json!({"version": "0.1.0"})).unwrap_err().to_string();
        assert_eq!(error, "/info has no `/backend/name`");
    }

    #[test]
    fn the_human_part_of_an_error_is_found() {
        assert_eq!(
            reason(br#"{"error": "the query is empty", "error_type": "Empty"}"#),
            "the query is empty"
        );
        assert_eq!(reason(b"Bad Gateway\n"), "Bad Gateway");
    }
}
