//! A request on the wire, over either side of the server. Bodies are encoded once, when the pool is prepared: the
//! measured path sends bytes.

mod grpc;
mod http;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use prost::Message as _;
use rerank_proto::rerank::v1::RerankRequest;

pub(crate) use self::{grpc::GrpcClient, http::HttpClient};
use crate::{
    cli::{Protocol, ServerArgs},
    workload::RequestText,
};

/// What a served request did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) pairs: u64,
    pub(crate) tokens: Option<u64>,
}

/// Why a request was not served.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Stable name for counting: a gRPC code or `HTTP 429`.
    pub(crate) code: String,
    /// The server's or the transport's words.
    pub(crate) message: String,
    /// Whether the server is gone or not ready, so that going on would measure nothing.
    pub(crate) is_fatal: bool,
}

/// A connection to one side of the server; cheap to clone.
#[derive(Clone)]
pub(crate) enum Client {
    Grpc(GrpcClient),
    Http(HttpClient),
}

impl Client {
    /// Connects to the side that takes the load.
    pub(crate) async fn connect(server: &ServerArgs, connections: usize) -> Result<Self> {
        Ok(match server.protocol {
            Protocol::Grpc => Self::Grpc(GrpcClient::connect(&server.grpc, connections).await?),
            Protocol::Http => Self::Http(HttpClient::new(&server.http)?),
        })
    }

    /// The bytes of one request.
    pub(crate) fn encode(&self, request: &RequestText) -> Bytes {
        match self {
            Self::Grpc(_) => {
                let message = RerankRequest {
                    query: request.query.clone(),
                    documents: request.documents.clone(),
                    ..RerankRequest::default()
                };
                message.encode_to_vec().into()
            }
            Self::Http(_) => serde_json::to_vec(request).expect("strings serialise").into(),
        }
    }

    /// Sends one request and waits for its answer. `turn` picks the connection.
    pub(crate) async fn send(&self, body: Bytes, turn: usize) -> Result<Answer, Failure> {
        match self {
            Self::Grpc(client) => client.rerank(body, turn).await,
            Self::Http(client) => client.rerank(body).await,
        }
    }

    /// Raw logits in the order of the documents, and the tokens that they cost.
    pub(crate) async fn logits(&self, query: &str, documents: &[String]) -> Result<(Vec<f64>, u64)> {
        let (places, tokens) = match self {
            Self::Grpc(client) => client.logits(query, documents).await?,
            Self::Http(client) => client.logits(query, documents).await?,
        };
        let mut logits = vec![f64::NAN; documents.len()];
        for (index, logit) in places {
            *logits.get_mut(index).with_context(|| {
                format!("the server answers index {index} for {} documents", documents.len())
            })? = logit;
        }
        Ok((logits, tokens))
    }
}
