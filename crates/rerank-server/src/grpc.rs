//! gRPC: decode, call the service, encode. No logic of its own.

use std::future::Future;
use std::sync::Arc;

use rerank_proto::rerank::v1::rerank_server::RerankServer;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::service::Service;

mod api;
mod clock;
mod convert;
mod health;
mod status;

/// What every connection may have in flight. hyper's default is 200, which one busy client reaches; admission is what
/// limits work, in tokens.
const STREAMS: u32 = 1024;

/// Serves until `stop` completes and then until every accepted request is answered.
pub async fn serve(
    service: Arc<Service>,
    incoming: TcpIncoming,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let payload = service.limits().payload;
    let api = RerankServer::new(api::Api::new(Arc::clone(&service)))
        .max_decoding_message_size(payload)
        // The answer is ours; what a request may be does not limit it.
        .max_encoding_message_size(usize::MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let follow = tokio::spawn(health::follow(
        reporter,
        service.engine().watch_status(),
        RerankServer::<api::Api>::NAME,
    ));
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(rerank_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the descriptors were generated with the code";
    let served = Server::builder()
        .max_concurrent_streams(STREAMS)
        .layer(clock::ClockLayer::new(service))
        .add_service(api)
        .add_service(health)
        .add_service(descriptors().build_v1().expect(valid))
        // The version that most clients still ask for.
        .add_service(descriptors().build_v1alpha().expect(valid))
        .serve_with_incoming_shutdown(incoming, stop)
        .await;
    follow.abort();
    served
}
