//! gRPC's health service follows the engine: what balancers and Kubernetes ask before they send requests.

use rerank_engine::Status;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Tells the health service of every change, for the service by name and for the server as a whole (the empty name).
pub(super) async fn follow(
    reporter: HealthReporter,
    mut status: watch::Receiver<Status>,
    service: &'static str,
) {
    loop {
        let serving = match &*status.borrow_and_update() {
            Status::Ready => ServingStatus::Serving,
            Status::Loading | Status::Unready { .. } | Status::Draining => ServingStatus::NotServing,
        };
        reporter.set_service_status(service, serving).await;
        reporter.set_service_status("", serving).await;
        if status.changed().await.is_err() {
            return;
        }
    }
}
