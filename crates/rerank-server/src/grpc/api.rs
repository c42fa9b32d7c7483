//! The three methods of `rerank.v1.Rerank`.

use std::sync::Arc;
use std::time::Duration;

use rerank_core::sigmoid;
use rerank_engine::{Scored, Stage, Timeline};
use rerank_proto::rerank::v1 as wire;
use tonic::{Request, Response, Status};

use super::clock::{Arrival, Clocked};
use super::{convert, status};
use crate::error::ApiError;
use crate::service::{Service, Terms, check_top_n};

/// Answers calls through the service.
pub(super) struct Api {
    service: Arc<Service>,
}

impl Api {
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    fn refuse(&self, error: &ApiError) -> Status {
        self.service.count(error);
        status::status(error)
    }

    /// The terms of a call: its clock has run since its first byte, and its deadline is the one that the client set.
    fn terms<T>(&self, request: &Request<T>, truncation: i32, direction: i32) -> Result<Terms, ApiError> {
        let arrival = request.extensions().get::<Arrival>();
        let mut timeline = arrival.map_or_else(Timeline::start, Arrival::timeline);
        timeline.end(Stage::Parse);
        let timeout = arrival.and_then(Arrival::timeout).map(answer_before);
        let deadline = self.service.deadline(&timeline, timeout);
        Ok(Terms { truncation: convert::truncation(truncation, direction)?, deadline, timeline })
    }

    async fn answer_rerank(
        &self,
        request: Request<wire::RerankRequest>,
    ) -> Result<Answer<wire::RerankResponse>, ApiError> {
        let terms =
            self.terms(&request, request.get_ref().truncation, request.get_ref().truncation_direction)?;
        let wire::RerankRequest { query, documents, top_n, return_documents, raw_scores, .. } =
            request.into_inner();
        let top_n = check_top_n(top_n.map(|n| n as usize))?;
        let scored = self.service.rerank(query, documents, terms).await?;
        let place = |place: rerank_engine::Ranked| wire::RankedDocument {
            index: place.index as u32,
            score: if raw_scores { f64::from(place.logit) } else { place.score },
            document: return_documents.then(|| scored.texts.document(place.index).to_owned()),
        };
        let results = scored.ranked(top_n).into_iter().map(place).collect();
        Ok(Answer::of(&scored, |usage, timings| wire::RerankResponse { results, usage, timings }))
    }

    async fn answer_score(
        &self,
        request: Request<wire::ScoreRequest>,
    ) -> Result<Answer<wire::ScoreResponse>, ApiError> {
        let terms =
            self.terms(&request, request.get_ref().truncation, request.get_ref().truncation_direction)?;
        let wire::ScoreRequest { pairs, raw_scores, .. } = request.into_inner();
        let pairs = pairs.into_iter().map(|pair| (pair.query, pair.document)).collect();
        let scored = self.service.score(pairs, terms).await?;
        let score = |&logit: &f32| if raw_scores { f64::from(logit) } else { sigmoid(logit) };
        let scores = scored.logits.iter().map(score).collect();
        Ok(Answer::of(&scored, |usage, timings| wire::ScoreResponse { scores, usage, timings }))
    }
}

/// tonic cancels a call at its deadline with CANCELLED, which would be the wrong word and hide ours, so ours comes first
/// by a little.
fn answer_before(timeout: Duration) -> Duration {
    timeout.saturating_sub(Duration::from_millis(2).min(timeout / 10))
}

/// A message, and the clock that goes on until its trailers are written.
struct Answer<T> {
    message: T,
    clocked: Clocked,
}

impl<T> Answer<T> {
    fn of(scored: &Scored, message: impl FnOnce(Option<wire::Usage>, Option<wire::Timings>) -> T) -> Self {
        let mut timeline = scored.timeline;
        timeline.end(Stage::Reply);
        let (pairs, tokens) = (scored.logits.len(), scored.tokens);
        let usage = wire::Usage { pairs: pairs as u64, tokens: tokens as u64 };
        let message = message(Some(usage), Some(convert::timings(&timeline)));
        Self { message, clocked: Clocked { timeline, pairs, tokens } }
    }

    fn into_response(self) -> Response<T> {
        let mut response = Response::new(self.message);
        response.extensions_mut().insert(self.clocked);
        response
    }
}

#[tonic::async_trait]
impl wire::rerank_server::Rerank for Api {
    async fn rerank(
        &self,
        request: Request<wire::RerankRequest>,
    ) -> Result<Response<wire::RerankResponse>, Status> {
        let answer = self.answer_rerank(request).await;
        answer.map(Answer::into_response).map_err(|error| self.refuse(&error))
    }

    async fn score(
        &self,
        request: Request<wire::ScoreRequest>,
    ) -> Result<Response<wire::ScoreResponse>, Status> {
        let answer = self.answer_score(request).await;
        answer.map(Answer::into_response).map_err(|error| self.refuse(&error))
    }

    async fn info(&self, _: Request<wire::InfoRequest>) -> Result<Response<wire::InfoResponse>, Status> {
        let info = self.service.info().map_err(|error| status::status(&error.into()))?;
        Ok(Response::new(convert::info(info)))
    }
}
