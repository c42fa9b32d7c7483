//! A server in this process on ports of its own, over a mock backend that follows a plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backend_mock::{MockFactory, Plan};
use rerank_core::{DType, Device, LoadSpec, Model};
use rerank_engine::{Engine, EngineOptions, PairTokenizer};
use rerank_proto::rerank::v1::rerank_client::RerankClient;
use rerank_server::config::{Config, Limits, Listen};
use rerank_server::serve::{Outcome, ServeError, Server};
use rerank_server::service::Service;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// What a test changes about its server.
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) options: EngineOptions,
    pub(crate) limits: Limits,
    pub(crate) drain_timeout: Duration,
    /// Whether to wait until the model is loaded.
    pub(crate) wait: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            plan: Plan::NONE,
            options: EngineOptions { tokenizer_threads: 2, ..EngineOptions::default() },
            limits: Limits { max_documents: 1000, payload: 1 << 20, timeout: None },
            drain_timeout: Duration::from_secs(10),
            wait: true,
        }
    }
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) http: String,
    pub(crate) grpc: String,
    pub(crate) service: Arc<Service>,
    pub(crate) client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Outcome, ServeError>>,
}

/// An answer over HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Setup {
    pub(crate) fn plan(plan: Plan) -> Self {
        Self { plan, ..Self::default() }
    }

    pub(crate) async fn start(self) -> TestServer {
        let config = rerank_model_tiny::config();
        let model = Model::from_bytes("tiny", config, rerank_model_tiny::weights()).unwrap();
        let tokenizer =
            PairTokenizer::from_bytes(rerank_model_tiny::tokenizer(), &model.config, None).unwrap();
        let spec = LoadSpec {
            max_length: tokenizer.limits().max_length,
            model: Arc::new(model),
            device: Device::Cpu,
            dtype: DType::F32,
            threads: None,
            options: BTreeMap::new(),
        };
        // A factory is a static by contract; the few bytes live as long as the test process.
        let factory: &'static MockFactory = Box::leak(Box::new(MockFactory::with_plan(self.plan)));
        let engine = Engine::start(self.options, factory, spec, tokenizer).unwrap();
        if self.wait {
            engine.ready().await.unwrap();
        }
        let any_port = Listen::At("127.0.0.1:0".parse().unwrap());
        let config =
            Config { http: any_port, grpc: any_port, drain_timeout: self.drain_timeout, limits: self.limits };
        let service = Arc::new(Service::new(engine, "tiny".to_owned(), self.limits));
        let server = Server::bind(&config, Arc::clone(&service)).await.unwrap();
        let http = format!("http://{}", server.http().unwrap());
        let grpc = format!("http://{}", server.grpc().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        TestServer { http, grpc, service, client: reqwest::Client::new(), stop: Some(stop), task }
    }
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Setup::default().start().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.http)).send().await.unwrap()).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.client.get(format!("{}{path}", self.http)).send().await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: impl ToString) -> Answer {
        self.post_with(path, body, |request| request).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: impl ToString,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Answer {
        let request = self.client.post(format!("{}{path}", self.http)).body(body.to_string());
        Answer::of(change(request).send().await.unwrap()).await
    }

    pub(crate) async fn grpc(&self) -> RerankClient<Channel> {
        RerankClient::new(self.channel().await)
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.grpc.clone()).unwrap().connect().await.unwrap()
    }

    /// Rows that the backend has scored.
    pub(crate) fn rows_scored(&self) -> u64 {
        self.service.engine().telemetry().totals().workers.iter().map(|worker| worker.rows).sum()
    }

    /// Waits for something that another thread brings about; the deadline is only there to fail with a reason.
    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            if reached(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not reached within ten seconds: {what}");
    }

    /// Asks for an orderly end.
    pub(crate) fn ask_to_stop(&mut self) {
        let _ = self.stop.take().expect("a server is stopped once").send(());
    }

    /// Waits for the end.
    pub(crate) async fn ended(self) -> Result<Outcome, ServeError> {
        self.task.await.unwrap()
    }
}

impl Answer {
    async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("{status} is not JSON: {}", String::from_utf8_lossy(&body)));
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and error in one line.
    pub(crate) fn refusal(&self) -> String {
        format!(
            "{} {}: {}",
            self.status,
            self.body["error_type"].as_str().unwrap(),
            self.body["error"].as_str().unwrap()
        )
    }
}

/// The same JSON with numbers that a snapshot must not hold replaced: scores, which take tolerances, and ids.
pub(crate) fn redact(mut body: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => *value = "<float>".into(),
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(fields) => {
                if let Some(id) = fields.get_mut("id") {
                    *id = "<id>".into();
                }
                fields.values_mut().for_each(walk);
            }
            _ => {}
        }
    }
    walk(&mut body);
    body
}
