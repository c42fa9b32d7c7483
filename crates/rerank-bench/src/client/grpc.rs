//! `rerank.v1.Rerank` with bodies that are already encoded.

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use rerank_proto::rerank::v1::{RerankRequest, RerankResponse, rerank_client::RerankClient};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

use super::{Answer, Failure};

/// An answer may carry the documents of a large request.
const MAX_MESSAGE: usize = 64 << 20;

/// Connections to the gRPC side.
#[derive(Clone)]
pub(crate) struct GrpcClient {
    channels: Vec<Channel>,
}

impl GrpcClient {
    /// Opens `connections` connections.
    pub(crate) async fn connect(url: &str, connections: usize) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| format!("`{url}` is no URL such as http://127.0.0.1:50051"))?
            // A request of 32 passages is about 20 kB; with Nagle's algorithm its tail would wait for an ack.
            .tcp_nodelay(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        let mut channels = Vec::with_capacity(connections);
        for _ in 0..connections {
            let channel = endpoint.connect().await.with_context(|| {
                format!("no gRPC server at {url}; start one with `rerank-server`, or name it with --grpc")
            })?;
            channels.push(channel);
        }
        Ok(Self { channels })
    }

    /// Sends an encoded `RerankRequest`.
    pub(crate) async fn rerank(&self, body: Bytes, turn: usize) -> Result<Answer, Failure> {
        let channel = self.channels[turn % self.channels.len()].clone();
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|error| Failure {
            code: "connection".to_owned(),
            message: error.to_string(),
            is_fatal: true,
        })?;
        let path = PathAndQuery::from_static("/rerank.v1.Rerank/Rerank");
        let response =
            grpc.unary(Request::new(body), path, Encoded).await.map_err(|status| failure(&status))?;
        let message: RerankResponse = response.into_inner();
        Ok(Answer {
            pairs: message.results.len() as u64,
            tokens: message.usage.as_ref().map(|usage| usage.tokens),
        })
    }

    /// Raw logits in the order of the documents, and the tokens that they cost.
    pub(crate) async fn logits(&self, query: &str, documents: &[String]) -> Result<(Vec<(usize, f64)>, u64)> {
        let request = RerankRequest {
            query: query.to_owned(),
            documents: documents.to_vec(),
            raw_scores: true,
            ..RerankRequest::default()
        };
        let mut client = RerankClient::new(self.channels[0].clone()).max_decoding_message_size(MAX_MESSAGE);
        let answer = client.rerank(request).await.context("the server did not score the pairs")?.into_inner();
        let logits = answer.results.iter().map(|place| (place.index as usize, place.score)).collect();
        Ok((logits, answer.usage.context("the answer has no usage")?.tokens))
    }
}

fn failure(status: &Status) -> Failure {
    let is_fatal = matches!(status.code(), Code::Unavailable | Code::Unimplemented | Code::Unauthenticated);
    Failure { code: format!("{:?}", status.code()), message: status.message().to_owned(), is_fatal }
}

/// Bytes out, a decoded answer in. The generated client would encode 32 passages again for every request, which is more
/// than all the rest of the client's work.
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = RerankResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = RerankResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<RerankResponse>, Status> {
        let length = buffer.remaining();
        RerankResponse::decode(buffer.take(length))
            .map(Some)
            .map_err(|error| Status::internal(format!("answer is no RerankResponse: {error}")))
    }
}
