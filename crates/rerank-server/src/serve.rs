//! The life of a server: listen, load, serve, drain.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rerank_engine::EngineError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{Config, Listen};
use crate::service::Service;

/// Why serving ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} for {transport}; --{transport} names another address")]
    Bind {
        /// `http` or `grpc`.
        transport: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model could not be loaded.
    #[error("cannot load the model")]
    Load(#[from] EngineError),
    /// A transport broke.
    #[error("{transport} ended")]
    Transport {
        /// `http` or `grpc`.
        transport: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How an orderly end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every request in flight was answered.
    Drained,
    /// The drain timeout passed first.
    Abandoned,
}

/// How long answers that are computed may take to leave through their sockets when the server ends. Only peers that do
/// not read, and streams that never end, as health watches, need longer.
const FLUSH: Duration = Duration::from_secs(1);

/// Listens already; answers once it runs.
pub struct Server {
    service: Arc<Service>,
    drain_timeout: Duration,
    http: Option<TcpListener>,
    grpc: Option<TcpListener>,
}

impl Server {
    /// Takes the addresses, so that whoever reads them from the log can connect at once.
    pub async fn bind(config: &Config, service: Arc<Service>) -> Result<Self, ServeError> {
        Ok(Self {
            service,
            drain_timeout: config.drain_timeout,
            http: listen("http", config.http).await?,
            grpc: listen("grpc", config.grpc).await?,
        })
    }

    /// Where HTTP listens, with the port that the system chose.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where gRPC listens, with the port that the system chose.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown` completes and what is in flight is answered, or until the model fails to load.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Outcome, ServeError> {
        let (stop, stopped) = watch::channel(());
        let (http_address, grpc_address) = (self.http(), self.grpc());
        let mut transports = JoinSet::<Result<(), ServeError>>::new();
        #[cfg(feature = "http")]
        if let Some(listener) = self.http {
            transports.spawn(http(listener, Arc::clone(&self.service), stopped.clone()));
        }
        #[cfg(feature = "grpc")]
        if let Some(listener) = self.grpc {
            transports.spawn(grpc(listener, Arc::clone(&self.service), stopped.clone()));
        }
        drop(stopped);
        log_addresses(http_address, grpc_address);

        let engine = self.service.engine();
        let mut shutdown = std::pin::pin!(shutdown);
        let load = async {
            engine.ready().await?;
            log_ready(&self.service);
            std::future::pending().await
        };
        tokio::select! {
            () = &mut shutdown => {}
            error = load => {
                // Other workers may have loaded, and may not outlive this process's last moments.
                let _ = timeout(self.drain_timeout, engine.drain()).await;
                return error;
            }
            Some(ended) = transports.join_next() => ended.expect("a transport does not panic")?,
        }

        // Nobody new is accepted, and what still comes on open connections is sent to another replica.
        drop(stop);
        let drained = timeout(self.drain_timeout, engine.drain()).await.is_ok();
        let flushed = async { while transports.join_next().await.is_some() {} };
        if timeout(FLUSH, flushed).await.is_err() {
            tracing::debug!("connections were still open at the end");
        }
        if !drained {
            tracing::warn!(
                seconds = self.drain_timeout.as_secs_f64(),
                "the drain timeout passed with requests in flight, or with a worker that had not ended"
            );
            return Ok(Outcome::Abandoned);
        }
        tracing::info!("drained");
        Ok(Outcome::Drained)
    }
}

async fn listen(transport: &'static str, listen: Listen) -> Result<Option<TcpListener>, ServeError> {
    let Listen::At(address) = listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|source| ServeError::Bind { transport, address, source })
}

/// Completes when the sender is gone.
#[cfg(any(feature = "http", feature = "grpc"))]
async fn gone(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

#[cfg(feature = "http")]
async fn http(
    listener: TcpListener,
    service: Arc<Service>,
    stopped: watch::Receiver<()>,
) -> Result<(), ServeError> {
    use axum::serve::ListenerExt;
    // Answers are written whole, so there is nothing for Nagle's algorithm to gather.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
    });
    axum::serve(listener, crate::http::router(service))
        .with_graceful_shutdown(gone(stopped))
        .await
        .map_err(|source| ServeError::Transport { transport: "http", source: source.into() })
}

#[cfg(feature = "grpc")]
async fn grpc(
    listener: TcpListener,
    service: Arc<Service>,
    stopped: watch::Receiver<()>,
) -> Result<(), ServeError> {
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    crate::grpc::serve(service, incoming, gone(stopped))
        .await
        .map_err(|source| ServeError::Transport { transport: "grpc", source: source.into() })
}

fn log_addresses(http: Option<SocketAddr>, grpc: Option<SocketAddr>) {
    let show =
        |address: Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |address| address.to_string());
    tracing::info!(http = show(http), grpc = show(grpc), "listening");
}

/// What was chosen, as the loaded backend reports it.
fn log_ready(service: &Service) {
    let Ok(info) = service.info() else { return };
    let (model, backend) = (&info.model, &info.backend);
    tracing::info!(
        model = model.name,
        sha256 = model.sha256,
        max_length = model.max_length,
        backend = backend.name,
        device = %backend.device,
        device_name = backend.device_name,
        dtype = %backend.dtype,
        threads = backend.threads,
        workers = backend.workers,
        "ready"
    );
}
