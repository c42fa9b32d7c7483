//! The stage clock around tonic, which shows a method neither when its call began nor when its answer was written: a
//! layer that notes both, and puts the finished clock into the trailing metadata.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use rerank_engine::{Stage, Timeline};
use tonic::body::Body;
use tower::{Layer, Service as TowerService};

use crate::service::Service;
use crate::timing::{SERVER_TIMING, server_timing};

/// When a call arrived; lies in the request's extensions.
#[derive(Clone)]
pub(super) struct Arrival {
    started: Instant,
    received: Arc<OnceLock<Instant>>,
    timeout: Option<Duration>,
}

impl Arrival {
    /// A clock that started with the call and has seen its last byte.
    pub(super) fn timeline(&self) -> Timeline {
        let mut timeline = Timeline::start_at(self.started);
        timeline.end_at(Stage::Receive, *self.received.get().unwrap_or(&self.started));
        timeline
    }

    /// How long the client waits.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// An answer's clock; lies in the response's extensions until the trailers are due.
#[derive(Clone, Copy)]
pub(super) struct Clocked {
    pub(super) timeline: Timeline,
    pub(super) pairs: usize,
    pub(super) tokens: usize,
}

/// Wraps every gRPC service.
#[derive(Clone)]
pub(super) struct ClockLayer {
    service: Arc<Service>,
}

impl ClockLayer {
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

impl<S> Layer<S> for ClockLayer {
    type Service = ClockService<S>;

    fn layer(&self, inner: S) -> ClockService<S> {
        ClockService { inner, service: Arc::clone(&self.service) }
    }
}

#[derive(Clone)]
pub(super) struct ClockService<S> {
    inner: S,
    service: Arc<Service>,
}

impl<S> TowerService<Request<Body>> for ClockService<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Trailed>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let received = Arc::new(OnceLock::new());
        let arrival = Arrival {
            started: Instant::now(),
            received: Arc::clone(&received),
            timeout: grpc_timeout(request.headers()),
        };
        request.extensions_mut().insert(arrival);
        let request = request.map(|inner| Body::new(Timed { inner, received }));
        let answer = self.inner.call(request);
        let service = Arc::clone(&self.service);
        Box::pin(async move {
            let mut response = answer.await?;
            let clocked = response.extensions_mut().remove::<Clocked>();
            Ok(response.map(|inner| Trailed { inner, clocked: clocked.map(|clocked| (clocked, service)) }))
        })
    }
}

/// A request's body that notes when its last byte came.
struct Timed {
    inner: Body,
    received: Arc<OnceLock<Instant>>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if frame.is_none() || self.inner.is_end_stream() {
            self.received.get_or_init(Instant::now);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body. Its trailers are the last thing that is handed to the socket, so the clock ends there.
pub(super) struct Trailed {
    inner: Body,
    clocked: Option<(Clocked, Arc<Service>)>,
}

impl HttpBody for Trailed {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
            && let Some((mut clocked, service)) = self.clocked.take()
        {
            clocked.timeline.end(Stage::Reply);
            let value = HeaderValue::try_from(server_timing(&clocked.timeline));
            trailers.insert(SERVER_TIMING, value.expect("names, digits and punctuation"));
            service.engine().telemetry().answered(&clocked.timeline, clocked.pairs, clocked.tokens);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads `grpc-timeout`: up to eight digits and a unit. What does not follow the specification counts as none, as tonic
/// has it.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(count)),
        "M" => Some(Duration::from_mins(count)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &'static str) -> Option<Duration> {
        grpc_timeout(&HeaderMap::from_iter([(
            "grpc-timeout".parse().unwrap(),
            HeaderValue::from_static(text),
        )]))
    }

    #[test]
    fn timeouts_follow_the_specification() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
        for text in ["", "m", "1", "1x", "-1m", "+1m", "123456789m", "1 m"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }
}
