//! What both transports share: limits, deadlines and the way to the engine. No wire format appears here, so HTTP and
//! gRPC cannot drift apart.

use std::future::Future;
use std::time::{Duration, Instant};

use rerank_engine::{Engine, EngineError, RerankRequest, ScoreRequest, Scored, Timeline, Truncation};

use crate::config::Limits;
use crate::error::ApiError;
use crate::info::ServerInfo;

/// The engine behind its limits. One for the whole server.
#[derive(Clone)]
pub struct Service {
    engine: Engine,
    model: String,
    limits: Limits,
}

/// How a request is to be treated, apart from its texts.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What to do with pairs that are too long.
    pub truncation: Truncation,
    /// When its sender stops waiting.
    pub deadline: Option<Instant>,
    /// Its clock.
    pub timeline: Timeline,
}

impl Service {
    /// Puts limits before an engine.
    pub fn new(engine: Engine, model: String, limits: Limits) -> Self {
        Self { engine, model, limits }
    }

    /// The engine, for what is not a request.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What one request may ask.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The name under which the model is reported.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Tokens that one pair can have.
    pub fn max_length(&self) -> usize {
        self.engine.tokenizer().limits().max_length
    }

    /// What was really loaded, or that nothing is yet.
    pub fn info(&self) -> Result<ServerInfo, EngineError> {
        let info = self.engine.info().map(|info| ServerInfo::new(info, self.limits));
        info.ok_or_else(|| EngineError::NotReady { reason: "the model is loading".to_owned() })
    }

    /// Records an answer whose reply stage has ended.
    pub fn answered(&self, scored: &Scored) {
        self.engine.telemetry().answered(&scored.timeline, scored.logits.len(), scored.tokens);
    }

    /// Counts a request that got an error, and logs it: what is the server's fault for operators, the rest for those who
    /// look closely.
    pub fn count(&self, error: &ApiError) {
        let codes = error.codes();
        if codes.http == 500 {
            tracing::error!(%error, reason = codes.reason, "request failed");
        } else {
            tracing::debug!(%error, reason = codes.reason, "request refused");
        }
        self.engine.telemetry().failed(codes.reason);
    }

    /// When a request that arrived at `timeline`'s start stops being of use: by its own timeout, else the server's.
    pub fn deadline(&self, timeline: &Timeline, timeout: Option<Duration>) -> Option<Instant> {
        timeout.or(self.limits.timeout).and_then(|timeout| timeline.started().checked_add(timeout))
    }

    /// Scores documents against one query, in the order given.
    pub async fn rerank(
        &self,
        query: String,
        documents: Vec<String>,
        terms: Terms,
    ) -> Result<Scored, ApiError> {
        check_query(&query)?;
        self.check_count(documents.len(), "there are no documents to rank")?;
        let Terms { truncation, deadline, timeline } = terms;
        let request = RerankRequest { query, documents, truncation, deadline, timeline };
        in_time(deadline, async { Ok(self.engine.rerank(request).await?) }).await
    }

    /// Scores arbitrary pairs of query and document, in the order given.
    pub async fn score(&self, pairs: Vec<(String, String)>, terms: Terms) -> Result<Scored, ApiError> {
        self.check_count(pairs.len(), "there are no pairs to score")?;
        pairs.iter().try_for_each(|(query, _)| check_query(query))?;
        let Terms { truncation, deadline, timeline } = terms;
        let request = ScoreRequest { pairs, truncation, deadline, timeline };
        in_time(deadline, async { Ok(self.engine.score(request).await?) }).await
    }

    /// Refuses none and too many.
    pub fn check_count(&self, count: usize, none: &'static str) -> Result<(), ApiError> {
        let limit = self.limits.max_documents;
        match count {
            0 => Err(ApiError::Empty(none)),
            _ if count > limit => Err(ApiError::TooMany { count, limit }),
            _ => Ok(()),
        }
    }
}

/// Refuses a query without a word in it.
pub fn check_query(query: &str) -> Result<(), ApiError> {
    if query.trim().is_empty() { Err(ApiError::Empty("the query is empty")) } else { Ok(()) }
}

/// Checks how many of the best are wanted.
pub fn check_top_n(top_n: Option<usize>) -> Result<Option<usize>, ApiError> {
    match top_n {
        Some(0) => {
            Err(ApiError::Invalid("top_n is 0: it must be at least 1; leave it out for all".to_owned()))
        }
        other => Ok(other),
    }
}

/// Answers on time, whatever the engine is doing: dropping its future is what cancels the work.
pub async fn in_time<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work)
            .await
            .unwrap_or_else(|_| Err(EngineError::DeadlineExceeded.into())),
    }
}
