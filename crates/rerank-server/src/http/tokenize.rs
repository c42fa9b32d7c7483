//! `POST /tokenize`: how many tokens pairs have, without scoring them. It is how a load generator builds workloads
//! that are measured in tokens of the model at hand.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rerank_engine::{Rows, Stage, Truncation};
use serde::{Deserialize, Serialize};

use super::body::{Received, receive};
use super::reply;
use super::wire::{self, Document};
use crate::error::ApiError;
use crate::service::{Service, in_time};

#[derive(Deserialize)]
struct TokenizeBody {
    query: String,
    documents: Vec<Document>,
    /// Whether to answer the ids and not only their number.
    #[serde(default)]
    ids: bool,
}

#[derive(Serialize)]
struct TokenizeAnswer<'a> {
    /// Tokens of all rows together.
    tokens: usize,
    rows: Vec<RowAnswer<'a>>,
}

#[derive(Serialize)]
struct RowAnswer<'a> {
    /// Special tokens included, after truncation.
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<&'a [u32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_ids: Option<&'a [u32]>,
}

pub(super) async fn tokenize(State(service): State<Arc<Service>>, request: Request) -> Response {
    match answer(&service, request).await {
        Ok(response) => response,
        Err(error) => reply::refuse(&service, &error),
    }
}

async fn answer(service: &Service, request: Request) -> Result<Response, ApiError> {
    let Received { body, mut timeline, deadline } = receive(service, request).await?;
    let TokenizeBody { query, documents, ids } = wire::parse(&body)?;
    service.check_count(documents.len(), "there are no documents to tokenise")?;
    timeline.end(Stage::Parse);
    let engine = service.engine().clone();
    // Off the sockets' threads, and apart from the engine's own pool, which is for requests that are scored.
    let work = tokio::task::spawn_blocking(move || {
        let tokenizer = engine.tokenizer();
        let query = tokenizer.encode(&query)?;
        let mut rows = Rows::with_capacity(documents.len());
        for (index, Document(document)) in documents.iter().enumerate() {
            let document = tokenizer.encode(document)?;
            tokenizer.pair(&query, &document, Truncation::default(), index, &mut rows)?;
        }
        Ok(rows)
    });
    let rows: Rows = in_time(deadline, async { work.await.unwrap_or(Err(ApiError::Panicked)) }).await?;
    timeline.end(Stage::Tokenise);
    let row = |index| RowAnswer {
        tokens: rows.ids(index).len(),
        ids: ids.then(|| rows.ids(index)),
        type_ids: ids.then(|| rows.type_ids(index)),
    };
    let answer = TokenizeAnswer { tokens: rows.tokens(), rows: (0..rows.len()).map(row).collect() };
    let body = serde_json::to_vec(&answer).expect("numbers always have a JSON form");
    timeline.end(Stage::Reply);
    Ok(reply::timed(body, &timeline))
}
