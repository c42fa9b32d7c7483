//! `POST /rerank` in the shape that reports its tokens.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use reqwest::{StatusCode, header::CONTENT_TYPE};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

use super::{Answer, Failure};
use crate::info::reason;

/// Connections to the HTTP side; reqwest keeps one for each request in flight.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    url: String,
}

#[derive(Deserialize)]
struct RerankAnswer {
    results: Vec<IgnoredAny>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct LogitAnswer {
    results: Vec<LogitPlace>,
    usage: Usage,
}

#[derive(Deserialize)]
struct LogitPlace {
    index: usize,
    relevance_score: f64,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

impl HttpClient {
    /// Connects lazily, on the first request.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let client = reqwest::Client::builder()
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(90))
            .build()?;
        Ok(Self { client, url: format!("{}/rerank", url.trim_end_matches('/')) })
    }

    /// Sends a body of JSON.
    pub(crate) async fn rerank(&self, body: Bytes) -> Result<Answer, Failure> {
        let connection = |error: reqwest::Error| Failure {
            code: "connection".to_owned(),
            message: error.to_string(),
            is_fatal: true,
        };
        let request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json").body(body);
        let response = request.send().await.map_err(connection)?;
        let status = response.status();
        let body = response.bytes().await.map_err(connection)?;
        if !status.is_success() {
            let is_fatal = matches!(
                status,
                StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE
            );
            return Err(Failure {
                code: format!("HTTP {}", status.as_u16()),
                message: reason(&body),
                is_fatal,
            });
        }
        let answer: RerankAnswer = serde_json::from_slice(&body).map_err(|error| Failure {
            code: "answer".to_owned(),
            message: format!("{} answers something else than results: {error}", self.url),
            is_fatal: true,
        })?;
        Ok(Answer {
            pairs: answer.results.len() as u64,
            tokens: answer.usage.map(|usage| usage.total_tokens),
        })
    }

    /// Raw logits with the place of their documents, and the tokens that they cost.
    pub(crate) async fn logits(&self, query: &str, documents: &[String]) -> Result<(Vec<(usize, f64)>, u64)> {
        let body = json!({"query": query, "documents": documents, "raw_scores": true});
        let response = self.client.post(&self.url).json(&body).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        if !status.is_success() {
            bail!("{} answers {status}: {}", self.url, reason(&body));
        }
        let answer: LogitAnswer = serde_json::from_slice(&body)
            .with_context(|| format!("{} answers something else than results", self.url))?;
        let logits = answer.results.iter().map(|place| (place.index, place.relevance_score)).collect();
        Ok((logits, answer.usage.total_tokens))
    }
}
